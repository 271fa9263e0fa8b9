"""The log of a service: on stderr, a line an event, with the process that it happened in."""

import logging


def log_to_stderr(level: int) -> None:
    """Log what the service does from `level` on, and of everything else the warnings."""
    logging.basicConfig(format="%(asctime)s [%(process)d] %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("toolchain.serving").setLevel(level)
