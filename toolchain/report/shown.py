"""How a value is shown on a page: numbers as they are read, and text that hides nothing and breaks where it may."""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

Cell = str | int | float | None

_LONG = 24
_PIECE = 8
# C0 and C1 controls but white space, bidirectional embeddings, overrides and isolates, surrogates, noncharacters.
_hidden = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_long_word = re.compile(rf"\S{{{_LONG + 1},}}")
_MARKS = r"/\\_.,:;=&?#@|+-"
_run = re.compile(rf"[{_MARKS}]*[^{_MARKS}]+[{_MARKS}]*|[{_MARKS}]+")


def visible(text: str) -> str:
    """`text` with what cannot be seen, or would turn its neighbours round, written out: U+0007 as ␇, U+202E by name."""
    return _hidden.sub(_named, text)


def breakable(text: str) -> Markup:
    """`text` made `visible`, as markup whose long words (paths, digests, options) have places to break, so that no
    column becomes wider than a phone and no other word has to break."""
    at, parts = 0, []
    shown = visible(text)
    for found in _long_word.finditer(shown):
        parts += [escape(shown[at : found.start()]), Markup("<wbr>").join(_pieces(found[0]))]
        at = found.end()
    return Markup("").join([*parts, escape(shown[at:])])


def cell(value: Cell) -> Markup:
    """A value of a table: whole numbers with thousands separators, other numbers with four digits, None as nothing."""
    if isinstance(value, str):
        return breakable(value)
    return Markup() if value is None else Markup(f"{value:,}" if isinstance(value, int) else f"{value:.4g}")


def percent(share: float, digits: int = 1) -> str:
    """A share from 0 to 1 as it is read."""
    return f"{100 * share:.{digits}f}\u00a0%"


def _pieces(word: str) -> Iterator[str]:
    """A long word cut behind its marks, and a digest into eights; what is not ASCII breaks by the browser's rules."""
    for run in _run.findall(word):
        step = _PIECE if len(run) > _LONG and run.isascii() else len(run)
        yield from (run[start : start + step] for start in range(0, len(run), step))


def _named(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"
