"""A file as records: each with its bytes as they were read, its fields, and where it stands.

One bad record never costs a good one: a record that cannot be read comes out with the reason, and reading goes on at
the next line that parses.
"""

import difflib
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from toolchain.errors import UsageError
from toolchain.files.kind import Format
from toolchain.files.lines import KEPT_OF_OVERLONG, Line

TEXT_COLUMNS = ("text", "review", "content", "body", "comment", "message", "sentence", "document", "review_text")
LABEL_COLUMNS = ("label", "sentiment", "class", "category", "target", "polarity")
_COMMON_LABELS = {"pos", "neg", "positive", "negative", "neutral", "good", "bad", "spam", "ham", "true", "false"}
MAX_ROW_BYTES = 16 * 2**20

BOM = b"\xef\xbb\xbf"
DECODING = "surrogateescape"
"""Files are decoded with this, so that a row with bytes that are not UTF-8 can still be cut into fields and named."""


@dataclass(slots=True)  # frozen it takes three times as long to make
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


class Reader(ABC):
    """The records of one open file. Iterate it once, or again behind a `resume`.

    `start` is where the first record begins: its offset in bytes (of Parquet: rows), and its line.
    """

    format: Format
    header: bytes
    columns: tuple[str, ...]
    delimiter = ","
    found: tuple[str, ...] = ()
    """What was found out of the file that is not as usual, for a person."""
    written_as: str | None = None
    """What its scored rows are, where they are not in the format that they are read in."""
    quotes = True
    """Whether a cell that holds a delimiter can stand in quotes."""
    backslashes = False
    """Whether a backslash takes the meaning from what follows it."""
    has_header = True
    """Whether the columns have names of their own."""

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

    def describe(self) -> Mapping[str, Any]:
        """How the file is read, as far as it could be read otherwise, in plain values."""
        return {}

    def sample(self, column: str) -> Sequence[Any]:
        """The column's values in the first rows, as far as they are known before they are read."""
        return ()

    def text_getter(self, column: str) -> Callable[[Mapping[str, Any]], Any]:
        """`getter` for the texts. Raises `UsageError` where it is known beforehand that the column holds none."""
        return self.getter(column)

    def cell(self, value: str) -> str:
        """A cell as it stands in a CSV file that is written as this one is. Raises `UsageError` where it would be read
        as several: quotes do not quote there."""
        if self.backslashes:
            value = value.replace("\\", "\\\\")
        if not any(mark in value for mark in ('"', "\r", "\n", self.delimiter)):
            return value
        if self.quotes:
            return '"' + value.replace('"', '""') + '"'
        if any(mark in value for mark in ("\r", "\n", self.delimiter)):
            raise UsageError(
                f"{self.name}: quotes are plain characters in it, so that {value[:60]!r} cannot be written as one "
                "cell; change the file's delimiter, or write it as JSON lines"
            )
        return value

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
        f"{name}: the file is in {encoding}; expected UTF-8. Name its encoding: --encoding, or "
        f"convert it: iconv -f … -t UTF-8 {name}"
    )


def its_columns(columns: Sequence[str]) -> str:
    """What an error says of the columns of a file."""
    return f"its columns: {', '.join(columns)}" if columns else "it has no columns"


def find_column(reader: Reader, wanted: str | None, usual: tuple[str, ...], option: str) -> str:
    """The column `wanted`, or else the first of the `usual` names that the file has, whatever its case.

    A column of a table may be named by its number as well, from 1. Raises `UsageError` that lists the file's columns
    and names `option`.
    """
    columns = its_columns(reader.columns)
    if wanted is not None:
        return _named(reader, wanted, columns)
    for name in _with_usual_names(reader, usual):
        return name
    raise UsageError(_none_is_named(reader, usual, columns, option))


def find_text_column(reader: Reader, wanted: str | None, option: str = "--text-column NAME") -> tuple[str, str | None]:
    """The column of the texts, and what a person has to know of the choice, if anything.

    A column that was found by its name and holds only numbers gives way to one that holds text.
    """
    if wanted is not None:
        column = find_column(reader, wanted, TEXT_COLUMNS, option)
        doubt = "line 1 was read as the header and looks like a row; if it is one: --no-header"
        return column, doubt if not reader.holds(wanted) and _begins_with_a_row(reader) else None
    if len(reader.columns) == 1 and not reader.has_header:
        return reader.columns[0], None
    candidates = _with_usual_names(reader, TEXT_COLUMNS)
    if not candidates or not _only_numbers(reader.sample(candidates[0])):
        return find_column(reader, None, TEXT_COLUMNS, option), None
    others = [name for name in reader.columns if name not in candidates and _looks_like_text(reader.sample(name))]
    texts = [name for name in candidates if _looks_like_text(reader.sample(name))] or others
    if len(texts) == 1 or (texts and texts[0] in candidates):
        return texts[0], f"the column {candidates[0]!r} holds only numbers; the text is taken from {texts[0]!r}"
    raise UsageError(
        f"{reader.name}: the column {candidates[0]!r} holds only numbers; name the one that holds the text: {option}; "
        f"{its_columns(reader.columns)}"
    )


def _named(reader: Reader, wanted: str, columns: str) -> str:
    """The column that a person named: as it is, without the spaces around it, whatever its case, or by its number."""
    if reader.holds(wanted):
        return wanted
    alike = [name for name in reader.columns if name.strip() == wanted.strip()] or [
        name for name in reader.columns if name.strip().lower() == wanted.strip().lower()
    ]
    if len(set(alike)) == 1:
        return alike[0]
    if reader.format == "csv" and wanted.isascii() and wanted.isdecimal() and 0 < int(wanted) <= len(reader.columns):
        name = reader.columns[int(wanted) - 1]
        if reader.columns.count(name) == 1:
            return name
    near = difflib.get_close_matches(wanted.strip().lower(), [name.strip().lower() for name in reader.columns], n=1)
    hint = next((name for name in reader.columns if near and name.strip().lower() == near[0]), None)
    raise UsageError(
        f"{reader.name}: no column {wanted!r}; {columns}" + (f". Did you mean {hint.strip()}?" if hint else "")
    )


def _with_usual_names(reader: Reader, usual: Sequence[str]) -> list[str]:
    """The columns that have a usual name, whatever its case, in the order of the names."""
    names = {column.strip().lower(): column for column in reversed(reader.columns)}
    return [names[name] for name in usual if name in names]


def _none_is_named(reader: Reader, usual: Sequence[str], columns: str, option: str) -> str:
    if not reader.has_header:
        return (
            f"{reader.name}: the {len(reader.columns)} columns have no names; name the column by its number, from "
            f"1: {option.split()[0]} NUMBER"
        )
    if reader.format == "jsonl" and not reader.columns:
        return f'{reader.name}: begins with no JSON object that has a field; expected {{"{usual[0]}": …}}'
    message = f"{reader.name}: no column named like {', '.join(usual[:4])}; {columns}. Name it: {option}"
    if len(reader.columns) == 1 and any(mark in reader.columns[0] for mark in ",;\t|"):
        message += "; or is it cut at the wrong mark? --delimiter"
    if _begins_with_a_row(reader):
        message += f"; or, if line 1 is a row and not a header: --no-header {option.split()[0]} NUMBER"
    return message


def _begins_with_a_row(reader: Reader) -> bool:
    """Whether the header of a CSV file looks rather like a row."""
    return reader.format == "csv" and reader.has_header and any(_is_value(reader, name) for name in reader.columns)


def _is_value(reader: Reader, name: str) -> bool:
    """Whether the name of a column looks rather like what a row holds: long, a number or a sentence; a common label
    over words, or what stands in the rows too."""
    bare, words = name.strip(), len(name.split())
    if is_number(bare) or words > 3 or len(bare) > 40 or (words == 3 and bare[-1] in ".!"):
        return True
    values = reader.sample(name)
    return bool(bare) and (bare in values or (bare.lower() in _COMMON_LABELS and _holds_words(values)))


def is_number(value: Any) -> bool:
    """Whether a value is a number, or a string that holds one alone."""
    if not isinstance(value, str):
        return isinstance(value, int | float)
    try:
        float(value.strip().replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _holds_words(values: Sequence[Any]) -> bool:
    """Whether some value is a word or more: one that holds letters and is no number."""
    return any(isinstance(value, str) and value.strip().isalpha() for value in values)


def _only_numbers(values: Sequence[Any]) -> bool:
    filled = [value for value in values if value is not None and value != ""]
    return bool(filled) and all(map(is_number, filled))


def _looks_like_text(values: Sequence[Any]) -> bool:
    """Whether some value is of more words than one."""
    return any(isinstance(value, str) and len(value.split()) > 1 and not is_number(value) for value in values)
