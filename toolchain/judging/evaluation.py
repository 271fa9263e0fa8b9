"""A model's answers on labelled reviews: loss, accuracy by class, calibration, the worst mistakes, every prediction."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.corpus.reviews import Reviews
from toolchain.errors import UsageError
from toolchain.files.outputs import (
    RECORD_FORMAT,
    Product,
    is_recorded,
    is_stream,
    now,
    real,
    write_record,
    writing,
)
from toolchain.measures.calibration import Reliability, reliability
from toolchain.measures.labels import LabelReader, describe_unknown
from toolchain.measures.metrics import ClassMetrics, class_metrics, count_labels, named_confusion

WINDOW = 1000
PREDICTIONS = Product("predictions.csv", is_recorded)


@dataclass(frozen=True)
class Mistake:
    """A review with the wrong answer. `row` counts from 1; `probability` is what the model gave the true `label`."""

    row: int
    label: str
    prediction: str
    confidence: float
    probability: float
    text: str


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean cross-entropy in nats, `accuracy` in percent, `probabilities` [reviews, classes].

    `confusion[true][predicted]` counts reviews; `mistakes` are the worst, the most surely wrong first.
    """

    reviews: int
    loss: float
    accuracy: float
    labels: Sequence[str]
    probabilities: NDArray[np.float32]
    classes: Mapping[str, ClassMetrics]
    confusion: Mapping[str, Mapping[str, int]]
    reliability: Reliability
    mistakes: Sequence[Mistake]

    def to_json(self) -> dict[str, Any]:
        """Plain values: everything but the probabilities of every review."""
        return {
            "reviews": self.reviews,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "expected_calibration_error": self.reliability.expected_calibration_error,
            "classes": {label: asdict(figures) for label, figures in self.classes.items()},
            "confusion": self.confusion,
            "reliability": self.reliability.to_json(),
            "mistakes": [asdict(mistake) for mistake in self.mistakes],
        }


def evaluate_reviews(
    reviews: Reviews,
    labels: Sequence[str],
    probabilities: Callable[[Sequence[str]], NDArray[np.float32]],
    mistakes: int = 0,
    progress: Callable[[Iterable[int], str], Iterable[int]] = lambda windows, title: windows,
) -> Evaluation:
    """Ask `probabilities` (texts -> [texts, classes]) about every review and compare; keep the worst `mistakes`.

    It is asked for `WINDOW` at a time; `progress` wraps their first indices. Raises `UsageError` where there is no
    review, or one with a label that the model does not know, or the label map leads to such a label.
    """
    if not len(reviews):
        raise UsageError(f"{reviews.name}: holds no labelled review")
    reviews.label_map.check(labels)
    truth = LabelReader(labels).read(reviews.labels)
    known = int((truth.index >= 0).sum())
    if strange := describe_unknown(reviews.name, reviews.label_column, truth.unknown, known, labels):
        raise UsageError(strange)
    windows = progress(range(0, len(reviews), WINDOW), "evaluating")
    answers = np.concatenate([probabilities(reviews.texts[start : start + WINDOW]) for start in windows])
    best = answers.argmax(axis=1)
    counts = count_labels(truth, best, answers)
    return Evaluation(
        reviews=len(reviews),
        loss=counts.log_loss / len(reviews),
        accuracy=100 * int(counts.confusion.trace()) / len(reviews),
        labels=labels,
        probabilities=answers,
        classes=class_metrics(counts.confusion, labels),
        confusion=named_confusion(counts.confusion, labels),
        reliability=reliability(answers, truth.index),
        mistakes=_worst(reviews, labels, answers, truth.index, mistakes),
    )


def write_predictions(evaluation: Evaluation, reviews: Reviews, path: str, about: Mapping[str, Any]) -> None:
    """A CSV with a line a review, in order: number from 1, true label, prediction, confidence. Its record holds what
    made it: `about`."""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["row", "label", "prediction", "confidence"])
    for number, (label, row) in enumerate(zip(reviews.labels, evaluation.probabilities, strict=True), 1):
        writer.writerow([number, label, evaluation.labels[int(row.argmax())], f"{row.max():.6f}"])
    with writing(path) as file:
        file.write(rows.getvalue().encode())
    if not is_stream(path):
        write_record(real(path), {"format": RECORD_FORMAT, **about, "finished": now()})


def _worst(
    reviews: Reviews, labels: Sequence[str], answers: NDArray[np.float32], truth: NDArray[np.int64], limit: int
) -> list[Mistake]:
    """The wrong answers that leave their true label the least probability."""
    own = answers[np.arange(len(truth)), truth]
    (wrong,) = np.nonzero(answers.argmax(axis=1) != truth)
    return [
        Mistake(
            row=row + 1,
            label=reviews.labels[row],
            prediction=labels[int(answers[row].argmax())],
            confidence=float(answers[row].max()),
            probability=float(own[row]),
            text=reviews.texts[row],
        )
        for row in wrong[np.argsort(own[wrong], kind="stable")][:limit].tolist()
    ]
