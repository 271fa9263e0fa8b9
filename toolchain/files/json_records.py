"""JSON files as records: an object a line, or objects that go over several lines or stand in an array."""

import json
import re
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader, BytesIO
from typing import Any, BinaryIO, Literal

import orjson

from toolchain.files.compression import BrokenInput
from toolchain.files.lines import KEPT_OF_OVERLONG
from toolchain.files.records import (
    BOM,
    MAX_ROW_BYTES,
    Reader,
    Record,
    refuse_other_encodings,
    utf8_error,
)

# How much of a file is read to know its fields: the first record may lack one.
_RECORDS_AHEAD = 1000
_BYTES_AHEAD = 1 << 20
_CHUNK = 1 << 16
_INT64 = 20

_MARK = re.compile(rb'(["{}\[\]])')
_STRING = re.compile(rb'(?:[^"\\]|\\.)*+("?)', re.DOTALL)
_BETWEEN = re.compile(rb"[ \t\r\n,\x1e]*")
_OTHER = re.compile(rb"[^,\]\[{}\n]+")
_LAYOUT = re.compile(rb'("(?:[^"\\]|\\.)*+")|[ \t]*[\r\n]+[ \t]*', re.DOTALL)


class JsonReader(Reader):
    """What JSON files have in common: their columns are the fields of the first records together."""

    format = "jsonl"
    header = b""

    def __init__(self, stream: BinaryIO, name: str, max_row_bytes: int = MAX_ROW_BYTES) -> None:
        super().__init__(stream, name, max_row_bytes)
        self._first: deque[Record] = deque()
        self._error: BrokenInput | None = None
        self._rest = self._parse()
        columns: dict[str, None] = {}
        try:
            for record in self._rest:
                self._first.append(record)
                columns.update(dict.fromkeys(record.fields))
                if len(self._first) == 1 and record.error is not None:
                    refuse_other_encodings(record.raw, self.name)
                if len(self._first) == _RECORDS_AHEAD or record.end_offset >= _BYTES_AHEAD:
                    break
        except BrokenInput as error:
            self._error = error  # which comes behind the records before it
        self.columns = tuple(columns)

    def resume(self, offset: int, line: int) -> None:
        """Go on at an object, with the fields that the first ones have."""
        self._stream.seek(offset)
        self._offset, self._line = offset, line
        self._first.clear()
        self._error = None
        self._rest = self._parse()

    def holds(self, column: str) -> bool:
        """Whether one of the first records has this field, or a value at this path."""
        value = self.getter(column)
        return column in self.columns or not self.columns or any(value(r.fields) is not None for r in self._first)

    def sample(self, column: str) -> Sequence[Any]:
        """The field's values in the first records."""
        value = self.getter(column)
        return [value(record.fields) for record in self._first]

    def __iter__(self) -> Iterator[Record]:
        while self._first:
            yield self._first.popleft()
        if self._error is not None:
            raise self._error
        yield from self._rest

    @abstractmethod
    def _parse(self) -> Iterator[Record]:
        """The records from where the stream stands."""


class JsonlReader(JsonReader):
    """A file with one JSON object a line."""

    def _parse(self) -> Iterator[Record]:
        while line := self._read_line():
            if line.size != len(line.data):
                yield self._record([line], {}, self._too_long())
                continue
            data = line.data.removeprefix(BOM) if self._offset == 0 else line.data
            if not data.strip():
                self._record([line], {}, None)
                continue
            fields, error = parse_object(data)
            yield self._record([line], fields, error)


class JsonDocumentReader(JsonReader):
    """A file with an array of objects, or with objects that do not stand a line each, read object by object.

    A record's `raw` is the object in one line. A file whose brackets do not match cannot be read on behind that place.
    """

    written_as = "JSON lines"

    def __init__(self, stream: BinaryIO, name: str, max_row_bytes: int = MAX_ROW_BYTES, array: bool = False) -> None:
        self._array = array
        super().__init__(stream, name, max_row_bytes)
        self.found = ("an array of objects" if array else "objects over several lines",)

    def _parse(self) -> Iterator[Record]:
        self._data, self._at = b"", 0
        inside = self._array and self._offset > 0
        while True:
            between = _BETWEEN.match(self._data, self._at)
            assert between is not None
            self._pass(between.end())
            if self._at == len(self._data):
                if self._more():
                    if self._offset == 0 and self._data.startswith(BOM):
                        self._pass(len(BOM))
                    continue
                if inside:
                    raise BrokenInput(f"{self.name}: ends inside of its array, which is cut off; fetch it again")
                return
            line = self._line
            match self._data[self._at : self._at + 1]:
                case b"[" if self._array and not inside:
                    inside = True
                    self._pass(self._at + 1)
                case b"]" if inside:
                    inside = False
                    self._pass(self._at + 1)
                case b"{" | b"[" | b'"':
                    raw = self._value()
                    yield self._object(raw, line)
                case b"]" | b"}":
                    raise BrokenInput(f"{self.name}: line {line} closes a bracket that is not open; mend it")
                case _:
                    other = _OTHER.match(self._data, self._at)
                    raw = other[0] if other else b""
                    self._pass(self._at + len(raw))
                    yield Record(line, raw, {}, "not a JSON object", self._offset, self._line)

    def _pass(self, end: int) -> None:
        """Move the place to `end` in what was read of the file."""
        self._offset += end - self._at
        self._line += self._data.count(b"\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        """Read on, and forget what is behind; False at the end."""
        piece: bytes = self._stream.read1(_CHUNK)  # type: ignore[attr-defined]
        self._data, self._at = self._data[self._at :] + piece, 0
        return bool(piece)

    def _value(self) -> bytes:
        """The value that begins here; of one over the limit its beginning, and a byte too many."""
        parts: list[bytes] = []
        size = depth = 0
        line, scanned, in_string = self._line, self._at, False
        while True:
            token = (_STRING.match if in_string else _MARK.search)(self._data, scanned)
            scanned = len(self._data) if token is None else token.end()
            if token is not None and token[1]:
                if token[1] == b'"':
                    in_string = not in_string
                else:
                    depth += 1 if token[1] in b"{[" else -1
                if depth > 0 or in_string:
                    continue
            size += scanned - self._at
            parts.append(self._data[self._at : scanned])
            if size > self.max_row_bytes:
                parts = [b"".join(parts)[:KEPT_OF_OVERLONG]]
            self._pass(scanned)
            if token is not None and token[1]:
                return b"".join(parts) if size <= self.max_row_bytes else parts[0].ljust(self.max_row_bytes + 1)
            if not self._more():
                raise BrokenInput(f"{self.name}: the value that begins in line {line} has no end; mend it")
            scanned = 0

    def _object(self, raw: bytes, line: int) -> Record:
        if len(raw) > self.max_row_bytes:
            return Record(line, raw[:KEPT_OF_OVERLONG], {}, self._too_long(), self._offset, self._line)
        fields, error = parse_object(raw)
        if error is None:
            row = _LAYOUT.sub(lambda part: part[1] or b"", raw)
            if b"\n" not in row and b"\r" not in row:
                return Record(line, row + b"\n", fields, None, self._offset, self._line)
            error = "a string with a line break in it, which is no JSON"
        return Record(line, raw, {}, error, self._offset, self._line)


class Unreadable:
    """A string that is none: it holds half of a surrogate pair."""


def parse_object(data: bytes) -> tuple[Mapping[str, Any], str | None]:
    """The fields of an object, or why they cannot be read.

    What is no JSON but means one thing only (NaN, Infinity, numbers too large, raw control characters in a string) does
    not cost the object; nor does a lone surrogate, but the field that has it is `Unreadable`.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if reason := utf8_error(data):
            return {}, reason
        try:
            value = _plain(json.loads(data.decode(), strict=False, parse_int=_integer))
        except (ValueError, RecursionError):
            return {}, f"not JSON: {error}"
    return (value, None) if isinstance(value, dict) else ({}, "not a JSON object")


def _integer(digits: str) -> int | float:
    """As orjson has it: of more than 64 bits it is a float."""
    return int(digits) if len(digits) < _INT64 else float(digits)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return Unreadable()
    return value


def json_shape(head: bytes, whole: bool) -> Literal["lines", "array", "objects"] | None:
    """How the objects stand in a file that begins with `head`, or is it where `whole`: a line each, in an array, or
    otherwise. None where it does not begin as JSON."""
    text = head.removeprefix(BOM).lstrip()
    if not text.startswith((b"{", b"[")):
        return None
    first, end, _ = text.partition(b"\n")
    line, _ = parse_object(first) if end or whole else ({}, "")
    if line:
        return "lines"
    array = text.startswith(b"[")
    if array and (text[1:].lstrip()[:1] in (b"{", b"]") or not text[1:].strip()):
        return "array"
    reader = JsonDocumentReader(BufferedReader(BytesIO(text)), "", len(text))
    try:
        value = next(iter(reader))
    except (BrokenInput, StopIteration):
        return "lines"
    return "objects" if value.error is None else "lines"
