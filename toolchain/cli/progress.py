"""How far a long pass is: a bar where a person is watching, a line now and then in a log."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from toolchain.cli.terminal import escape, is_quiet, say

if TYPE_CHECKING:
    from toolchain.cli.bar import Bar
    from toolchain.scoring.job import JobProgress

PROGRESS_SECONDS = 30.0
"""How often a long pass says how far it is where no bar can be drawn: in a log or a pipe."""

_BAR_AFTER = 0.5  # seconds
_DUMB = ("dumb", "unknown")  # terminals that cannot draw over a line


def progress(batches: Iterable[Any], title: str) -> Iterator[Any]:
    """The batches of a pass, saying how far it is."""
    total = len(batches) if isinstance(batches, Sized) else None
    with Progress(title) as shown:
        for done, batch in enumerate(batches, 1):
            yield batch
            shown.update(done, total)


class Progress:
    """How far a long pass is: a bar where a person is watching, elsewhere a line every `PROGRESS_SECONDS`.

    A pass that is over sooner than `_BAR_AFTER` draws none: to load what draws it takes as long as to score a text.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._watched = sys.stderr.isatty() and os.environ.get("TERM", "") not in _DUMB
        self._bar: Bar | None = None
        self._over = False
        self._drawing = threading.Lock()
        self._soon = threading.Timer(_BAR_AFTER, self._draw)
        self._soon.daemon = True
        self._where: tuple[float, float | None, str] = (0, None, "")
        self._started = self._said = time.monotonic()
        self._begun: float | None = None

    def _draw(self) -> None:
        from toolchain.cli.bar import Bar

        with self._drawing:
            if not self._over:
                self._bar = Bar(self._title)
                self._bar.start()
                self._update_bar(self._bar)

    def _update_bar(self, bar: "Bar") -> None:
        done, total, note = self._where
        bar.update(bar.task, completed=done, total=total, note=note)

    def update(self, done: float, total: float | None, note: str = "") -> None:
        """`done` of `total`, where that is known; `note` is shown beside it."""
        self._where = (done, total, note)
        if self._bar is not None:
            self._update_bar(self._bar)
        now = time.monotonic()
        if self._begun is None:
            self._begun = done
        if not self._watched and now - self._said >= PROGRESS_SECONDS:
            self._said = now
            facts = [f"{done / total:.0%}"] if total else []
            facts += [note] if note else []
            facts.append(f"{now - self._started:.0f} s")
            if total and self._begun < done < total:
                left = (now - self._started) * (total - done) / (done - self._begun)
                facts.append(f"about {left:.0f} s left")
            say(f"{escape(self._title)}: {', '.join(facts)}")

    def update_scoring(self, reached: "JobProgress") -> None:
        """The same for `score_file`. The bar of a resumed run begins where it goes on, which is said."""
        if self._begun is None and reached.resumed:
            say(f"{escape(self._title)}: goes on after {reached.resumed:,} rows of an interrupted run")
        self.update(reached.done, reached.total, f"{reached.rows:,} rows")

    def update_files(self, done: float, total: float, rows: int) -> None:
        """The same for several files at once: files done, with fractions, and rows."""
        self.update(done, total, f"{rows:,} rows")

    def __enter__(self) -> "Progress":
        if self._watched and not is_quiet():
            self._soon.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._soon.cancel()
        with self._drawing:
            self._over = True
            if self._bar is not None:
                self._bar.stop()
