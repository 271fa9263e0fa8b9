"""The GRU of a training on a CPU: PyTorch's states and PyTorch's gradients."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from toolchain.models import low_precision, recurrence
from toolchain.models.low_precision import low_precision_states
from toolchain.models.recurrence import gru_states, word_states

SIZES = [(1, 1, 1), (3, 1, 1), (1, 9, 1), (4, 7, 2), (2, 23, 3)]
"""Batch, time, layers."""


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many threads PyTorch has; each takes as little as one row of a batch."""
    monkeypatch.setattr(recurrence, "_ROWS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def new_gru(layers: int = 1, dtype: torch.dtype = torch.float32) -> nn.GRU:
    torch.manual_seed(layers)
    return nn.GRU(5, 6, num_layers=layers, batch_first=True, dtype=dtype)


def states_and_gradients(gru: nn.GRU, steps: Tensor, ours: bool, weights: Tensor) -> list[Tensor]:
    """The states, and the gradients of their weighted sum by the steps and by all weights of the GRU."""
    steps = steps.clone().requires_grad_()
    states = gru_states(gru, steps) if ours else gru(steps)[0]
    gradients = torch.autograd.grad((states * weights).sum(), [steps, *gru.parameters()])
    return [states.detach(), *gradients]


@pytest.mark.parametrize(("batch", "time", "layers"), SIZES)
def test_the_states_and_all_gradients_are_those_of_pytorch(batch: int, time: int, layers: int, threads: int) -> None:
    gru = new_gru(layers, torch.float64)
    steps, weights = torch.randn(batch, time, 5, dtype=torch.float64), torch.randn(batch, time, 6, dtype=torch.float64)
    theirs = states_and_gradients(gru, steps, False, weights)
    for order in (steps, steps.transpose(0, 1).contiguous().transpose(0, 1)):
        for our, their in zip(states_and_gradients(gru, order, True, weights), theirs, strict=True):
            torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-12)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("batch", "time", "layers"), SIZES)
@pytest.mark.parametrize("dropped", [False, True])
def test_words_have_the_states_and_gradients_of_their_vectors(
    batch: int, time: int, layers: int, dropped: bool, threads: int
) -> None:
    gru, embedding = new_gru(layers, torch.float64), nn.Embedding(4, 5, dtype=torch.float64)
    ids, weights = torch.randint(4, (batch, time)), torch.randn(batch, time, 6, dtype=torch.float64)
    channels = torch.randint(3, (batch, 5)).double() if dropped else None
    steps = embedding(ids) if channels is None else embedding(ids) * channels.unsqueeze(1)
    parameters = [embedding.weight, *gru.parameters()]
    theirs = torch.autograd.grad((gru(steps)[0] * weights).sum(), parameters)
    states = word_states(gru, embedding, ids, channels)
    torch.testing.assert_close(states, gru(steps)[0])
    for our, their in zip(torch.autograd.grad((states * weights).sum(), parameters), theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-12)


def test_as_many_threads_as_you_like_give_the_same_bits_every_time(threads: int) -> None:
    gru, steps, weights = new_gru(), torch.randn(9, 20, 5), torch.randn(9, 20, 6)
    first, second = (states_and_gradients(gru, steps, True, weights) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_torchscript_takes_the_steps_that_stand_in_the_source() -> None:
    results = []
    for how in (lambda steps: steps, recurrence._outside_the_lock):
        torch.manual_seed(0)
        gates, states, given = torch.randn(4, 9, 3, 6), torch.zeros(10, 3, 6), torch.randn(9, 3, 6)
        weights = torch.randn(3, 6, 6).unbind(0)
        how(recurrence._run)(gates, states, *weights)
        forward = gates.clone()
        how(recurrence._run_back)(gates, states, given, *weights)
        results.append([states, forward, gates])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (3, 1), (1, 9), (4, 23)])
@pytest.mark.parametrize("rows", [1, 8, 512])
def test_the_layer_with_products_in_another_precision_is_exact_where_that_is(
    batch: int, time: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_precision, "_ROWS", rows)
    gru = new_gru(1, torch.float64)
    steps = torch.randn(time, batch, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(time, batch, 6, dtype=torch.float64)
    theirs = torch.autograd.grad(
        (gru(steps.transpose(0, 1))[0].transpose(0, 1) * weights).sum(), [steps, *gru.parameters()]
    )
    states = low_precision_states(steps, gru.all_weights[0], torch.float64)
    ours = torch.autograd.grad((states * weights).sum(), [steps, *gru.parameters()])
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-12)


def test_steps_that_need_no_gradient_and_frozen_weights_are_allowed() -> None:
    gru = new_gru()
    gru.weight_ih_l0.requires_grad_(False)
    steps = torch.randn(2, 4, 5)
    gru_states(gru, steps).sum().backward()  # type: ignore[no-untyped-call]
    ours = gru.weight_hh_l0.grad
    gru.zero_grad()
    gru(steps)[0].sum().backward()
    assert gru.weight_ih_l0.grad is None
    torch.testing.assert_close(ours, gru.weight_hh_l0.grad)


def test_in_bf16_the_gradients_are_nearer_to_float32_than_those_of_autocast() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(32, 48, batch_first=True)
    steps, weights = torch.randn(8, 40, 32), torch.randn(8, 40, 48)
    exact = states_and_gradients(gru, steps, False, weights)
    errors = []
    for ours in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            rough = states_and_gradients(gru, steps, ours, weights)
        errors.append([float((a - b).norm() / b.norm()) for a, b in zip(rough, exact, strict=True)])
    assert all(0 < our < 0.02 for our in errors[0])  # bf16 keeps 8 bits
    assert sum(errors[0]) < sum(errors[1])


def test_without_gradients_it_is_pytorchs_own() -> None:
    gru, steps = new_gru(), torch.randn(2, 4, 5)
    with torch.no_grad():
        assert torch.equal(gru_states(gru, steps), gru(steps)[0])


def test_the_same_graph_twice_is_an_error_and_not_another_gradient() -> None:
    states = gru_states(new_gru(), torch.randn(2, 4, 5, requires_grad=True)).sum()
    states.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states.backward()  # type: ignore[no-untyped-call]
