"""A start from a trained model: what is taken over, what stays, and what is no start."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.errors import UsageError
from toolchain.models.classifiers import PooledGRU, build_model
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.training.loops import fit
from toolchain.training.starting import check_start, take_over

VOCABULARY = ["<unk>", "<pad>", "fine", "dull", "elsewhere"]


@pytest.fixture(scope="module")
def start() -> Snapshot:
    torch.manual_seed(0)
    specification = tiny.TINY.specification(("neg", "pos"), layers=1)
    model = build_model("PooledGRU", specification, len(VOCABULARY), dropout=0.0)
    return Snapshot("PooledGRU", specification, VOCABULARY, model.state_dict(), {"recipe": "auto", "data": "films"})


def started(start: Snapshot, labels: Sequence[str], vocabulary: Sequence[str]) -> PooledGRU:
    model = build_model("PooledGRU", replace(start.specification, labels=tuple(labels)), len(vocabulary), dropout=0.0)
    take_over(model, labels, vocabulary, start)
    assert isinstance(model, PooledGRU)
    return model


def test_known_words_keep_their_vectors_and_new_ones_begin_at_the_mean(start: Snapshot) -> None:
    model = started(start, ("neg", "pos"), ["<unk>", "<pad>", "new", "dull", "fine"])
    table = start.state["embed.weight"]
    assert torch.equal(model.embed.weight[[0, 1, 3, 4]], table[[0, 1, 3, 2]])
    assert torch.equal(model.embed.weight[2], table[2:].mean(0))
    assert torch.equal(model.gru.get_parameter("weight_hh_l0"), start.state["gru.weight_hh_l0"])


def test_the_same_labels_keep_the_last_layer_in_whatever_order(start: Snapshot) -> None:
    same, turned = (started(start, labels, VOCABULARY) for labels in (("neg", "pos"), ("pos", "neg")))
    ids, lengths = torch.tensor([[2, 3, 4]]), torch.tensor([3])
    with torch.no_grad():
        assert torch.equal(same(ids, lengths), start.build()(ids, lengths))
        assert torch.allclose(turned(ids, lengths), same(ids, lengths).flip(1), atol=1e-6)


def test_other_labels_have_a_last_layer_of_their_own(start: Snapshot) -> None:
    assert started(start, ("bad", "good", "so so"), VOCABULARY).out.weight.shape == (3, 24)


def test_a_word_that_the_reviews_do_not_hold_stays_as_it_is(start: Snapshot, tmp_path: Path) -> None:
    source = Source(str(tiny.write_reviews(tmp_path / "reviews.csv", 200)))
    recipe = replace(tiny.TINY, weight_decay=0.5, start_rate=0.5)
    corpus = load_corpus(source, recipe, 0, known_words=start.vocabulary)
    assert corpus.vocabulary[-1] == "elsewhere"
    metrics = fit(corpus, recipe, tiny.settings(epochs=2), tmp_path / "snapshot", start=start)
    assert metrics["start"] == {
        "identity": start.identity,
        "recipe": "auto",
        "data": "films",
        "training_digest": None,
        "reviews": None,
    }
    trained = load_snapshot(tmp_path / "snapshot").state["embed.weight"]
    theirs = start.state["embed.weight"]
    assert torch.equal(trained[corpus.vocabulary.index("elsewhere")], theirs[4])
    assert not torch.equal(trained[corpus.vocabulary.index("fine")], theirs[2])


def test_another_start_is_another_training(start: Snapshot, tmp_path: Path) -> None:
    source = Source(str(tiny.write_reviews(tmp_path / "reviews.csv", 100)))
    corpus = load_corpus(source, tiny.TINY, 0, known_words=start.vocabulary)

    def stop(epoch: object, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(corpus, tiny.TINY, tiny.settings(), tmp_path / "snapshot", on_epoch=stop, start=start)
    with pytest.raises(UsageError, match="start was"):
        fit(corpus, tiny.TINY, tiny.settings(), tmp_path / "snapshot", resume=True)
    metrics = fit(corpus, tiny.TINY, tiny.settings(), tmp_path / "snapshot", resume=True, start=start)
    undisturbed = fit(corpus, tiny.TINY, tiny.settings(), tmp_path / "other", start=start)
    assert metrics["test_loss"] == undisturbed["test_loss"]


@pytest.mark.parametrize("change", [{"cell": "rnn"}, {"head": (8,)}], ids=["rnn", "head"])
def test_what_is_no_pooled_gru_is_no_start(start: Snapshot, change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected a GRU with one linear layer"):
        check_start(replace(start.specification, **change))  # type: ignore[arg-type]


def test_a_start_that_is_never_bettered_is_kept_as_it_is(start: Snapshot, tmp_path: Path) -> None:
    source = Source(str(tiny.write_reviews(tmp_path / "reviews.csv", 200)))
    corpus = load_corpus(source, tiny.TINY, 0)
    fit(corpus, tiny.TINY, tiny.settings(epochs=6), tmp_path / "good")
    good = load_snapshot(tmp_path / "good")
    seen: list[int] = []
    wild = tiny.settings(epochs=3, learning_rate=10.0, patience=2)
    metrics = fit(corpus, tiny.TINY, wild, tmp_path / "new", lambda epoch, _: seen.append(epoch.epoch), start=good)
    assert seen == [0, 1, 2]
    assert metrics["epoch"] == 0
    assert metrics["test_accuracy"] == good.training["test_accuracy"]
    first, _ = (tmp_path / "new" / "history.csv").read_text().splitlines()[1:3]
    assert first.startswith("0,,,0.")
