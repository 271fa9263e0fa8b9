"""What the first bytes of a file say: how it is packed, and what we do not read."""

import re

_PACKINGS = (
    (re.compile(rb"\x1f\x8b\x08"), ".gz"),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), ".bz2"),
    (re.compile(rb"\xfd7zXZ\0"), ".xz"),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), ".zst"),
    (re.compile(rb"PK(?:\x03\x04|\x05\x06)"), ".zip"),
    (re.compile(rb"(?s).{257}ustar"), ".tar"),
)

_CSV = "save it as CSV (UTF-8), and score that"
_UNREAD = (
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an Excel 97 workbook, or another old Office file", _CSV),
    (
        re.compile(rb"version https://git-lfs\.github\.com/"),
        "a Git LFS pointer, not the file",
        "fetch it: git lfs pull",
    ),
    (re.compile(rb"%PDF-"), "a PDF document", _CSV),
    (re.compile(rb"\{\\rtf"), "a rich text document", _CSV),
    (re.compile(rb"\s*<(?i:!doctype html|html)"), "a web page", "fetch the file itself"),
    (re.compile(rb"\s*<\?xml"), "XML", _CSV),
    (re.compile(rb"SQLite format 3\0"), "an SQLite database", "export the table as CSV"),
    (re.compile(rb"ARROW1\0\0|FEA1"), "an Arrow (Feather) file", "write it as Parquet"),
    (re.compile(rb"Obj\x01"), "an Avro file", "write it as Parquet or JSON lines"),
    (re.compile(rb"ORC[\x00-\x08\x0e-\x1f]"), "an ORC file", "write it as Parquet"),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), "an HDF5 file", "write it as Parquet or CSV"),
    (re.compile(rb"\x93NUMPY"), "a NumPy array", "write it as Parquet or CSV"),
    (
        re.compile(rb"(?s)\x80[\x02-\x05][\x95\x7d\x5d\x63\x8a\x28]"),
        "a Python pickle, which is never loaded",
        "write CSV",
    ),
    (re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a"), "a picture", "name a file of reviews"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7-Zip archive", "unpack it first"),
    (re.compile(rb"Rar!\x1a\x07"), "a RAR archive", "unpack it first"),
    (re.compile(rb"\x04\x22\x4d\x18"), "packed with LZ4", "unpack it first: lz4 -d"),
    (re.compile(rb"\x7fELF|MZ\x90\0"), "a program", "name a file of reviews"),
    (re.compile(rb"(?s)\x08[\x01-\x20][\x12\x3a\x42]"), "an ONNX model", "name a file of reviews"),
)
_MEMBERS = (
    (re.compile(r"word/document\.xml"), "a Word document", _CSV),
    (re.compile(r"ppt/presentation\.xml"), "a PowerPoint document", _CSV),
    (re.compile(r"xl/workbook\.bin"), "a binary Excel workbook (.xlsb)", _CSV),
    (re.compile(r"content\.xml"), "an OpenDocument file", _CSV),
    (re.compile(r"(?:.*/)?data\.pkl"), "a PyTorch file, which is never loaded", "name a file of reviews"),
)
PARQUET = b"PAR1\x15"
"""A Parquet file begins so: its mark, and the first byte of its first header; the mark alone may name a CSV column."""

ENOUGH = 512
"""So many bytes are enough to tell."""


def packing_of(head: bytes) -> str:
    """The ending that stands for how a file with this beginning is packed; empty where it is not."""
    return next((packing for mark, packing in _PACKINGS if mark.match(head)), "")


def unread(head: bytes) -> str | None:
    """What a file with this beginning is, and what to do, where it is none that we read."""
    return next((f"is {what}; {advice}" for mark, what, advice in _UNREAD if mark.match(head)), None)


def unread_archive(members: list[str]) -> str | None:
    """`unread` of a zip archive with these members."""
    return next((f"is {what}; {advice}" for mark, what, advice in _MEMBERS if any(map(mark.fullmatch, members))), None)
