"""Answers against known labels: what is counted of a window, and the figures that the counts of a run give."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolchain.measures.labels import Truth, describe_unknown, most_common


@dataclass
class LabelCounts:
    """What the figures need, so that windows add up: `confusion` [true, predicted], `log_loss` summed, in nats.

    `unlabelled` rows have no label of the model's; `unknown` counts what they have instead, the most frequent ones.
    """

    confusion: NDArray[np.int64]
    log_loss: float = 0.0
    unlabelled: int = 0
    unknown: Counter[str] = field(default_factory=Counter)

    @classmethod
    def none(cls, classes: int) -> "LabelCounts":
        """Nothing counted yet."""
        return cls(np.zeros((classes, classes), np.int64))

    def add(self, counted: "LabelCounts") -> None:
        """Count these as well. The same ones in the same order give the same sums, bit for bit."""
        if len(counted.confusion):
            self.confusion += counted.confusion
        self.log_loss += counted.log_loss
        self.unlabelled += counted.unlabelled
        self.unknown = most_common(self.unknown + counted.unknown)


@dataclass(frozen=True)
class ClassMetrics:
    """One class; `support` is how many rows have its label. None where a figure divides by nothing."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class LabelMetrics:
    """Over the `labelled` scored rows: shares from 0 to 1, `log_loss` the mean in nats, None without such a row.

    `confusion[true][predicted]` counts rows. `unlabelled` rows were scored, but their label is missing, left out or
    not the model's; `unknown_labels` counts those that are not the model's, the most frequent first.
    """

    column: str
    labelled: int
    unlabelled: int
    accuracy: float | None
    log_loss: float | None
    classes: dict[str, ClassMetrics]
    confusion: dict[str, dict[str, int]]
    unknown_labels: dict[str, int]

    def warning(self, source: str) -> str | None:
        """One line where labels of the file are none of the model's, with the `--label-map` that would fit."""
        return describe_unknown(source, self.column, self.unknown_labels, self.labelled, list(self.classes))


def count_labels(truth: Truth, best: NDArray[np.int64], probabilities: NDArray[np.float32]) -> LabelCounts:
    """Compare N true labels with the answers `best` [N] and `probabilities` [N, classes].

    The loss of a row is the negative natural logarithm of its true label's probability, clipped at the smallest normal
    float32: a model that is sure and wrong gives a large loss, not an infinite one.
    """
    labels = truth.index
    (known,) = np.nonzero(labels >= 0)
    counts = LabelCounts.none(probabilities.shape[1])
    np.add.at(counts.confusion, (labels[known], best[known]), 1)
    own = probabilities[known, labels[known]].astype(np.float64)
    counts.log_loss = float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).sum())
    counts.unlabelled = len(labels) - len(known)
    counts.unknown = truth.unknown
    return counts


def label_metrics(counts: LabelCounts, labels: Sequence[str], column: str) -> LabelMetrics:
    """The figures of a run."""
    labelled = int(counts.confusion.sum())
    return LabelMetrics(
        column=column,
        labelled=labelled,
        unlabelled=counts.unlabelled,
        accuracy=_share(int(counts.confusion.trace()), labelled),
        log_loss=counts.log_loss / labelled if labelled else None,
        classes=class_metrics(counts.confusion, labels),
        confusion=named_confusion(counts.confusion, labels),
        unknown_labels=dict(counts.unknown.most_common()),
    )


def class_metrics(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, ClassMetrics]:
    """The figures of every class, from `confusion` [true, predicted]."""
    right, support, predicted = (
        values.tolist() for values in (confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))
    )
    return {
        label: ClassMetrics(
            precision=_share(right[i], predicted[i]),
            recall=_share(right[i], support[i]),
            f1=_share(2 * right[i], predicted[i] + support[i]),
            support=support[i],
        )
        for i, label in enumerate(labels)
    }


def named_confusion(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """`confusion` [true, predicted] as counts by true label, then by answer."""
    return {label: dict(zip(labels, row, strict=True)) for label, row in zip(labels, confusion.tolist(), strict=True)}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
