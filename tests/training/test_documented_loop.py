"""The loop that the benchmarks compare with is the documented one: its defects, and no others."""

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from toolchain.models.classifiers import BasicGRU

SIZES = (1, 16, 50, 8, 2)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of `benchmarks/`, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("documented_loop", monkeypatch)


@pytest.fixture
def ids() -> Tensor:
    """Three texts of seven tokens."""
    return torch.randint(2, 50, (3, 7), generator=torch.Generator().manual_seed(0))


def repaired(dropout: float = 0.0) -> BasicGRU:
    torch.manual_seed(0)
    return BasicGRU(*SIZES, dropout)


def test_without_padding_and_dropout_both_loops_follow_the_same_gradients(documented: ModuleType, ids: Tensor) -> None:
    ours, labels = repaired(), torch.tensor([0, 1, 1])
    theirs = documented.DocumentedGRU(*SIZES, dropout_p=0.5)
    theirs.load_state_dict(ours.state_dict())
    documented.documented_train(theirs, SGD(theirs.parameters(), lr=1.0), [SimpleNamespace(text=ids, label=labels + 1)])
    F.cross_entropy(ours(ids, torch.full((3,), 7)), labels).backward()  # type: ignore[no-untyped-call]
    trained = theirs.state_dict()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(trained[name], parameter.detach() - parameter.grad)


def test_the_documented_score_of_a_text_depends_on_its_padding_and_ours_does_not(
    documented: ModuleType, ids: Tensor
) -> None:
    ours, lengths = repaired(), torch.full((3,), 7)
    theirs = documented.DocumentedGRU(*SIZES, dropout_p=0.5)
    padded = F.pad(ids, (0, 20), value=1)
    torch.testing.assert_close(ours(padded, lengths), ours(ids, lengths))
    assert (theirs(padded) - theirs(ids)).abs().max() > 1e-3


@pytest.mark.parametrize("defect", ["padding", "dropout", "sigmoid"])
def test_each_defect_alone_changes_the_answers_and_none_is_the_repaired_model(
    defect: str, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    defects = benchmark("defects", monkeypatch)
    batch = F.pad(ids, (0, 20), value=1), torch.full((3,), 7)

    def answers(model: BasicGRU) -> Tensor:
        model.load_state_dict(repaired().state_dict())
        torch.manual_seed(1)  # the same units drop out
        output: Tensor = model.train()(*batch).detach()
        return output

    expected = answers(repaired(dropout=0.5))
    torch.testing.assert_close(answers(defects.DefectiveGRU(frozenset(), SIZES, 0.5)), expected)
    assert (answers(defects.DefectiveGRU(frozenset({defect}), SIZES, 0.5)) - expected).abs().max() > 1e-3


def test_padding_and_lost_dropout_together_are_the_documented_model(
    documented: ModuleType, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded = F.pad(ids, (0, 20), value=1)
    ours = benchmark("defects", monkeypatch).DefectiveGRU(frozenset({"padding", "dropout"}), SIZES, 0.5)
    theirs = documented.DocumentedGRU(*SIZES, dropout_p=0.5)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours.train()(padded, torch.full((3,), 7)), theirs.train()(padded))


def test_documented_batches_are_padded_mixtures_of_80_percent_of_the_reviews(
    documented: ModuleType, tmp_path: Path
) -> None:
    for part in ("train", "test"):
        for label in ("neg", "pos"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(10):
                text = "Fine " * (1 + 10 * number)
                (tmp_path / part / label / f"{number}_1.txt").write_text(text, encoding="utf-8")
    reviews, vocabulary_size = documented.documented_training_set(str(tmp_path), seed=0)
    assert (len(reviews), vocabulary_size) == (16, 3)  # <unk>, <pad>, fine
    batches = list(documented.documented_batches(reviews, seed=0, batch_size=4))
    assert {int(label) for batch in batches for label in batch.label} == {1, 2}
    own = [(batch.text != 1).sum(1).tolist() for batch in batches]
    assert all(batch.text.shape == (4, max(lengths)) for batch, lengths in zip(batches, own, strict=True))
    assert own != [sorted(lengths, reverse=True) for lengths in own]  # as they come: neither sorted nor bucketed


def test_the_measured_batches_are_spread_over_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = benchmark("training", monkeypatch).spread
    assert spread([9, 1, 5, 7], 2) == {0, 2}
    lengths = [(number * 37) % 100 for number in range(100)]
    assert sorted(lengths[position] for position in spread(lengths, 4)) == [12, 37, 62, 87]
