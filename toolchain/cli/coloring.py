"""An explanation for a terminal: the text with its words coloured by their shares; as a plain list without colour."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from export.text import SPACES
from toolchain.cli.terminal import console, show
from toolchain.scoring.explainer import Explanation
from toolchain.scoring.marks import AGAINST, FOR
from toolchain.scoring.word_shares import WordShare, shade

STRONGEST = 5
"""How many words for the label are named, and how many against it."""

_FOR = tuple(Style.parse(f"{letters} on {background}") for letters, background in FOR)
_AGAINST = tuple(Style.parse(f"underline {letters} on {background}") for letters, background in AGAINST)


def print_explanation(explanation: Explanation) -> None:
    """On stdout: coloured where that has colours, else as a list."""
    stdout = console(stderr=False)
    if stdout.color_system and not stdout.no_color:
        show(colored(explanation))
    else:
        show(listed(explanation), markup=False, soft_wrap=True)


def colored(explanation: Explanation) -> RenderableType:
    """Label and probabilities, the text with its words coloured, the legend, the strongest words."""
    largest = max((abs(share) for _, share in explanation.words), default=0.0)
    text = Text()
    for piece, share in explanation.pieces:
        text.append(printable(piece), _style(share, largest))
    legend = Text("legend: ")
    for side, styles in (("for", _FOR), ("against", _AGAINST)):
        for style in styles:
            legend.append(f" {side} ", style)
        legend.append(f" {explanation.label}   ")
    legend.append(f"the strongest has {largest:.2f}")
    return Group(Text(_answer(explanation)), "", text, "", legend, *_strongest(explanation))


def listed(explanation: Explanation) -> str:
    """The same in lines of plain text: the answer, a line a word with its share, and the strongest words."""
    words = [f"{share:+8.4f}  {printable(word)}" for word, share in explanation.words]
    return "\n".join([_answer(explanation), *words, *_strongest(explanation)])


def printable(text: str) -> str:
    """`text` without what could steer a terminal: control and format characters are U+FFFD, line feeds stay, and the
    other white space is a space."""
    return "".join(each if each.isprintable() or each == "\n" else " " if each in SPACES else "\ufffd" for each in text)


def _style(share: float | None, largest: float) -> Style | None:
    """The style of a word; none for a word that hardly counts beside the strongest."""
    level = shade(share, largest)
    return (_FOR if level > 0 else _AGAINST)[abs(level) - 1] if level else None


def _answer(explanation: Explanation) -> str:
    probabilities = ", ".join(f"{label} {probability:.4f}" for label, probability in explanation.probabilities.items())
    return f"{explanation.label}  ({probabilities}; {explanation.tokens:,} tokens, {explanation.unknown:,} unknown)"


def _strongest(explanation: Explanation) -> Iterator[str]:
    words = explanation.strongest(STRONGEST)
    for side, sign in (("for", 1), ("against", -1)):
        chosen = [word for word in words if word.share * sign > 0]
        yield f"{side + ':':9}{_named(chosen) or 'nothing'}"


def _named(words: Sequence[WordShare]) -> str:
    return "; ".join(f"{printable(word)} {share:+.2f}" for word, share in words)
