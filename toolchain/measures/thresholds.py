"""How well a class stands apart from the rest at every threshold: ROC and precision-recall, from counts that add up.

Probabilities are counted in ten-thousandths, so that a file of any size takes the same memory; answers within one of
them are taken as tied. One class against all others, after Fawcett, "An introduction to ROC analysis" (Pattern
Recognition Letters 27, 2006).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESOLUTION = 10_000
_POINTS = 200
"""A curve is drawn on a grid of so many steps."""

Points = list[tuple[float, float]]


@dataclass
class ThresholdCounts:
    """By class, whether it is the true one (0, 1), and its probability in ten-thousandths: `counts` [classes, 2, …]."""

    counts: NDArray[np.int64]

    @classmethod
    def none(cls, classes: int) -> "ThresholdCounts":
        """Nothing counted yet."""
        return cls(np.zeros((classes, 2, RESOLUTION + 1), np.int64))

    def add(self, truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
        """Count N rows: the true labels `truth` [N] and `probabilities` [N, classes]."""
        classes = probabilities.shape[1]
        at = np.clip(np.rint(probabilities * RESOLUTION).astype(np.int64), 0, RESOLUTION)
        own = (truth[:, None] == np.arange(classes)).astype(np.int64)
        np.add.at(self.counts, (np.arange(classes), own, at), 1)

    def curves(self, label: int) -> "Curves | None":
        """The curves of one class; None where all rows are of it, or none is."""
        others, own = self.counts[label]
        if not own.any() or not others.any():
            return None
        # How many rows are at or above each threshold, from the highest down.
        true, false = np.cumsum(own[::-1]), np.cumsum(others[::-1])
        changes = np.flatnonzero(np.diff(true + false, prepend=0))
        true, false = true[changes].astype(np.float64), false[changes].astype(np.float64)
        recall, false_rate, precision = true / true[-1], false / false[-1], true / (true + false)
        before = np.insert(recall[:-1], 0, 0.0)
        return Curves(
            roc=[(0.0, 0.0), *_thinned(false_rate, recall)],
            area=float(np.diff(false_rate, prepend=0.0) @ (recall + before) / 2),
            precision_recall=_thinned(recall, precision),
            average_precision=float((recall - before) @ precision),
        )


@dataclass(frozen=True)
class Curves:
    """Of one class: `roc` as (false positive rate, true positive rate) and the `area` below it, the probability that a
    row of the class has a higher probability of it than a row of another; `precision_recall` as (recall, precision) and
    the `average_precision`, the precision at every threshold weighted by the recall that it adds."""

    roc: Points
    area: float
    precision_recall: Points
    average_precision: float


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """The points of a curve that differ on a grid of `_POINTS` steps, with both ends."""
    cells = np.rint(np.stack([x, y]) * _POINTS)
    keep = np.append(True, (np.diff(cells) != 0).any(axis=0))
    keep[-1] = True
    return list(zip(x[keep].round(4).tolist(), y[keep].round(4).tolist(), strict=True))
