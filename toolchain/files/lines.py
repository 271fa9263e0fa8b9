"""The lines of a stream with any line ends, many at a time, none of them longer in memory than the limit."""

from collections import deque
from dataclasses import dataclass
from typing import BinaryIO

KEPT_OF_OVERLONG = 1024
"""How many bytes stay of a record that is over the limit."""

_BLOCK = 1 << 18


@dataclass(slots=True)
class Line:
    """One line of a file; `size` is its length in bytes, more than `len(data)` where the line was over the limit."""

    data: bytes
    size: int


class Lines:
    """Lines up to and with their `\\n`, `\\r\\n` or `\\r`, in blocks.

    `block[at:]` is at hand after `fill`. A line of more than `limit` bytes is in no block, only `take` gives it.
    """

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._kept = min(KEPT_OF_OVERLONG, limit)
        self.restart()

    def restart(self) -> None:
        """Go on from where the stream stands now."""
        self.block: list[bytes] = []
        self.at = 0
        self._next: deque[list[bytes] | Line] = deque()
        self._tail: list[bytes] = []  # of a line whose end was not read yet
        self._tail_size = 0
        self._ended = False

    def fill(self) -> bool:
        """Whether lines are at hand; reads on where the block is used up. False at the end, and at a line that is over
        the limit."""
        while self.at == len(self.block):
            if not self._next and not self._read():
                return False
            if isinstance(self._next[0], Line):
                return False
            self.block, self.at = self._next.popleft(), 0  # type: ignore[assignment]
        return True

    def take(self) -> Line | None:
        """The next line, None at the end."""
        if self.fill():
            data = self.block[self.at]
            self.at += 1
            return Line(data, len(data))
        return self._next.popleft() if self._next else None  # type: ignore[return-value]

    def _read(self) -> bool:
        """Read until a line is whole; False where there is none any more."""
        while not self._next and not self._ended:
            piece: bytes = self._stream.read1(_BLOCK)  # type: ignore[attr-defined]
            self._ended = not piece
            goes_on = self._tail and not self._tail[-1].endswith(b"\r")
            if piece and goes_on and b"\n" not in piece and b"\r" not in piece:
                self._keep(piece)
                continue
            lines = b"".join([*self._tail, piece]).splitlines(keepends=True)
            dropped = self._tail_size - sum(map(len, self._tail))
            self._tail, self._tail_size = [], 0
            # Behind a `\r` a `\n` may follow.
            tail = lines.pop() if lines and not self._ended and not lines[-1].endswith(b"\n") else b""
            if dropped and lines:
                self._next.append(Line(lines[0][: self._kept], len(lines[0]) + dropped))
                del lines[0]
                dropped = 0
            self._append(lines)
            if tail:
                self._keep(tail, dropped)
        return bool(self._next)

    def _keep(self, piece: bytes, dropped: int = 0) -> None:
        """Keep a piece of the line that has no end yet, of one over the limit its beginning and its last byte."""
        self._tail.append(piece)
        self._tail_size += len(piece) + dropped
        if self._tail_size > self._limit:
            data = b"".join(self._tail)
            self._tail = [data[: self._kept] + data[self._kept :][-1:]]

    def _append(self, lines: list[bytes]) -> None:
        """Line up whole lines, those over the limit by themselves."""
        start = 0
        if sum(map(len, lines)) > self._limit:
            for place, line in enumerate(lines):
                if len(line) > self._limit:
                    self._next += [lines[start:place], Line(line[: self._kept], len(line))]
                    start = place + 1
        if lines[start:]:
            self._next.append(lines[start:])
