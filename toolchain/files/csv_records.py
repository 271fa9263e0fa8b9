"""CSV files as records, byte for byte."""

import csv
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from toolchain.errors import UsageError
from toolchain.files.records import (
    KEPT_OF_OVERLONG,
    MAX_ROW_BYTES,
    TEXT_COLUMNS,
    Line,
    Reader,
    Record,
    refuse_other_encodings,
    utf8_error,
)

DELIMITERS = (",", "\t", ";", "|")

# Files are decoded with this, so that a row with bytes that are not UTF-8 can still be cut into fields and named.
_DECODING = "surrogateescape"


class CsvReader(Reader):
    """A CSV file with a header. Line ends may be `\\n`, `\\r\\n` or `\\r`, mixed, and stand in quoted fields."""

    format = "csv"

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        max_row_bytes: int = MAX_ROW_BYTES,
        delimiter: str | None = None,
        wanted: Sequence[str] = TEXT_COLUMNS,
    ) -> None:
        """Without a `delimiter` it is the one under which the header has one of the `wanted` columns."""
        super().__init__(stream, name, max_row_bytes)
        csv.field_size_limit(sys.maxsize)
        self._tail = b""
        self._ahead: deque[Line] = deque()
        self.delimiter = delimiter or self._detect_delimiter(wanted)
        self._taken: list[Line] = []
        self._parser = self._new_parser()
        self.columns = self._read_header()
        self.start = (self._offset, self._line)

    def _detect_delimiter(self, wanted: Sequence[str]) -> str:
        if (line := self._next_line()) is None:
            return DELIMITERS[0]
        self._ahead.appendleft(line)
        text = line.data.decode("utf-8", _DECODING).removeprefix("\ufeff")
        for delimiter in DELIMITERS:
            names = next(csv.reader([text], delimiter=delimiter), [])
            if not {name.strip().lower() for name in wanted}.isdisjoint(name.strip().lower() for name in names):
                return delimiter
        return DELIMITERS[0]

    def _read_header(self) -> tuple[str, ...]:
        try:
            names = next(self._parser)
        except StopIteration:
            raise UsageError(f"{self.name}: the file is empty; expected a header line with the column names") from None
        except (csv.Error, _RowTooLong):
            raise UsageError(f"{self.name}: line 1 is not a CSV header; expected the column names") from None
        self.header = self._record(self._taken, {}, None).raw
        self._taken = []
        refuse_other_encodings(self.header, self.name)
        if not any(name.strip() for name in names):
            raise UsageError(f"{self.name}: line 1 is blank; expected a header line with the column names")
        names[0] = names[0].removeprefix("\ufeff")
        if names[0].startswith('"') and names[0].endswith('"') and len(names[0]) > 1:
            names[0] = names[0][1:-1]  # quotes behind a byte order mark are not seen as quotes
        return tuple(names)

    def resume(self, offset: int, line: int) -> None:
        """Go on at a record, behind the header that was read already."""
        self._stream.seek(offset)
        self._offset, self._line = offset, line
        self._tail = b""
        self._ahead.clear()
        self._taken = []
        self._parser = self._new_parser()

    def __iter__(self) -> Iterator[Record]:
        bad: list[Line] = []
        bad_size = 0
        reason = ""
        while True:
            if bad_size > self.max_row_bytes:
                yield self._record(bad, {}, reason)
                bad, bad_size, reason = [], 0, ""
            failure: str | None = None
            fields: list[str] = []
            try:
                fields = next(self._parser)
            except StopIteration:
                break
            except _RowTooLong:
                failure = self._too_long()
            except csv.Error as error:
                failure = f"not a CSV row: {error}"
            lines, self._taken = self._taken, []
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
            if failure is not None:
                lenient = self._parse_alone(lines[0])
                self._ahead.extendleft(reversed(lines[1:]))
                if lenient is None:
                    if not bad and len(lines) == 1:
                        yield self._record(lines, {}, failure)
                    else:
                        reason = reason or failure
                        bad.append(lines[0])
                        bad_size += lines[0].size
                    self._parser = self._new_parser()
                    continue
                lines, fields = lines[:1], lenient
                self._parser = self._new_parser()
            if bad:
                yield self._record(bad, {}, reason)
                bad, bad_size, reason = [], 0, ""
            yield self._good(lines, fields or [""])
        if bad:
            yield self._record(bad, {}, reason)

    def _good(self, lines: list[Line], fields: list[str]) -> Record:
        record = self._record(lines, dict(zip(reversed(self.columns), reversed(fields), strict=True)), None)
        error = utf8_error(record.raw)
        return (
            record if error is None else Record(record.line, record.raw, {}, error, record.end_offset, record.end_line)
        )

    def _new_parser(self) -> Iterator[list[str]]:
        return csv.reader(self._feed(), delimiter=self.delimiter, strict=True)

    def _feed(self) -> Iterator[str]:
        """Lines for the parser; what it takes for one row collects in `_taken`."""
        size = 0
        while line := self._next_line():
            size = size + line.size if self._taken else line.size
            self._taken.append(line)
            if size > self.max_row_bytes:
                raise _RowTooLong
            yield line.data.decode("utf-8", _DECODING)

    def _read_line(self) -> Line | None:
        """The next lines up to and with a `\\n`; where they are over the limit together, up to a lone `\\r`."""
        limit = self.max_row_bytes
        data, self._tail = self._tail, b""
        if not data.endswith(b"\n"):
            data += self._stream.readline(limit + 1 - len(data))
        if len(data) <= limit:
            return Line(data, len(data)) if data else None
        if cut := data.removesuffix(b"\n").removesuffix(b"\r").rfind(b"\r") + 1:
            self._tail = data[cut:]
            return Line(data[:cut], cut)
        size, head = 0, data[:KEPT_OF_OVERLONG]
        while data:
            if cut := data.find(b"\r") + 1:
                rest = data[cut:] or self._stream.readline(1)
                self._tail = rest.removeprefix(b"\n")
                return Line(head, size + cut + len(rest) - len(self._tail))
            size += len(data)
            if data.endswith(b"\n"):
                break
            data = self._stream.readline(limit)
        return Line(head, size)

    def _next_line(self) -> Line | None:
        if self._ahead:
            return self._ahead.popleft()
        line = self._read_line()
        if line is None or b"\r" not in line.data or line.size != len(line.data):
            return line
        parts = line.data.splitlines(keepends=True)
        self._ahead.extend(Line(part, len(part)) for part in parts[1:])
        return Line(parts[0], len(parts[0]))

    def _parse_alone(self, line: Line) -> list[str] | None:
        """The fields of one line that a strict reader refuses (`"a" ,b`), or None where they are not the right number
        or a quote is still open at its end."""
        if line.size != len(line.data):
            return None
        end_mark = "end of line"
        rows = csv.reader([line.data.decode("utf-8", _DECODING), end_mark], delimiter=self.delimiter)
        try:
            fields = next(rows)
            return fields if next(rows, None) == [end_mark] and len(fields) == len(self.columns) else None
        except csv.Error:
            return None


class _RowTooLong(Exception):
    """A quoted field ran past the limit for a row."""
