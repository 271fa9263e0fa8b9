"""A smaller model out of a trained one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny import TINY, settings, write_reviews
from toolchain.corpus.corpus import Corpus, load_corpus
from toolchain.corpus.reviews import Source
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.training.loops import fit
from toolchain.training.pruning import can_prune, prune


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(Source(str(write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", 240))), TINY, 0)


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("trained")
    fit(corpus, replace(TINY, bag=64), settings(epochs=6), folder)
    return load_snapshot(folder)


@pytest.fixture(scope="module")
def texts(corpus: Corpus) -> list[list[str]]:
    return [example.text for example in corpus.train]


@pytest.mark.parametrize("embedding", [8, 11], ids=["the same", "a larger embedding"])
def test_with_as_many_units_nothing_changes(trained: Snapshot, texts: list[list[str]], embedding: int) -> None:
    same = prune(trained, 8, embedding, texts)
    assert (same.specification.hidden, same.specification.embedding, same.specification.bag) == (8, embedding, 0)
    before, after = (snapshot.answer_tokens()([*texts, []]) for snapshot in (trained.without_bag(), same))
    assert np.allclose(after, before, atol=0.02)
    for name in ("gru.weight_hh_l0", "gru.bias_hh_l0", "gru.bias_ih_l0"):
        assert torch.allclose(same.state[name], trained.state[name], atol=1e-6)


def test_units_that_say_nothing_of_their_own_go_and_no_answer_changes(
    trained: Snapshot, texts: list[list[str]]
) -> None:
    """Each of eight units stands in the larger model twice: one is read a quarter, the other three quarters."""
    state = dict(trained.without_bag().state)
    twice = torch.cat([torch.arange(8), torch.arange(8)])
    read = torch.cat([torch.full((8,), 0.25), torch.full((8,), 0.75)])
    gates = torch.cat([twice + 8 * gate for gate in range(3)])
    for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        state[f"gru.{name}"] = state[f"gru.{name}"][gates]
    state["gru.weight_hh_l0"] = state["gru.weight_hh_l0"][gates][:, twice] * read
    pools = torch.cat([twice + 8 * pool for pool in range(3)])
    state["out.weight"] = state["out.weight"][:, pools] * read.repeat(3)
    larger = replace(trained, specification=replace(trained.specification, bag=0, hidden=16), state=state)
    before = trained.without_bag().answer_tokens()(texts)
    assert np.allclose(larger.answer_tokens()(texts), before, atol=1e-4)
    left = prune(larger, 8, 8, texts)
    assert np.allclose(left.answer_tokens()(texts), before, atol=0.05)


def test_most_answers_stay_with_fewer_units_and_numbers(trained: Snapshot, texts: list[list[str]]) -> None:
    before = trained.without_bag().answer_tokens()(texts).argmax(1)
    left = prune(trained, 6, 6, texts)
    assert left.state["embed.weight"].shape == (len(trained.vocabulary), 6)
    assert (left.answer_tokens()(texts).argmax(1) == before).mean() > 0.95


def test_what_can_be_pruned(trained: Snapshot) -> None:
    def model(**sizes: object) -> object:
        recipe = replace(TINY, **sizes)  # type: ignore[arg-type]
        return build_model(recipe.model, recipe.specification(("neg", "pos"), 1), 10, 0.0)

    assert can_prune(trained, model())  # type: ignore[arg-type]
    assert can_prune(trained, model(hidden=3, embedding=20))  # type: ignore[arg-type]
    assert not can_prune(trained, model(hidden=9))  # type: ignore[arg-type]
    assert not can_prune(trained, model(pooling=("last", "max")))  # type: ignore[arg-type]
    assert not can_prune(trained, model(model="BasicGRU", pooling=("last",)))  # type: ignore[arg-type]
