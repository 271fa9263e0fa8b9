"""How a CSV file is written: its delimiter, whether quotes quote, what escapes them, and where its rows begin.

What is not said is found out from the first megabyte. Where that leaves two answers a person is asked.
"""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from toolchain.errors import UsageError
from toolchain.files.records import DECODING, TEXT_COLUMNS, is_number

Quoting = Literal["minimal", "none"]
Escape = Literal["double", "backslash"]

DELIMITERS = (",", "\t", ";", "|", "\x01", "^")
"""Those that are looked for, in this order."""

# What a backslash takes the meaning from, while the fields are cut: code points that no decoded byte becomes.
_ESCAPED = {'"': "\udc00", "\\": "\udc01"}
_ESCAPED_DELIMITER = "\udc02"
_TITLE_LINES = 20
_EVIDENCE = 20
_WORD = 24
_SAMPLE_ROWS = 2000
_SAMPLE_LINES = 4000

_Row = tuple[list[str], list[str]]
"""The fields of a row, and the lines that it was read from."""

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Shapes:
    """What the cells of each column look like: `number`, `word` or None for anything; `words` are those of a column
    with few different ones. `rows` is how many were looked at."""

    kinds: tuple[str | None, ...] = ()
    words: tuple[frozenset[str], ...] = ()
    rows: int = 0

    def fit(self, cells: Sequence[str]) -> bool | None:
        """Whether a row's cells look like the others'; None where every row would."""
        if not self.kinds:
            return None
        known = False
        for cell, kind, words in zip(cells, self.kinds, self.words, strict=True):
            if kind is None:
                continue
            known = True
            if kind == "number" and not is_number(cell):
                return False
            if kind == "word" and (cell not in words if words and self.rows >= _EVIDENCE else not _is_word(cell)):
                return False
        return True if known else None


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    `skip_lines` stand above its header; lines that begin with `comment` are none of its rows. Without a `header` the
    columns are named by number, from 1. `found` says what was found out that is not as usual, `shapes` what cells look
    like where nobody said what quotes mean. `sample` is the first rows.
    """

    delimiter: str = ","
    quoting: Quoting = "minimal"
    escape: Escape = "double"
    skip_lines: int = 0
    comment: str | None = None
    header: bool = True
    found: tuple[str, ...] = ()
    shapes: Shapes | None = None
    sample: tuple[tuple[str, ...], ...] = field(default=(), repr=False)

    def rows(self, lines: Iterator[str], strict: bool = True) -> Iterator[list[str]]:
        """The fields of consecutive lines. Raises `csv.Error` where they are not CSV."""
        prepared = map(self._escaped, lines) if self.escape == "backslash" else lines
        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL
        rows = csv.reader(prepared, delimiter=self.delimiter, strict=strict, quoting=quoting)
        return map(self._unescaped, rows) if self.escape == "backslash" else rows

    def _escaped(self, line: str) -> str:
        if "\\" not in line:
            return line
        escaped = {**_ESCAPED, self.delimiter: _ESCAPED_DELIMITER}
        return re.sub(
            r"\\(.)", lambda match: escaped.get(match[1], match[0]) if match[1] in escaped else match[0], line
        )

    def _unescaped(self, fields: list[str]) -> list[str]:
        table = {ord(mark): character for character, mark in _ESCAPED.items()}
        table[ord(_ESCAPED_DELIMITER)] = self.delimiter
        return [value.translate(table) for value in fields]


def named_delimiter(name: str) -> str:
    """A delimiter as people write it: `tab`, `\\t`, `\\x01`, or itself. Raises `UsageError` where it can be none."""
    names = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "\\t": "\t"}
    if code := re.fullmatch(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})", name):
        delimiter = chr(int(code[1] or code[2], 16))
    else:
        delimiter = names.get(name.lower(), name)
    if len(delimiter) != 1 or delimiter in '"\r\n\0\\.' or delimiter.isalnum() or "\ud800" <= delimiter <= "\udfff":
        raise UsageError(f"--delimiter {name}: expected one character, such as , ; | ^ or tab, or its code: '\\x01'")
    return delimiter


def find_dialect(
    head: bytes,
    name: str,
    wanted: Sequence[str] = TEXT_COLUMNS,
    delimiter: str | None = None,
    quoting: Quoting | None = None,
    escape: Escape | None = None,
    header: bool = True,
    skip_lines: int | None = None,
    comment: str | None = None,
    whole: bool = True,
) -> Dialect:
    """The dialect of a file that begins with `head`, or is it where `whole`; what is not None was said by a person.

    The delimiter is the one under which a line has one of the `wanted` columns. Raises `UsageError` where quotes leave
    two readings.
    """
    lines = _lines(head, whole)
    found: list[str] = []
    skipped = skip_lines or 0
    if skip_lines is None and delimiter is None and lines and (said := _said_delimiter(lines[0])):
        delimiter, skipped = said, 1
        found.append(f"sep={said} in line 1")
    body = lines[skipped:]
    if comment is None and skip_lines is None:
        above = next((place for place, line in enumerate(body) if not line.startswith("#")), 0)
        if above and _has(body[above], wanted, delimiter):
            skipped, body = skipped + above, body[above:]
            found.append(f"{above} lines of comment above the header")
    elif comment is not None:
        body = [line for line in body if not line.startswith(comment)]
    chosen = delimiter or _find_delimiter(body, wanted)
    if header and skip_lines is None and (titles := _titles(body, wanted, delimiter)):
        count, chosen = titles
        skipped, body = skipped + count, body[count:]
        found.append(f"{count} lines of title above the header")
    dialect = Dialect(chosen, quoting or "minimal", escape or "double", skipped, comment, header)
    if escape is None and quoting != "none":
        dialect = _with_escape(dialect, body)
    rows = list(_good(dialect, body))
    if quoting is None:
        chosen_quoting = _find_quoting(dialect, body, rows, wanted, name)
        if chosen_quoting != dialect.quoting:
            dialect = replace(dialect, quoting=chosen_quoting)
            rows = list(_good(dialect, body))
    if dialect.escape == "backslash" and escape is None:
        found.append("quotes escaped by a backslash")
    if dialect.quoting == "none" and quoting is None:
        found.append("quotes that are plain characters")
    if dialect.delimiter != "," and delimiter is None:
        found.append(f"delimiter {shown(dialect.delimiter)}")
    sample = tuple(tuple(row) for row, _ in rows[:_SAMPLE_ROWS])
    shapes = _shapes(dialect, rows, wanted) if quoting is None else None
    return replace(dialect, found=tuple(found), shapes=shapes, sample=sample[1:] if header else sample)


def shown(delimiter: str) -> str:
    """A delimiter as a person reads it."""
    return "tab" if delimiter == "\t" else delimiter if delimiter.isprintable() else f"\\x{ord(delimiter):02x}"


def _lines(head: bytes, whole: bool) -> list[str]:
    """The whole lines of a file's beginning."""
    text = head.decode("utf-8", DECODING).removeprefix("\ufeff")
    lines = [line + "\n" for line in re.split("\r\n|\r|\n", text, maxsplit=_SAMPLE_LINES)]
    return lines[:-1] if len(lines) > _SAMPLE_LINES or not whole or lines[-1] == "\n" else lines


def _said_delimiter(line: str) -> str | None:
    """What Excel's first line `sep=;` says."""
    said = re.fullmatch(r'"?sep=(.)"?\n', line, re.IGNORECASE)
    return said[1] if said else None


def _names(line: str, delimiter: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]


def _has(line: str, wanted: Sequence[str], delimiter: str | None) -> str | None:
    """The delimiter under which a line has one of the `wanted` names."""
    names = {name.strip().lower() for name in wanted}
    candidates = DELIMITERS if delimiter is None else (delimiter,)
    return next((one for one in candidates if not names.isdisjoint(_names(line, one))), None)


def _find_delimiter(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """The one under which the header has a wanted name, else the one under which most rows have as many fields."""
    if not lines:
        return DELIMITERS[0]
    if chosen := _has(lines[0], wanted, None):
        return chosen

    def agreement(delimiter: str) -> int:
        count = len(_names(lines[0], delimiter))
        return sum(len(_names(line, delimiter)) == count for line in lines[:100]) if count > 1 else 0

    return max(DELIMITERS, key=agreement)


def _titles(lines: Sequence[str], wanted: Sequence[str], delimiter: str | None) -> tuple[int, str] | None:
    """How many lines stand above the first that has a wanted name, and its delimiter, where they are no rows: each has
    fewer fields than it."""
    if not lines or _has(lines[0], wanted, delimiter):
        return None
    for place, line in enumerate(lines[1 : _TITLE_LINES + 1], 1):
        if chosen := _has(line, wanted, delimiter):
            count = len(_names(line, chosen))
            fewer = all(len(_names(above, chosen)) < count for above in lines[:place])
            return (place, chosen) if fewer and count > 1 else None
    return None


def _good(dialect: Dialect, lines: Sequence[str]) -> Iterator[_Row]:
    """The rows that read well, each with its lines; behind one that does not reading goes on at the next line."""
    width = None
    start = 0
    while start < len(lines):
        taken = start

        def feed(first: int = start) -> Iterator[str]:
            nonlocal taken
            for taken in range(first, len(lines)):
                yield lines[taken]

        try:
            for row in dialect.rows(feed()):
                width = width or len(row)
                if row and len(row) == width:
                    yield row, list(lines[start : taken + 1])
                start = taken + 1
            return
        except csv.Error:
            start += 1


def _bad(dialect: Dialect, lines: Sequence[str]) -> int:
    """How many lines are no part of a row that reads well."""
    used = sum(len(own) for _, own in _good(dialect, lines))
    return sum(line != "\n" for line in lines) - used


def _with_escape(dialect: Dialect, lines: Sequence[str]) -> Dialect:
    if not any('\\"' in line for line in lines):
        return dialect
    other = replace(dialect, escape="backslash")
    return other if _bad(other, lines) < _bad(dialect, lines) else dialect


def _find_quoting(
    dialect: Dialect, lines: Sequence[str], rows: Sequence[_Row], wanted: Sequence[str], name: str
) -> Quoting:
    """Whether quotes quote: a field over several lines each of which is a whole row is no field."""
    if not any('"' in line for line in lines):
        return "minimal"
    plain = replace(dialect, quoting="none")
    spans = []
    needed = 0
    for row, own in rows:
        if len(own) > 1:
            if cells := whole_rows(plain, own, len(row)):
                spans.append((own, cells))
            else:
                needed += 1
        elif '"' in own[0]:
            needed += len(next(plain.rows(iter(own)), [])) != len(row)
    if not spans:
        mark = re.escape(dialect.delimiter)
        enclosed = re.compile(rf'(?:^|{mark})"[^"]*"(?:{mark}|$)', re.MULTILINE)
        quoted = needed or any(enclosed.search(line) for line in lines)
        return "none" if not quoted and _bad(dialect, lines) and not _bad(plain, lines) else "minimal"
    shapes = _shapes(dialect, rows, wanted)
    fits = [all(shapes.fit(row) or (shapes.fit(row) is None and not needed) for row in cells) for _, cells in spans]
    sure = shapes.rows >= _EVIDENCE or dialect.delimiter == "\t"
    if not any(fits):
        return "minimal"
    if all(fits) and sure and not needed and not _bad(plain, lines):
        return "none"
    own = next(own for (own, _), fit in zip(spans, fits, strict=True) if fit)
    line = "".join(own[:1]).strip()[:60]
    raise UsageError(
        f"{name}: a quote opens a field of {len(own)} lines, each of which is a whole row ({line} …). Say "
        "--quoting none where quotes are plain characters, or --quoting minimal where the field is meant"
    )


def whole_rows(plain: Dialect, lines: Sequence[str], width: int) -> list[list[str]] | None:
    """The cells of lines that are each a whole row where quotes do not quote; None where one is not."""
    rows = list(plain.rows(iter(lines)))
    return rows if width > 1 and all(len(row) == width for row in rows) else None


def _shapes(dialect: Dialect, read: Sequence[_Row], wanted: Sequence[str]) -> Shapes:
    """What the cells of rows of one line look like, but for the columns with a `wanted` name, which hold any text."""
    rows = [row for row, own in read[:_SAMPLE_ROWS] if len(own) == 1]
    texts = {name.strip().lower() for name in wanted} if dialect.header else set()
    names = [name.strip().lower() for name in rows[0]] if rows else []
    rows = rows[dialect.header :]
    if not rows:
        return Shapes()
    columns = list(zip(*rows, strict=True))
    kinds = tuple(None if name in texts else _shape(column) for name, column in zip(names, columns, strict=True))
    words = tuple(frozenset(column) if len(set(column)) <= _EVIDENCE else frozenset[str]() for column in columns)
    return Shapes(kinds, words, len(rows))


def _shape(column: Sequence[str]) -> str | None:
    return "number" if all(map(is_number, column)) else "word" if all(map(_is_word, column)) else None


def _is_word(cell: str) -> bool:
    return len(cell) <= _WORD and not re.search(r'[\s"]', cell)
