"""Several processes behind one port: started, replaced when one dies, told of new bundles, and ended together."""

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from export.errors import ExportError
from export.sessions import cores
from toolchain.errors import UsageError
from toolchain.serving.logs import log_to_stderr
from toolchain.serving.metrics import SHARED
from toolchain.serving.process import FAREWELL_SECONDS, run_server
from toolchain.serving.settings import Settings
from toolchain.serving.terminal import has_terminal, hold_hangups, release_hangups

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.2
_RESTART_SECONDS = 1.0
_MARGIN_SECONDS = 5.0


def run_workers(settings: Settings, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve in `settings.workers` processes until SIGTERM or Ctrl-C; `on_ready` is told what, once all of them do.

    SIGHUP goes to each of them. Raises `UsageError` where one cannot start.
    """
    with tempfile.TemporaryDirectory(prefix="toolchain-serve-") as figures:
        os.environ[SHARED] = figures
        _Supervisor(settings, listener).run(on_ready)


@dataclass
class _Worker:
    process: SpawnProcess
    news: Connection
    told_to_end: bool = False

    def signal(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def end(self) -> None:
        if not self.told_to_end:
            self.told_to_end = True
            self.signal(signal.SIGTERM)


@dataclass(frozen=True)
class _Started:
    """What a worker says once: the bundle that it serves, or why it cannot."""

    bundle: str = ""
    problem: str = ""


class _Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[_Worker] = []
        self._ending = False
        self._had_terminal = has_terminal()

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Start, look after, and end the workers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)
        try:
            self._workers += [self._start() for _ in range(self._settings.workers)]
            for worker in self._workers:
                bundle = self._await(worker)
            if not self._ending:
                release_hangups()
                on_ready(bundle)
            while not self._ending:
                wait([worker.process.sentinel for worker in self._workers], _TICK_SECONDS)
                self._replace_the_dead()
        finally:
            self._join()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        news, said = context.Pipe(duplex=False)
        threads = max(1, cores() // self._settings.workers)
        level = logger.getEffectiveLevel()
        process = context.Process(target=_work, args=(self._settings, self._listener, threads, level, said))
        hold_hangups()  # it inherits that, and releases them when it can be told something
        process.start()
        said.close()
        return _Worker(process, news)

    def _await(self, worker: _Worker) -> str:
        """The bundle that a worker serves, once it does; nothing where all are told to end before."""
        while not self._ending:
            if not worker.news.poll(_TICK_SECONDS):
                continue
            try:
                started: _Started = worker.news.recv()
            except EOFError:
                worker.process.join()
                raise UsageError(f"a worker process died while it started ({_how(worker)})") from None
            if started.problem:
                raise UsageError(started.problem)
            return started.bundle
        return ""

    def _replace_the_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            if self._ending or worker.process.is_alive():
                continue
            logger.error("worker %s died (%s); another one takes its place", worker.process.pid, _how(worker))
            mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
            time.sleep(_RESTART_SECONDS)
            self._workers[place] = self._start()
            release_hangups()

    def _end(self, number: int, frame: FrameType | None) -> None:
        for worker in self._workers:
            if self._ending:
                worker.process.kill()
            else:
                worker.end()
        self._ending = True

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._had_terminal and not has_terminal():
            self._end(number, frame)
            return
        for worker in self._workers:
            worker.signal(number)

    def _join(self) -> None:
        patience = FAREWELL_SECONDS + self._settings.grace_seconds + _MARGIN_SECONDS
        deadline = time.monotonic() + patience
        for worker in self._workers:
            worker.end()  # also where an error ends all of this, and one that was started just before the signal
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _work(settings: Settings, listener: socket.socket, threads: int, level: int, said: Connection) -> None:
    """What a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the supervisor tells what it means
    log_to_stderr(level)
    try:
        run_server(settings, listener, threads, lambda bundle: said.send(_Started(bundle=bundle)))
    except (UsageError, ExportError, OSError) as error:
        said.send(_Started(problem=str(error)))


def _how(worker: _Worker) -> str:
    code = worker.process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
