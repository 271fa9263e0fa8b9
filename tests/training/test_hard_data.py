"""Many labels, a rare one, few reviews: a training works, and stands beside its baselines. One of each kind."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import tiny
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.measures.standing import Standing
from toolchain.training.loops import fit


def write(path: Path, labels: Sequence[str]) -> Path:
    """A review for each of `labels`: words that say nothing, and two of the label's own."""
    generator = random.Random(0)
    rows = []
    for label in labels:
        words = generator.choices(tiny.FILLERS, k=5) + [f"{label}{generator.randrange(2)}" for _ in range(2)]
        rows.append(f"{' '.join(generator.sample(words, len(words)))},{label}")
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def trained(path: Path, out: Path, epochs: int, **settings: object) -> tuple[Standing, list[str]]:
    corpus = load_corpus(Source(str(path)), tiny.TINY, 0)
    metrics = fit(corpus, tiny.TINY, tiny.settings(epochs=epochs, **settings), out)
    return Standing.from_json(metrics["standing"]), metrics["warnings"]


def test_a_hundred_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [f"l{number % 100}x" for number in range(1_500)])
    standing, _ = trained(path, tmp_path / "out", epochs=2)
    assert standing.majority.accuracy < 2.0
    assert standing.baseline.accuracy > 90.0
    assert standing.model.accuracy > standing.majority.accuracy


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_one_review_in_a_hundred(class_weights: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["rare" if number % 100 == 0 else "usual" for number in range(2_000)])
    standing, warnings = trained(path, tmp_path / "out", epochs=3, class_weights=class_weights)
    assert standing.majority_label == "usual"
    assert standing.majority.accuracy == 99.0
    assert standing.majority.macro_f1 < 0.5
    if standing.model.accuracy <= 99.0:
        assert warnings[0].startswith("the model is no better than always answering 'usual'")
    else:
        assert standing.model.macro_f1 > 0.5


def test_five_hundred_reviews(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("bad", "good")[number % 2] for number in range(500)])
    standing, _ = trained(path, tmp_path / "out", epochs=4)
    assert standing.reviews == 50
    assert standing.baseline.accuracy == 100.0
    assert standing.model.accuracy > 90.0
    assert standing.model.interval[1] - standing.model.interval[0] > 5  # fifty reviews do not say more
