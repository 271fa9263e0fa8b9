"""A file that is cut from several places at once is cut where one reading from its start cuts it."""

import io
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from toolchain.files.csv_records import CsvReader
from toolchain.files.dialect import Dialect, Escape, Quoting
from toolchain.scoring.borders import joined, ranges, read_span

HEADER = b"id,text,label\n"
PIECES = [
    *(
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"\\",
        b'\\"',
        b"#",
        b"a",
        b"\xc3\xa9",
        b"\xed\x95\x9c",
        b"\xff",
        b"x" * 40,
    ),
    *(b"1,good,pos\n", b'2,"one\ntwo, ""three""\n",neg\r\n', b'3,"a,b,c\nd,e,f\n",pos\n', b'4,"open,neg\n', b"\n"),
]
AWFUL = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)


def check(data: bytes, step: int, dialect: Dialect, limit: int = 1 << 20) -> None:
    def opened() -> CsvReader:
        return CsvReader(io.BytesIO(HEADER + data), "reviews.csv", limit, dialect)

    reader = opened()
    spans = [read_span(opened(), *span) for span in ranges(reader.start[0], len(HEADER + data), step)]
    found = [(border.size, border.end_offset, border.end_line) for border in joined(reader, spans)]
    assert found == [(record.size, record.end_offset, record.end_line) for record in opened()]


@settings(max_examples=80)
@given(
    data=AWFUL,
    step=st.integers(1, 90),
    limit=st.sampled_from([60, 1 << 20]),
    quoting=st.sampled_from(["minimal", "minimal", "none"]),
    escape=st.sampled_from(["double", "backslash"]),
    comment=st.sampled_from([None, "#"]),
)
@example(
    data=b'1,"a\n2,b,c\n3,d,e\n",x\n4,f,y\n', step=9, limit=1 << 20, quoting="minimal", escape="double", comment=None
)
def test_no_border_is_wrong_whatever_the_file(
    data: bytes, step: int, limit: int, quoting: Quoting, escape: Escape, comment: str | None
) -> None:
    check(data, step, Dialect(quoting=quoting, escape=escape, comment=comment), limit)


def test_a_text_whose_lines_are_whole_rows_may_fill_more_than_a_span() -> None:
    generator = random.Random(0)
    inside = b"".join(b"%d,good,pos\n" % number for number in range(100))
    rows = [b'%d,"%s",neg\n' % (number, inside[: generator.randrange(len(inside))]) for number in range(20)]
    for step in (50, 700, 5000):
        check(b"".join(rows), step, Dialect())
