"""A report as one HTML file that loads nothing: sections of tables, charts, coloured texts and tables of many rows.

Whatever comes from a file is shown and never run. Jinja2 escapes every value, data for the page's script are JSON
without a character that HTML reads, the script writes text and no markup, and a Content-Security-Policy lets the
browser run this script alone (by its SHA-256) and load nothing. Control characters and direction overrides become
visible.

Charts are Vega-Lite, drawn while the page is written: as SVG a chart is about 10 KB and takes a second, needs no
script, prints, and follows the reader's light or dark colours, because its colours are the style sheet's variables. The
bundle of Vega for drawing in the page was 900 KB and took half a minute to make, and it needs `unsafe-eval` or a second
interpreter; what is lost is the value under the pointer, which stands in the table below each chart.
"""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import orjson
import vl_convert
from markupsafe import Markup

from toolchain import __version__
from toolchain.files.outputs import writing
from toolchain.scoring.word_shares import shade

Cell = str | int | float | None

SERIES = 8
"""How many colours there are for curves; more cannot be told apart."""

_GENERATOR = b'<meta name="generator" content="toolchain '
_HEAD = 4096
_ASSETS = Path(__file__).parent / "assets"
_SHOWN = 2_000
_CHOICES = 100
_IN_JSON = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_PLAIN = ",.12~g"
_unsafe_in_json = re.compile("[<>&\u2028\u2029]")
# C0 and C1 controls but white space, bidirectional embeddings, overrides and isolates, surrogates, noncharacters.
_hidden = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Note:
    """A paragraph; a `warning` stands out."""

    text: str
    warning: bool = False
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Tiles:
    """Key figures: (name, value as it is to be shown)."""

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows. Without `columns` it has no head.

    Whole numbers get thousands separators, other numbers four digits; None is an empty cell. With `numbers` every
    column but the first is set flush right.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: bool = True
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart, its `description` in words, and its figures as a table for those who cannot see it.

    Colours in `specification` are the style sheet's (`var(--series-1)` …), data are inline.
    """

    title: str
    description: str
    specification: Mapping[str, Any]
    table: Table
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Text:
    """A text in pieces, each with its share in the answer: above 0 for it, below against it, None for none.

    `facts` are (name, value) pairs above the text.
    """

    facts: Sequence[tuple[str, str]]
    pieces: Sequence[tuple[str, float | None]]


@dataclass(frozen=True)
class Texts:
    """Texts one below the other; the legend of the colours says what a share above and below 0 moved."""

    caption: str
    texts: Sequence[Text]
    moved_for: str = "moved the score towards the answer"
    moved_against: str = "moved it away"
    kind: ClassVar[str] = "texts"

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


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in order."""

    title: str
    parts: Sequence[Note | Tiles | Table | Chart | Texts | Rows]


@dataclass(frozen=True)
class Page:
    """The whole."""

    title: str
    subtitle: str
    sections: Sequence[Section]


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
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # Both are files of ours without `</` and `<!`, so that their elements end where the template ends them.
    values = {"policy": policy, "style": Markup(style), "script": Markup(script), "version": __version__}
    html: str = _template().render(page=page, **values)
    return html


def visible(text: str) -> str:
    """`text` with what cannot be seen, or would turn its neighbours round, written out: U+0007 as ␇, U+202E by name."""
    return _hidden.sub(_named, text)


def bars(title: str, description: str, names: Sequence[str], series: Mapping[str, Sequence[float]], axis: str) -> Chart:
    """Horizontal bars for every one of `names`, in order, one of each series (at most `SERIES`): `series` [names].

    `axis` says what the bars measure; shares from 0 to 1 are shown in percent where it ends in `%`.
    """
    drawn = list(series)[:SERIES]
    values = [
        {"place": place, "name": name, "series": each, "value": series[each][place]}
        for place, name in enumerate(names)
        for each in drawn
    ]
    percent = axis.endswith("%")
    specification = {
        "width": 380,
        "height": {"step": 26 if len(drawn) == 1 else 13},
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": {"field": "place"}, "title": None},
            **({"yOffset": {"field": "series", "sort": None}} if len(drawn) > 1 else {}),
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": axis,
                "axis": {"format": "%" if percent else _PLAIN},
            },
            "color": _colours("series", drawn),
        },
    }
    shown = [
        (name, *(f"{series[each][place]:.2%}" if percent else series[each][place] for each in series))
        for place, name in enumerate(names)
    ]
    heads = ("", *series) if len(series) > 1 else ("", axis)
    return Chart(title, description, specification, Table(title, heads, shown))


def histogram(title: str, description: str, edges: Sequence[float], counts: Sequence[int], axis: str) -> Chart:
    """A distribution: `counts` [bins] between the `edges` [bins + 1]; `axis` says what the bins are of."""
    bins = list(zip(edges[:-1], edges[1:], counts, strict=True))
    specification = {
        "width": 440,
        "height": 200,
        "data": {"values": [{"from": low, "to": high, "count": count} for low, high, count in bins]},
        "mark": {"type": "bar", "binSpacing": 1, "color": "var(--series-1)"},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "bin": {"binned": True}, "title": axis},
            "x2": {"field": "to"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "title": "rows",
                "axis": {"format": _PLAIN, "tickMinStep": 1},
            },
        },
    }
    table = [(f"{low:g} to {high:g}", count) for low, high, count in bins if count]
    return Chart(title, description, specification, Table(title, (axis, "rows"), table))


def curves(
    title: str,
    description: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    axes: tuple[str, str],
    table: Table,
    diagonal: bool = False,
) -> Chart:
    """Curves of (x, y) in the unit square, the first `SERIES` of them, joined in the order given.

    The `diagonal` is what a curve is compared with: an answer by chance, or perfect calibration. `table` has the
    figures, as a curve's points would fill pages.
    """
    drawn = {name: points[name] for name in list(points)[:SERIES]}
    unit = {"domain": [0, 1]}
    x = {"field": "x", "type": "quantitative", "title": axes[0], "scale": unit}
    y = {"field": "y", "type": "quantitative", "title": axes[1], "scale": unit}
    rows = [
        {"name": name, "order": i, "x": at, "y": value} for name in drawn for i, (at, value) in enumerate(drawn[name])
    ]
    layers: list[dict[str, Any]] = []
    if diagonal:
        layers.append(
            {
                "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "var(--line)"},
                "encoding": {"x": x, "y": y},
            }
        )
    layers.append(
        {
            "data": {"values": rows},
            "mark": {"type": "line", "strokeWidth": 2, "point": len(rows) <= 15 * len(drawn)},
            "encoding": {"x": x, "y": y, "order": {"field": "order"}, "color": _colours("name", list(drawn))},
        }
    )
    return Chart(title, description, {"width": 400, "height": 300, "layer": layers}, table)


def heat_map(title: str, description: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """A confusion matrix: `counts` [true, predicted], shaded by the share of the true label's rows."""
    cells = [
        {"true": true, "predicted": name, "count": count, "share": count / max(1, sum(row))}
        for true, row in zip(names, counts, strict=True)
        for name, count in zip(names, row, strict=True)
    ]
    few = len(names) <= 12
    axis = {"orient": "top", **({"labelAngle": 0, "labelLimit": 76} if few else {})}
    encoding = {
        "y": {"field": "true", "type": "nominal", "sort": None, "title": "label"},
        "x": {"field": "predicted", "type": "nominal", "sort": None, "title": "prediction", "axis": axis},
    }
    shade = {"field": "share", "type": "quantitative", "scale": {"domain": [0, 1], "range": [0, 1]}, "legend": None}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "rect", "color": "var(--for-3)"}, "encoding": {"fillOpacity": shade}},
    ]
    if few:
        layers.append(
            {
                "mark": {"type": "text", "color": "var(--ink)", "fontSize": 12},
                "encoding": {"text": {"field": "count", "format": ","}},
            }
        )
    step = {"step": 80 if few else max(6, 440 // len(names))}
    height = {"step": 56} if few else step
    specification = {"width": step, "height": height, "data": {"values": cells}, "encoding": encoding, "layer": layers}
    rows: list[list[Cell]] = [[name, *row] for name, row in zip(names, counts, strict=True)]
    return Chart(title, description, specification, Table(title, ("label \\ prediction", *names), rows))


def _colours(field: str, names: Sequence[str]) -> dict[str, Any]:
    """A colour for every name that stands in `field`, and a legend where there are several."""
    scale = {"domain": names, "range": [f"var(--series-{number})" for number in range(1, len(names) + 1)]}
    legend = {"title": None, "orient": "bottom", "columns": 3, "labelLimit": 120} if len(names) > 1 else None
    return {"field": field, "type": "nominal", "scale": scale, "legend": legend}


_CONFIG: Mapping[str, Any] = {
    "aria": False,  # the whole chart is one image to a screen reader, with its figures in the table below
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "gridColor": "var(--grid)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 12,
        "labelLimit": 140,
    },
    "legend": {"labelColor": "var(--ink)", "labelFontSize": 12},
}


def _svg(chart: Chart) -> Markup:
    """The chart as SVG, safe to stand in HTML: Vega escapes its texts, and no data reach its expressions."""
    # A character that XML does not know would end the process in the converter.
    specification = {**_all_visible(chart.specification), "background": None, "config": _CONFIG}
    return Markup(vl_convert.vegalite_to_svg(specification, allowed_base_urls=[]))


def _all_visible(value: Any) -> Any:
    """Plain values with every string in them made `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {name: _all_visible(item) for name, item in value.items()}
    return [_all_visible(item) for item in value] if isinstance(value, list | tuple) else value


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
    room = _SHOWN
    for mark, pieces in itertools.groupby(text.pieces, lambda piece: _mark(piece[1], largest)):
        joined = "".join(piece for piece, _ in pieces)
        if room > 0:
            yield joined[:room], mark
        room -= len(joined)
    if room < 0:
        yield f" … ({-room:,} more characters)", ""


def _mark(share: float | None, largest: float) -> str:
    """The class of a piece, "" where it has no colour."""
    level = shade(share, largest)
    return f"{'for' if level > 0 else 'against'}-{abs(level)}" if level else ""


def _cell(value: Cell) -> str:
    """A cell of a table as it is shown."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _named(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """A source for a Content-Security-Policy: the SHA-256 of an element's text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


@cache
def _template() -> jinja2.Template:
    """The page's template; every value that it shows is made `visible` and escaped."""

    def show(value: Any) -> Any:
        return visible(value) if type(value) is str else value

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=show, trim_blocks=False, keep_trailing_newline=True
    )
    environment.filters |= {"svg": _svg, "data": _data, "marked": _marked, "cell": _cell}
    return environment.from_string(_asset("page.html"))
