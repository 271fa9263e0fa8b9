"""The log of a service: on stderr, a line an event, with the process that it happened in."""

import logging


def log_to_stderr(level: int) -> None:
    """Log what the service does from `level` on, and of everything else the warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s [%(process)d] %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("toolchain.serving").setLevel(level)


class _OneLine(logging.Formatter):
    """Names and labels in a message come from outside: a terminal must not obey them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode() for character in line
        )
