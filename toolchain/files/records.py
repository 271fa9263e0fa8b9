"""A file as records: each with its bytes as they were read, its fields, and where it stands.

One bad record never costs a good one: a record that cannot be read comes out with the reason, and reading goes on at
the next line that parses.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from toolchain.errors import UsageError
from toolchain.files.kind import Format

TEXT_COLUMNS = ("text", "review", "content", "body", "comment", "message", "sentence", "document", "review_text")
LABEL_COLUMNS = ("label", "sentiment", "class", "category", "target", "polarity")
MAX_ROW_BYTES = 16 * 2**20

BOM = b"\xef\xbb\xbf"
KEPT_OF_OVERLONG = 1024
"""How many bytes stay of a record that is over the limit."""


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
class Line:
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

    def _read_line(self) -> Line | None:
        """The next line up to and with its `\\n`, or None at the end. Holds no more than the limit in memory."""
        limit = self.max_row_bytes
        data = self._stream.readline(limit + 1)
        if len(data) <= limit:
            return Line(data, len(data)) if data else None
        size, head, end = len(data), data[:KEPT_OF_OVERLONG], data
        while end and not end.endswith(b"\n"):
            end = self._stream.readline(limit)
            size += len(end)
        return Line(head, size)

    def _record(self, lines: list[Line], fields: Mapping[str, Any], error: str | None) -> Record:
        """The record that `lines` make, and the position moved behind them."""
        first = self._line
        self._offset += sum(line.size for line in lines)
        self._line += len(lines)
        raw = b"".join(line.data for line in lines)
        return Record(first, raw, fields, error, self._offset, self._line)

    def _too_long(self) -> str:
        return f"longer than {self.max_row_bytes} bytes, the limit for a row"


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
