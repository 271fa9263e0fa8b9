"""How far a long pass is: a bar where a person is watching, a line now and then in a log."""

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from rich import progress as progress_bars
from rich.console import RenderableType
from rich.control import Control
from rich.segment import ControlType, Segment

from toolchain.cli.terminal import console, escape, is_quiet, say

if TYPE_CHECKING:
    from toolchain.scoring.job import Summary

PROGRESS_SECONDS = 30.0
"""How often a long pass says how far it is where no bar can be drawn: in a log or a pipe."""


def progress(batches: Iterable[Any], title: str) -> Iterator[Any]:
    """The batches of a pass, saying how far it is."""
    total = len(batches) if isinstance(batches, Sized) else None
    with Progress(title) as shown:
        for done, batch in enumerate(batches, 1):
            yield batch
            shown.update(done, total)


class _Bar(progress_bars.Progress):
    """A bar that leaves nothing behind where its terminal gets narrower, and so folds the line that it showed."""

    _shown = 0

    def get_renderable(self) -> RenderableType:
        line, stderr = super().get_renderable(), console(stderr=True)
        if folds := max(0, self._shown - 1) // stderr.width:
            erase = (ControlType.ERASE_IN_LINE, 2)
            up = ((ControlType.CURSOR_UP, 1), erase)
            stderr.control(Control(ControlType.CARRIAGE_RETURN, erase, *up * folds))
        lines = stderr.render_lines(line, pad=False)
        self._shown = max(map(Segment.get_line_length, lines), default=0)
        return line


def _tail(title: str, width: int) -> str:
    """The end of a title that would leave no room for the bar: of a path, the name."""
    return title if len(title) <= width else f"…{title[-width:]}"


class Progress:
    """How far a long pass is: a bar where a person is watching, elsewhere a line every `PROGRESS_SECONDS`."""

    def __init__(self, title: str) -> None:
        stderr = console(stderr=True)
        self._title = title
        self._watched = stderr.file.isatty() and not stderr.is_dumb_terminal
        self._bar = _Bar(
            progress_bars.TextColumn("{task.description}"),
            progress_bars.BarColumn(),
            progress_bars.TextColumn("{task.fields[note]}"),
            progress_bars.TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=is_quiet() or not self._watched,
        )
        self._task = self._bar.add_task(escape(_tail(title, stderr.width // 3)), total=None, note="")
        self._started = self._said = time.monotonic()

    def update(self, done: float, total: float | None, note: str = "") -> None:
        """`done` of `total`, where that is known; `note` is shown beside it."""
        self._bar.update(self._task, completed=done, total=total, note=note)
        now = time.monotonic()
        if not self._watched and now - self._said >= PROGRESS_SECONDS:
            self._said = now
            facts = [f"{done / total:.0%}"] if total else []
            facts += [note] if note else []
            say(f"{escape(self._title)}: {', '.join([*facts, f'{now - self._started:.0f} s'])}")

    def update_scoring(self, done: int, total: int | None, summary: "Summary") -> None:
        """The same for `score_file`: bytes, or rows of Parquet, and the summary so far."""
        self.update(done, total, f"{summary.rows:,} rows")

    def update_files(self, done: float, total: float, rows: int) -> None:
        """The same for several files at once: files done, with fractions, and rows."""
        self.update(done, total, f"{rows:,} rows")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
