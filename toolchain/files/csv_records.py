"""CSV files as records, byte for byte.

A record that cannot be read is rejected whole, and so is what follows it up to where reading is certain again.
"""

import csv
import re
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from toolchain.errors import UsageError
from toolchain.files.dialect import Dialect, whole_rows
from toolchain.files.lines import Line, Lines
from toolchain.files.records import (
    BOM,
    DECODING,
    MAX_ROW_BYTES,
    Reader,
    Record,
    refuse_other_encodings,
    utf8_error,
)

# So much is read behind a broken record to find out where it ends.
_SEARCHED_LINES = 200
_SEARCHED_BYTES = 1 << 18


class CsvReader(Reader):
    """A CSV file. Line ends may be `\\n`, `\\r\\n` or `\\r`, mixed, and stand in quoted fields."""

    format = "csv"

    def __init__(
        self, stream: BinaryIO, name: str, max_row_bytes: int = MAX_ROW_BYTES, dialect: Dialect | None = None
    ) -> None:
        super().__init__(stream, name, max_row_bytes)
        self.dialect = dialect or Dialect()
        self.delimiter = self.dialect.delimiter
        self.found = self.dialect.found
        self.has_header = self.dialect.header
        self.quotes = self.dialect.quoting != "none"
        self.backslashes = self.dialect.escape == "backslash"
        self._plain = Dialect(self.delimiter, "none")
        self._comment = self.dialect.comment.encode() if self.dialect.comment else None
        self._spaced_quote = re.compile(rf'"[ \t]+(?={re.escape(self.delimiter)}|[\r\n]|$)')
        self._lines = Lines(stream, max_row_bytes)
        self._ahead: deque[Line] = deque()
        self._taken: list[Line] = []
        above = self._skip_lines()
        self._parser = self._new_parser()
        if self.dialect.header:
            self.columns = self._read_header(above)
        else:
            self.header = above
            self.columns = self._number_columns()
        self._distinct = len(set(self.columns)) == len(self.columns)
        self.start = (self._offset, self._line)

    def describe(self) -> Mapping[str, Any]:
        """How the file is read, in plain values."""
        named = ("quoting", "escape", "skip_lines", "comment", "header")
        return {name: getattr(self.dialect, name) for name in named}

    def sample(self, column: str) -> Sequence[Any]:
        """The column's cells in the first rows."""
        place = self.columns.index(column)
        return [row[place] for row in self.dialect.sample if len(row) == len(self.columns)]

    def _skip_lines(self) -> bytes:
        """What stands above the header."""
        skipped = []
        for _ in range(self.dialect.skip_lines):
            if (line := self._next_line()) is not None:
                skipped.append(line)
        while self._comment and (line := self._next_line()) is not None:
            if not line.data.removeprefix(BOM).startswith(self._comment):
                self._ahead.appendleft(line)
                break
            skipped.append(line)
        return self._record(skipped, {}, None).raw if skipped else b""

    def _number_columns(self) -> tuple[str, ...]:
        """Names for columns that have none: `1`, `2` …"""
        if (line := self._next_line()) is None:
            raise UsageError(f"{self.name}: the file is empty; expected rows")
        refuse_other_encodings(line.data, self.name)
        if not self.header and line.data.startswith(BOM):
            self.header = self._record([Line(BOM, len(BOM))], {}, None).raw
            self._line -= 1
            line = Line(line.data.removeprefix(BOM), line.size - len(BOM))
        self._ahead.appendleft(line)
        width = len(self.dialect.sample[0]) if self.dialect.sample else 1
        return tuple(str(number) for number in range(1, width + 1))

    def _read_header(self, above: bytes) -> tuple[str, ...]:
        place = self._line
        try:
            names = next(self._parser)
        except StopIteration:
            raise UsageError(f"{self.name}: the file is empty; expected a header line with the column names") from None
        except (csv.Error, _RowTooLong):
            raise UsageError(f"{self.name}: line {place} is not a CSV header; expected the column names") from None
        self.header = above + self._record(self._taken, {}, None).raw
        self._taken = []
        refuse_other_encodings(self.header, self.name)
        if not any(name.strip() for name in names):
            raise UsageError(f"{self.name}: line {place} is blank; expected a header line with the column names")
        names[0] = names[0].removeprefix("\ufeff")
        if names[0].startswith('"') and names[0].endswith('"') and len(names[0]) > 1:
            names[0] = names[0][1:-1]  # quotes behind a byte order mark are not seen as quotes
        return tuple(names)

    def resume(self, offset: int, line: int) -> None:
        """Go on at a record, behind the header that was read already."""
        self._stream.seek(offset)
        self._offset, self._line = offset, line
        self._lines.restart()
        self._ahead.clear()
        self._taken = []
        self._parser = self._new_parser()

    def __iter__(self) -> Iterator[Record]:
        more = True
        while more:
            if self._comment is None and not self._ahead:
                yield from self._easy_rows()
            more = yield from self._next_certain()

    def _easy_rows(self) -> Iterator[Record]:
        """Rows for as long as each reads well, as nearly all do; the first that does not is left where it is."""
        lines, width = self._lines, max(len(self.columns), 1)
        while lines.fill():
            block, last = lines.block, lines.at

            def texts(block: list[bytes] = block, first: int = last) -> Iterator[str]:
                nonlocal last
                for last in range(first, len(block)):
                    yield block[last].decode()

            try:
                for fields in self.dialect.rows(texts()):
                    raw = block[last]
                    if last > lines.at:
                        parts = block[lines.at : last + 1]
                        raw = b"".join(parts)
                        if len(raw) > self.max_row_bytes or self._is_many_rows(parts):
                            return
                    if len(fields) != width and (fields or width == 1):
                        return
                    line = self._line
                    self._offset += len(raw)
                    self._line += last + 1 - lines.at
                    lines.at = last + 1
                    if fields:  # an empty line is no row
                        yield Record(line, raw, self._named(fields), None, self._offset, self._line)
            except (csv.Error, UnicodeDecodeError):
                return

    def _next_certain(self) -> Generator[Record, None, bool]:
        """The next record, and those behind it up to where reading is certain again. False at the end."""
        self._parser = self._new_parser()
        bad: list[Line] = []
        bad_size = 0
        reason = ""
        begun = self._offset
        while bad or self._offset == begun:
            if bad_size > self.max_row_bytes:
                yield self._record(bad, {}, reason)
                bad, bad_size, reason = [], 0, ""
            failure: str | None = None
            open_quote = False
            fields: list[str] = []
            try:
                fields = next(self._parser)
            except StopIteration:
                break
            except _RowTooLong:
                failure = self._too_long()
            except csv.Error as error:
                failure = f"not a CSV row: {error}"
                open_quote = True
            lines, self._taken = self._taken, []
            if self._comment and lines and lines[0].data.startswith(self._comment):
                self._ahead.extendleft(reversed(lines[1:]))
                bad, bad_size = [*bad, lines[0]], bad_size + lines[0].size
                if not reason:  # a comment is no row
                    self._record(bad, {}, None)
                    bad, bad_size = [], 0
                self._parser = self._new_parser()
                continue
            if failure is None and not fields and len(self.columns) > 1:
                if bad:
                    bad += lines
                    bad_size += sum(line.size for line in lines)
                else:  # an empty line is no row
                    self._record(lines, {}, None)
                continue
            if failure is None and len(fields) != max(len(self.columns), 1) and (fields or len(self.columns) > 1):
                failure = f"{len(fields)} columns, expected {len(self.columns)}"
                if len(lines) > 1 and sum(line.data.count(b'"') for line in lines) % 2 == 0:
                    # Every quote has its end: one whole record, and the lines inside its text are no rows.
                    yield self._record(bad + lines, {}, reason or failure)
                    bad, bad_size, reason = [], 0, ""
                    continue
                open_quote = len(lines) > 1
            if failure is None and len(lines) > 1 and self._is_many_rows([line.data for line in lines]):
                failure = f"a quoted field of {len(lines)} lines, each of which is a whole row"
                yield self._record(bad + lines, {}, reason or failure)
                bad, bad_size, reason = [], 0, ""
                continue
            if failure is not None:
                alone = len(lines) == 1
                lenient = self._parse_alone(lines[0])
                count = 1 if lenient or not open_quote else self._broken(lines)
                self._ahead.extendleft(reversed(lines[count:]))
                self._parser = self._new_parser()
                if lenient is None:
                    if not bad and alone:
                        yield self._record(lines[:count], {}, failure)
                    else:
                        reason = reason or failure
                        bad += lines[:count]
                        bad_size += sum(line.size for line in lines[:count])
                    continue
                lines, fields = lines[:1], lenient
            if bad:
                yield self._record(bad, {}, reason)
                bad, bad_size, reason = [], 0, ""
            yield self._good(lines, fields or [""])
        else:
            return True
        if bad:
            yield self._record(bad, {}, reason)
        return False

    def _good(self, lines: list[Line], fields: list[str]) -> Record:
        record = self._record(lines, self._named(fields), None)
        error = utf8_error(record.raw)
        return (
            record if error is None else Record(record.line, record.raw, {}, error, record.end_offset, record.end_line)
        )

    def _named(self, fields: list[str]) -> dict[str, str]:
        """The fields by name; of several with one name the first."""
        if self._distinct:
            return dict(zip(self.columns, fields, strict=True))
        return dict(zip(reversed(self.columns), reversed(fields), strict=True))

    def _new_parser(self) -> Iterator[list[str]]:
        return self.dialect.rows(self._feed())

    def _feed(self) -> Iterator[str]:
        """Lines for the parser; what it takes for one row collects in `_taken`."""
        size = 0
        while line := self._next_line():
            size = size + line.size if self._taken else line.size
            self._taken.append(line)
            if size > self.max_row_bytes:
                raise _RowTooLong
            yield line.data.decode("utf-8", DECODING)

    def _next_line(self) -> Line | None:
        return self._ahead.popleft() if self._ahead else self._lines.take()

    def _parse_alone(self, line: Line) -> list[str] | None:
        """The fields of one line that a strict reader refuses for the spaces behind a closing quote (`"a" ,b`); None
        where there is more to it."""
        if line.size != len(line.data):
            return None
        text = line.data.decode("utf-8", DECODING)
        try:
            strict = next(self.dialect.rows(iter([self._spaced_quote.sub('"', text)])), [])
        except csv.Error:
            return None
        return next(self.dialect.rows(iter([text]), strict=False)) if len(strict) == len(self.columns) else None

    def _broken(self, lines: list[Line]) -> int:
        """How many lines go with the broken first one, behind which its quote may be open. More are read where needed.

        A line with a quote begins outside of quotes or inside: as that tells which reads on further. Where both read
        equally far, the line and those before it are not certain, and the next one is asked.
        """
        if not any(b'"' in line.data for line in lines[1:]) and len(lines) > 1:
            return 1  # to the end of the file, or of the limit for a row, nothing closes that quote
        uncertain, size, place = 1, 0, 1
        while place < _SEARCHED_LINES and size < _SEARCHED_BYTES and self._reaches(lines, place):
            size += lines[place].size
            if b'"' in lines[place].data:
                width, end = self._reading(lines, place)
                outside = 0 if width != len(self.columns) else 1 + self._leads_on(lines, end)
                width, end = self._reading(lines, place, '"')
                inside = 0 if width is None else 1 + self._leads_on(lines, end)
                if outside > inside or (outside == inside == 0 and self._opens_field(lines[place])):
                    return 1
                if inside > outside:
                    return end
                uncertain = end
            place += 1
        return uncertain

    def _reaches(self, lines: list[Line], place: int) -> bool:
        """Whether there is a line at `place`. One more is read where needed."""
        if place == len(lines) and (more := self._next_line()) is not None:
            lines.append(more)
        return place < len(lines)

    def _reading(self, lines: list[Line], place: int, before: str = "") -> tuple[int | None, int]:
        """How many fields the record has that begins at `lines[place]`, with `before` ahead of it, and the place behind
        it. None, and the next place, where one of its quotes has no end."""
        quotes, at = before.count('"'), place

        def feed() -> Iterator[str]:
            nonlocal quotes, at
            size = 0
            while at < place + _SEARCHED_LINES and self._reaches(lines, at):
                size += lines[at].size
                if size > _SEARCHED_BYTES:
                    return
                text = lines[at].data.decode("utf-8", DECODING)
                quotes += (re.sub(r"\\.", "", text) if self.backslashes else text).count('"')
                at += 1
                yield before + text if at == place + 1 else text

        try:
            fields = next(self.dialect.rows(feed()), [])
        except csv.Error:
            return None, place + 1
        return (len(fields), at) if quotes % 2 == 0 else (None, place + 1)

    def _leads_on(self, lines: list[Line], place: int) -> bool:
        """Whether a whole row begins at `lines[place]`, or behind empty lines there; or nothing does."""
        for at in range(place, place + _SEARCHED_LINES):
            if not self._reaches(lines, at):
                return True
            if lines[at].data.strip(b"\r\n"):
                return self._reading(lines, at)[0] == len(self.columns)
        return False

    def _opens_field(self, line: Line) -> bool:
        """Whether the first quote of a line stands where a field begins, with text behind it."""
        before, _, behind = line.data.decode("utf-8", DECODING).rstrip("\r\n").partition('"')
        return before[-1:] in ("", self.delimiter) and behind[:1] not in ("", '"', self.delimiter)

    def _is_many_rows(self, lines: Sequence[bytes]) -> bool:
        """Whether what reads as one record is as many rows as it has lines, and quotes were plain characters there."""
        if self.dialect.shapes is None:
            return False
        texts = [line.decode("utf-8", DECODING) for line in lines]
        cells = whole_rows(self._plain, texts, len(self.columns))
        return cells is not None and all(self.dialect.shapes.fit(row) for row in cells)


class _RowTooLong(Exception):
    """A quoted field ran past the limit for a row."""
