"""What a function behind a command logs, as the command says it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.cli.terminal import tell, warn


@contextmanager
def spoken() -> Iterator[None]:
    """As long as the context lasts, what the program logs is on stderr: warnings by `warn`, the rest by `tell`."""
    logger, handler = logging.getLogger("toolchain"), _Spoken()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Spoken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else tell)(record.getMessage())
