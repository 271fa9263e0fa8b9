"""What an interrupted training needs to go on as if nothing had happened: `resume.pt`, written after every epoch."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolchain.errors import UsageError
from toolchain.models.snapshot import save_whole
from toolchain.training.optimization import Optimization

FILE = "resume.pt"


@dataclass(frozen=True)
class Resumption:
    """The state after the epochs of `history`.

    `run` is all that shapes the result, `suspects` are the reviews that no epoch got right, `shuffler` is Python's
    random state.
    """

    run: Mapping[str, Any]
    history: list[dict[str, float]]
    suspects: Mapping[str, tuple[int, int]] | None
    model: Mapping[str, Tensor]
    optimization: Mapping[str, Any]
    shuffler: tuple[Any, ...]
    torch_state: Tensor
    cuda_states: list[Tensor]

    def restore(self, model: nn.Module, optimization: Optimization) -> None:
        """Put the weights, the optimizer with its schedule and average, and the random states back."""
        model.load_state_dict(dict(self.model))
        optimization.load_state_dict(self.optimization)
        torch.set_rng_state(self.torch_state)
        if self.cuda_states:
            torch.cuda.set_rng_state_all(self.cuda_states)


def save_resumption(resumption: Resumption, folder: Path) -> None:
    """Write `folder/resume.pt`, whole or not at all."""
    save_whole(vars(resumption), folder / FILE)


def load_resumption(folder: Path, run: Mapping[str, Any]) -> Resumption:
    """Read `folder/resume.pt` without unpickling objects.

    Raises `UsageError` where there is nothing to resume, or where it is of a run with other settings or data.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{path}: there is no interrupted training to resume; leave --resume out")
    try:
        found = Resumption(**torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, OSError) as error:
        raise UsageError(f"{path}: damaged; train anew without --resume") from error
    if changed := sorted(name for name in run.keys() | found.run.keys() if run.get(name) != found.run.get(name)):
        was = ", ".join(f"{name} was {found.run.get(name)}" for name in changed)
        raise UsageError(
            f"{path}: the interrupted training had other settings ({was}); leave --resume out to start over"
        )
    return found
