"""A linear classifier beside the GRU: weighed on the validation part, never worse there, the same in every form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.text import encode, lookup_table
from tests import tiny
from toolchain.corpus.corpus import Corpus, load_corpus
from toolchain.corpus.reviews import Source
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import export_snapshot
from toolchain.training.linear_start import fit_linear
from toolchain.training.loops import fit
from toolchain.training.mixing import DOUBT, HEAVIEST, Weights, begin_linear, best_weights, end_linear

RECIPE = replace(tiny.TINY, bag=256, patience=None)


def loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)))


def parts(
    count: int, labels: int, gru: float, linear: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Logits of a GRU and of a linear part with so much noise each, and the true labels."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, labels, count)
    signal = np.eye(labels, dtype=np.float32)[truth]

    def heard(noise: float) -> NDArray[np.float32]:
        return (signal + noise * generator.normal(size=signal.shape)).astype(np.float32)

    return heard(gru), heard(linear), truth


def test_the_weights_are_the_likeliest_and_never_worse_than_the_linear_part_alone() -> None:
    gru, linear, labels = parts(300, 3, 1.0, 2.0)

    def cost(a: float, b: float) -> float:
        return loss(a * gru + b * linear, labels) + (a**2 + (b - 1) ** 2) / (2 * DOUBT**2 * len(labels))

    best = best_weights(gru, linear, labels)
    near = [(best.gru + a, best.linear + b) for a, b in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1))]
    assert all(cost(*best) < cost(*other) for other in (*near, (0.0, 1.0), (1.0, 0.0)))
    assert best.gru > best.linear > 0
    assert loss(best.gru * gru + best.linear * linear, labels) < loss(linear, labels)


def test_few_reviews_move_the_weights_less_than_many_that_say_the_same() -> None:
    gru, linear, labels = parts(20, 2, 1.0, 1.0)
    few = best_weights(gru, linear, labels)
    many = best_weights(np.repeat(gru, 100, 0), np.repeat(linear, 100, 0), np.repeat(labels, 100, 0))
    assert np.hypot(few.gru, few.linear - 1) < 0.8 * np.hypot(many.gru, many.linear - 1)


def test_a_part_that_knows_nothing_gets_no_weight_and_one_without_a_mistake_no_endless_one() -> None:
    labels = np.arange(200) % 2
    right = np.eye(2, dtype=np.float32)[labels]
    weights = best_weights(1 - right, right, labels)
    assert weights.gru == 0.0
    assert weights.linear == pytest.approx(HEAVIEST)


def accuracy_of(snapshot: Snapshot, corpus: Corpus) -> float:
    """In percent, on the test part."""
    answers = snapshot.answer_tokens()([example.text for example in corpus.test])
    right: int = sum(int(row.argmax()) == example.label for row, example in zip(answers, corpus.test, strict=True))
    return 100 * right / len(answers)


def test_the_linear_part_alone_is_epoch_0_and_the_checkpoint_is_never_worse(tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(tiny.write_reviews(tmp_path / "a.csv", 300, wrong=range(0, 300, 7)))), RECIPE, 0)
    losses: list[float] = []
    metrics = fit(
        *(corpus, RECIPE, tiny.settings(epochs=2), tmp_path / "out"),
        on_epoch=lambda epoch, _: losses.append(epoch.validation_loss),
    )
    assert len(losses) == 3
    assert metrics["validation_loss"] == min(losses)
    assert metrics["validation_accuracy"] > 70
    snapshot = load_snapshot(tmp_path / "out")
    assert snapshot.specification.bag == 256
    assert accuracy_of(snapshot, corpus) == pytest.approx(metrics["test_accuracy"])
    export_snapshot(snapshot, tmp_path / "bundle", ["onnx"])  # raises where a form says something else


def test_a_linear_part_without_weight_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(Source(str(tiny.write_reviews(tmp_path / "a.csv", 200))), RECIPE, 0)
    monkeypatch.setattr("toolchain.training.mixing.best_weights", lambda gru, linear, labels: Weights(1.0, 0.0))
    metrics = fit(corpus, RECIPE, tiny.settings(epochs=3), tmp_path / "out")
    snapshot = load_snapshot(tmp_path / "out")
    assert snapshot.specification.bag == 0
    assert metrics["parameters"] == sum(weight.numel() for weight in snapshot.state.values())
    assert accuracy_of(snapshot, corpus) == pytest.approx(metrics["test_accuracy"])


def test_in_the_end_the_linear_part_is_fitted_to_the_validation_part_as_well(tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(tiny.write_reviews(tmp_path / "a.csv", 100, wrong=range(0, 100, 7)))), RECIPE, 0)
    sizes = (len(corpus.vocabulary), RECIPE.dropout, RECIPE.input_dropout, RECIPE.word_dropout)
    model = build_model(RECIPE.model, RECIPE.specification(corpus.labels, 1), *sizes)
    begun = begin_linear(model, corpus, 50, seed=0)
    words, bias = begun.bag.words.weight.clone(), model.out.bias.detach().clone()
    end_linear(model, begun, 0.5, corpus, 50, seed=0)
    seen, table = corpus.train.examples + corpus.validation.examples, lookup_table(corpus.vocabulary)
    wanted = fit_linear(
        *([encode(example.text[:50], table) for example in seen], [example.label for example in seen]),
        *(len(corpus.vocabulary), RECIPE.bag, len(corpus.labels)),
        seed=0,
        choice=begun.fitted.choice,
    )
    assert np.allclose(begun.bag.words.weight.numpy(), 0.5 * wanted.words, atol=1e-6)
    assert np.allclose(begun.bag.pairs.weight.numpy(), 0.5 * wanted.pairs, atol=1e-6)
    assert np.allclose((model.out.bias.detach() - bias).numpy(), 0.5 * (wanted.bias - begun.fitted.bias), atol=1e-6)
    assert not torch.allclose(begun.bag.words.weight, 0.5 * words, atol=1e-3)


def test_as_a_teacher_it_answers_the_beginnings_of_a_text(tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(tiny.write_reviews(tmp_path / "a.csv", 100))), RECIPE, 0)
    model = build_model(RECIPE.model, RECIPE.specification(corpus.labels, 1), len(corpus.vocabulary), 0.0)
    linear = begin_linear(model, corpus, RECIPE.max_tokens, seed=0)
    text = corpus.train.examples[0].text[:8]
    ((*begun, whole),) = linear.answer([text])
    table = lookup_table(corpus.vocabulary)
    wanted = linear.fitted.logits([encode(text[:end], table) for end in (2, 4, 6, 8)])
    assert np.allclose([*begun, whole], wanted, atol=1e-6)


def test_an_interrupted_training_goes_on_to_the_same_model(tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(tiny.write_reviews(tmp_path / "a.csv", 100))), RECIPE, 0)

    def stop(epoch: object, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(corpus, RECIPE, tiny.settings(), tmp_path / "one", on_epoch=stop)
    fit(corpus, RECIPE, tiny.settings(), tmp_path / "one", resume=True)
    fit(corpus, RECIPE, tiny.settings(), tmp_path / "other")
    one, other = (load_snapshot(tmp_path / name).state for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in other)
