"""How the weights move: Adam, and what a recipe adds to it, behind the two calls the documented loop makes."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

from toolchain.models.recipes import Recipe

WARM_UP = 0.25
"""Share of a one-cycle schedule in which the learning rate rises."""


class Optimization:
    """`zero_grad` and `step`, as an optimizer has them. A step clips, updates, schedules and averages.

    Without weight decay AdamW is Adam. Matrices decay, biases do not. `steps` is the length of the whole training.
    With `started` all weights but those of the last layer are a trained model's: they move more slowly and do not
    decay, so that a word which the reviews do not hold stays as it is.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, learning_rate: float, steps: int, started: bool = False
    ) -> None:
        self._model = model
        self._clip_norm = recipe.clip_norm
        groups = decaying(model, recipe.weight_decay)
        if started:
            groups = _discriminative(model, recipe, learning_rate)
        self._optimizer = AdamW(groups, lr=learning_rate, fused=True)
        self._schedule = one_cycle(self._optimizer, steps, WARM_UP) if recipe.one_cycle else None
        self._average = (
            AveragedModel(model, multi_avg_fn=_moving_average(recipe.average_decay)) if recipe.average_decay else None
        )
        for part in self.result.modules():  # a copy lies scattered in a GPU's memory, where cuDNN wants one piece
            if isinstance(part, nn.RNNBase):
                part.flatten_parameters()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._optimizer.zero_grad()

    def step(self) -> None:
        """Move the weights along their gradients."""
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm)
        self._optimizer.step()
        if self._schedule:
            self._schedule.step()
        if self._average:
            self._average.update_parameters(self._model)

    @property
    def result(self) -> nn.Module:
        """The model to evaluate and to keep: with averaged weights where the recipe averages."""
        return self._average.module if self._average else self._model

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for a snapshot read with `weights_only=True`."""
        parts = {"optimizer": self._optimizer, "schedule": self._schedule, "average": self._average}
        return {name: part.state_dict() for name, part in parts.items() if part}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._schedule:
            self._schedule.load_state_dict(state["schedule"])
        if self._average:
            self._average.load_state_dict(state["average"])


def decaying(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters for an optimizer, in groups: matrices decay, biases do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]


def _discriminative(model: nn.Module, recipe: Recipe, learning_rate: float) -> list[dict[str, Any]]:
    """The last layer, and all below it with a lower learning rate (Howard and Ruder 2018, arXiv:1801.06146)."""
    last = dict(model.out.named_parameters())  # type: ignore[union-attr]
    below = [parameter for name, parameter in model.named_parameters() if not name.startswith("out.")]
    return [
        {"params": [last["weight"]], "weight_decay": recipe.weight_decay},
        {"params": [last["bias"]], "weight_decay": 0.0},
        {"params": below, "weight_decay": 0.0, "lr": learning_rate * recipe.start_rate},
    ]


def one_cycle(optimizer: Optimizer, steps: int, warm_up: float) -> OneCycleLR:
    """The schedule up to the optimizer's learning rates over the share `warm_up` of the steps, and down again.

    It needs two steps to rise; a training of fewer ends on the way.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, rates, total_steps=max(steps, math.ceil(2 / warm_up)), pct_start=warm_up)


def _moving_average(decay: float) -> Any:
    """The exponential moving average, shorter at first so that the untrained weights are soon forgotten."""

    def average(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        torch._foreach_lerp_(averaged, current, max(1 - decay, 9 / (10 + int(steps))))

    return average
