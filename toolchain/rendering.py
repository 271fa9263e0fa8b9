"""Scored rows as bytes: the record as it was read, with our fields appended; and the rows that could not be scored."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from toolchain.records import Reader, Record

FIELDS = ("prediction", "confidence")

_LINE_ENDS = (b"\r\n", b"\n", b"\r")

Renderer = Callable[[Record, int, float], bytes]
"""Record, index of its label, confidence -> the line of the output."""


def field_names(columns: Sequence[str]) -> list[str]:
    """`FIELDS`, each with the first number behind it that the file does not have where it has the name itself."""
    names = []
    for name in FIELDS:
        free, number = name, 2
        while free in columns:
            free, number = f"{name}_{number}", number + 1
        names.append(free)
    return names


def render_header(reader: Reader, names: Sequence[str]) -> bytes:
    """The first line of the output: a CSV's own with our names behind it, nothing for JSONL."""
    if reader.format == "jsonl":
        return b""
    row, end = _split_line_end(reader.header)
    return row + b"," + ",".join(names).encode() + (end or b"\n")


def row_renderer(reader: Reader, names: Sequence[str], labels: Sequence[str]) -> Renderer:
    """What renders the rows of this file. Confidences have six decimals."""
    return _csv_renderer(reader, labels) if reader.format == "csv" else _jsonl_renderer(names, labels)


def render_reject(record: Record, reason: str, source: str) -> bytes:
    """A line of the rejects: where the row stands, why it was rejected, and the row itself."""
    values: dict[str, Any] = {"file": source, "line": record.line, "reason": reason}
    try:
        values["row"] = record.raw.decode()
    except UnicodeDecodeError:
        values["row_hex"] = record.raw.hex()
    return orjson.dumps(values) + b"\n"


def _csv_renderer(reader: Reader, labels: Sequence[str]) -> Renderer:
    """The record as read, with the label and the confidence behind it."""
    _, usual_end = _split_line_end(reader.header)
    cells = [b"," + _csv_cell(label).encode() + b"," for label in labels]

    def render(record: Record, best: int, confidence: float) -> bytes:
        row, end = _split_line_end(record.raw)
        return b"%b%b%.6f%b" % (row, cells[best], confidence, end or usual_end or b"\n")

    return render


def _jsonl_renderer(names: Sequence[str], labels: Sequence[str]) -> Renderer:
    """The object as read, with two fields before its closing brace."""
    label_name, confidence_name = (orjson.dumps(name) for name in names)
    fields = [b",%b:%b,%b:" % (label_name, orjson.dumps(label), confidence_name) for label in labels]

    def render(record: Record, best: int, confidence: float) -> bytes:
        row = record.raw.rstrip()
        end = record.raw[len(row) :] or b"\n"
        return b"%b%b%.6f}%b" % (row[:-1].rstrip(), fields[best], confidence, end)

    return render


def _split_line_end(raw: bytes) -> tuple[bytes, bytes]:
    for end in _LINE_ENDS:
        if raw.endswith(end):
            return raw[: -len(end)], end
    return raw, b""


def _csv_cell(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(c in value for c in ',"\r\n') else value
