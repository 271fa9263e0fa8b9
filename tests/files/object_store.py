"""An S3 endpoint on loopback (moto's server) that can be told to break off in the middle of an object."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BROKEN = "broken"
"""Objects with this in their names cannot be read behind `READABLE` bytes."""
READABLE = 4 << 20


class Breaking:
    """The server, with an error for what lies too far back in a broken object."""

    def __init__(self) -> None:
        self._server = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        first = environ.get("HTTP_RANGE", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        if environ["REQUEST_METHOD"] == "GET" and BROKEN in environ["PATH_INFO"] and int(first or 0) >= READABLE:
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"out of order"]
        answer: Iterable[bytes] = self._server(environ, start_response)
        return answer


@contextmanager
def object_store() -> Iterator[str]:
    """The endpoint's address, while the server runs."""
    server = make_server("127.0.0.1", 0, Breaking(), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
