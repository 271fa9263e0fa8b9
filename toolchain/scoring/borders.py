"""Where the records of a large file end, found from several places of it at once.

From a place where a record ends, what follows is the same whoever reads it. So each span of a file is read as if a
record began where it begins. Where the reading of the span before, which is certain, comes to a place that the span
has for the end of a record as well, all that follows in the span is certain too. In nearly every file that is a few
records behind the seam; until then the reading before goes on, through the whole span where it has to.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from toolchain.files.records import Reader


@dataclass(slots=True)
class Border:
    """The end of a record, as `toolchain.files.records.Record` has it, and the bytes that it holds in memory."""

    size: int
    end_offset: int
    end_line: int


@dataclass(slots=True)
class Span:
    """What the reading from `begin` on took for records: the ends of each in bytes and in lines from there, ascending,
    and their sizes."""

    begin: int
    ends: "array[int]" = field(default_factory=lambda: array("q"))
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))

    def count_to(self, offset: int) -> int | None:
        """How many of its records end at `offset` or before; None where none ends there, and it does not begin
        there."""
        place = bisect_left(self.ends, offset)
        if place < len(self.ends) and self.ends[place] == offset:
            return place + 1
        return 0 if offset == self.begin else None


def ranges(start: int, size: int, step: int) -> Sequence[tuple[int, int]]:
    """The bytes from `start` to `size` in spans of `step`: where each begins and ends."""
    return [(begin, min(size, begin + step)) for begin in range(start, size, step)]


def read_span(reader: Reader, begin: int, end: int) -> Span:
    """Read the records from the byte `begin` on, up to the first that ends at `end` or behind it."""
    span = Span(begin)
    reader.resume(begin, 0)
    for record in reader:
        span.ends.append(record.end_offset)
        span.lines.append(record.end_line)
        span.sizes.append(record.size)
        if record.end_offset >= end:
            break
    return span


def joined(reader: Reader, spans: Iterable[Span]) -> Iterator[Border]:
    """The records of a file, of which every span was read: the same ones that `reader` would give from its start."""
    offset, line = reader.start
    for span in spans:
        count = span.count_to(offset)
        if count is None and span.ends and offset < span.ends[-1]:
            reader.resume(offset, line)
            for record in reader:
                offset, line = record.end_offset, record.end_line
                yield Border(record.size, offset, line)
                count = span.count_to(offset)
                if count is not None or offset >= span.ends[-1]:
                    break
        if count is None:
            continue
        before = line - (span.lines[count - 1] if count else 0)
        for place in range(count, len(span.ends)):
            offset, line = span.ends[place], before + span.lines[place]
            yield Border(span.sizes[place], offset, line)
    reader.resume(offset, line)
    for record in reader:
        yield Border(record.size, record.end_offset, record.end_line)
