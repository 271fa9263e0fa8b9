"""The one way in: a file of rows is opened, what it is is found out, and a reader of its records comes back."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from toolchain.errors import UsageError
from toolchain.files.csv_records import DELIMITERS, CsvReader
from toolchain.files.json_records import JsonlReader
from toolchain.files.kind import Kind
from toolchain.files.opening import Input, Passed, open_input
from toolchain.files.parquet import MAGIC, ParquetReader
from toolchain.files.records import BOM, MAX_ROW_BYTES, TEXT_COLUMNS, Reader
from toolchain.files.storage import Status


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read. What is None is found out.

    `max_row_bytes` is the limit for a row: a longer one is rejected, and only its beginning is held in memory.
    """

    text_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES

    def __post_init__(self) -> None:
        if self.delimiter is not None and self.delimiter not in DELIMITERS:
            raise UsageError(f"--delimiter {self.delimiter}: expected , ; | or \\t")


@dataclass(frozen=True)
class Table:
    """A file whose records can be read.

    `kind` is what it was found to be. `status` is that of a regular file or an object as it was opened, None for
    anything else, which cannot be read again; what was read of that, `passed` knows. `size` is what `reader` will read,
    in bytes, of Parquet in rows; None where that is not known.
    """

    reader: Reader
    kind: Kind
    status: Status | None
    size: int | None
    passed: Passed | None = None


def open_table(
    source: str,
    options: ReadOptions,
    stack: ExitStack,
    wanted: Sequence[str] = (),
    end: int | None = None,
) -> Table:
    """Open a file, an object (`s3://…`), a FIFO or standard input (`-`), and read as much as tells its columns.

    `stack` closes it. `wanted` are columns by which the header is known, beside the text's. A file that grows is read
    as it was when it was opened, or to its byte `end` as it was when somebody else opened it. Raises `UsageError` where
    it cannot be read, or is nothing that has rows.
    """
    kind = Kind.of(source)
    refuse_packed_parquet(kind)
    if kind.format == "parquet":
        opened = open_input(kind, stack, end=end)
        rows = ParquetReader(opened.stream, source, options.max_row_bytes)
        return Table(rows, kind, opened.status, rows.rows)
    opened = open_input(kind, stack, options.encoding, end)
    if kind.format is None:
        kind = replace(kind, format="jsonl" if _first_byte(opened) == b"{" else "csv")
    if opened.stream.peek(len(MAGIC)).startswith(MAGIC):  # type: ignore[attr-defined]
        raise UsageError(f"{kind.title}: is Parquet; expected a file with a name that ends in .parquet")
    reader: Reader
    if kind.format == "jsonl":
        reader = JsonlReader(opened.stream, kind.title, options.max_row_bytes)
    else:
        delimiter = options.delimiter or ("\t" if kind.ending.lower() == ".tsv" else None)
        names = wanted or (TEXT_COLUMNS if options.text_column is None else (options.text_column,))
        reader = CsvReader(opened.stream, kind.title, options.max_row_bytes, delimiter, names)
    return Table(reader, kind, opened.status, opened.size, opened.passed)


def refuse_packed_parquet(kind: Kind) -> None:
    """Raise `UsageError` on `reviews.parquet.gz`: Parquet is read from its end."""
    if kind.format == "parquet" and kind.packing:
        raise UsageError(
            f"{kind.name}: Parquet is compressed inside; expected a name that ends in .parquet, without {kind.packing}"
        )


def _first_byte(opened: Input) -> bytes:
    """The first that is no space."""
    start: bytes = opened.stream.peek(4)  # type: ignore[attr-defined]
    return start.removeprefix(BOM).lstrip()[:1]
