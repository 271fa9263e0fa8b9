"""A model's answers on labelled reviews: loss, accuracy, and every prediction."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.corpus import Reviews
from toolchain.errors import UsageError


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean cross-entropy in nats, `accuracy` in percent, `probabilities` [reviews, classes]."""

    reviews: int
    loss: float
    accuracy: float
    labels: Sequence[str]
    probabilities: NDArray[np.float32]


def evaluate_reviews(
    reviews: Reviews, labels: Sequence[str], probabilities: Callable[[Sequence[str]], NDArray[np.float32]]
) -> Evaluation:
    """Ask `probabilities` (texts -> [texts, classes]) about every review and compare.

    Raises `UsageError` where a review has a label that the model does not know.
    """
    index = {label: number for number, label in enumerate(labels)}
    if unknown := sorted(set(reviews.labels) - index.keys()):
        raise UsageError(f"the data has the label {unknown[0]!r}; the model knows {', '.join(labels)}")
    wanted = np.array([index[label] for label in reviews.labels])
    answers = probabilities(reviews.texts)
    own = answers[np.arange(len(wanted)), wanted].astype(np.float64)
    return Evaluation(
        reviews=len(reviews),
        loss=float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        accuracy=float(100 * (answers.argmax(axis=1) == wanted).mean()),
        labels=labels,
        probabilities=answers,
    )


def write_predictions(evaluation: Evaluation, reviews: Reviews, path: Path) -> None:
    """A CSV with a line a review, in order: number from 1, true label, prediction, confidence."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "label", "prediction", "confidence"])
        for number, (label, row) in enumerate(zip(reviews.labels, evaluation.probabilities, strict=True), 1):
            writer.writerow([number, label, evaluation.labels[int(row.argmax())], f"{row.max():.6f}"])
