"""The weights of a bag of words: logistic regression over the words and pairs that a text holds, scaled by what they
can tell.

Naive Bayes says how much each word and pair speaks for a label, and logistic regression how much of that to believe
(NB-SVM, Wang and Manning 2012, https://aclanthology.org/P12-2018/). How rare it is counts too, as in TF-IDF. What it
answers of texts that it was not fitted to says which penalty is best, how far to trust it, and which labels it gives
too seldom. It is fitted in seconds, and what it gives are the weights of `toolchain.models.classifiers.BagOfWords`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.spec import PAIR_FACTOR
from export.text import PADDING_ID, UNKNOWN_ID
from toolchain.training.likelihood import likeliest

PAIRS = 2**18
"""Rows for pairs, so many that a frequent pair of words mostly has one to itself."""
MOST_NUMBERS = 2**20
"""In the table of pairs: four megabytes. With many labels it has fewer rows."""
INVERSE_PENALTY = 10.0
"""Of the squared weights, where there is no choice."""
INVERSE_PENALTIES = (3.0, INVERSE_PENALTY, 30.0)
"""The best on held-out texts is taken, where the labels are few enough for it not to take minutes."""
LEAST_RATIO = 1.0
"""Added to the size of a log-count ratio: in a few hundred texts the one of a telling word may be near 0 by chance."""
PAIR_SCALE = 0.7
"""Pairs are many and say little that their words do not say: the penalty bears more on them."""
FEW_LABELS = 10
TRIED = 10_000
"""Texts that are enough to tell which penalty is best."""
FOLDS = 5
HELD_OUT = 2_000
"""Answers that are enough for it: few texts are held out in turns, each once, and of many a fold or two."""
DOUBT = 1.0
"""The standard deviation of what corrects the answers, before those of held-out texts speak."""
OTHERS = 200_000
"""With many labels each is told from so many texts of others, divided by the number of labels; they count for all."""

_Matrix = Any  # scipy has no types: a sparse matrix, float32 [texts, vocabulary + pairs]


class Choice(NamedTuple):
    """What held-out texts say: the inverse penalty of the squared weights, what to multiply the logits with, and what
    to add to them [classes]."""

    inverse_penalty: float
    factor: float
    shift: NDArray[np.float64]


@dataclass(frozen=True)
class LinearStart:
    """A fitted linear classifier: `words` [vocabulary, classes], `pairs` [pairs, classes], `bias` [classes].

    `choice` is how it was fitted.
    """

    words: NDArray[np.float32]
    pairs: NDArray[np.float32]
    bias: NDArray[np.float32]
    choice: Choice

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
    choice: Choice | None = None,
) -> LinearStart:
    """Fit the ids of each text, after the cut, to its label, a number below `classes`.

    Texts that are held out in turns make the choice, if it is None; the weights are then fitted to all. Words and pairs
    that no text holds have weights of zero, and so have unknown words: those that the vocabulary was made of hold fewer
    of them than other texts. Raises `ValueError` where there is no text.
    """
    if not len(rows):
        raise ValueError("there is no text to fit a linear classifier to")
    counts = features(rows, vocabulary_size, pairs, known_only=True)
    truth = np.asarray(labels, np.int64)
    there = np.unique(counts.indices)
    words = int(np.searchsorted(there, vocabulary_size))
    if choice is None:
        choice = _choose(counts[:, there], words, truth, classes, seed)
    fitted, bias = _fit(counts[:, there], words, truth, classes, choice.inverse_penalty)
    weights = np.zeros((vocabulary_size + pairs, classes), np.float32)
    weights[there] = choice.factor * fitted
    bias = (choice.factor * bias + choice.shift).astype(np.float32)
    return LinearStart(weights[:vocabulary_size], weights[vocabulary_size:], bias, choice)


def _choose(counts: _Matrix, words: int, truth: NDArray[np.int64], classes: int, seed: int) -> Choice:
    """The penalty, and the correction of its answers, under which texts that it was not fitted to are likeliest."""
    order = np.random.default_rng(seed).permutation(len(truth))[:TRIED]
    unchanged = Choice(INVERSE_PENALTY, 1.0, np.zeros(classes))
    if len(order) < FOLDS:
        return unchanged
    folds = np.array_split(order, FOLDS)
    folds = folds[: -(-HELD_OUT // len(folds[0]))]
    held_out = np.concatenate(folds)
    losses = {}
    for penalty in INVERSE_PENALTIES if classes <= FEW_LABELS else (INVERSE_PENALTY,):
        answers = []
        for fold in folds:
            rest = np.setdiff1d(order, fold)
            weights, bias = _fit(counts[rest], words, truth[rest], classes, penalty)
            answers.append(counts[fold] @ weights + bias)
        found = likeliest([np.concatenate(answers)], truth[held_out], [1.0], DOUBT, shifted=True)
        losses[found.loss] = Choice(penalty, found.weights[0], found.shift)
    return losses[min(losses)]


def features(rows: Sequence[Sequence[int]], vocabulary_size: int, pairs: int, known_only: bool = False) -> _Matrix:
    """How often each word and pair stands in a text, over the root of its length: [texts, vocabulary + pairs].

    With `known_only` unknown words, and pairs with one, are left out.
    """
    from scipy import sparse

    lengths = np.array([len(row) for row in rows], np.int64)
    starts = np.concatenate([[0], lengths.cumsum()])
    ids = np.fromiter((word for row in rows for word in row), np.int64, count=starts[-1])
    before = np.concatenate([[PADDING_ID], ids])[:-1]
    before[starts[:-1][lengths > 0]] = PADDING_ID
    columns = np.stack([ids, vocabulary_size + (before * PAIR_FACTOR + ids) % pairs], axis=1).ravel()
    values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), 2 * lengths).astype(np.float32)
    if known_only:
        known = ids != UNKNOWN_ID
        values *= np.stack([known, known & (before != UNKNOWN_ID)], axis=1).ravel()
    matrix = sparse.csr_matrix((values, columns, 2 * starts), shape=(len(rows), vocabulary_size + pairs))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _fit(
    counts: _Matrix, words: int, truth: NDArray[np.int64], classes: int, inverse_penalty: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [features, classes] and bias [classes]: each class against the rest, of two the one against the other.

    They are fitted to what a text holds, however often, for a text is told better so; a weight is then made smaller by
    how often its word repeats, so that `counts` times the weights say the same of most texts.
    """
    held = counts.sign()
    held = held.multiply(1 / np.sqrt(np.maximum(held.sum(axis=1), 1))).tocsr()
    total = np.asarray(counts.sum(axis=0), np.float64).ravel()
    repeats = np.asarray(held.sum(axis=0), np.float64).ravel() / np.where(total, total, 1.0)
    weights = np.zeros((counts.shape[1], classes), np.float32)
    bias = np.zeros(classes, np.float32)
    for label in range(1, classes) if classes == 2 else range(classes):
        own = truth == label
        one = _fit_one(held, own, words, OTHERS // classes, inverse_penalty)
        weights[:, label], bias[label] = one[0] * repeats, one[1]
    if classes == 2:  # a difference of logits: half for the one, half against the other
        weights[:, 1] /= 2
        bias[1] /= 2
        weights[:, 0], bias[0] = -weights[:, 1], -bias[1]
    return weights, bias


def _fit_one(
    held: _Matrix, own: NDArray[np.bool_], words: int, others: int, inverse_penalty: float
) -> tuple[NDArray[np.float32], float]:
    """Weights [features] and bias of the class whose texts are `own`, beside at most so many `others`.

    The penalty is on the weights over their scale, for texts whose mean square is 1 under it.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if own.all() or not own.any() or not held.nnz:  # nothing to be told apart, or to tell it by
        return np.zeros(held.shape[1], np.float32), float(np.log((own.sum() + 0.5) / ((~own).sum() + 0.5)))
    rest = np.flatnonzero(~own)
    looked_at = rest[:: -(-len(rest) // others)]
    rows = np.concatenate([np.flatnonzero(own), looked_at])
    importance = np.where(own[rows], 1.0, len(rest) / len(looked_at))
    scale = _scale(held, own, words)
    squares = held[rows].multiply(scale).power(2).sum() / len(rows)
    scale /= np.sqrt(squares) or 1.0
    regression = LogisticRegression(C=inverse_penalty, solver="liblinear", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(held[rows].multiply(scale).tocsr(), own[rows], importance)
    return (regression.coef_[0] * scale).astype(np.float32), float(regression.intercept_[0])


def _scale(held: _Matrix, own: NDArray[np.bool_], words: int) -> NDArray[np.float64]:
    """What each feature, the first so many of them `words`, is multiplied with [features].

    The larger its scale, the less the penalty bears on a feature: on one that tells the `own` texts from the others, by
    naive Bayes, and on one that few texts hold.
    """
    occurs = held.sign()
    texts_with_own = np.asarray(occurs[own].sum(axis=0), np.float64).ravel()
    texts_with_other = np.asarray(occurs[~own].sum(axis=0), np.float64).ravel()
    inside, outside = texts_with_own + 1.0, texts_with_other + 1.0
    ratios = np.abs(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
    rarity = np.log((1 + len(own)) / (1 + texts_with_own + texts_with_other)) + 1
    scale: NDArray[np.float64] = (LEAST_RATIO + ratios) * rarity / rarity.max()
    scale[words:] *= PAIR_SCALE
    return scale
