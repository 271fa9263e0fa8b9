"""Ctrl-C and SIGTERM during a long run: first a clean stop, then an end at once that says what was kept."""

import os
import signal
from types import FrameType

from toolchain.cli.terminal import interrupted, say, show_cursor


class StopSignals:
    """The first SIGINT or SIGTERM asks for a clean stop; a second one ends the process, and says what was `kept`."""

    number = 0
    kept = "what is finished is kept; run the same command again to continue"

    def requested(self) -> bool:
        """Whether one of them came; `number` is which."""
        return self.number != 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        show_cursor()
        if self.number:
            interrupted(self.kept)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number
        say("stopping when the batches in hand are done; once more stops at once")

    def __enter__(self) -> "StopSignals":
        self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
