"""Adversarial training: every batch a second time, its embedding moved a little to where the loss grows fastest.

Method: Miyato, Dai and Goodfellow 2017 (arXiv:1605.07725). There a review's step has one length; here it grows with the
square root of the tokens, so that a token's share does not shrink.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Adversary:
    """Who moves embeddings of `embedding` numbers a token, by steps of the norm `size * sqrt(tokens)` a review."""

    size: float
    embedding: int

    def rest(self, ids: Tensor) -> Tensor:
        """ids [batch, time] -> zeros [batch, time, embedding] to add to their embedding and to differentiate by."""
        return torch.zeros(*ids.shape, self.embedding, device=ids.device, requires_grad=True)

    def worst(self, rest: Tensor, lengths: Tensor) -> Tensor:
        """The step [batch, time, embedding] along which a loss grows fastest to first order, once it went backward.

        The loss came from `rest`; by what factor it was scaled does not matter. The step is zero for a review on whose
        embedding it does not depend.
        """
        gradient = torch.zeros_like(rest) if rest.grad is None else rest.grad
        norms = gradient.flatten(1).norm(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
        step: Tensor = gradient * (self.size * lengths.sqrt() / norms).view(-1, 1, 1)
        return step
