"""The bar of a long pass, drawn by Rich."""

from rich import progress
from rich.console import RenderableType
from rich.control import Control
from rich.segment import ControlType, Segment

from toolchain.cli.terminal import console, escape


class Bar(progress.Progress):
    """A bar on stderr. It leaves nothing behind where its terminal gets narrower, and so folds the line it showed."""

    _shown = 0

    def __init__(self, title: str) -> None:
        stderr = console(stderr=True)
        super().__init__(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeRemainingColumn(),
            console=stderr,
            transient=True,
        )
        self.task = self.add_task(escape(_tail(title, stderr.width // 3)), total=None, note="")

    def get_renderable(self) -> RenderableType:
        """Its line, after what a terminal has made of the one before is erased."""
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
