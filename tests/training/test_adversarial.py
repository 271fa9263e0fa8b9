"""Adversarial training: the noise is the worst of its size, and the weights follow both losses."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolchain.models.classifiers import PooledGRU
from toolchain.training.adversarial import Adversary
from toolchain.training.loops import train

IDS = torch.tensor([[2, 3, 4, 5], [6, 7, 8, 1], [9, 1, 1, 1]])
LENGTHS = torch.tensor([4, 3, 1])
LABELS = torch.tensor([0, 1, 1])
ADVERSARY = Adversary(size=0.05, embedding=6)


def new_model() -> PooledGRU:
    torch.manual_seed(0)
    return PooledGRU(1, 8, 12, 6, 2, ("last", "max", "mean"), dropout_p=0.0)


def losses(model: nn.Module, noise: Tensor) -> Tensor:
    return F.cross_entropy(model(IDS, LENGTHS, noise), LABELS, reduction="none")


def worst(model: nn.Module) -> Tensor:
    rest = ADVERSARY.rest(IDS)
    losses(model, rest).mean().backward()  # type: ignore[no-untyped-call]
    return ADVERSARY.worst(rest, LENGTHS)


def test_the_step_of_a_review_has_the_size_of_its_tokens_and_leaves_padding_alone() -> None:
    step = worst(new_model())
    assert step.flatten(1).norm(dim=1).tolist() == pytest.approx((0.05 * LENGTHS.sqrt()).tolist(), rel=1e-5)
    assert not step[1, 3:].any()
    assert not step[2, 1:].any()


def test_no_other_step_of_the_size_is_worse() -> None:
    model = new_model()
    bad = losses(model, worst(model))
    assert (bad > losses(model, ADVERSARY.rest(IDS))).all()
    torch.manual_seed(1)
    for _ in range(50):
        other = torch.randn(*IDS.shape, 6)
        other *= (0.05 * LENGTHS.sqrt() / other.flatten(1).norm(dim=1)).view(-1, 1, 1)
        assert (bad >= losses(model, other)).all()


def test_a_loss_that_does_not_depend_on_the_text_gives_no_step() -> None:
    model = new_model()
    nn.init.zeros_(model.out.weight)
    assert not worst(model).any()


class Step:
    """An optimizer that moves nothing: the gradients stay to be looked at."""

    def __init__(self, model: nn.Module) -> None:
        self.zero_grad = model.zero_grad

    def step(self) -> None: ...


def test_training_follows_the_sum_of_both_losses_and_reports_the_plain_one() -> None:
    batch = SimpleNamespace(text=(IDS, LENGTHS), label=LABELS)
    model = new_model()
    loss, _ = train(model, Step(model), [batch], adversary=ADVERSARY)  # type: ignore[arg-type]
    reference = new_model()
    noise = worst(reference)
    reference.zero_grad()
    plain = losses(reference, torch.zeros_like(noise)).mean()
    (plain + losses(reference, noise).mean()).backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(plain.item(), rel=1e-6)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
