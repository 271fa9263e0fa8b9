"""Charts as SVG: distances across are percentages, heights and letters are pixels.

So one drawing fills any column, on a phone and on a wide screen, with letters of one size. It needs no script, prints,
and follows the reader's light or dark colours, because its colours are the style sheet's variables. The style sheet
leaves room around it for the labels of the axes.
"""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from toolchain.report.shown import visible

SERIES = 8
"""How many colours there are for curves; more cannot be told apart."""

_HEIGHT = 210
_INTERVALS = 5
_DOTS = 15
_ROOM = 0.12
_EDGE = 0.05
_LEAST = 1.5


def histogram(edges: Sequence[float], counts: Sequence[int], axes: tuple[str, str]) -> Markup:
    """A distribution: `counts` [bins] between the `edges` [bins + 1]; `axes` say what bins and counts are of."""
    low, span = edges[0], edges[-1] - edges[0]
    across = _ticks(low, edges[-1])
    upright = _ticks(0, max(*counts, 1), smallest=1)
    top = max(max(counts), 1)
    parts = [_frame(across, upright, (low, span), (0, top), axes)]
    for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            height = max(_LEAST, _HEIGHT * count / top)
            parts.append(
                Markup(
                    '<rect class="bar" x="{:.2f}%" y="{:.1f}" width="{:.2f}%" height="{:.1f}" fill="var(--series-1)">'
                    "<title>{:,g} to {:,g}: {:,}</title></rect>"
                ).format(
                    100 * (start - low) / span, _HEIGHT - height, 100 * (end - start) / span, height, start, end, count
                )
            )
    return _svg(parts)


def curves(
    points: Mapping[str, Sequence[tuple[float, float]]],
    axes: tuple[str, str],
    diagonal: bool = False,
    low: float = 0.0,
    counts: Sequence[int] = (),
) -> Markup:
    """Curves of (x, y), x from `low` to 1 and y from 0 to 1, the first `SERIES` of them, joined in the order given.

    The `diagonal`, y = x, is what a curve is compared with: an answer by chance, or perfect calibration. `counts` are
    written at the points of a single curve, above and below it in turn.
    """
    span = 1 - low
    parts = [_frame(_ticks(low, 1), _ticks(0, 1), (low, span), (0, 1), axes)]
    lines = []
    if diagonal:
        lines.append(_line([(low, low), (1, 1)], low, "var(--line-strong)", 'stroke-dasharray="5 5"'))
    drawn = list(points.items())[:SERIES]
    lines += [_line(curve, low, f"var(--series-{number})") for number, (_, curve) in enumerate(drawn, 1)]
    parts.append(
        Markup('<svg width="100%" height="{}" viewBox="0 0 1 1" preserveAspectRatio="none" overflow="visible">').format(
            _HEIGHT
        )
        + Markup("").join(lines)
        + Markup("</svg>")
    )
    for number, (_, curve) in enumerate(drawn, 1):
        if len(curve) <= _DOTS:
            parts += [
                Markup('<circle cx="{:.2f}%" cy="{:.1f}" r="4" fill="var(--series-{})"></circle>').format(
                    100 * (x - low) / span, _HEIGHT * (1 - y), number
                )
                for x, y in curve
            ]
    for place, ((x, y), count) in enumerate(zip(next(iter(points.values()), ()), counts, strict=False)):
        above = (place % 2 == 0 and y < 1 - _ROOM) or y < _ROOM
        across = (x - low) / span
        anchor = "start" if across < _EDGE else "end" if across > 1 - _EDGE else "middle"
        parts.append(
            Markup('<text class="count-label" x="{:.2f}%" y="{:.1f}" text-anchor="{}">{}</text>').format(
                100 * across, _HEIGHT * (1 - y) + (-10 if above else 19), anchor, _short(count)
            )
        )
    return _svg(parts)


def _svg(parts: Sequence[Markup]) -> Markup:
    return (
        Markup('<svg width="100%" height="{}" overflow="visible">').format(_HEIGHT)
        + Markup("").join(parts)
        + Markup("</svg>")
    )


def _frame(
    across: Sequence[tuple[float, str]],
    upright: Sequence[tuple[float, str]],
    x: tuple[float, float],
    y: tuple[float, float],
    axes: tuple[str, str],
) -> Markup:
    """Grid lines and both axes, each from its (beginning, length), with ticks (value, text) and a title."""
    parts = []
    for value, text in upright:
        at = _HEIGHT * (1 - (value - y[0]) / y[1])
        line = "axis" if value == y[0] else "grid"
        parts.append(
            Markup(
                '<line class="{}" x1="0" x2="100%" y1="{:.1f}" y2="{:.1f}"></line>'
                '<text x="-10" y="{:.1f}" dy="0.35em" text-anchor="end">{}</text>'
            ).format(line, at, at, at, text)
        )
    parts += [
        Markup('<text x="{:.2f}%" y="{}" text-anchor="middle">{}</text>').format(
            100 * (value - x[0]) / x[1], _HEIGHT + 21, text
        )
        for value, text in across
    ]
    titles = Markup(
        '<text class="title" x="100%" y="{}" text-anchor="end">{}</text>'
        '<text class="title" x="-8" y="-16" text-anchor="start">{}</text>'
    )
    return Markup("").join([*parts, titles.format(_HEIGHT + 40, *(escape(visible(axis)) for axis in axes))])


def _line(points: Sequence[tuple[float, float]], low: float, colour: str, more: str = "") -> Markup:
    """A line in the unit square that keeps its width however the square is stretched."""
    places = " ".join(f"{(x - low) / (1 - low):.4f},{1 - y:.4f}" for x, y in points)
    return Markup(
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2" {more} '
        'vector-effect="non-scaling-stroke"></polyline>'
    )


def _ticks(low: float, high: float, smallest: float = 0.0) -> list[tuple[float, str]]:
    """Round values from `low` to `high` at equal steps of 1, 2 or 5 times a power of ten, with their texts."""
    rough = max((high - low) / _INTERVALS, smallest)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(number * step, _short(number * step, digits)) for number in range(first, last + 1)]


def _short(value: float, digits: int = 0) -> str:
    """A number in at most six characters."""
    for least, size, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.{digits}f}"
