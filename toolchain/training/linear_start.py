"""The weights of a bag of words: logistic regression over word and pair counts, scaled by what they can tell.

Naive Bayes says how much each word and pair speaks for a label, and logistic regression how much of that to believe
(NB-SVM, Wang and Manning 2012, https://aclanthology.org/P12-2018/). How rare it is counts too, as in TF-IDF. It is
fitted in seconds, and what it gives are the weights of `toolchain.models.classifiers.BagOfWords`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.forms import softmax
from export.spec import PAIR_FACTOR
from export.text import PADDING_ID

PAIRS = 2**18
"""Rows for pairs, so many that a frequent pair of words mostly has one to itself."""
MOST_NUMBERS = 2**20
"""In the table of pairs: four megabytes. With many labels it has fewer rows."""
INVERSE_PENALTY = 10.0
"""Of the squared weights, where there is no choice."""
INVERSE_PENALTIES = (1.0, INVERSE_PENALTY, 100.0)
"""The best on the held-out part is taken, where the labels are few enough for it not to take minutes."""
LEAST_RATIO = 0.5
"""Added to the size of a log-count ratio: in a few hundred texts the one of a telling word may be near 0 by chance."""
PAIR_SCALE = 0.7
"""Pairs are many and say little that their words do not say: the penalty bears more on them."""
FEW_LABELS = 10
TRIED = 10_000
"""Texts that are enough to tell which penalty is best."""
HELD_OUT = 0.2
OTHERS = 200_000
"""With many labels each is told from so many texts of others, divided by the number of labels; they count for all."""

_Counts = Any  # scipy has no types: a sparse matrix, float32 [texts, vocabulary + pairs]


@dataclass(frozen=True)
class LinearStart:
    """A fitted linear classifier: `words` [vocabulary, classes], `pairs` [pairs, classes], `bias` [classes].

    `inverse_penalty` is that of the squared weights under which it was fitted.
    """

    words: NDArray[np.float32]
    pairs: NDArray[np.float32]
    bias: NDArray[np.float32]
    inverse_penalty: float

    def logits(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The ids of each text -> its logits [texts, classes]: the term of the bag and the bias."""
        weights = np.concatenate([self.words, self.pairs])
        logits: NDArray[np.float32] = features(rows, len(self.words), len(self.pairs)) @ weights + self.bias
        return logits


def pairs_for(classes: int) -> int:
    """How many rows a bag of so many classes has for pairs."""
    rows = PAIRS
    while rows * classes > MOST_NUMBERS:
        rows //= 2
    return rows


def fit_linear(
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    vocabulary_size: int,
    pairs: int,
    classes: int,
    seed: int,
    inverse_penalty: float | None = None,
) -> LinearStart:
    """Fit the ids of each text, after the cut, to its label, a number below `classes`.

    With few labels a share of the texts chooses the penalty, if it is None; the weights are then fitted to all. Words
    and pairs that no text holds have weights of zero. Raises `ValueError` where there is no text.
    """
    if not len(rows):
        raise ValueError("there is no text to fit a linear classifier to")
    counts, truth = features(rows, vocabulary_size, pairs), np.asarray(labels, np.int64)
    if inverse_penalty is None:
        inverse_penalty = (
            _choose(counts, vocabulary_size, truth, classes, seed) if classes <= FEW_LABELS else INVERSE_PENALTY
        )
    weights, bias = _fit(counts, vocabulary_size, truth, classes, inverse_penalty)
    return LinearStart(weights[:vocabulary_size], weights[vocabulary_size:], bias, inverse_penalty)


def _choose(counts: _Counts, words: int, truth: NDArray[np.int64], classes: int, seed: int) -> float:
    """The inverse penalty whose weights are best on texts that they were not fitted to."""
    order = np.random.default_rng(seed).permutation(len(truth))[:TRIED]
    held_out, rest = np.split(order, [max(1, round(HELD_OUT * len(order)))])
    if not len(rest):
        return INVERSE_PENALTY
    losses = {}
    for penalty in INVERSE_PENALTIES:
        weights, bias = _fit(counts[rest], words, truth[rest], classes, penalty)
        losses[penalty] = _loss(counts[held_out] @ weights + bias, truth[held_out])
    return min(losses, key=losses.__getitem__)


def features(rows: Sequence[Sequence[int]], vocabulary_size: int, pairs: int) -> _Counts:
    """How often each word and pair stands in a text, over the root of its length: [texts, vocabulary + pairs]."""
    from scipy import sparse

    lengths = np.array([len(row) for row in rows], np.int64)
    starts = np.concatenate([[0], lengths.cumsum()])
    ids = np.fromiter((word for row in rows for word in row), np.int64, count=starts[-1])
    before = np.concatenate([[PADDING_ID], ids])[:-1]
    before[starts[:-1][lengths > 0]] = PADDING_ID
    columns = np.stack([ids, vocabulary_size + (before * PAIR_FACTOR + ids) % pairs], axis=1).ravel()
    values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), 2 * lengths).astype(np.float32)
    matrix = sparse.csr_matrix((values, columns, 2 * starts), shape=(len(rows), vocabulary_size + pairs))
    matrix.sum_duplicates()
    return matrix


def _fit(
    counts: _Counts, words: int, truth: NDArray[np.int64], classes: int, inverse_penalty: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [features, classes] and bias [classes]: each class against the rest, of two the one against the other."""
    weights = np.zeros((counts.shape[1], classes), np.float32)
    bias = np.zeros(classes, np.float32)
    for label in range(1, classes) if classes == 2 else range(classes):
        own = truth == label
        one = _fit_one(counts, own, _scale(counts, own, words), OTHERS // classes, inverse_penalty)
        weights[:, label], bias[label] = one
    if classes == 2:  # a difference of logits: half for the one, half against the other
        weights[:, 1] /= 2
        bias[1] /= 2
        weights[:, 0], bias[0] = -weights[:, 1], -bias[1]
    return weights, bias


def _fit_one(
    counts: _Counts, own: NDArray[np.bool_], scale: NDArray[np.float64], others: int, inverse_penalty: float
) -> tuple[NDArray[np.float32], float]:
    """Weights [features] and bias of the class whose texts are `own`, beside at most so many `others`.

    The penalty is on the weights over the `scale` [features].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if own.all() or not own.any():  # nothing to be told apart
        return np.zeros(counts.shape[1], np.float32), float(np.log((own.sum() + 0.5) / ((~own).sum() + 0.5)))
    rest = np.flatnonzero(~own)
    looked_at = rest[:: -(-len(rest) // others)]
    rows = np.concatenate([np.flatnonzero(own), looked_at])
    importance = np.where(own[rows], 1.0, len(rest) / len(looked_at))
    regression = LogisticRegression(C=inverse_penalty, solver="liblinear", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(counts[rows].multiply(scale).tocsr(), own[rows], importance)
    return (regression.coef_[0] * scale).astype(np.float32), float(regression.intercept_[0])


def _scale(counts: _Counts, own: NDArray[np.bool_], words: int) -> NDArray[np.float64]:
    """What each feature, the first so many of them `words`, is multiplied with [features].

    The larger its scale, the less the penalty bears on a feature: on one that tells the `own` texts from the others, by
    naive Bayes, on one that few texts hold, and on one that stands seldom in a text which holds it. Without the last
    the most common words, which say little, drown all others.
    """
    occurs = counts.sign()
    texts_with_own = np.asarray(occurs[own].sum(axis=0), np.float64).ravel()
    texts_with_other = np.asarray(occurs[~own].sum(axis=0), np.float64).ravel()
    inside, outside = texts_with_own + 1.0, texts_with_other + 1.0
    ratios = np.abs(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
    texts_with = texts_with_own + texts_with_other
    rarity = np.log((1 + len(own)) / (1 + texts_with)) + 1
    held = texts_with > 0
    if not held.any():
        return np.ones(counts.shape[1])
    mean = np.asarray(counts.sum(axis=0), np.float64).ravel() / np.maximum(texts_with, 1)
    often = np.where(held, mean / mean[held].mean(), 1.0)
    scale: NDArray[np.float64] = (LEAST_RATIO + ratios) * rarity / rarity.max() / often
    scale[words:] *= PAIR_SCALE
    return scale


def _loss(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    likelihood = softmax(logits)[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).mean())
