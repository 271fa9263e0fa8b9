"""How a trained model stands beside what costs nothing: the most common label, and logistic regression over TF-IDF."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.measures.metrics import class_metrics

BASELINE = "TF-IDF with logistic regression"
_Z = 1.959964
"""Of the normal distribution, 95 % lies within so many standard deviations of the mean."""


@dataclass(frozen=True)
class Result:
    """Answers on labelled reviews: accuracy in percent with its 95 % interval, and the mean F1 of the labels, from 0
    to 1, in which a rare label counts as much as a common one."""

    accuracy: float
    interval: tuple[float, float]
    macro_f1: float

    @classmethod
    def of(cls, answers: NDArray[np.int64], truth: NDArray[np.int64], labels: Sequence[str]) -> "Result":
        """Of `answers` [reviews] beside the true labels [reviews], both as indices of `labels`; at least one."""
        confusion = np.zeros((len(labels), len(labels)), np.int64)
        np.add.at(confusion, (truth, answers), 1)
        right, f1 = int(confusion.trace()), [each.f1 for each in class_metrics(confusion, labels).values()]
        known = [value for value in f1 if value is not None]  # a label that is neither there nor answered has none
        return cls(100 * right / len(truth), wilson_interval(right, len(truth)), sum(known) / len(known))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Result":
        """The inverse of `asdict`."""
        low, high = values["interval"]
        return cls(values["accuracy"], (low, high), values["macro_f1"])

    def __str__(self) -> str:
        return f"{self.accuracy:.1f} % ({self.interval[0]:.1f} to {self.interval[1]:.1f})"


@dataclass(frozen=True)
class Standing:
    """A model, its baseline and the most common training label, all on the same `reviews` of the part called `part`.

    `features` says what the baseline counts.
    """

    part: str
    reviews: int
    majority_label: str
    majority: Result
    features: str
    baseline: Result
    model: Result

    def to_json(self) -> dict[str, Any]:
        """Plain values: lists for tuples, as JSON gives them back."""
        values = asdict(self)
        for name in ("majority", "baseline", "model"):
            values[name]["interval"] = list(values[name]["interval"])
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Standing":
        """The inverse of `to_json`."""
        results = {name: Result.from_json(values[name]) for name in ("majority", "baseline", "model")}
        return cls(**{**values, **results})

    def __str__(self) -> str:
        """The three accuracies in a line, with their 95 % intervals."""
        return (
            f"on the {self.reviews:,} {self.part} reviews: this model {self.model}, {BASELINE} {self.baseline}, "
            f"always {self.majority_label!r} {self.majority.accuracy:.1f} %"
        )

    def warning(self, advice: str) -> str | None:
        """A line where the model is no better than what costs nothing, ending in `advice`."""
        if self.model.accuracy <= self.majority.accuracy:
            return f"the model is no better than always answering {self.majority_label!r}: {advice}"
        if self.model.accuracy > self.baseline.accuracy:
            return None
        overlap = self.model.interval[1] >= self.baseline.interval[0]
        chance = f", a difference that may be chance on {self.reviews:,} reviews" if overlap else ""
        return (
            f"the model is no better than {BASELINE}, {self.model.accuracy:.1f} beside "
            f"{self.baseline.accuracy:.1f} %{chance}: {advice}"
        )


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, in percent (Wilson 1927, doi:10.2307/2276774); `total` is at least 1."""
    share, squared = right / total, _Z * _Z
    middle = (share + squared / (2 * total)) / (1 + squared / total)
    half = _Z * math.sqrt(share * (1 - share) / total + squared / (4 * total * total)) / (1 + squared / total)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


@dataclass(frozen=True)
class Folds:
    """Accuracies in percent, one a fold: of models trained alike on all other folds, of the baseline, and of always
    answering with the most common label."""

    model: Sequence[float]
    baseline: Sequence[float]
    majority: Sequence[float]

    @classmethod
    def of(cls, standings: Sequence[Standing]) -> "Folds":
        """Of a model a fold."""
        names = ("model", "baseline", "majority")
        return cls(*([getattr(standing, name).accuracy for standing in standings] for name in names))

    def __str__(self) -> str:
        """Mean and standard deviation over the folds, in a line."""
        return (
            f"over {len(self.model)} folds, mean ± standard deviation: this model {_spread(self.model)}, "
            f"{BASELINE} {_spread(self.baseline)}, the most common label {_spread(self.majority)}"
        )


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} % ± {np.std(values, ddof=1):.1f}"
