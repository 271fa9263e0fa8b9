"""A process that serves: its signals and its end.

SIGHUP takes a new bundle over. SIGTERM ends gracefully: for a moment clients are told to go elsewhere (`/readyz` says
503, answers close their connections), then the port is closed, and the process ends when all that was accepted is
answered.
"""

import asyncio
import logging
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import uvicorn

from toolchain.serving.app import create_app
from toolchain.serving.service import Service, describe
from toolchain.serving.settings import Settings
from toolchain.serving.terminal import has_terminal, release_hangups

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""How long after SIGTERM the port stays open for those who do not know yet."""

_KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep an idle connection, so that they close it and not we
BACKLOG = 2048


def run_server(settings: Settings, listener: socket.socket, threads: int, on_ready: Callable[[str], None]) -> None:
    """Serve in this process, with so many threads for the model; `on_ready` is told what, once it does.

    Raises what `Model` raises.
    """
    service = Service(settings, threads)
    config = uvicorn.Config(
        create_app(service),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.grace_seconds,
    )
    _Server(config, service, on_ready).run([listener])


class _Server(uvicorn.Server):
    """uvicorn with a farewell, with SIGHUP for a new bundle, and with exit status 0 for an end that was asked for."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._end_at: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._supervisor = multiprocessing.parent_process()
        self._had_terminal = has_terminal()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen for connections, and from now on for signals."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
            release_hangups()
        if self._supervisor is not None:  # it may be killed, and then nobody would end this process
            loop.add_reader(self._supervisor.sentinel, self._end, FAREWELL_SECONDS)
        if self._service.settings.watch:
            self._start(self._service.watch())
        self._on_ready(describe(self._service.model, self._service.settings.bundle))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gracefully; a second Ctrl-C ends at once. A worker leaves Ctrl-C to its supervisor."""
        if sig == signal.SIGINT and self._supervisor is not None:
            return
        if self._service.ending and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
        else:
            self._end(FAREWELL_SECONDS if sig == signal.SIGTERM else 0.0)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; asked ten times a second."""
        return await super().on_tick(counter) or (self._end_at is not None and time.monotonic() >= self._end_at)

    def _end(self, farewell: float) -> None:
        if self._supervisor is not None and self._service.ending:
            asyncio.get_running_loop().remove_reader(self._supervisor.sentinel)
        if not self._service.ending:
            logger.info("ending: what is under way is answered first")
            self._service.ending = True
            self._end_at = time.monotonic() + farewell

    def _hang_up(self) -> None:
        """A new bundle, as is usual; but where the terminal was closed, there is nobody left to serve for."""
        if self._had_terminal and not has_terminal():
            self._end(0.0)
            return
        self._start(self._service.take_over())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
