"""How the weights move: as with Adam, and clipped, scheduled and averaged where a recipe says so."""

import io
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolchain.models.recipes import AUTO, RECIPES, Recipe
from toolchain.training.optimization import WARM_UP, Optimization

PLAIN = RECIPES["gru"]


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def make(recipe: Recipe, steps: int = 8, learning_rate: float = 0.01) -> tuple[nn.Sequential, Optimization]:
    model = make_model()
    return model, Optimization(model, recipe, learning_rate, steps)


def move(model: nn.Module, optimization: Any, step: int, scale: float = 1.0) -> None:
    """One step on a batch that `step` decides."""
    generator = torch.Generator().manual_seed(step)
    inputs, labels = torch.randn(16, 5, generator=generator), torch.randint(0, 3, (16,), generator=generator)
    optimization.zero_grad()
    (scale * nn.functional.cross_entropy(model(inputs), labels)).backward()  # type: ignore[no-untyped-call]
    optimization.step()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def largest_difference(ours: nn.Module, theirs: dict[str, Tensor]) -> float:
    return max(float((tensor - theirs[name]).abs().max()) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("recipe", ["gru", "rnn", "rnn-cell"])
def test_a_documented_recipe_moves_as_with_adam(recipe: str) -> None:
    model, optimization = make(RECIPES[recipe])
    theirs = make_model()
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01)
    for step in range(20):
        move(model, optimization, step)
        move(theirs, adam, step)
        assert largest_difference(model, weights(theirs)) < 1e-6
    assert optimization.result is model
    assert largest_difference(model, weights(make_model())) > 0.05


def test_a_gradient_is_clipped_to_its_norm() -> None:
    def norm(recipe: Recipe) -> float:
        model, optimization = make(recipe)
        move(model, optimization, 0, scale=1000.0)
        return math.sqrt(sum((p.grad**2).sum().item() for p in model.parameters() if p.grad is not None))

    assert norm(PLAIN) > 100.0
    assert norm(replace(PLAIN, clip_norm=0.5)) == pytest.approx(0.5, rel=1e-4)


def test_a_gradient_below_the_norm_is_left_alone() -> None:
    (model, plain), (clipped_model, clipped) = make(PLAIN), make(replace(PLAIN, clip_norm=1e6))
    for step in range(3):
        move(model, plain, step)
        move(clipped_model, clipped, step)
    assert largest_difference(model, weights(clipped_model)) == 0.0


def test_matrices_decay_and_biases_do_not() -> None:
    model, optimization = make(replace(PLAIN, weight_decay=0.1), learning_rate=0.5)
    before = weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimization.step()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, before[name] * (1 - 0.5 * 0.1 * name.endswith("weight")), atol=1e-7), name


def learning_rate(optimization: Optimization) -> float:
    rates = {group["lr"] for group in optimization.state_dict()["optimizer"]["param_groups"]}
    assert len(rates) == 1
    return float(rates.pop())


def test_one_cycle_rises_to_the_learning_rate_and_comes_down() -> None:
    steps = 40
    model, optimization = make(replace(PLAIN, one_cycle=True), steps=steps, learning_rate=0.02)
    rates = []
    for step in range(steps):
        rates.append(learning_rate(optimization))
        move(model, optimization, step)
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.02)
    assert peak == round(WARM_UP * steps) - 1
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.02 / 20
    assert rates[-1] < 0.02 / 1000


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_one_cycle_of_very_few_steps_is_a_schedule_too(steps: int) -> None:
    model, optimization = make(replace(PLAIN, one_cycle=True), steps=steps, learning_rate=0.02)
    for step in range(steps):
        assert 0 < learning_rate(optimization) <= 0.02
        move(model, optimization, step)


def test_the_result_is_the_moving_average_of_the_weights() -> None:
    """In step n the new weights count 1 - decay, but 9 / (n + 9) at first; the first step begins the average."""
    decay = 0.8
    model, optimization = make(replace(PLAIN, average_decay=decay))
    expected: dict[str, Tensor] = {}
    shares = []
    for step in range(60):
        move(model, optimization, step)
        shares.append(1.0 if step == 0 else max(1 - decay, 9 / (10 + step)))
        expected = {
            name: shares[-1] * tensor + (1 - shares[-1]) * expected.get(name, torch.zeros_like(tensor))
            for name, tensor in weights(model).items()
        }
    assert largest_difference(optimization.result, expected) < 1e-5
    assert largest_difference(optimization.result, weights(model)) > 1e-3
    assert shares[1] > 0.8
    assert shares[-1] == pytest.approx(1 - decay)
    assert list(optimization.result.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("recipe", [PLAIN, AUTO], ids=lambda recipe: recipe.name)
def test_a_state_that_is_put_back_goes_on_as_before(recipe: Recipe) -> None:
    model, optimization = make(recipe)
    for step in range(4):
        move(model, optimization, step)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimization": optimization.state_dict()}, file)
    file.seek(0)
    kept = torch.load(file, weights_only=True)
    other_model, other = make(recipe)
    other_model.load_state_dict(kept["model"])
    other.load_state_dict(kept["optimization"])
    for step in range(4, 8):
        move(model, optimization, step)
        move(other_model, other, step)
        assert largest_difference(other_model, weights(model)) == 0.0
        assert largest_difference(other.result, weights(optimization.result)) == 0.0
