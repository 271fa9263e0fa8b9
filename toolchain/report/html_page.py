"""A report as one HTML file that loads nothing: sections of tables, charts, coloured texts and tables of many rows.

Whatever comes from a file is shown and never run. Jinja2 escapes every value, data for the page's script are JSON
without a character that HTML reads, the script writes text and no markup, and a Content-Security-Policy lets the
browser run this script alone (by its SHA-256) and load nothing. Control characters and direction overrides become
visible.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import orjson
from markupsafe import Markup

from toolchain import __version__
from toolchain.files.outputs import writing
from toolchain.look import csp_source, opening, shared_style
from toolchain.report import charts
from toolchain.report.shown import Cell, breakable, cell, percent, visible
from toolchain.scoring.word_shares import shade

_GENERATOR = b'<meta name="generator" content="toolchain '
_HEAD = 4096
_ASSETS = Path(__file__).parent / "assets"
_SHOWN = 2_000
_CHOICES = 100
_NARROW = 6
_SHADES = 10
_IN_JSON = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_unsafe_in_json = re.compile("[<>&\u2028\u2029]")


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "note"
    wide: ClassVar[bool] = True


@dataclass(frozen=True)
class Warnings:
    """What there is to doubt, one below the other."""

    texts: Sequence[str]
    kind: ClassVar[str] = "warnings"
    wide: ClassVar[bool] = True


@dataclass(frozen=True)
class Tiles:
    """Key figures: (name, value as it is to be shown)."""

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "tiles"
    wide: ClassVar[bool] = True


@dataclass(frozen=True)
class Facts:
    """Names and what there is to say of each. A `wide` list has several columns."""

    caption: str
    items: Sequence[tuple[str, str]]
    wide: bool = False
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Whole numbers get thousands separators, other numbers four digits; None is an empty cell. The other columns are set
    flush right. A `wide` one has the page's whole width.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wide: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Bars:
    """A bar for each of `names`, in order, and of each series (at most `charts.SERIES`): `series` [names].

    With `shares` the values are shares of all, from 0 to 1, shown in percent and drawn to the largest. `unit` says what
    the values are.
    """

    caption: str
    description: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float]]
    unit: str
    shares: bool = False
    kind: ClassVar[str] = "bars"
    wide: ClassVar[bool] = False

    @property
    def lines(self) -> Iterator[tuple[str, list[tuple[float, str]]]]:
        """Each name with the length in percent of its bars, and their values as they are shown."""
        drawn = list(self.series.values())[: charts.SERIES]
        longest = max(max(values) for values in drawn) or 1
        for place, name in enumerate(self.names):
            values = [series[place] for series in drawn]
            shown = [percent(value) if self.shares else f"{value:,.12g}" for value in values]
            yield name, list(zip([100 * value / longest for value in values], shown, strict=True))

    @property
    def thickness(self) -> int:
        """Of a bar, in pixels: few are thick."""
        return (34 if len(self.names) <= 3 else 15) if len(self.series) == 1 else 9

    @property
    def short(self) -> bool:
        """Whether every name fits beside its bars."""
        return max(map(len, self.names)) <= 12


@dataclass(frozen=True)
class Matrix:
    """Counts of `names` by names, [line, column], shaded by the share of the line; `corner` names lines and columns."""

    caption: str
    description: str
    corner: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    kind: ClassVar[str] = "matrix"

    @property
    def wide(self) -> bool:
        """Whether half of the page is too narrow."""
        return len(self.names) > _NARROW

    @property
    def turned(self) -> bool:
        """Whether the names of the columns are set upright, as they are too long or too many."""
        return len(self.names) > _NARROW or max(map(len, self.names)) > 10

    @property
    def lines(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Each name with its counts and their shades, 0 to `_SHADES`."""
        for name, row in zip(self.names, self.counts, strict=True):
            yield name, [(count, -(-_SHADES * count // max(1, sum(row)))) for count in row]


@dataclass(frozen=True)
class Chart:
    """A drawing, its `description` in words, and its figures as a table for those who cannot see it.

    `names` are those of its curves, in the order of the colours, where there are several.
    """

    title: str
    description: str
    drawing: Markup
    table: Table
    names: Sequence[str] = ()
    kind: ClassVar[str] = "chart"
    wide: ClassVar[bool] = False


@dataclass(frozen=True)
class Text:
    """A text in pieces, each with its share in the answer: above 0 for it, below against it, None for none.

    `facts` are (name, value) pairs above the text.
    """

    facts: Sequence[tuple[str, str]]
    pieces: Sequence[tuple[str, float | None]]


@dataclass(frozen=True)
class Texts:
    """Texts one below the other, the first ones at once and the others on demand."""

    caption: str
    texts: Sequence[Text]
    kind: ClassVar[str] = "texts"
    wide: ClassVar[bool] = True
    at_once: ClassVar[int] = 6

    @property
    def coloured(self) -> bool:
        """Whether any piece has a share."""
        return any(share for text in self.texts for _, share in text.pieces)


@dataclass(frozen=True)
class Rows:
    """A table that the reader filters and sorts in the page: up to about 50,000 rows, given column by column.

    The columns in `choices` (their numbers) get a list of their values to choose from, unless there are over 100.
    """

    caption: str
    columns: Sequence[str]
    values: Sequence[Sequence[Cell]]
    choices: Sequence[int] = ()
    kind: ClassVar[str] = "rows"
    wide: ClassVar[bool] = True


Part = Note | Warnings | Tiles | Facts | Table | Bars | Matrix | Chart | Texts | Rows


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in order."""

    title: str
    parts: Sequence[Part]

    @property
    def placed(self) -> Iterator[tuple[Part, bool]]:
        """Each part, and whether it fills the width: narrow ones stand in pairs, and an odd one stands alone."""
        for wide, parts in itertools.groupby(self.parts, lambda part: part.wide):
            run = list(parts)
            for place, part in enumerate(run):
                yield part, wide or (place + 1 == len(run) and len(run) % 2 == 1)


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class Page:
    """The whole. `made` is the day on which it was (UTC)."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    made: date = field(default_factory=_today)


def write_page(page: Page, path: str | Path) -> None:
    """Render `page` into a file, whole or not at all."""
    data = render_page(page).encode()
    with writing(path) as file:
        file.write(data)


def is_page(path: Path) -> bool:
    """Whether a file is a page of ours: its head says so."""
    with path.open("rb") as file:
        return _GENERATOR in file.read(_HEAD)


def render_page(page: Page) -> str:
    """The page as HTML."""
    style = shared_style() + _asset("page.css")
    script = _asset("page.js")
    policy = (
        f"default-src 'none'; script-src '{csp_source(script)}'; style-src '{csp_source(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # Both are files of ours without `</` and `<!`, so that their elements end where the template ends them.
    values = {"policy": policy, "style": Markup(style), "script": Markup(script), "version": __version__}
    html: str = _template().render(page=page, **values)
    return html


def histogram(title: str, description: str, edges: Sequence[float], counts: Sequence[int], axis: str) -> Chart:
    """A distribution: `counts` [bins] between the `edges` [bins + 1]; `axis` says what the bins are of."""
    bins = zip(edges[:-1], edges[1:], counts, strict=True)
    table = [(f"{low:g} to {high:g}", count) for low, high, count in bins if count]
    drawing = charts.histogram(edges, counts, (axis, "rows"))
    return Chart(title, description, drawing, Table(title, (axis, "rows"), table))


def _data(rows: Rows) -> Markup:
    """The rows as JSON that can stand in a `script` element."""
    values = {
        "columns": [visible(name) for name in rows.columns],
        "choices": [place for place in rows.choices if len(set(rows.values[place])) <= _CHOICES],
        "values": [[visible(value) if isinstance(value, str) else value for value in column] for column in rows.values],
    }
    return Markup(_unsafe_in_json.sub(lambda found: _IN_JSON[found[0]], orjson.dumps(values).decode()))


def _marked(text: Text) -> Iterator[tuple[str, str]]:
    """The first characters of a text as (piece, class), neighbours of one class joined.

    The shades are those of a terminal.
    """
    largest = max((abs(share) for _, share in text.pieces if share), default=1.0)
    room, left_out = _SHOWN, 0
    for mark, pieces in itertools.groupby(text.pieces, lambda piece: _mark(piece[1], largest)):
        joined = "".join(piece for piece, _ in pieces)
        shown = opening(joined, room) if room > 0 else ""
        if shown:
            yield shown, mark
        left_out += len(joined) - len(shown)
        room = room - len(shown) if len(shown) == len(joined) else 0
    if left_out:
        yield f" … ({left_out:,} more characters)", ""


def _mark(share: float | None, largest: float) -> str:
    """The class of a piece, "" where it has no colour."""
    level = shade(share, largest)
    return f"{'for' if level > 0 else 'against'}-{abs(level)}" if level else ""


def _day(day: date) -> str:
    """As in 25 November 2026."""
    return f"{day.day} {day:%B %Y}"


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    """The page's template; every value that it shows is made `visible` and escaped."""

    def show(value: Any) -> Any:
        return visible(value) if type(value) is str else value

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=show, trim_blocks=False, keep_trailing_newline=True
    )
    environment.filters |= {"data": _data, "marked": _marked, "cell": cell, "breakable": breakable, "day": _day}
    return environment.from_string(_asset("page.html"))
