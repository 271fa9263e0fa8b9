"""JSON files as records: an object a line."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import orjson

from toolchain.files.records import BOM, MAX_ROW_BYTES, Reader, Record, refuse_other_encodings, utf8_error

# How much of a JSONL file is read to know its fields: the first record may lack one.
_RECORDS_AHEAD = 1000
_BYTES_AHEAD = 1 << 20


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
