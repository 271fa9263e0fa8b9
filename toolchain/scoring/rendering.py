"""Scored rows as bytes: the record as it was read, with our fields appended; and the rows that could not be scored.

Only where columns are left out is a record written anew.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from toolchain.errors import UsageError
from toolchain.files.records import BOM, Reader, Record, find_column, its_columns
from toolchain.scoring.scorer import Scores
from toolchain.scoring.word_shares import WordShare

WordsRenderer = Callable[[Sequence[WordShare]], bytes]
"""A row's strongest words -> the field `explanation` as it stands in the file."""

Renderer = Callable[[Record, int, tuple[float | bytes, ...]], bytes]
"""Record, index of its label, the values `Appended.values` gives for it -> the line of the output."""

Body = Callable[[Record], tuple[bytes, bytes]]
"""Record -> what stands before our fields, and its line end (empty where it has none)."""


@dataclass(frozen=True)
class Appended:
    """The fields behind a row: its label and the label's confidence, and what else was asked for.

    `probabilities` adds one a class, `p_LABEL`; `min_confidence` adds `abstain`; `explain` adds `explanation`, the
    scores' strongest words. Numbers have six decimals.
    """

    labels: Sequence[str]
    probabilities: bool = False
    min_confidence: float | None = None
    explain: bool = False

    def names(self, columns: Sequence[str]) -> list[str]:
        """The fields' names, each with the first number behind it that is free where `columns` have the name itself."""
        wanted = ["prediction", "confidence"]
        if self.probabilities:
            wanted += [f"p_{label}" for label in self.labels]
        if self.min_confidence is not None:
            wanted.append("abstain")
        if self.explain:
            wanted.append("explanation")
        names: list[str] = []
        for name in wanted:
            free, number = name, 2
            while free in columns or free in names:
                free, number = f"{name}_{number}", number + 1
            names.append(free)
        return names

    def values(self, scores: Scores, words: WordsRenderer | None = None) -> Iterator[tuple[float | bytes, ...]]:
        """Row by row, the values behind the label; `words` renders the explanations, where they are asked for."""
        confidences = scores.probabilities.max(axis=1).tolist() if len(scores.best) else []
        columns: list[list[float | bytes]] = [confidences]
        if self.probabilities:
            columns += scores.probabilities.T.tolist()
        if self.min_confidence is not None:
            columns.append([b"true" if abstains else b"false" for abstains in self.abstains(scores).tolist()])
        if words is not None:
            columns.append([words(strongest) for strongest in scores.strongest])
        return zip(*columns, strict=True)

    def abstains(self, scores: Scores) -> NDArray[np.bool_]:
        """[N]: which confidences are below the limit, compared as they are written, with six decimals."""
        if self.min_confidence is None or not len(scores.best):
            return np.zeros(len(scores.best), np.bool_)
        below: NDArray[np.bool_] = scores.probabilities.max(axis=1).astype(np.float64).round(6) < self.min_confidence
        return below

    def csv_templates(self, reader: Reader) -> list[bytes]:
        """A label -> what is appended to its rows, with places for the values."""
        places = "".join(reader.delimiter + place for place in self._places())
        cells = [reader.delimiter + reader.cell(label) for label in self.labels]
        return [(cell.replace("%", "%%") + places).encode() for cell in cells]

    def jsonl_templates(self, names: Sequence[str]) -> list[bytes]:
        """A label -> the last fields of its objects, with places for the values, and the closing brace."""
        keys = [orjson.dumps(name).decode().replace("%", "%%") for name in names]
        places = "".join(f",{key}:{place}" for key, place in zip(keys[1:], self._places(), strict=True))
        cells = [orjson.dumps(label).decode().replace("%", "%%") for label in self.labels]
        return [f"{keys[0]}:{cell}{places}}}".encode() for cell in cells]

    def _places(self) -> list[str]:
        classes = len(self.labels) if self.probabilities else 0
        return ["%.6f"] * (1 + classes) + ["%b"] * ((self.min_confidence is not None) + self.explain)


@dataclass(frozen=True)
class Selection:
    """The columns that the output keeps where it does not keep all: `kept`, and every field but the `dropped` where
    a later object may have fields that the first ones have not."""

    kept: tuple[str, ...]
    dropped: frozenset[str] | None = None


def select_columns(reader: Reader, keep: Sequence[str], drop: Sequence[str]) -> Selection | None:
    """What stays of the file's columns with these kept, or these dropped; None where nothing was named.

    Raises `UsageError` on names that the file does not have or has twice, and where nothing stays.
    """
    if not keep and not drop:
        return None
    if unknown := [name for name in drop if name not in reader.columns]:
        raise UsageError(f"{reader.name}: no column {unknown[0]!r}; {its_columns(reader.columns)}")
    if drop and reader.format == "jsonl":
        return Selection(tuple(name for name in reader.columns if name not in drop), frozenset(drop))
    kept = [find_column(reader, name, (), "--keep NAME") for name in keep] or [
        name for name in reader.columns if name not in drop
    ]
    if not kept:
        raise UsageError(f"{reader.name}: --drop leaves no column; keep one at least, such as the row's id")
    if twice := next((name for name in kept if reader.columns.count(name) > 1), None):
        raise UsageError(
            f"{reader.name}: the header has the column {twice!r} twice, so that it cannot be kept by name; drop it, or "
            "keep every column"
        )
    return Selection(tuple(dict.fromkeys(kept)))


def render_header(reader: Reader, names: Sequence[str], selection: Selection | None) -> bytes:
    """The first line of the output: a CSV's own with our names behind it, nothing for JSONL."""
    if reader.format == "jsonl":
        return b""
    if not reader.has_header:
        return reader.header
    row, end = _split_line_end(reader.header)
    if selection is not None:
        row = (BOM if row.startswith(BOM) else b"") + _csv_row(selection.kept, reader)
    cells = "".join(reader.delimiter + reader.cell(name) for name in names)
    return row + cells.encode() + (end or b"\n")


def row_renderer(reader: Reader, appended: Appended, names: Sequence[str], selection: Selection | None) -> Renderer:
    """What renders the rows of this file."""
    if reader.format == "csv":
        templates = appended.csv_templates(reader)
        usual_end = _split_line_end(reader.header)[1] or b"\n"
    else:
        templates, usual_end = appended.jsonl_templates(names), b"\n"

    if selection is None:
        split = _split_line_end if reader.format == "csv" else _split_object

        def render(record: Record, best: int, values: tuple[float | bytes, ...]) -> bytes:
            row, end = split(record.raw)
            return row + templates[best] % values + (end or usual_end)

    else:
        body = body_anew(reader, selection)

        def render(record: Record, best: int, values: tuple[float | bytes, ...]) -> bytes:
            row, end = body(record)
            return row + templates[best] % values + (end or usual_end)

    return render


class Rows(Protocol):
    """What makes the output: what stands before its rows, and from a window's scored records its part."""

    header: bytes

    def render(self, records: Sequence[Record], scores: Scores) -> bytes:
        """The records, in order, each with what was said of it."""


class TextRows:
    """The lines of a CSV or JSONL file."""

    def __init__(self, reader: Reader, appended: Appended, names: Sequence[str], selection: Selection | None) -> None:
        self.header = render_header(reader, names, selection)
        self._values = partial(appended.values, words=words_renderer(reader) if appended.explain else None)
        self._row = row_renderer(reader, appended, names, selection)

    def render(self, records: Sequence[Record], scores: Scores) -> bytes:
        """One line a record."""
        lines = io.BytesIO()  # a `join` would hold every line beside their sum
        lines.writelines(map(self._row, records, scores.best.tolist(), self._values(scores)))
        return lines.getvalue()


def words_renderer(reader: Reader) -> WordsRenderer:
    """In a CSV `for: great +1.32; fine +0.41 | against: waste -0.98`; in JSONL a list of objects, `word` and `share`.

    The first word of the cell is ours, so that no spreadsheet takes a reviewer's word for a formula.
    """
    if reader.format == "jsonl":
        return lambda words: orjson.dumps([{"word": word, "share": round(share, 6)} for word, share in words])

    def cell(words: Sequence[WordShare]) -> bytes:
        sides = {
            "for": "; ".join(f"{word} {share:+.2f}" for word, share in words if share > 0),
            "against": "; ".join(f"{word} {share:+.2f}" for word, share in words if share < 0),
        }
        text = " | ".join(f"{side}: {said}" for side, said in sides.items() if said)
        if not reader.quotes:  # a delimiter in a word cannot be told from one between cells
            return text.replace(reader.delimiter, " ").encode()
        return reader.cell(text).encode()

    return cell


def body_anew(reader: Reader, selection: Selection) -> Body:
    """What is written anew has minimal quotes (CSV; none where they do not quote), or orjson's spelling of numbers and
    strings (JSONL): an integer of more than 64 bits becomes a float. Raises `TypeError` on an object too deep to be
    written: orjson reads deeper."""
    if reader.format == "csv":
        return _csv_anew(selection.kept, reader)
    return _jsonl_anew(reader, selection.kept) if selection.dropped is None else _jsonl_without(selection.dropped)


def render_reject(
    record: Record,
    reason: str,
    source: str,
    bundle: str,
    identity: Callable[[Mapping[str, Any]], Any] | None = None,
) -> bytes:
    """A line of the rejects: where the row stands, why it was rejected, the `bundle` by its identity, the row itself.

    With an `identity` it names the row's id as well: null where the row could not be read, or its id is no plain value.
    """
    values: dict[str, Any] = {"file": source, "line": record.line, "reason": reason, "bundle": bundle}
    if identity is not None:
        own = identity(record.fields)
        values["id"] = own if isinstance(own, str | int | float) else None
    try:
        values["row"] = record.as_read().decode()
    except UnicodeDecodeError:
        values["row_hex"] = record.raw.hex()
    return orjson.dumps(values) + b"\n"


def _csv_anew(kept: Sequence[str], reader: Reader) -> Body:
    def body(record: Record) -> tuple[bytes, bytes]:
        return _csv_row([record.fields[name] for name in kept], reader), _split_line_end(record.raw)[1]

    return body


def _csv_row(values: Sequence[str], reader: Reader) -> bytes:
    """A record without its line end. (One empty cell alone would be an empty line, which is no row.)"""
    row = reader.delimiter.join(map(reader.cell, values))
    return row.encode() or (b'""' if reader.quotes else b"")


def _jsonl_anew(reader: Reader, kept: Sequence[str]) -> Body:
    """Every object gets every kept field, null where it has none, so that all rows have the same."""
    getters = [(name, reader.getter(name)) for name in kept]

    def body(record: Record) -> tuple[bytes, bytes]:
        values = {name: value(record.fields) for name, value in getters}
        return orjson.dumps(values)[:-1] + b",", record.raw[len(record.raw.rstrip()) :]

    return body


def _jsonl_without(dropped: frozenset[str]) -> Body:
    def body(record: Record) -> tuple[bytes, bytes]:
        values = {name: value for name, value in record.fields.items() if name not in dropped}
        row = orjson.dumps(values)[:-1] + b"," if values else b"{"
        return row, record.raw[len(record.raw.rstrip()) :]

    return body


def _split_line_end(raw: bytes) -> tuple[bytes, bytes]:
    if raw.endswith(b"\n"):
        end = b"\r\n" if raw.endswith(b"\r\n") else b"\n"
    elif raw.endswith(b"\r"):
        end = b"\r"
    else:
        return raw, b""
    return raw[: -len(end)], end


def _split_object(raw: bytes) -> tuple[bytes, bytes]:
    """An object without its closing brace, and its line end; it holds a text, so a comma follows."""
    row = raw.rstrip()
    return row[:-1].rstrip() + b",", raw[len(row) :]
