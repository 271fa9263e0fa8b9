"""The one way in: a file of rows is opened, what it is is found out, and a reader of its records comes back."""

import ast
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import PurePath

from toolchain.errors import UsageError
from toolchain.files.compression import SUFFIXES
from toolchain.files.csv_records import CsvReader
from toolchain.files.dialect import Escape, Quoting, find_dialect, named_delimiter
from toolchain.files.encodings import refuse_other_text
from toolchain.files.excel import ExcelReader
from toolchain.files.json_records import JsonDocumentReader, JsonlReader, json_shape, parse_object
from toolchain.files.kind import FORMATS, Kind
from toolchain.files.opening import HEAD, Input, Passed, open_input
from toolchain.files.parquet import ParquetReader
from toolchain.files.recognition import PARQUET
from toolchain.files.records import BOM, MAX_ROW_BYTES, TEXT_COLUMNS, Reader
from toolchain.files.storage import Status
from toolchain.files.text_records import TextReader


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read. What is None is found out; what does not concern a file's format is not looked at.

    `delimiter`, `quoting`, `escape`, `header`, `skip_lines` (above the header) and `comment` (how lines begin that are
    no rows) are for CSV, `sheet` for Excel. `max_row_bytes` is the limit for a row: a longer one is rejected, and only
    its beginning is held in memory. Raises `UsageError` on a delimiter or a comment that can be none.
    """

    text_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quoting: Quoting | None = None
    escape: Escape | None = None
    header: bool = True
    skip_lines: int | None = None
    comment: str | None = None
    sheet: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", named_delimiter(self.delimiter))
        if self.comment is not None and (not self.comment.strip() or "\n" in self.comment):
            raise UsageError(f"--comment {self.comment!r}: expected the beginning of a comment line, such as '#'")


@dataclass(frozen=True)
class Table:
    """A file whose records can be read.

    `kind` is what it was found to be, `found` what there is to say of that to a person. `status` is that of a regular
    file or an object as it was opened, None for anything else, which cannot be read again; what was read of that,
    `passed` knows. `encoding` is what it was found to be in, None where that is UTF-8 or was said. `size`
    is what `reader` will read, in bytes, of Parquet in rows; None where that is not known.
    """

    reader: Reader
    kind: Kind
    status: Status | None
    size: int | None
    passed: Passed | None = None
    encoding: str | None = None

    @property
    def found(self) -> tuple[str, ...]:
        """What was found out that is not as usual, in words."""
        packing = (SUFFIXES.get(self.kind.packing.lower(), self.kind.packing.lstrip(".")),) if self.kind.packing else ()
        encoding = (self.encoding.upper(),) if self.encoding else ()
        return (*packing, *encoding, *self.reader.found)


def open_table(
    source: str,
    options: ReadOptions,
    stack: ExitStack,
    wanted: Sequence[str] = (),
    end: int | None = None,
) -> Table:
    """Open a file, an object (`s3://…`), a FIFO or standard input (`-`), and read as much as tells its columns.

    What it is, its bytes say before its name does. `stack` closes it. `wanted` are columns by which the header is
    known, beside the text's. A file that grows is read as it was when it was opened, or to its byte `end` as it was
    when somebody else opened it. Raises `UsageError` where it cannot be read, or is nothing that has rows.
    """
    kind = Kind.of(source)
    opened = open_input(kind, stack, options.encoding, end)
    kind = _found(kind, opened)
    reader: Reader
    if opened.workbook:
        kind = replace(kind, format="csv")
        reader = ExcelReader(
            opened.stream, kind.title, options.max_row_bytes, options.sheet, options.header, options.skip_lines or 0
        )
        return Table(reader, kind, opened.status, None, opened.passed)
    if kind.format == "parquet" or opened.head.startswith(PARQUET):
        if not opened.plain:
            refuse_packed_parquet(replace(kind, format="parquet"))
        kind = replace(kind, format="parquet")
        rows = ParquetReader(opened.stream, kind.title, options.max_row_bytes, options.encoding)
        return Table(rows, kind, opened.status, rows.rows)
    reader = _text_reader(opened, kind, options, wanted)
    kind = replace(kind, format=reader.format)
    encoding = opened.encoding if options.encoding is None else None
    return Table(reader, kind, opened.status, opened.size, opened.passed, encoding)


def refuse_packed_parquet(kind: Kind) -> None:
    """Raise `UsageError` on `reviews.parquet.gz`: Parquet is read from its end."""
    if kind.format == "parquet" and kind.packing:
        raise UsageError(
            f"{kind.title}: Parquet is compressed already; name a file that ends in .parquet, without {kind.packing}"
        )


def _found(kind: Kind, opened: Input) -> Kind:
    """The kind, by what was found in the file: how it is packed, and the format of the name in an archive."""
    packing = opened.packings[0] if opened.packings else ""
    if opened.member is None:
        return replace(kind, packing=packing)
    ending = PurePath(opened.member).suffix
    return replace(kind, packing=packing, ending=ending, format=FORMATS.get(ending.lower()))


def _text_reader(opened: Input, kind: Kind, options: ReadOptions, wanted: Sequence[str]) -> Reader:
    """The reader of a file of text."""
    head, name = opened.head, kind.title
    whole = len(head) < HEAD
    if not head.removeprefix(BOM).strip():
        raise UsageError(f"{name}: the file is empty; expected a header line with the column names, and rows")
    if options.encoding is None:
        refuse_other_text(head, name)
    ending = kind.ending.lower()
    shape = json_shape(head, whole)
    if shape is not None and _is_python(head):
        raise UsageError(
            f"{name}: holds Python literals, not JSON; write it with json.dumps (ast.literal_eval reads it safely)"
        )
    if kind.format == "csv" and shape is not None and not _is_object(head):
        shape = None  # a header such as `{a},b`
    if kind.format == "jsonl" and shape is None and _is_table(head, wanted or TEXT_COLUMNS):
        raise UsageError(f"{name}: holds a table, not JSON; rename it to {kind.stem}.csv, or send it to standard input")
    if shape in ("array", "objects"):
        return JsonDocumentReader(opened.stream, name, options.max_row_bytes, shape == "array")
    if shape == "lines" or kind.format == "jsonl":
        return JsonlReader(opened.stream, name, options.max_row_bytes)
    if ending == ".txt" and options.delimiter is None and not _is_table(head, wanted or TEXT_COLUMNS):
        return TextReader(opened.stream, name, options.max_row_bytes)
    names = tuple(wanted) or (TEXT_COLUMNS if options.text_column is None else (options.text_column,))
    dialect = find_dialect(
        head,
        name,
        names,
        options.delimiter or ("\t" if ending == ".tsv" else None),
        options.quoting,
        options.escape,
        options.header,
        options.skip_lines,
        options.comment,
        whole,
    )
    return CsvReader(opened.stream, name, options.max_row_bytes, dialect)


def _first_line(head: bytes) -> bytes:
    return head.removeprefix(BOM).lstrip().partition(b"\n")[0].strip()


def _is_object(head: bytes) -> bool:
    """Whether a file's first line is an object or begins an array of them."""
    line = _first_line(head)
    return bool(parse_object(line)[0]) or line.startswith((b"[{", b'{"')) or line in (b"[", b"{")


def _is_python(head: bytes) -> bool:
    """Whether the first line is a dictionary as Python prints it."""
    line = _first_line(head).rstrip(b",")
    if not line.lstrip(b"[ ").startswith(b"{'"):
        return False
    try:
        return isinstance(ast.literal_eval(line.decode(errors="replace")), dict | list)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return True


def _is_table(head: bytes, wanted: Sequence[str]) -> bool:
    """Whether one of the first lines is the header of a CSV file."""
    names = {name.strip().lower() for name in wanted}
    line = _first_line(head).decode(errors="replace").lower()
    return any(not names.isdisjoint(cell.strip(' "') for cell in line.split(mark)) for mark in (",", "\t", ";", "|"))
