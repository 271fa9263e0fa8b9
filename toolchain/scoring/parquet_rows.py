"""Scored rows as Parquet: the columns and their types go through as Arrow has them, with our fields behind.

pyarrow is loaded on first use.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from toolchain.files.parquet import ParquetReader, Row
from toolchain.files.records import Record
from toolchain.scoring.rendering import Appended, Selection
from toolchain.scoring.scorer import Scores

RECORD_KEY = b"toolchain"
"""The record's key in the metadata of a file."""


class ParquetRows:
    """What makes the output's row groups, each an Arrow stream until they are joined; `header` is the schema."""

    def __init__(
        self, reader: ParquetReader, appended: Appended, names: Sequence[str], selection: Selection | None
    ) -> None:
        import pyarrow

        self._reader = reader
        self._appended = appended
        self._kept = None if selection is None else selection.kept
        schema = reader.schema
        if self._kept is None:
            own = list(schema)
        else:
            own = [
                schema.field(reader.columns.index(name))
                if name in reader.columns
                else pyarrow.field(name, reader.field_type(name))
                for name in self._kept
            ]
        types = [pyarrow.string(), pyarrow.float32()]
        if appended.probabilities:
            types += [pyarrow.float32()] * len(appended.labels)
        if appended.min_confidence is not None:
            types.append(pyarrow.bool_())
        if appended.explain:
            types.append(pyarrow.list_(pyarrow.struct({"word": pyarrow.string(), "share": pyarrow.float32()})))
        ours = [pyarrow.field(name, kind) for name, kind in zip(names, types, strict=True)]
        self._schema = pyarrow.schema([*own, *ours], schema.metadata)
        self.header: bytes = self._schema.serialize().to_pybytes()

    def render(self, records: Sequence[Record], scores: Scores) -> bytes:
        """The scored rows of a window, nothing where there are none."""
        import pyarrow

        if not records:
            return b""
        arrays = [self._own(columns) for columns in _slices(records)]
        columns = [_joined(column) for column in zip(*arrays, strict=True)]
        columns.append(pyarrow.array([self._appended.labels[best] for best in scores.best.tolist()], pyarrow.string()))
        columns.append(pyarrow.array(scores.probabilities.max(axis=1)))
        if self._appended.probabilities:
            columns += [pyarrow.array(values) for values in scores.probabilities.T.copy()]
        if self._appended.min_confidence is not None:
            columns.append(pyarrow.array(self._appended.abstains(scores)))
        if self._appended.explain:
            words = [[word._asdict() for word in strongest] for strongest in scores.strongest]
            columns.append(pyarrow.array(words, self._schema.types[-1]))
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, self._schema) as stream:
            stream.write_batch(pyarrow.record_batch(columns, schema=self._schema))
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def _own(self, columns: Any) -> list[Any]:
        if self._kept is None:
            return list(columns.columns)
        return [self._reader.column(columns, name) for name in self._kept]


def join_parts(header: bytes, parts: Iterable[Path], target: Path, record: Mapping[str, Any] | None = None) -> None:
    """Write the Parquet file of `ParquetRows`' header and parts, a row group a part; none give a file without rows. Its
    metadata are those of the input, and the `record` of what made it."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(header))
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != RECORD_KEY}
    if record is not None:
        metadata[RECORD_KEY] = json.dumps({**record, "columns": schema.names}, ensure_ascii=False).encode()
    with pyarrow.parquet.ParquetWriter(str(target), schema.with_metadata(metadata)) as writer:
        for part in parts:
            with pyarrow.OSFile(str(part)) as file, pyarrow.ipc.open_stream(file) as stream:
                writer.write_table(stream.read_all())


def read_parquet_record(source: Path | BinaryIO) -> Mapping[str, Any] | None:
    """The record in a Parquet file; None where it has none, or other rows or columns than when it was written."""
    try:
        import pyarrow.parquet

        metadata = pyarrow.parquet.read_metadata(source)
        record = json.loads((metadata.metadata or {})[RECORD_KEY])
        names = metadata.schema.to_arrow_schema().names
        as_written = record["scored"] == metadata.num_rows and record["columns"] == names
    except (ModuleNotFoundError, OSError, ValueError, KeyError, TypeError):
        return None
    return record if as_written else None


def _slices(records: Sequence[Record]) -> Iterator[Any]:
    """The rows' batches, each cut to a run of neighbours."""
    rows = [record for record in records if isinstance(record, Row)]
    for _, run in itertools.groupby(enumerate(rows), lambda at: (id(at[1].batch), at[1].index - at[0])):
        (_, first), *rest = run
        yield first.batch.columns.slice(first.index, 1 + len(rest))


def _joined(arrays: Sequence[Any]) -> Any:
    import pyarrow

    return pyarrow.concat_arrays(arrays) if len(arrays) > 1 else arrays[0]
