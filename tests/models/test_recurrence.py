"""The GRU of a training on a CPU: PyTorch's states and PyTorch's gradients."""

import pytest
import torch
from torch import Tensor, nn

from toolchain.models import recurrence
from toolchain.models.recurrence import gru_states

SIZES = [(1, 1, 1), (3, 1, 1), (1, 9, 1), (4, 7, 2), (2, 23, 3)]
"""Batch, time, layers."""


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
@pytest.mark.parametrize("rows", [1, 8, 512])
def test_the_states_and_all_gradients_are_those_of_pytorch(
    batch: int, time: int, layers: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrence, "_ROWS", rows)
    gru = new_gru(layers, torch.float64)
    steps, weights = torch.randn(batch, time, 5, dtype=torch.float64), torch.randn(batch, time, 6, dtype=torch.float64)
    theirs = states_and_gradients(gru, steps, False, weights)
    for order in (steps, steps.transpose(0, 1).contiguous().transpose(0, 1)):
        for our, their in zip(states_and_gradients(gru, order, True, weights), theirs, strict=True):
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
