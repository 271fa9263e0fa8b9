"""CSV and JSONL files as records: each with its bytes as they were read, its fields, and where it stands.

One bad record never costs a good one: a record that cannot be read comes out with the reason, and reading goes on at
the next line that parses.
"""

import csv
import operator
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import orjson

from toolchain.errors import UsageError
from toolchain.files.compression import split_suffix

Format = Literal["csv", "jsonl", "parquet"]

FORMATS: Mapping[str, Format] = {
    **{".csv": "csv", ".tsv": "csv"},
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"},
    ".parquet": "parquet",
}
TEXT_COLUMNS = ("text", "review", "content", "body", "comment", "message", "sentence", "document", "review_text")
LABEL_COLUMNS = ("label", "sentiment", "class", "category", "target", "polarity")
DELIMITERS = (",", "\t", ";", "|")
MAX_ROW_BYTES = 16 * 2**20

BOM = b"\xef\xbb\xbf"
_KEPT_OF_OVERLONG = 1024
# How much of a JSONL file is read to know its fields: the first record may lack one.
_RECORDS_AHEAD = 1000
_BYTES_AHEAD = 1 << 20
# Files are decoded with this, so that a row with bytes that are not UTF-8 can still be cut into fields and named.
_DECODING = "surrogateescape"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    `raw` is what was read, line end included (the first kilobyte of a record over the size limit). `fields` holds the
    values by column name. Where the record could not be read, `error` says why and `fields` is empty. `line` counts
    from 1; `end_offset` (bytes) and `end_line` are where the next record begins.
    """

    line: int
    raw: bytes
    fields: Mapping[str, Any]
    error: str | None
    end_offset: int
    end_line: int

    @property
    def size(self) -> int:
        """Bytes it holds in memory, roughly."""
        return len(self.raw)

    def as_read(self) -> bytes:
        """The record for a person to look at."""
        return self.raw


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a file; `size` is its length in bytes, more than `len(data)` where the line was over the limit."""

    data: bytes
    size: int


class Reader(ABC):
    """The records of one open file. Iterate it once, or again behind a `resume`.

    `start` is where the first record begins: its offset in bytes (of Parquet: rows), and its line.
    """

    format: Format
    header: bytes
    columns: tuple[str, ...]
    delimiter = ","

    def __init__(self, stream: BinaryIO, name: str, max_row_bytes: int) -> None:
        self.name = name
        self.max_row_bytes = max_row_bytes
        self._stream = stream
        self.start = (0, 1)
        self._offset, self._line = self.start

    @abstractmethod
    def __iter__(self) -> Iterator[Record]: ...

    @abstractmethod
    def resume(self, offset: int, line: int) -> None:
        """Go on at a record that begins at `offset` (bytes) in `line`, as an earlier record's `end_*` named them."""

    def holds(self, column: str) -> bool:
        """Whether the records have this column, as far as they are known before they are read."""
        return column in self.columns

    def getter(self, column: str) -> Callable[[Mapping[str, Any]], Any]:
        """What takes the column's value from a record's `fields`, None where there is none.

        A name with dots that is no column itself is a path into nested objects: `review.body`.
        """
        if column in self.columns or "." not in column:
            return operator.methodcaller("get", column)
        path = column.split(".")

        def nested(fields: Mapping[str, Any]) -> Any:
            value: Any = fields
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            return value

        return nested

    def text_getter(self, column: str) -> Callable[[Mapping[str, Any]], Any]:
        """`getter` for the texts. Raises `UsageError` where it is known beforehand that the column holds none."""
        return self.getter(column)

    def _read_line(self) -> _Line | None:
        """The next line up to and with its `\\n`, or None at the end. Holds no more than the limit in memory."""
        limit = self.max_row_bytes
        data = self._stream.readline(limit + 1)
        if len(data) <= limit:
            return _Line(data, len(data)) if data else None
        size, head, end = len(data), data[:_KEPT_OF_OVERLONG], data
        while end and not end.endswith(b"\n"):
            end = self._stream.readline(limit)
            size += len(end)
        return _Line(head, size)

    def _record(self, lines: list[_Line], fields: Mapping[str, Any], error: str | None) -> Record:
        """The record that `lines` make, and the position moved behind them."""
        first = self._line
        self._offset += sum(line.size for line in lines)
        self._line += len(lines)
        raw = b"".join(line.data for line in lines)
        return Record(first, raw, fields, error, self._offset, self._line)

    def _too_long(self) -> str:
        return f"longer than {self.max_row_bytes} bytes, the limit for a row"


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
        self._ahead: deque[_Line] = deque()
        self.delimiter = delimiter or self._detect_delimiter(wanted)
        self._taken: list[_Line] = []
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
        bad: list[_Line] = []
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

    def _good(self, lines: list[_Line], fields: list[str]) -> Record:
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

    def _read_line(self) -> _Line | None:
        """The next lines up to and with a `\\n`; where they are over the limit together, up to a lone `\\r`."""
        limit = self.max_row_bytes
        data, self._tail = self._tail, b""
        if not data.endswith(b"\n"):
            data += self._stream.readline(limit + 1 - len(data))
        if len(data) <= limit:
            return _Line(data, len(data)) if data else None
        if cut := data.removesuffix(b"\n").removesuffix(b"\r").rfind(b"\r") + 1:
            self._tail = data[cut:]
            return _Line(data[:cut], cut)
        size, head = 0, data[:_KEPT_OF_OVERLONG]
        while data:
            if cut := data.find(b"\r") + 1:
                rest = data[cut:] or self._stream.readline(1)
                self._tail = rest.removeprefix(b"\n")
                return _Line(head, size + cut + len(rest) - len(self._tail))
            size += len(data)
            if data.endswith(b"\n"):
                break
            data = self._stream.readline(limit)
        return _Line(head, size)

    def _next_line(self) -> _Line | None:
        if self._ahead:
            return self._ahead.popleft()
        line = self._read_line()
        if line is None or b"\r" not in line.data or line.size != len(line.data):
            return line
        parts = line.data.splitlines(keepends=True)
        self._ahead.extend(_Line(part, len(part)) for part in parts[1:])
        return _Line(parts[0], len(parts[0]))

    def _parse_alone(self, line: _Line) -> list[str] | None:
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


class JsonlReader(Reader):
    """A file with one JSON object a line. Its columns are the fields of the first records together."""

    format = "jsonl"
    header = b""

    def __init__(self, stream: BinaryIO, name: str, max_row_bytes: int = MAX_ROW_BYTES) -> None:
        super().__init__(stream, name, max_row_bytes)
        self._first: deque[Record] = deque()
        records = self._parse()
        columns: dict[str, None] = {}
        for record in records:
            self._first.append(record)
            columns.update(dict.fromkeys(record.fields))
            if len(self._first) == 1 and record.error is not None:
                refuse_other_encodings(record.raw, self.name)
            if len(self._first) == _RECORDS_AHEAD or record.end_offset >= _BYTES_AHEAD:
                break
        self._rest = records
        self.columns = tuple(columns)

    def resume(self, offset: int, line: int) -> None:
        """Go on at an object, with the fields that the first ones have."""
        self._stream.seek(offset)
        self._offset, self._line = offset, line
        self._first.clear()
        self._rest = self._parse()

    def holds(self, column: str) -> bool:
        """Whether one of the first records has this field, or a value at this path."""
        value = self.getter(column)
        return column in self.columns or not self.columns or any(value(r.fields) is not None for r in self._first)

    def __iter__(self) -> Iterator[Record]:
        while self._first:
            yield self._first.popleft()
        yield from self._rest

    def _parse(self) -> Iterator[Record]:
        while line := self._read_line():
            if line.size != len(line.data):
                yield self._record([line], {}, self._too_long())
                continue
            data = line.data.removeprefix(BOM) if self._offset == 0 else line.data
            if not data.strip():
                self._record([line], {}, None)
                continue
            fields, error = self._object(data)
            yield self._record([line], fields, error)

    @staticmethod
    def _object(data: bytes) -> tuple[Mapping[str, Any], str | None]:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return {}, utf8_error(data) or f"not JSON: {error}"
        return (value, None) if isinstance(value, dict) else ({}, "not a JSON object")


class _RowTooLong(Exception):
    """A quoted field ran past the limit for a row."""


def utf8_error(raw: bytes) -> str | None:
    """Why `raw` is not UTF-8, or None where it is."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{raw[error.start]:02x} at {error.start} ({error.reason})"
    return None


def refuse_other_encodings(start: bytes, name: str) -> None:
    """Raise `UsageError` where a file's first line shows that it is not UTF-8."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        encoding = "UTF-16"
    elif utf8_error(start):
        encoding = "another encoding (Latin-1?)"
    else:
        return
    raise UsageError(
        f"{name}: the file is in {encoding}; expected UTF-8. Name it: score --encoding, or "
        f"convert it: iconv -f … -t UTF-8 {name}"
    )


def open_reader(
    stream: BinaryIO,
    name: str,
    format: Format | None,
    max_row_bytes: int = MAX_ROW_BYTES,
    delimiter: str | None = None,
    wanted: Sequence[str] = TEXT_COLUMNS,
) -> Reader:
    """A reader for `format`, which `None` takes from the name's ending, else from the first byte (`{` is JSONL).

    The ending of a compressed file is the one before: `stream` has it unpacked. A CSV's `delimiter`, where it is not
    given, is a tab in a `.tsv`, else the first of `DELIMITERS` that cuts the header so that it has one of the `wanted`
    columns, else the comma. `stream` needs `peek` where the name does not say the format (a buffered file has it).
    Raises `UsageError` on a CSV without a header.
    """
    ending = split_suffix(name)[0].suffix.lower()
    if format is None:
        format = FORMATS.get(ending)
    if format is None:
        start = stream.peek(4).removeprefix(BOM).lstrip()  # type: ignore[attr-defined]
        format = "jsonl" if start.startswith(b"{") else "csv"
    if format == "parquet":
        raise UsageError(f"{name}: Parquet is for toolchain score alone; expected CSV or JSONL here")
    if format == "jsonl":
        return JsonlReader(stream, name, max_row_bytes)
    return CsvReader(stream, name, max_row_bytes, delimiter or ("\t" if ending == ".tsv" else None), wanted)


def find_column(reader: Reader, wanted: str | None, usual: tuple[str, ...], option: str) -> str:
    """The column `wanted`, or else the first of the `usual` names that the file has, whatever its case.

    Raises `UsageError` that lists the file's columns and names `option`.
    """
    columns = ", ".join(reader.columns) or "none"
    if wanted is not None:
        if reader.holds(wanted):
            return wanted
        raise UsageError(f"{reader.name}: no column {wanted!r}; it has: {columns}")
    names = {column.strip().lower(): column for column in reversed(reader.columns)}
    for name in usual:
        if name in names:
            return names[name]
    raise UsageError(
        f"{reader.name}: no column named like {', '.join(usual[:4])}; it has: {columns}. Name it: {option}"
    )
