"""Cross-validation: every review is tested on once, and mean and spread stand in the metrics."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests import tiny
from toolchain.cli.app import app
from toolchain.corpus.reviews import Reviews
from toolchain.errors import UsageError
from toolchain.measures.standing import Folds
from toolchain.training.folds import split_folds


def reviews(count: int, groups: int | None = None) -> Reviews:
    numbers = range(count)
    return Reviews(
        texts=[f"text {number}" for number in numbers],
        labels=["rare" if number % 10 == 0 else "common" for number in numbers],
        origins=[f"a.csv:{number}" for number in numbers],
        groups=[None if groups is None else f"film {number % groups}" for number in numbers],
    )


def test_every_review_is_in_one_fold_and_the_labels_are_spread(tmp_path: Path) -> None:
    folds = split_folds(reviews(100), 5, seed=0)
    assert sorted(text for _, own in folds for text in own.texts) == sorted(reviews(100).texts)
    for others, own in folds:
        assert not set(others.origins) & set(own.origins)
        assert own.labels.count("rare") == 2


def test_a_group_is_in_one_fold() -> None:
    for others, own in split_folds(reviews(100, groups=17), 3, seed=0):
        assert not set(others.groups) & set(own.groups)


def test_a_seed_decides_the_folds() -> None:
    first, again, other = (split_folds(reviews(100), 5, seed)[0][1].texts for seed in (0, 0, 1))
    assert first == again != other


def test_more_folds_than_reviews_of_a_label_are_refused() -> None:
    with pytest.raises(UsageError, match="--folds 11: a label has 10 reviews"):
        split_folds(reviews(100), 11, seed=0)


def test_the_command_says_mean_and_spread(tmp_path: Path) -> None:
    path = tiny.write_reviews(tmp_path / "reviews.csv", 150)
    options = [*tiny.SMALL, "--folds", "3", "--epochs", "2", "--lr", "0.03", "--batch-size", "16", "--json"]
    result = CliRunner().invoke(app, ["train", "--data", str(path), *options, "--out", str(tmp_path / "snapshot")])
    assert result.exit_code == 0, result.stderr
    metrics = json.loads(result.stdout)
    folds = Folds(**metrics["folds"])
    assert [len(each) for each in (folds.model, folds.baseline, folds.majority)] == [3, 3, 3]
    assert folds.majority == [50.0] * 3
    assert "over 3 folds, mean ± standard deviation: this model" in result.stderr
    assert result.stderr.count("fold ") >= 3
    with (tmp_path / "snapshot" / "history.csv").open() as file:
        assert [line["epoch"] for line in csv.DictReader(file)] == ["0", "1", "2"]  # of the training that is kept
