"""The line of honesty: every training is set beside what costs nothing, on the same test reviews."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchtext import data

from export.text import Tokenizer
from tests import tiny
from tests.conftest import TrainedSample
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.measures.standing import Standing
from toolchain.models.snapshot import load_snapshot
from toolchain.training import baselines
from toolchain.training.baselines import answer_by_baselines
from toolchain.training.findings import findings

WORDS = Tokenizer(punctuation="isolated")


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return path


def test_the_baseline_learns_word_pairs_and_the_majority_is_that_of_the_training_part(tmp_path: Path) -> None:
    rows = [("not good but bad", "neg"), ("not bad but good", "pos")] * 60 + [("not bad but good", "pos")] * 40
    found = answer_by_baselines(load_corpus(Source(str(write(tmp_path / "a.csv", rows))), tiny.TINY, 0), WORDS)
    assert np.array_equal(found.linear, found.truth)
    assert set(found.majority) == {1}
    assert set(found.truth) == {0, 1}


def test_the_baselines_see_the_validation_part_as_the_model_does(tmp_path: Path) -> None:
    rows = [("a fine one", "pos"), ("a poor one", "neg")] * 60
    corpus = load_corpus(Source(str(write(tmp_path / "a.csv", rows))), tiny.TINY, 0)
    one_label = [example for example in corpus.train.examples if example.label == 0]
    found = answer_by_baselines(replace(corpus, train=data.Dataset(one_label, corpus.train.fields)), WORDS)
    assert np.array_equal(found.linear, found.truth)


def test_characters_are_counted_where_each_is_a_token(tmp_path: Path) -> None:
    rows = [("정말좋은영화", "pos"), ("정말나쁜영화", "neg")] * 40
    recipe = replace(tiny.TINY, tokenizer=Tokenizer(unit="characters", punctuation="attached"))
    corpus = load_corpus(Source(str(write(tmp_path / "a.csv", rows))), recipe, 0)
    found = answer_by_baselines(corpus, recipe.tokenizer)
    assert np.array_equal(found.linear, found.truth)
    assert found.features == "runs of up to 3 characters"


def test_texts_without_a_word_leave_the_majority(tmp_path: Path) -> None:
    rows = [("! ?", "neg"), ("? !", "pos")] * 40
    found = answer_by_baselines(load_corpus(Source(str(write(tmp_path / "a.csv", rows))), tiny.TINY, 0), WORDS)
    assert np.array_equal(found.linear, found.majority)


def test_of_much_text_the_baseline_reads_some_of_every_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(Source(str(tiny.write_reviews(tmp_path / "a.csv", 400))), tiny.TINY, 0)
    monkeypatch.setattr(baselines, "MAX_TOKENS", sum(len(example.text) for example in corpus.train) // 3)
    some = baselines._some(corpus.train.examples)
    assert sum(len(example.text) for example in some) <= baselines.MAX_TOKENS
    assert {example.label for example in some} == {0, 1}


def test_a_training_says_how_it_stands_everywhere(trained: TrainedSample) -> None:
    metrics = json.loads((trained.folder / "metrics.json").read_text(encoding="utf-8"))
    standing = Standing.from_json(metrics["standing"])
    assert standing.reviews == metrics["reviews"]["test"]
    assert standing.model.accuracy == pytest.approx(metrics["test_accuracy"])
    assert standing.model.interval[0] < standing.model.accuracy < standing.model.interval[1]
    assert load_snapshot(trained.folder).training["standing"] == metrics["standing"]


def metrics_of(accuracy: float, temperature: float = 1.0, recipe: str = "auto") -> dict[str, object]:
    truth = np.arange(100) % 2
    linear = np.where(np.arange(100) < 80, truth, 1 - truth)
    found = baselines.Baselines(truth, np.zeros(100, np.int64), linear, "words and word pairs")
    answers = np.where(np.arange(100) < accuracy, truth, 1 - truth)
    standing = found.beside(answers, truth, ("neg", "pos")).to_json()
    calibration = {"temperature": temperature}
    return {
        "standing": standing,
        "calibration": calibration,
        "recipe": recipe,
        "unlabelled": 0,
        "data": "a.csv",
        "training_digest": "1",
    }


def before(data: str, digest: str | None) -> dict[str, str | None]:
    """What is known of a start or a teacher."""
    return {"data": data, "training_digest": digest}


@pytest.mark.parametrize(
    ("metrics", "losses", "said"),
    [
        (metrics_of(90), [0.5, 0.4, 0.45], []),
        (metrics_of(90), [0.5, 0.4, 0.399], []),
        (metrics_of(90), [0.5, 0.4, 0.3], ["the last epoch is the best"]),
        (metrics_of(90), [0.5, 0.2, 0.09], []),
        (metrics_of(70), [0.5, 0.4, 0.399], ["--epochs 6"]),
        (metrics_of(70), [0.5, 0.4, 0.45], ["--unlabelled"]),
        (metrics_of(70, recipe="gru"), [0.5, 0.4, 0.45], ["--recipe"]),
        (metrics_of(90, 0.2), [0.5, 0.4, 0.45], ["hardly sure"]),
        (metrics_of(90, 3.5), [0.5, 0.4, 0.45], ["far too sure"]),
        (metrics_of(50, 3.5), [0.5, 0.4, 0.45], ["always answering", "far too sure"]),
        (metrics_of(90) | {"start": before("a.csv", "1")}, [0.5, 0.4, 0.45], []),
        (metrics_of(90) | {"start": before("a.csv", None)}, [0.5, 0.4, 0.45], []),
        (metrics_of(90) | {"start": before("b.csv", "2")}, [0.5, 0.4, 0.45], []),
        (metrics_of(90) | {"start": before("a.csv", "2")}, [0.5, 0.4, 0.45], ["start from was trained on a.csv too"]),
        (metrics_of(90) | {"start": before("a.csv", "1"), "folds": {}}, [0.5, 0.4, 0.45], ["of every fold"]),
        (
            metrics_of(90) | {"teachers": [before("a.csv", "2")] * 2},
            [0.5, 0.4, 0.45],
            ["a teacher was trained on a.csv"],
        ),
    ],
)
def test_what_speaks_against_a_training(metrics: dict[str, object], losses: list[float], said: list[str]) -> None:
    found = findings(metrics, dict(enumerate(losses, 1)), epochs=3)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))
