"""A GRU layer of a training on a CPU with matrix units for bf16, with its backward pass written out.

PyTorch's own keeps every intermediate of every step, adds to the weights' gradients after every step, and is held up by
the memory that this moves. Here a step's derivatives are worked out while its numbers are in the cache, they are kept
in the precision of the products, and the weights' gradients are one product over all steps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = 512
"""Rows of the input that are projected together: few enough for their projections to stay in the cache."""


def low_precision_states(steps: Tensor, layer: Sequence[Tensor], precision: torch.dtype) -> Tensor:
    """One layer: steps [time, batch, features] -> states [time, batch, hidden], its products in `precision`.

    `layer` is an item of `torch.nn.GRU.all_weights`.
    """
    states: Tensor = _Layer.apply(steps, *layer, precision)  # type: ignore[no-untyped-call]
    return states


class _Layer(torch.autograd.Function):
    """With the gates in PyTorch's order, r, z and n, and their names in the documentation of `torch.nn.GRU`:

        r, z = sigmoid(projected_rz + recurrent_rz)
        n = tanh(projected_n + r * recurrent_n)
        state = (1 - z) * n + z * before

    The derivatives of the state by what goes into them are kept side by side as [n, r, z, recurrent_n, before]: the
    first three belong to the projected step, the second to the fourth to the recurrent product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        steps: Tensor,
        input_weight: Tensor,
        hidden_weight: Tensor,
        input_bias: Tensor,
        hidden_bias: Tensor,
        precision: torch.dtype,
    ) -> Tensor:
        time, batch, _ = steps.shape
        hidden = hidden_weight.shape[1]
        low_steps = steps.to(precision).contiguous()
        low_input = input_weight.to(precision).t()
        low_hidden = hidden_weight.to(precision).t().contiguous()
        new, low_new = hidden_weight.new_empty, low_steps.new_empty

        states = new(time + 1, batch, hidden)
        states[0] = 0
        derivatives = low_new(time, batch, 5, hidden)
        low_before, low_recurrent = low_new(batch, hidden), low_new(batch, 3 * hidden)
        recurrent, gates, opposite = new(batch, 3 * hidden), new(batch, 2 * hidden), new(batch, 2 * hidden)
        recurrent_rz, recurrent_n = recurrent[:, : 2 * hidden], recurrent[:, 2 * hidden :]
        (r, z), (not_r, not_z) = gates.chunk(2, 1), opposite.chunk(2, 1)
        n, work, own = new(batch, hidden), new(batch, hidden), new(batch, 5, hidden)
        by_n, by_r, by_z, by_recurrent_n, by_before = own.unbind(1)
        together = max(1, _ROWS // max(batch, 1))
        projected = new(together, batch, 3 * hidden)
        projected_rz, projected_n = projected[..., : 2 * hidden].unbind(0), projected[..., 2 * hidden :].unbind(0)

        for step, (before, state, kept) in enumerate(
            zip(states[:-1].unbind(0), states[1:].unbind(0), derivatives.unbind(0), strict=True)
        ):
            row = step % together
            if row == 0:
                some = low_steps[step : step + together]
                projected[: len(some)].copy_(torch.matmul(some, low_input)).add_(input_bias)
            torch.mm(low_before.copy_(before), low_hidden, out=low_recurrent)
            recurrent.copy_(low_recurrent).add_(hidden_bias)
            torch.add(projected_rz[row], recurrent_rz, out=gates).sigmoid_()
            torch.addcmul(projected_n[row], r, recurrent_n, out=n).tanh_()
            torch.lerp(n, before, z, out=state)

            torch.sub(1, gates, out=opposite)
            torch.mul(n, n, out=work)
            torch.addcmul(not_z, work, not_z, value=-1, out=by_n)
            torch.mul(by_n, r, out=by_recurrent_n)
            torch.mul(by_recurrent_n, recurrent_n, out=by_r).mul_(not_r)
            torch.sub(before, n, out=work)
            torch.mul(z, not_z, out=by_z).mul_(work)
            by_before.copy_(z)
            kept.copy_(own)

        ctx.save_for_backward(low_steps, input_weight, hidden_weight, states, derivatives)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
        low_steps, input_weight, hidden_weight, states, derivatives = ctx.saved_tensors
        time, batch, features = low_steps.shape
        hidden = hidden_weight.shape[1]
        low_hidden = hidden_weight.to(low_steps.dtype)
        own, total = (hidden_weight.new_zeros(batch, 5, hidden) for _ in range(2))
        carried, by_state = (hidden_weight.new_zeros(batch, hidden) for _ in range(2))
        low_carried = low_steps.new_empty(batch, hidden)

        # Every step's derivatives become its gradients, in place.
        flat = derivatives.view(time, batch, 5 * hidden)
        by_recurrent = flat[..., hidden : 4 * hidden].unbind(0)
        steps = zip(gradient.unbind(0), derivatives.unbind(0), by_recurrent, strict=True)
        for given, kept, kept_recurrent in reversed(list(steps)):
            torch.add(given, carried, out=by_state)
            kept.copy_(own.copy_(kept).mul_(by_state.unsqueeze(1)))
            total.add_(own)
            torch.mm(kept_recurrent, low_hidden, out=low_carried)
            torch.add(own[:, 4], carried.copy_(low_carried), out=carried)

        flat = flat.flatten(0, 1)
        by_projected, by_recurrent_product = flat[:, : 3 * hidden], flat[:, hidden : 4 * hidden]
        before = states[:-1].flatten(0, 1).to(low_steps.dtype)
        by_hidden_weight = torch.mm(by_recurrent_product.t(), before).to(hidden_weight.dtype)
        by_input_weight = torch.mm(by_projected.t(), low_steps.flatten(0, 1)).to(input_weight.dtype)
        by_steps = torch.mm(by_projected, _n_first(input_weight).to(low_steps.dtype)).to(input_weight.dtype)
        by_n, by_rz, by_recurrent_n, _ = total.sum(0).flatten().split([hidden, 2 * hidden, hidden, hidden])
        return (
            by_steps.view(time, batch, features),
            _n_last(by_input_weight),
            by_hidden_weight,
            torch.cat([by_rz, by_n]),
            torch.cat([by_rz, by_recurrent_n]),
            None,
        )


def _n_first(weight: Tensor) -> Tensor:
    r, z, n = weight.chunk(3)
    return torch.cat([n, r, z])


def _n_last(weight: Tensor) -> Tensor:
    n, r, z = weight.chunk(3)
    return torch.cat([r, z, n])
