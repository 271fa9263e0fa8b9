"""What each token of a text did to the score: the arithmetic behind an explanation, over plain arrays.

`model.explain.onnx` gives `start` [classes], the logits before the first token, and `shares` [tokens, classes], the
change of the logits that each token causes. For one label both become log-odds, ln(p / (1 - p)) of its probability p:
of two classes that is the difference of the two logits, of more it sets the label against all others together.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from toolchain.errors import UsageError

EXPLAIN = "model.explain.onnx"

SHADES = 3
"""How many shades a side has where words are coloured."""


def explain_model(bundle: Bundle) -> Path:
    """The bundle's form that explains. Raises `UsageError` where it has none."""
    if EXPLAIN not in bundle.files:
        raise UsageError(
            f"{bundle.folder}: holds no {EXPLAIN}, which explanations need; make a bundle that does: toolchain export "
            "--format all --out bundle, and name it: --bundle bundle"
        )
    return bundle.file(EXPLAIN)


class WordShare(NamedTuple):
    """A word and the change of the label's log-odds that its occurrences cause together."""

    word: str
    share: float


def label_shares(
    start: NDArray[np.float32], shares: NDArray[np.float32], labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The log-odds of each text's label before its first token, [N], and what every token adds to them, [N, tokens].

    Of `start` [classes], `shares` [N, tokens, classes] and the index of each label, `labels` [N]. The first and the sum
    of the second are the log-odds of the label's probability.
    """
    steps = np.concatenate([np.broadcast_to(start, (len(shares), 1, len(start))), shares], axis=1)
    running = steps.cumsum(axis=1, dtype=np.float64)
    is_label = np.arange(len(start)) == labels[:, None, None]
    own = np.where(is_label, running, 0.0).sum(axis=2)
    others = np.logaddexp.reduce(np.where(is_label, -np.inf, running), axis=2)
    odds = own - others
    return odds[:, 0], np.diff(odds, axis=1)


def shade(share: float | None, largest: float) -> int:
    """How a word with this share is coloured beside the strongest of its text, whose share is `largest` in size.

    1 to `SHADES` for the label, -1 to -`SHADES` against it; 0, and no colour, for less than a sixth of the largest.
    """
    if not share:
        return 0
    level = math.ceil(SHADES * abs(share) / largest - 0.5)
    return level if share > 0 else -level


def strongest_words(words: Iterable[WordShare], count: int) -> list[WordShare]:
    """At most `count` words for the label, the strongest first, then at most `count` against it.

    A word's occurrences count together; words of equal strength stand in the order of the text.
    """
    sums: dict[str, float] = {}
    for word, share in words:
        sums[word] = sums.get(word, 0.0) + share
    strongest_first = sorted(sums.items(), key=lambda item: -abs(item[1]))
    helping = [WordShare(*item) for item in strongest_first if item[1] > 0]
    opposing = [WordShare(*item) for item in strongest_first if item[1] < 0]
    return helping[:count] + opposing[:count]
