"""`serve`: a bundle behind a port, in this process or in several."""

import logging
import os
import socket
from collections.abc import Callable

from export.sessions import cores
from toolchain.errors import UsageError
from toolchain.serving.process import BACKLOG, run_server
from toolchain.serving.settings import Settings
from toolchain.serving.terminal import hold_hangups, release_hangups
from toolchain.serving.workers import run_workers

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. What happens is logged by `toolchain.serving`.

    Raises `UsageError` where the port cannot be had, and what `toolchain.Scorer` raises.
    """
    hold_hangups()
    try:
        with _listen(settings.host, settings.port) as listener:
            if settings.workers > 1:
                run_workers(settings, listener, _announcer(listener))
            else:
                run_server(settings, listener, cores(), _announcer(listener))
    finally:
        release_hangups()


def _listen(host: str, port: int) -> socket.socket:
    """The socket to accept connections on.

    It names its protocol, which `socket.create_server` does not: asyncio sends small answers at once (TCP_NODELAY) on
    sockets that do, and on others an answer waits 40 ms for the client's acknowledgement of its head.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two services share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--host {host} --port {port}: {reason}; choose another, --port 0 for any") from error
    return listener


def _announcer(listener: socket.socket) -> Callable[[str], None]:
    """What says where a bundle is served."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return lambda bundle: logger.info("serving %s on %s", bundle, address)
