"""What reading promises: every record with its own bytes, and a bad one never costs a good one."""

import csv
import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from toolchain.errors import UsageError
from toolchain.files.csv_records import CsvReader
from toolchain.files.dialect import Dialect
from toolchain.files.json_records import JsonlReader
from toolchain.files.records import Record, find_column, find_text_column
from toolchain.files.tables import ReadOptions, open_table

COLUMNS = ("id", "text", "label")
HEADER = b"id,text,label\n"


def read_csv(data: bytes, limit: int = 1 << 20) -> list[Record]:
    return list(CsvReader(io.BytesIO(data), "reviews.csv", limit))


def read_jsonl(data: bytes, limit: int = 1 << 20) -> list[Record]:
    return list(JsonlReader(io.BytesIO(data), "reviews.jsonl", limit))


def good_rows(records: Sequence[Record], columns: Sequence[str] = COLUMNS) -> list[tuple[Any, ...]]:
    return [tuple(record.fields[column] for column in columns) for record in records if record.error is None]


def texts(records: Sequence[Record]) -> list[Any]:
    return [text for (text,) in good_rows(records, ["text"])]


def errors(records: Sequence[Record]) -> list[tuple[int, str]]:
    return [(record.line, record.error) for record in records if record.error is not None]


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_quoted_fields_hold_commas_line_ends_and_doubled_quotes() -> None:
    records = read_csv(HEADER + b'1,"one, two\nthree",pos\r\n2,"she said ""no""",neg\n')
    assert good_rows(records) == [("1", "one, two\nthree", "pos"), ("2", 'she said "no"', "neg")]
    assert [record.line for record in records] == [2, 4]
    assert records[0].raw == b'1,"one, two\nthree",pos\r\n'


def test_line_ends_may_be_mixed_and_stand_in_quotes() -> None:
    data = b'id,text,label\r\n1,a,x\n2,b,y\r3,"c\rd\r\ne",z\r\n4,f,x\r5,g,y'
    records = read_csv(data)
    assert good_rows(records) == [
        ("1", "a", "x"),
        ("2", "b", "y"),
        ("3", "c\rd\r\ne", "z"),
        ("4", "f", "x"),
        ("5", "g", "y"),
    ]
    assert [record.line for record in records] == [2, 3, 4, 7, 8]
    assert b"".join(record.raw for record in records) == data[len(b"id,text,label\r\n") :]


def test_a_file_with_carriage_returns_alone_may_be_larger_than_the_limit_for_a_row() -> None:
    rows = [f"{number},some text,x" for number in range(100)]
    data = "\r".join(["id,text,label", *rows]).encode()
    for limit in (64, 65, 66, 67, 200):
        records = read_csv(data, limit)
        assert errors(records) == []
        assert [",".join(row) for row in good_rows(records)] == rows
        assert records[-1].end_offset == len(data)


def test_a_carriage_return_and_its_line_feed_are_never_cut_apart() -> None:
    rows = [f"{number},{'t' * (number % 9)},x" for number in range(100)]
    data = "\r".join(["id,text,label", *rows[:50]]).encode() + b"\r\n" + "\r\n".join(rows[50:]).encode()
    for limit in range(20, 60):
        records = read_csv(data, limit)
        assert [",".join(row) for row in good_rows(records)] == rows
        assert [record.line for record in records] == list(range(2, 102))


@pytest.mark.parametrize("start", [b"text,label\n", b'"text",label\n', b'"text","label"\n'])
def test_a_byte_order_mark_is_no_part_of_the_first_column_name(start: bytes) -> None:
    reader = CsvReader(io.BytesIO(b"\xef\xbb\xbf" + start + b"good,x\n"), "reviews.csv")
    assert reader.columns == ("text", "label")
    assert reader.header == b"\xef\xbb\xbf" + start
    assert [dict(record.fields) for record in reader] == [{"text": "good", "label": "x"}]


def test_the_last_line_needs_no_line_end() -> None:
    records = read_csv(HEADER + b'1,a,x\n2,"b",y')
    assert good_rows(records) == [("1", "a", "x"), ("2", "b", "y")]
    assert records[-1].raw == b'2,"b",y'


def test_a_row_with_too_few_or_too_many_fields_costs_only_itself() -> None:
    records = read_csv(HEADER + b"1,a,x\n2,b\n3,c,z\n4,d,w,more\n5,e,v\n")
    assert good_rows(records) == [("1", "a", "x"), ("3", "c", "z"), ("5", "e", "v")]
    assert errors(records) == [(3, "2 columns, expected 3"), (5, "4 columns, expected 3")]
    assert [record.raw for record in records if record.error] == [b"2,b\n", b"4,d,w,more\n"]
    assert all(not record.fields for record in records if record.error)


@pytest.mark.parametrize(
    "after",
    [
        b"3,c,z\n4,d,w\n",
        b'3,"c, quoted",z\n4,d,w\n',
        b'3,c,z\n4,"d\nin two lines",w\n',
        b'3,"c ""doubled""","z"\n"4","d","w"\n',
    ],
)
def test_an_unclosed_quote_costs_its_own_line_and_no_other(after: bytes) -> None:
    records = read_csv(HEADER + b'1,a,x\n2,"b,y\n' + after)
    wanted = list(csv.reader(io.StringIO(after.decode(), newline="")))
    assert good_rows(records) == [("1", "a", "x"), *map(tuple, wanted)]
    (bad,) = [record for record in records if record.error]
    assert (bad.line, bad.raw) == (3, b'2,"b,y\n')
    assert bad.error is not None
    assert "not a CSV row" in bad.error


def test_a_quote_behind_a_backslash_says_nothing_of_where_a_broken_record_ends() -> None:
    data = HEADER + b'"a"b,c\n"","she said \\"no",y\n2,b,z\n'
    records = list(CsvReader(io.BytesIO(data), "reviews.csv", dialect=Dialect(escape="backslash")))
    assert good_rows(records) == [("", 'she said "no', "y"), ("2", "b", "z")]


def test_empty_lines_behind_a_broken_record_cost_no_row() -> None:
    records = read_csv(HEADER + b'"a"b,c\n1,"b",y\n' + b"\n" * 1000 + b"2,c,z\n")
    assert good_rows(records) == [("1", "b", "y"), ("2", "c", "z")]


def test_an_unclosed_quote_on_the_last_line_costs_that_line() -> None:
    records = read_csv(HEADER + b'1,a,x\n2,"b,y\n')
    assert good_rows(records) == [("1", "a", "x")]
    assert [record.raw for record in records if record.error] == [b'2,"b,y\n']


def test_a_wrong_number_of_fields_around_a_quoted_line_end_makes_no_row_of_the_lines_inside() -> None:
    records = read_csv(HEADER + b'1,a,x\n2,"b\nwell, I think, yes\nend",y,too many\n3,"c\nd",e,f\n4,g,z\n')
    assert good_rows(records) == [("1", "a", "x"), ("4", "g", "z")]
    assert b"".join(record.raw for record in records if record.error) == (
        b'2,"b\nwell, I think, yes\nend",y,too many\n3,"c\nd",e,f\n'
    )


def test_bytes_that_are_not_utf8_cost_only_their_row_and_are_named() -> None:
    records = read_csv(HEADER + b"1,a,x\n2,caf\xe9,y\n3,caf\xc3\xa9,z\n")
    assert good_rows(records) == [("1", "a", "x"), ("3", "café", "z")]
    (bad,) = [record for record in records if record.error]
    assert (bad.line, bad.raw) == (3, b"2,caf\xe9,y\n")
    assert bad.error is not None
    assert "not UTF-8: byte 0xe9 at 5" in bad.error


def test_blank_lines_are_no_rows_and_still_counted_as_lines() -> None:
    records = read_csv(HEADER + b"\n1,a,x\n\r\n\n2,b,y\n\n")
    assert good_rows(records) == [("1", "a", "x"), ("2", "b", "y")]
    assert [record.line for record in records] == [3, 6]


def test_a_space_behind_a_closing_quote_is_read_as_a_lenient_reader_does() -> None:
    records = read_csv(HEADER + b'1,"a" ,x\n2,"b",y\n')
    assert good_rows(records) == [("1", "a ", "x"), ("2", "b", "y")]
    assert records[0].raw == b'1,"a" ,x\n'


def test_of_columns_with_one_name_the_first_counts() -> None:
    records = read_csv(b"text,text,label\nfirst,second,x\n")
    assert dict(records[0].fields) == {"text": "first", "label": "x"}


@pytest.mark.parametrize(
    "long",
    [
        b"2," + b"b" * 5000 + b",y\n",
        b'2,"' + b"b " * 2500 + b'",y\r\n',
        b'2,"' + b"b\n" * 2500 + b'",y\n',
        b"2," + b"b" * 4990 + b"\r,y\n",
    ],
    ids=["one line", "quoted", "many lines", "carriage return behind the limit"],
)
def test_a_row_over_the_limit_costs_only_itself_and_little_memory(long: bytes) -> None:
    records = read_csv(HEADER + b"1,a,x\n" + long + b"3,c,z\n", limit=2000)
    assert good_rows(records) == [("1", "a", "x"), ("3", "c", "z")]
    assert errors(records)
    assert "longer than 2000 bytes" in errors(records)[0][1]
    assert sum(len(record.raw) for record in records) <= len(long) + 100
    assert records[-1].end_offset == len(HEADER + b"1,a,x\n" + long + b"3,c,z\n")


def test_only_the_start_of_a_line_over_the_limit_is_kept() -> None:
    records = read_csv(HEADER + b"2," + b"b" * 50_000 + b",y\n", limit=2000)
    assert [len(record.raw) for record in records] == [1024]


def test_a_file_with_one_column_is_a_csv_file() -> None:
    records = read_csv(b'text\nplain\n"quoted, with comma"\n\nlast')
    assert texts(records) == ["plain", "quoted, with comma", "", "last"]


@pytest.mark.parametrize("data", [b"", b"\n", b'"never closed\n', b"a,\xff\n"])
def test_a_csv_file_without_a_readable_header_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"reviews\.csv"):
        CsvReader(io.BytesIO(data), "reviews.csv")


# --- JSONL -----------------------------------------------------------------------------------------------------------


def test_every_line_of_json_lines_stands_alone() -> None:
    records = read_jsonl(b'{"text": "a"}\n{"text": }\n[1, 2]\n"text"\n\n   \n{"text": "b", "n": 2}\r\n{"text": "c"}')
    assert [dict(record.fields) for record in records if not record.error] == [
        {"text": "a"},
        {"text": "b", "n": 2},
        {"text": "c"},
    ]
    assert [record.line for record in records] == [1, 2, 3, 4, 7, 8]
    assert [why.split(":")[0] for _, why in errors(records)] == ["not JSON", "not a JSON object", "not a JSON object"]


def test_a_byte_order_mark_before_json_lines_is_read_over_and_kept_in_the_bytes() -> None:
    records = read_jsonl(b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n')
    assert texts(records) == ["a", "b"]
    assert records[0].raw == b'\xef\xbb\xbf{"text": "a"}\n'


def test_a_number_of_forty_digits_does_not_cost_its_record() -> None:
    number = b"1234567890" * 4
    records = read_jsonl(b'{"text": "a", "id": ' + number + b"}\n")
    assert errors(records) == []
    assert records[0].fields["text"] == "a"
    assert number in records[0].raw


def test_bytes_that_are_not_utf8_cost_one_line_of_json_lines() -> None:
    records = read_jsonl(b'{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "c"}\n')
    assert texts(records) == ["a", "c"]
    assert errors(records)[0][0] == 2
    assert "not UTF-8" in errors(records)[0][1]


def test_a_line_of_json_over_the_limit_costs_only_itself() -> None:
    long = json.dumps({"text": "b" * 5000}).encode() + b"\n"
    data = b'{"text": "a"}\n' + long + b'{"text": "c"}\n'
    records = read_jsonl(data, limit=2000)
    assert texts(records) == ["a", "c"]
    assert errors(records) == [(2, "longer than 2000 bytes, the limit for a row")]
    assert len(records[1].raw) == 1024
    assert records[2].end_offset == len(data)


def test_the_columns_of_json_lines_are_the_fields_of_the_first_records_together() -> None:
    reader = JsonlReader(io.BytesIO(b'broken\n{"n": 1}\n{"text": "b", "n": 1}\n'), "reviews.jsonl")
    assert reader.columns == ("n", "text")
    assert [record.line for record in reader] == [1, 2, 3]
    many = b'{"n": 1}\n' * 5000 + b'{"text": "late"}\n'
    reader = JsonlReader(io.BytesIO(many), "reviews.jsonl")
    assert reader.columns == ("n",)
    assert [record.line for record in reader] == list(range(1, 5002))


# --- the format and the columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("a.csv", b"{a},b\n", "csv"),
        ("a.JSONL", b'{"a": 1}\n', "jsonl"),
        ("a.ndjson", b'{"a": 1}\n', "jsonl"),
        ("reviews", b'\n {"a": 1}\n', "jsonl"),
        ("reviews", b'\xef\xbb\xbf{"a": 1}\n', "jsonl"),
        ("reviews", b"a,b\n", "csv"),
    ],
)
def test_the_format_is_told_by_the_name_or_else_by_the_first_byte(
    name: str, data: bytes, format: Literal["csv", "jsonl"], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with ExitStack() as stack:
        table = open_table(str(tmp_path / name), ReadOptions(), stack)
        assert table.kind.format == table.reader.format == format


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("reader", [CsvReader, JsonlReader])
def test_a_file_in_utf16_is_refused_by_name(reader: type[CsvReader] | type[JsonlReader], encoding: str) -> None:
    text = "text,label\na,b\n" if reader is CsvReader else '{"text": "a"}\n'
    with pytest.raises(UsageError, match="UTF-16"):
        reader(io.BytesIO(text.encode(encoding)), "reviews")


def test_the_text_column_is_found_by_its_usual_names_whatever_their_case() -> None:
    reader = CsvReader(io.BytesIO(b"id,Body, Review \n"), "reviews.csv")
    assert find_column(reader, None, ("text", "review", "body"), "--text-column NAME") == " Review "
    assert find_column(reader, "id", ("text",), "--text-column NAME") == "id"
    with pytest.raises(UsageError, match=r"no column 'nope'; its columns: id, Body,  Review "):
        find_column(reader, "nope", ("text",), "--text-column NAME")
    with pytest.raises(UsageError, match=r"its columns: id, Body,  Review \. Name it: --text-column NAME"):
        find_column(reader, None, ("text",), "--text-column NAME")


@pytest.mark.parametrize(
    "data",
    [
        b"I loved it,pos\nI hated it,neg\n",
        b"I loved it,5 stars\nI hated it,1 star\nIt was great,5 stars\n",
        b"I loved it!,x\nI hated it!,y\n",
        b"1,Great\n2,Awful\n",
        b"One of the best films of the year,x\nAwful,y\n",
    ],
    ids=["a common label", "a label of a later row", "a sentence", "a number", "a long text"],
)
def test_a_file_whose_first_line_looks_like_a_row_is_offered_to_be_read_without_a_header(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "reviews.csv").write_bytes(data)
    with ExitStack() as stack:
        reader = open_table(str(tmp_path / "reviews.csv"), ReadOptions(), stack).reader
    with pytest.raises(UsageError, match=r"line 1 is a row and not a header: --no-header --text-column NUMBER"):
        find_text_column(reader, None)
    column, note = find_text_column(reader, "2")
    assert column == reader.columns[1]
    assert note == "line 1 was read as the header and looks like a row; if it is one: --no-header"
    assert find_text_column(reader, reader.columns[1])[1] is None  # whoever knows its name has seen it


@pytest.mark.parametrize(
    "data",
    [
        b"Customer Review Words,stars\nI loved it,5\n",
        b"words,positive,negative\nI loved it,0.9,0.1\n",
        b",words,\n1,I loved it,\n",
        b"words,Resp. No.\nI loved it,1\n",
    ],
    ids=["three words", "a score a label", "no name", "a short form"],
)
def test_a_header_of_unusual_names_is_no_row(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "reviews.csv").write_bytes(data)
    with ExitStack() as stack:
        reader = open_table(str(tmp_path / "reviews.csv"), ReadOptions(), stack).reader
    with pytest.raises(UsageError, match=r"Name it: --text-column NAME$"):
        find_text_column(reader, None)
    assert find_text_column(reader, "2")[1] is None


# --- bytes and places ------------------------------------------------------------------------------------------------

MESSY_CSV = (
    b'\xef\xbb\xbfid,text,label\r\n1,a,x\n\n2,"b\r\nb",y\r3,ragged\n4,"open,z\n5,"c ""q""",x\r\n\r\n6,caf\xe9,y\n'
    b'7,"d" ,z\n8,e,x,much\n9,f,y'
)
MESSY_JSONL = (
    b'\xef\xbb\xbf{"text": "a"}\n\n{"text": \n{"text": "caf\xe9"}\r\n  \n[]\n{"text": "b", "id": 1e400}\n{"text": "c"}'
)


@pytest.mark.parametrize("data", [MESSY_CSV, MESSY_CSV + b"\n", HEADER, HEADER + b'1,"a', MESSY_JSONL])
def test_records_header_and_blank_lines_make_up_the_file(data: bytes) -> None:
    reader = (JsonlReader if data is MESSY_JSONL else CsvReader)(io.BytesIO(data), "reviews")
    assert data.startswith(reader.header)
    offset, line = len(reader.header), 1 + bool(reader.header)
    for record in reader:
        start = record.end_offset - len(record.raw)
        assert data[offset:start].strip() == b""
        assert data[start : record.end_offset] == record.raw
        line += data[offset:start].count(b"\n")
        assert record.line == line
        offset, line = record.end_offset, record.end_line
    assert data[offset:].strip() == b""


@pytest.mark.parametrize("data", [MESSY_CSV, MESSY_JSONL])
@pytest.mark.parametrize("limit", [1 << 20, 20])
def test_reading_goes_on_at_any_record(data: bytes, limit: int) -> None:
    kind = JsonlReader if data is MESSY_JSONL else CsvReader
    records = list(kind(io.BytesIO(data), "reviews", limit))
    assert len(records) >= 5
    for taken in range(1, len(records) + 1):
        reader = kind(io.BytesIO(data), "reviews", limit)
        reader.resume(records[taken - 1].end_offset, records[taken - 1].end_line)
        assert list(reader) == records[taken:]


# --- properties ------------------------------------------------------------------------------------------------------

FIELD = st.text(st.characters(codec="utf-8") | st.sampled_from('",\r\n \t;\x00'), max_size=12)
ROWS = st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=8)


def written(rows: Sequence[Sequence[str]], line_end: str, quote_all: bool) -> list[str]:
    """The header and the rows, each as a CSV writer writes it."""
    # A minimal writer quotes only the line end it writes itself; another one would end the row.
    strange = any(mark in field for row in rows for field in row for mark in "\r\n")
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quote_all or strange else csv.QUOTE_MINIMAL
    lines = []
    for row in (COLUMNS, *rows):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator=line_end, quoting=quoting).writerow(row)
        lines.append(text.getvalue())
    return lines


@given(rows=ROWS, line_end=st.sampled_from(["\n", "\r\n", "\r"]), quote_all=st.booleans(), cut=st.booleans())
def test_what_a_csv_writer_writes_is_read_as_pythons_reader_reads_it(
    rows: list[tuple[str, str, str]], line_end: str, quote_all: bool, cut: bool
) -> None:
    text = "".join(written(rows, line_end, quote_all))
    text = text.removesuffix(line_end) if cut else text
    records = read_csv(text.encode())
    assert errors(records) == []
    assert good_rows(records) == [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))][1:] == rows
    assert text.encode().endswith(b"".join(record.raw for record in records))


# Damage that ends with its own line whatever stands around it.
DAMAGE = st.sampled_from([b"one field", b"a,b", b"a,b,c,d", b"\xff,\xfe,c", b'"a"b,c', b"caf\xe9"])


def reads_as_the_inside(text: str) -> bool:
    """Whether a text may also stand in a quoted field: one that ends in it, and a whole row follows."""
    rows = csv.reader(io.StringIO('"' + text, newline=""), strict=True)
    try:
        next(rows)
        return len(next(filter(None, rows))) == len(COLUMNS)
    except (csv.Error, StopIteration):
        return False


@given(
    rows=ROWS,
    place=st.integers(0, 8),
    damage=DAMAGE,
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quote_all=st.booleans(),
)
@example(rows=[("1", "x", "y"), ("\r", "", "")], place=1, damage=b'"a"b,c', line_end="\n", quote_all=False)
@example(rows=[("\n0", "", "")], place=0, damage=b'"a"b,c', line_end="\n", quote_all=False)
@example(rows=[("1", "x", "y"), ("2", "\nfine", "z")], place=1, damage=b'"a"b,c', line_end="\n", quote_all=False)
@example(rows=[("", "", ",")], place=0, damage=b'"a"b,c', line_end="\n", quote_all=False)
@example(rows=[(",", "x", "y")], place=0, damage=b'"a"b,c', line_end="\n", quote_all=False)
@example(rows=[(",\na", "", "")], place=0, damage=b'"a"b,c', line_end="\n", quote_all=False)
@example(rows=[("1", "x", "y"), ("2", "z", "y")], place=1, damage=b'"a"b,c\n"a"b,c', line_end="\n", quote_all=False)
def test_a_damaged_line_between_two_rows_costs_neither(
    rows: list[tuple[str, str, str]], place: int, damage: bytes, line_end: str, quote_all: bool
) -> None:
    lines = written(rows, line_end, quote_all)
    at = 1 + min(place, len(rows))
    # `"\na,","",",\n"` is one row; behind an open quote it is the end of a record and another row. Nothing tells which.
    assume(not reads_as_the_inside("".join(lines[at:])))
    damaged = damage + line_end.encode()
    records = read_csv(b"".join([*(line.encode() for line in lines[:at]), damaged, *map(str.encode, lines[at:])]))
    assert good_rows(records) == rows
    assert b"".join(record.raw for record in records if record.error) == damaged


@given(rows=ROWS, inside=FIELD, behind=st.sampled_from([",z", "", ',"z"', ',"y\ny"']), quote_all=st.booleans())
@example(rows=[("", ",", "\n")], inside='\n,",', behind=",z", quote_all=True)
@example(rows=[("\n\n", ",", "")], inside="a\na,", behind="", quote_all=True)
def test_no_line_of_a_broken_record_is_a_row(
    rows: list[tuple[str, str, str]], inside: str, behind: str, quote_all: bool
) -> None:
    quoted = inside.replace('"', '""')
    header, *lines = written(rows, "\n", quote_all)
    records = read_csv(f'{header}"a"b,"{quoted}"{behind}\n{"".join(lines)}'.encode())
    assert set(good_rows(records)) <= set(rows)


class InPieces(io.BytesIO):
    """A stream that gives so many bytes at once, as a pipe may."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._piece = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self._piece)


AWFUL = st.lists(
    st.sampled_from(
        [b'"', b'""', b",", b",", b"\n", b"\r\n", b"\r", b"\\", b"#", b"a", b"a,b,c\n", b"\xc3\xa9", b"\xff", b"x" * 40]
    ),
    max_size=60,
).map(b"".join)


@settings(max_examples=80)
@given(data=AWFUL, size=st.integers(1, 50), limit=st.sampled_from([30, 60, 1 << 20]), escape=st.booleans())
def test_the_records_do_not_depend_on_the_pieces_that_a_stream_comes_in(
    data: bytes, size: int, limit: int, escape: bool
) -> None:
    dialect = Dialect(escape="backslash" if escape else "double", comment="#" if escape else None)
    whole = list(CsvReader(io.BytesIO(HEADER + data), "reviews.csv", limit, dialect))
    assert list(CsvReader(InPieces(HEADER + data, size), "reviews.csv", limit, dialect)) == whole
    offsets = [len(HEADER), *(record.end_offset for record in whole)]
    assert all(
        record.error or record.raw.strip(b"\r\n") in data[begin - len(HEADER) : record.end_offset - len(HEADER)]
        for begin, record in zip(offsets, whole, strict=False)
    )
    for record in whole:
        reader = CsvReader(io.BytesIO(HEADER + data), "reviews.csv", limit, dialect)
        reader.resume(record.end_offset, record.end_line)
        assert list(reader) == [other for other in whole if other.end_offset > record.end_offset]
