"""Charts as SVG, and values as a page shows them."""

import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from toolchain.report import charts
from toolchain.report.html_page import Bars, Matrix, Note, Section, Table
from toolchain.report.shown import breakable, cell, percent

ATTACK = "<script>alert(1)</script>"


def drawn(drawing: Markup) -> ElementTree.Element:
    """The drawing read as XML: it has to be well formed."""
    return ElementTree.fromstring(drawing)


def labels(drawing: Markup) -> list[str]:
    return [text.text or "" for text in drawn(drawing).iter("text")]


def test_a_bin_is_a_bar_over_its_part_of_the_axis() -> None:
    drawing = charts.histogram((0.5, 0.75, 1.0), (10, 30), ("confidence", "rows"))
    first, second = drawn(drawing).iter("rect")
    assert (first.get("x"), first.get("width")) == ("0.00%", "50.00%")
    assert (second.get("x"), second.get("width")) == ("50.00%", "50.00%")
    assert float(first.get("height", 0)) == pytest.approx(float(second.get("height", 0)) / 3, abs=0.1)
    assert {"confidence", "rows", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"} <= set(labels(drawing))


def test_an_empty_bin_has_no_bar_and_a_single_row_can_be_seen() -> None:
    bars = list(drawn(charts.histogram((0, 1, 2, 3), (1, 0, 100_000), ("", ""))).iter("rect"))
    assert len(bars) == 2
    assert float(bars[0].get("height", 0)) >= 1


@pytest.mark.parametrize(
    ("edges", "counts", "expected"),
    [
        ((0, 1000), (1,), ["0", "200", "400", "600", "800", "1,000"]),
        ((0, 7), (1,), ["0", "2", "4", "6"]),
        ((0.98, 1.0), (1,), ["0.980", "0.985", "0.990", "0.995", "1.000"]),
        ((0, 50_000), (1,), ["0", "10k", "20k", "30k", "40k", "50k"]),
    ],
)
def test_an_axis_has_few_round_labels(edges: tuple[float, ...], counts: tuple[int, ...], expected: list[str]) -> None:
    upright = ["0", "1"]  # of the counts, which are whole
    assert labels(charts.histogram(edges, counts, ("", ""))) == [*upright, *expected, "", ""]


def test_the_points_of_a_curve_have_their_counts() -> None:
    drawing = charts.curves(
        {"a": [(0.6, 0.5), (0.9, 1.0)]}, ("confidence", "accuracy"), diagonal=True, low=0.5, counts=(12, 3_456)
    )
    circles = list(drawn(drawing).iter("circle"))
    assert [circle.get("cx") for circle in circles] == ["20.00%", "80.00%"]
    assert [float(circle.get("cy", 0)) for circle in circles] == [105.0, 0.0]
    assert {"12", "3,456"} <= set(labels(drawing))
    diagonal, curve = drawn(drawing).iter("polyline")
    assert diagonal.get("points") == "0.0000,0.5000 1.0000,0.0000"
    assert curve.get("points") == "0.2000,0.5000 0.8000,0.0000"


def test_no_more_curves_are_drawn_than_there_are_colours() -> None:
    points = {str(number): [(0.0, 0.0), (1.0, 1.0)] for number in range(charts.SERIES + 3)}
    assert len(list(drawn(charts.curves(points, ("", ""))).iter("polyline"))) == charts.SERIES


def test_a_title_is_text() -> None:
    assert ATTACK in labels(charts.histogram((0, 1), (1,), (ATTACK, ATTACK)))


def test_the_longest_bar_fills_the_line_and_every_value_is_shown() -> None:
    bars = Bars("", "", ("a", "b"), {"here": (0.25, 0.5), "there": (0.0, 0.125)}, "share", shares=True)
    assert list(bars.lines) == [
        ("a", [(50.0, "25.0\u00a0%"), (0.0, "0.0\u00a0%")]),
        ("b", [(100.0, "50.0\u00a0%"), (25.0, "12.5\u00a0%")]),
    ]
    assert list(Bars("", "", ("a",), {"rows": (0,)}, "rows").lines) == [("a", [(0.0, "0")])]


def test_a_matrix_is_shaded_by_the_share_of_its_line() -> None:
    matrix = Matrix("", "", "", ("a", "b"), [[9, 1], [0, 0]])
    assert list(matrix.lines) == [("a", [(9, 9), (1, 1)]), ("b", [(0, 0), (0, 0)])]


def test_narrow_parts_stand_in_pairs_and_an_odd_one_is_wide() -> None:
    narrow, wide = Table("", ("a",), []), Note("")
    section = Section("", [narrow, narrow, wide, narrow, wide, narrow, narrow, narrow])
    assert [fills for _, fills in section.placed] == [False, False, True, True, True, False, False, True]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a word and another", ["a word and another"]),
        ("0123456789abcdef" * 2, ["01234567", "89abcdef"] * 2),
        ("/some/where/reviews_of_2026.scored.csv", ["/some/", "where/", "reviews_", "of_", "2026.", "scored.", "csv"]),
        ("see a/" + "b" * 30, ["see a/", "b" * 8, "b" * 8, "b" * 8, "b" * 6]),
        ("가" * 40, ["가" * 40]),
    ],
)
def test_a_long_word_may_break_at_its_marks(text: str, pieces: list[str]) -> None:
    assert breakable(text).split("<wbr>") == pieces


def test_a_place_to_break_is_the_only_markup() -> None:
    shown = breakable(ATTACK * 2)
    assert set(re.findall("<[^>]*>", shown)) == {"<wbr>"}
    assert Markup(shown.replace("<wbr>", "")).unescape() == ATTACK * 2


def test_values_are_shown_as_they_are_read() -> None:
    assert [str(cell(value)) for value in (None, 12_345, 0.123456, "<b>")] == ["", "12,345", "0.1235", "&lt;b&gt;"]
    assert percent(0.1234) == "12.3\u00a0%"
    assert percent(0.1234, 2) == "12.34\u00a0%"
