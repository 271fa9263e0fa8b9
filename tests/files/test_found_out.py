"""Tables in dialects by chance: what is found out is what was written, or a person is asked; never other rows."""

import bz2
import gzip
import io
import lzma
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.errors import UsageError
from toolchain.files.tables import ReadOptions, open_table

Row = tuple[str, str, str]
LABELS = ("pos", "neg")


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reviews.csv", data)
    return sink.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}


@dataclass(frozen=True)
class Written:
    """How a table is written; `quoting` says when a field is quoted."""

    delimiter: str
    quoting: str
    escape: str
    line_end: str
    encoding: str
    titles: tuple[str, ...]
    packing: str
    last_line_end: bool

    def cell(self, value: str) -> str:
        special = (self.delimiter, '"', "\n", "\r")
        if self.quoting == "none" or (self.quoting == "minimal" and not any(mark in value for mark in special)):
            return value
        if self.escape == "backslash":
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return '"' + value.replace('"', '""') + '"'

    def data(self, rows: Sequence[Row]) -> bytes:
        lines = [*self.titles, *(self.delimiter.join(map(self.cell, row)) for row in (("id", "text", "label"), *rows))]
        text = self.line_end.join(lines) + (self.line_end if self.last_line_end else "")
        return PACKINGS[self.packing](text.encode(self.encoding))


WORDS = st.sampled_from(["good", "dull", "Zoë", "<br />", "don't", "🎬", "5,5", "a;b", "in|out", "#1", "it's", "C:\\x"])
SENTENCES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
QUOTED = st.builds(
    "{}{}{}".format,
    SENTENCES,
    st.sampled_from(["\n", "\r\n", ' "so" ', '"', "\t", ", ", "\n\n", '",', ',"x",']),
    SENTENCES,
)
# A text in quotes from end to end is the same file as that text quoted.
OPENED = st.builds("{}{}{}".format, st.sampled_from(["", '"']), SENTENCES, st.sampled_from(["", ' 42" wide']))
STRAY = st.one_of(OPENED, SENTENCES.map(lambda text: f'{text}"'))
DIALECTS = st.builds(
    Written,
    delimiter=st.sampled_from([",", "\t", ";", "|", "\x01", "^"]),
    quoting=st.sampled_from(["minimal", "all", "none"]),
    escape=st.sampled_from(["double", "double", "backslash"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"]),
    titles=st.sampled_from([(), (), ("Reviews of March",), ("Reviews", "")]),
    packing=st.sampled_from([*PACKINGS]),
    last_line_end=st.booleans(),
)


def texts_of(written: Written) -> st.SearchStrategy[str]:
    """Texts that this dialect can hold."""
    if written.quoting != "none":
        return st.one_of(SENTENCES, QUOTED)
    return st.one_of(SENTENCES, STRAY).map(lambda text: text.replace(written.delimiter, " "))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Written, list[Row]]:
    written = draw(DIALECTS)
    texts = draw(st.lists(texts_of(written), min_size=2, max_size=30))
    if written.encoding == "cp1252":
        texts = [text.replace("🎬", "film") for text in texts]
    if written.escape == "backslash":  # two of them that escape no quote may be meant
        texts = [text.replace("\\", "/") for text in texts]
    return written, [(str(number), text, LABELS[len(text) % 2]) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("ascii_lines", "utf_8_lines", "other_lines", "refused"),
    [
        (100, 0, 1, False),
        (9, 0, 1, False),
        (8, 0, 1, True),
        (18, 0, 2, False),
        (17, 0, 2, True),
        (2000, 0, 3, True),
        (5, 3, 3, False),
        (5, 3, 4, True),
        (1, 0, 1, True),
    ],
)
def test_lines_in_another_encoding_name_it_once_or_are_damage_and_cost_themselves(
    ascii_lines: int, utf_8_lines: int, other_lines: int, refused: bool, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    lines = (
        [b"fine,pos"] * (ascii_lines - 1)
        + ["Zoë,pos".encode()] * utf_8_lines
        + ["Zoë,pos".encode("cp1252")] * other_lines
    )
    path.write_bytes(b"text,label\n" + b"".join(line + b"\n" for line in lines))
    with ExitStack() as stack:
        if refused:
            with pytest.raises(UsageError, match=r"in\.csv: line \d+ is not UTF-8; .* --encoding cp1252"):
                open_table(str(path), ReadOptions(), stack)
            return
        records = list(open_table(str(path), ReadOptions(), stack).reader)
    assert sum(record.error is not None for record in records) == other_lines
    assert len(records) == len(lines)


@given(tables())
def test_what_is_found_out_is_what_was_written_or_a_person_is_asked(table: tuple[Written, list[Row]]) -> None:
    written, rows = table
    options = ReadOptions(encoding="cp1252") if written.encoding == "cp1252" else ReadOptions()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "reviews.csv"
        path.write_bytes(written.data(rows))
        try:
            reader = open_table(str(path), options, stack).reader
            if "text" not in reader.columns:
                return  # no text is found, and so a person is asked
        except UsageError:
            return
        records = list(reader)
    read = [
        (record.fields["id"], record.fields["text"], record.fields["label"]) for record in records if not record.error
    ]
    if not any(record.error for record in records):
        assert read == rows
    assert set(read) <= set(rows)  # what cannot be read is rejected whole: no fragment is a row


@settings(max_examples=30)
@given(tables())
def test_what_was_said_is_read_as_it_was_written(table: tuple[Written, list[Row]]) -> None:
    written, rows = table
    options = ReadOptions(
        encoding=written.encoding,
        delimiter=written.delimiter,
        quoting="none" if written.quoting == "none" else "minimal",
        escape="double" if written.quoting == "none" else "backslash" if written.escape == "backslash" else "double",
        skip_lines=len(written.titles),
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "reviews"
        path.write_bytes(written.data(rows))
        records = list(open_table(str(path), options, stack).reader)
    assert [record.error for record in records] == [None] * len(rows)
    assert [tuple(record.fields.values()) for record in records] == rows
