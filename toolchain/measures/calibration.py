"""Whether probabilities mean what they say: reliability, expected calibration error, temperature scaling.

All three after Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017, arXiv:1706.04599).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

Labels = Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Reliability:
    """Answers by confidence, the probability of the label that was answered.

    Bin i of `count` [bins], mean `confidence` [bins] and `accuracy` [bins] holds the confidences in
    (i / bins, (i + 1) / bins]; in an empty bin the figures are 0.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the bins, by their counts (equation 3): 0 is perfect."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.count))

    def __add__(self, other: "Reliability") -> "Reliability":
        """The answers of both, over the same bins."""
        count = self.count + other.count
        at_least_one = np.maximum(count, 1)
        return Reliability(
            count=count,
            confidence=(self.confidence * self.count + other.confidence * other.count) / at_least_one,
            accuracy=(self.accuracy * self.count + other.accuracy * other.count) / at_least_one,
        )

    def to_json(self) -> list[dict[str, float]]:
        """Plain values: an object a bin that holds answers."""
        bins = len(self.count)
        return [
            {"from": i / bins, "to": (i + 1) / bins, "count": count, "confidence": confidence, "accuracy": accuracy}
            for i, (count, confidence, accuracy) in enumerate(
                zip(self.count.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True)
            )
            if count
        ]


def reliability(probabilities: NDArray[np.floating[Any]], labels: Labels, bins: int = BINS) -> Reliability:
    """Sort answers `probabilities` [N, classes] with the true `labels` [N] into bins of equal width.

    Raises `ValueError` where there is nothing to sort, or a label for every answer is not there.
    """
    _check(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    return answer_reliability(confidence, probabilities.argmax(axis=1) == np.asarray(labels), bins)


def answer_reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """The same of N answers by their `confidence` [N] and whether each is `correct` [N]; N may be 0."""
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    at_least_one = np.maximum(count, 1)
    return Reliability(
        count=count,
        confidence=np.bincount(bin_of, confidence, bins) / at_least_one,
        accuracy=np.bincount(bin_of, correct, bins) / at_least_one,
    )


def fit_temperature(logits: NDArray[np.floating[Any]], labels: Labels) -> float:
    """The T for which softmax(`logits` / T) has the smallest mean negative log-likelihood of `labels`.

    `logits` [N, classes], `labels` [N]; T lies between `MIN_TEMPERATURE` and `MAX_TEMPERATURE`. In 1/T the loss is
    convex, and its slope is the mean over the answers of (logit expected under the softmax - logit of the label): T is
    where the slope changes its sign, found by bisection of log T. Logits that are the same for every class have no
    temperature and get 1. Raises `ValueError` as `reliability` does, and on logits that are not finite.
    """
    _check(logits, labels)
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    if not scores.any():
        return 1.0
    own = scores[np.arange(len(scores)), np.asarray(labels)]
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(50):
        middle = (low + high) / 2
        probabilities = np.exp(scores / math.exp(middle))
        expected = (probabilities * scores).sum(axis=1) / probabilities.sum(axis=1)
        if (expected - own).mean() > 0:
            low = middle  # the answers are too sure
        else:
            high = middle
    return math.exp((low + high) / 2)


def _check(answers: NDArray[np.floating[Any]], labels: Labels) -> None:
    if answers.ndim != 2 or not len(answers) or len(answers) != len(labels):
        raise ValueError(f"{len(labels)} labels for answers of shape {answers.shape}")
