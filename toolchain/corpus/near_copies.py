"""Near copies: which reviews are, but for a few words, reviews of another part of the data.

Reviews are compared as sets of shingles, runs of five tokens (Broder, "On the resemblance and containment of
documents", 1997). His bottom-k sketch, the k smallest hashes of a set, finds the one review worth comparing; the
comparison itself is exact.
"""

import functools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5
# Two sets that have half of their shingles in common share no hash of the sketch once in 2^16 times.
SKETCH = 16
# The shingles that two reviews share, of all that either has. A changed word in a hundred leaves 0.9, a changed word in
# twenty 0.6, half as much text again at its end 0.67.
RESEMBLANCE = 0.5
# A hash that many reviews share is a common phrase: the first of them are enough to look at.
_LOOKED_AT = 20

Tokens = Sequence[str]
Hashes = NDArray[np.uint64]


def near_copies(reviews: Sequence[Tokens], originals: Sequence[Tokens]) -> dict[int, int]:
    """The index of each review that is a near copy, with the index of a review in `originals` that it resembles.

    A review of fewer than five tokens is a copy only where it is the same. Among many reviews made of the same phrases
    some copies may be missed.
    """
    shingles = _Shingles()
    hashes, owners = _index([shingles.sketch(tokens) for tokens in originals])
    found: dict[int, int] = {}
    for number, tokens in enumerate(reviews):
        sketch = shingles.sketch(tokens)
        starts, ends = np.searchsorted(hashes, sketch, "left"), np.searchsorted(hashes, sketch, "right")
        shared = np.flatnonzero(starts < ends)
        sharers = Counter(owner for at in shared for owner in owners[starts[at] : ends[at]][:_LOOKED_AT].tolist())
        if sharers:
            likeliest, _ = sharers.most_common(1)[0]
            if _resemblance(shingles.of(tokens), shingles.of(originals[likeliest])) >= RESEMBLANCE:
                found[number] = likeliest
    return found


class _Shingles:
    """Token lists -> their shingles as 64-bit hashes, weighted sums of a random number a token: alike in every run."""

    def __init__(self) -> None:
        draw = functools.partial(random.Random(0).getrandbits, 64)
        self._weights = np.array([draw() | 1 for _ in range(SHINGLE)], np.uint64)
        self._numbers: defaultdict[str, int] = defaultdict(draw)

    def of(self, tokens: Tokens) -> Hashes:
        """The set, sorted: a hash for every run of five tokens, or one for all of a shorter text."""
        if not tokens:
            return np.empty(0, np.uint64)
        numbers = np.fromiter(map(self._numbers.__getitem__, tokens), np.uint64, len(tokens))
        hashes = np.sort(np.convolve(numbers, self._weights[: len(tokens)], "valid"))
        distinct: Hashes = hashes[np.append(True, hashes[1:] != hashes[:-1])]
        return distinct

    def sketch(self, tokens: Tokens) -> Hashes:
        """The smallest hashes of the set, and their sum over the whole set, which only exact copies share."""
        hashes = self.of(tokens)
        return np.append(hashes[:SKETCH], hashes.sum(keepdims=True)) if len(hashes) else hashes


def _index(sketches: Sequence[Hashes]) -> tuple[Hashes, NDArray[np.int64]]:
    """Every hash of the sketches in ascending order, and beside each the number of the sketch it stands in."""
    hashes = np.concatenate([np.empty(0, np.uint64), *sketches])
    owners = np.repeat(np.arange(len(sketches)), [len(sketch) for sketch in sketches])
    order = np.argsort(hashes, kind="stable")
    return hashes[order], owners[order]


def _resemblance(one: Hashes, other: Hashes) -> float:
    """The Jaccard index of two sets of hashes."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
