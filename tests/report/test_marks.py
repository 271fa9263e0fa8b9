"""The words for and against are marked alike in the terminal and on a page."""

import io
import re
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console

from tests.explaining import explaining_bundle
from toolchain.cli.coloring import colored
from toolchain.report.html_page import Page, Section, Text, Texts, render_page
from toolchain.scoring.explainer import Explainer, Explanation
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.word_shares import SHADES, shade

# In the order of the shades: the colours behind a word in the terminal.
FOR = ("198;219;239", "107;174;214", "8;81;156")
AGAINST = ("253;208;162", "253;141;60", "166;54;3")


@pytest.mark.parametrize(
    ("share", "level"),
    [
        (None, 0),
        (0.0, 0),
        (0.1, 0),
        (-0.1, 0),
        (0.2, 1),
        (-0.2, -1),
        (0.5, 1),
        (0.6, 2),
        (-0.6, -2),
        (0.9, 3),
        (-1.0, -3),
    ],
)
def test_a_side_has_three_shades_by_the_share_of_the_strongest_word(share: float | None, level: int) -> None:
    assert shade(share, 1.0) == level
    assert shade(None if share is None else share * 7, 7.0) == level
    assert abs(level) <= SHADES


def test_the_terminal_a_notebook_and_the_page_mark_the_same_words_in_the_same_way(tmp_path: Path) -> None:
    text = "a fine film but dull in the end w1 w2 w3 w4 w5 w6 w7 w8 w9"
    (explanation,) = Explainer(explaining_bundle(tmp_path / "bundle")).explain([text])
    on_the_page = page_marks(explanation)
    assert on_the_page == terminal_marks(explanation) == notebook_marks(explanation)
    assert {level > 0 for level in on_the_page.values()} == {True, False}


def page_marks(explanation: Explanation) -> dict[str, int]:
    """Word -> shade, above 0 for the label."""
    html = render_page(Page("", "", [Section("", [Texts("", [Text([], explanation.pieces)])])]))
    quote = html[html.index("<blockquote") : html.index("</blockquote>")]
    marks = re.findall(r'<mark class="(for|against)-(\d)">([^<]+)</mark>', quote)
    return {word: int(level) * (1 if side == "for" else -1) for side, level, words in marks for word in words.split()}


def notebook_marks(explanation: Explanation) -> dict[str, int]:
    """The same; only what speaks against is underlined."""
    text = explanation._repr_html_().split("<p")[2]
    marks: dict[str, int] = {}
    for style, words in re.findall(r'<mark style="([^"]*)">([^<]+)</mark>', text):
        color = ";".join(str(int(style.split("background: #")[1][at : at + 2], 16)) for at in (0, 2, 4))
        level = FOR.index(color) + 1 if color in FOR else -AGAINST.index(color) - 1
        assert ("underline" in style) == (level < 0)
        marks |= dict.fromkeys(words.split(), level)
    return marks


def terminal_marks(explanation: Explanation) -> dict[str, int]:
    """The same; only what speaks against is underlined."""
    shown = io.StringIO()
    Console(file=shown, force_terminal=True, color_system="truecolor", width=200, legacy_windows=False).print(
        colored(explanation)
    )
    line = shown.getvalue().splitlines()[2]
    marks: dict[str, int] = {}
    for code, word in re.findall(r"\x1b\[([\d;]+)m([^\x1b]+)\x1b", line):
        color = code.split("48;2;")[1]
        marks[word] = FOR.index(color) + 1 if color in FOR else -AGAINST.index(color) - 1
        assert code.startswith("4;") == (marks[word] < 0)
    return marks


def test_a_notebook_shows_the_text_and_runs_nothing_of_it(tmp_path: Path) -> None:
    text = "a fine <script>alert(1)</script> & \"dull\" 'film' <img src=x onerror=alert(2)>"
    with Scorer(explaining_bundle(tmp_path / "bundle")) as scorer:
        explanation = scorer.explain(text)
    html = explanation._repr_html_()
    assert set(re.findall(r"</?(\w+)", html)) == {"div", "p", "b", "mark", "small"}
    assert unescape(re.sub(r"<[^>]+>", "", html.split("<p")[2]).partition(">")[2]) == text
    assert repr(explanation).startswith(f"<Explanation {explanation.label} ")
