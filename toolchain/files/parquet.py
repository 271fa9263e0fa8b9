"""Parquet files as records. A row's position is its number, where a text file has bytes and lines.

pyarrow is loaded on first use.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from toolchain.errors import UsageError
from toolchain.files.compression import BrokenInput, require_pyarrow
from toolchain.files.records import MAX_ROW_BYTES, Reader, Record, utf8_error

_BATCH_ROWS = 1024
_BATCH_BYTES = 4 << 20
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class _Batch:
    """Consecutive rows as Arrow columns; `row_bytes` is what one of them takes on average."""

    columns: Any
    row_bytes: int


@dataclass(slots=True)
class Row(Record):
    """A row of a batch. Its `fields` are the values that were asked for; its `raw` is empty, it was never bytes."""

    batch: _Batch
    index: int

    @property
    def size(self) -> int:
        """Bytes it holds in memory: its share of the batch's."""
        return self.batch.row_bytes

    def as_read(self) -> bytes:
        """The row as a JSON object."""
        columns = self.batch.columns
        return orjson.dumps(
            {name: _plain(columns.column(i)[self.index]) for i, name in enumerate(columns.schema.names)}
        )


class ParquetReader(Reader):
    """The rows of a Parquet file, batch by batch, in its order. A damaged page breaks the file off there."""

    format = "parquet"
    header = b""

    def __init__(
        self, stream: BinaryIO, name: str, max_row_bytes: int = MAX_ROW_BYTES, encoding: str | None = None
    ) -> None:
        """Raises `UsageError` where the file is none, or pyarrow is not there. `stream` must be able to seek. With an
        `encoding` a column of bytes holds texts as well."""
        super().__init__(stream, name, max_row_bytes)
        arrow = require_pyarrow(name, "Parquet")
        import pyarrow.parquet

        self._errors = (OSError, arrow.ArrowException)
        if not stream.seekable():
            raise UsageError(f"{name}: Parquet cannot be read from a pipe; name a file")
        try:
            # Read ahead is memory, and threads are the scorer's.
            self._file = pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER)
            self.schema = self._file.schema_arrow
        except self._errors as error:
            raise UsageError(f"{name}: cannot be read as Parquet ({_one_line(error)}); expected a whole file") from None
        self.columns = tuple(self.schema.names)
        self.rows: int = self._file.metadata.num_rows
        self._encoding = encoding
        self._text: str | None = None
        self._wanted: list[str] = []

    def holds(self, column: str) -> bool:
        """Whether there is this column, or one at this path into structs."""
        return self.field_type(column) is not None

    def getter(self, column: str) -> Callable[[Mapping[str, Any]], Any]:
        """As `Reader.getter`; only columns that were asked for here are in the rows' `fields`."""
        self._wanted.append(column)
        return lambda fields: fields.get(column)

    def text_getter(self, column: str) -> Callable[[Mapping[str, Any]], Any]:
        """`getter` for the texts. Raises `UsageError` on a column that holds no strings."""
        kind = self.field_type(column)
        if _is_binary(kind) and self._encoding is None:
            raise UsageError(f"{self.name}: the column {column!r} holds bytes; say what they are: --encoding utf-8")
        if not _is_text(kind) and not _is_binary(kind):
            raise UsageError(
                f"{self.name}: the column {column!r} holds {kind}, expected strings; name another: --text-column"
            )
        self._text = column
        return self.getter(column)

    def field_type(self, column: str) -> Any:
        """The Arrow type of a column, or of what is at a path into structs; None where there is none."""
        name, *path = self._path(column)
        if name not in self.columns:
            return None
        kind = self.schema.field(self.columns.index(name)).type
        for name in path:
            position = kind.get_field_index(name) if str(kind).startswith("struct") else -1
            if position < 0:
                return None
            kind = kind.field(position).type
        return kind

    def column(self, columns: Any, column: str) -> Any:
        """The array of a batch at a column or path."""
        import pyarrow.compute

        name, *path = self._path(column)
        array = columns.column(self.columns.index(name))
        for name in path:
            array = pyarrow.compute.struct_field(array, [array.type.get_field_index(name)])
        return array

    def resume(self, offset: int, line: int) -> None:
        """Go on behind the first `offset` rows."""
        self._offset, self._line = offset, line

    def __iter__(self) -> Iterator[Record]:
        try:
            for columns, first in self._batches():
                yield from self._records(columns, first)
        except self._errors as error:
            raise BrokenInput(f"{self.name}: damaged after row {self._offset:,} ({_one_line(error)})") from error

    def _batches(self) -> Iterator[tuple[Any, int]]:
        """The batches that are to do, and the first row in each that is.

        Every group is cut from its own beginning, so that a resumed run sees the batches of an undisturbed one.
        """
        before = 0
        for number in range(self._file.num_row_groups):
            group = self._file.metadata.row_group(number)
            if before + group.num_rows <= self._offset:
                before += group.num_rows
                continue
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))
            for columns in self._file.iter_batches(size, row_groups=[number], use_threads=False):
                first, before = max(0, self._offset - before), before + columns.num_rows
                if before > self._offset:
                    yield columns, first

    def _records(self, columns: Any, first: int) -> Iterator[Record]:
        """The batch's rows from `first` on."""
        batch = _Batch(columns, max(1, columns.nbytes // columns.num_rows))
        values = [_values(self.column(columns, name)) for name in self._wanted]
        if self._text is not None and _is_binary(self.field_type(self._text)):
            place = self._wanted.index(self._text)
            values[place] = [_decoded(cell, self._encoding or "utf-8") for cell in self.column(columns, self._text)]
        for index in range(first, columns.num_rows):
            fields = {name: value[index] for name, value in zip(self._wanted, values, strict=True)}
            self._offset += 1
            self._line += 1
            error = self._text_error(fields)
            yield Row(self._offset, b"", {} if error else fields, error, self._offset, self._line, batch, index)

    def _path(self, column: str) -> list[str]:
        return [column] if column in self.columns else column.split(".")

    def _text_error(self, fields: dict[str, Any]) -> str | None:
        if self._text is None or (text := fields[self._text]) is None:
            return None
        if isinstance(text, bytes):
            return utf8_error(text) or f"not {self._encoding}"
        limit = self.max_row_bytes
        return self._too_long() if len(text) * 4 > limit and len(text.encode()) > limit else None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return str(kind) in ("string", "large_string", "string_view", "null")


def _is_binary(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view") or str(kind).startswith("fixed_size_binary")


def _decoded(cell: Any, encoding: str) -> str | bytes | None:
    """A cell of bytes as text; the bytes, where they are none in this encoding."""
    data: bytes | None = cell.as_py()
    try:
        return None if data is None else data.decode(encoding)
    except UnicodeDecodeError:
        return data


def _values(array: Any) -> list[Any]:
    """What the cells hold, as `_plain` has it; a string that is not UTF-8 is its bytes."""
    from pyarrow import types

    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_text(array.type):
        try:
            return list(array.to_pylist())
        except UnicodeDecodeError:
            return [_string(cell) if cell.is_valid else None for cell in array]
    if types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type):
        return list(array.to_pylist())
    return [_plain(cell) for cell in array]


def _string(cell: Any) -> str | bytes:
    try:
        return str(cell.as_py())
    except UnicodeDecodeError:
        data: bytes = cell.as_buffer().to_pybytes()
        return data


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: bytes as hex, and times, decimals and the like as text.

    Not `as_py`, which needs pandas for nanoseconds and refuses what Python's own types cannot hold.
    """
    import pyarrow
    from pyarrow import types

    kind = cell.type
    if not cell.is_valid:
        return None
    if isinstance(cell, pyarrow.ExtensionScalar):
        return _plain(cell.value)
    if types.is_dictionary(kind):
        return _plain(cell.value)
    if types.is_struct(kind):
        return {kind.field(i).name: _plain(cell[i]) for i in range(kind.num_fields)}
    if isinstance(cell, pyarrow.ListScalar | pyarrow.LargeListScalar | pyarrow.FixedSizeListScalar):
        return [_plain(item) for item in cell.values]
    if _is_text(kind):
        text = _string(cell)
        return text if isinstance(text, str) else text.decode(errors="backslashreplace")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return cell.as_py()
    if types.is_temporal(kind):
        try:
            return cell.cast(pyarrow.string()).as_py()
        except pyarrow.ArrowException:  # a duration, or a zone that this machine does not know
            return str(cell.value)
    value = cell.as_py()
    return value.hex() if isinstance(value, bytes) else str(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
