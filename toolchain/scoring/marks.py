"""How words for and against a label are coloured where no style sheet is at hand: in a terminal and in a notebook."""

import html
from collections.abc import Iterable
from itertools import groupby

from toolchain.scoring.word_shares import shade

FOR = (("black", "#c6dbef"), ("black", "#6baed6"), ("white", "#08519c"))
"""Letters and background of the shades for the label, the weakest first. The reports have the same."""
AGAINST = (("black", "#fdd0a2"), ("black", "#fd8d3c"), ("white", "#a63603"))
"""The same against the label, where words are underlined as well: not everyone tells the colours apart."""


def marked(pieces: Iterable[tuple[str, float | None]], largest: float) -> str:
    """A text in pieces, each with its share, as HTML; `largest` is the size of its strongest share."""
    runs = groupby(pieces, lambda piece: shade(piece[1], largest))
    return "".join(_mark("".join(text for text, _ in run), level) for level, run in runs)


def legend(label: str) -> str:
    """What the colours mean, as HTML."""
    sides = (("for", 1), ("against", -1))
    return " ".join(_mark(f" {side} {label} ", sign * level) for side, sign in sides for level in range(1, 4))


def _mark(text: str, level: int) -> str:
    shown = html.escape(text)
    if not level:
        return shown
    letters, background = (FOR if level > 0 else AGAINST)[abs(level) - 1]
    underlined = "; text-decoration: underline" if level < 0 else ""
    return f'<mark style="color: {letters}; background: {background}{underlined}">{shown}</mark>'
