"""Training reviews that every epoch gets wrong: often the label is."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from toolchain.training.distributed import gather

FILE = "suspects.csv"
MIN_EPOCHS = 3
"""Fewer epochs say nothing about a review: the model has hardly begun."""


class Suspects:
    """Watches the batches of every epoch; `never_right` maps a review's origin to its label and the last answer."""

    def __init__(self, never_right: Mapping[str, tuple[int, int]] | None = None) -> None:
        self.never_right = never_right
        self._wrong: dict[str, tuple[int, int]] = {}

    def watch(self, batch: Any, logits: Tensor) -> None:
        """A torchtext batch with the field `origin` (None: no review to look up), and its logits [batch, classes]."""
        answers, labels = logits.argmax(1).tolist(), batch.label.tolist()
        for origin, answer, label in zip(batch.origin, answers, labels, strict=True):
            if answer != label and origin is not None:
                self._wrong[origin] = (label, answer)

    def end_epoch(self) -> None:
        """Forget the reviews that this epoch got right."""
        everywhere = {origin: wrong for of_process in gather(self._wrong) for origin, wrong in of_process.items()}
        known = everywhere if self.never_right is None else self.never_right
        self.never_right = {origin: wrong for origin, wrong in everywhere.items() if origin in known}
        self._wrong = {}

    def write(self, labels: Sequence[str], path: Path) -> int:
        """`path` as CSV, a line a suspect: where it stands, its label, the answer -> how many there are."""
        suspects = sorted((self.never_right or {}).items())
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["review", "label", "answer"])
            writer.writerows([origin, labels[label], labels[answer]] for origin, (label, answer) in suspects)
        return len(suspects)
