"""The GRU of a training on a CPU: the arithmetic of `torch.nn.GRU`, with its backward pass written out.

PyTorch's own projects every token, keeps every intermediate of every step, adds to the weights' gradients after every
step, and lets all threads wait for each other at every product. Here a word that comes again is projected once, a step
leaves what its backward pass needs and nothing else, the weights' gradient is one product over all steps, and each
thread takes rows of the batch through all steps alone.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from toolchain.models.low_precision import LowPrecisionLayer

_ROWS = 8
"""Rows of a batch that a thread takes at least: products of fewer are slow."""

_sigmoid_backward, _tanh_backward = torch.ops.aten.sigmoid_backward.grad_input, torch.ops.aten.tanh_backward.grad_input
"""From a gradient by the result, and the result, to the gradient by the argument."""


def gru_states(gru: nn.GRU, steps: Tensor) -> Tensor:
    """The top layer's state after each step: [batch, time, features] -> [batch, time, hidden].

    `gru` is one-directional, has biases, takes the batch first, and drops nothing out between its layers. Under
    autocast the products are taken in its precision, in which the derivatives are kept; the rest is in that of the
    weights. Fastest where a batch's steps lie together in memory
    ([time, batch, features], transposed). The graph can be differentiated through once.
    """
    assert (gru.batch_first, gru.bias, gru.bidirectional, gru.dropout, gru.proj_size) == (True, True, False, 0.0, 0)
    if not torch.is_grad_enabled() or steps.device.type != "cpu":
        states, _ = gru(steps)
        return states  # type: ignore[no-any-return]
    steps = steps.transpose(0, 1)
    for layer in gru.all_weights:
        if torch.is_autocast_enabled("cpu"):
            precision = torch.get_autocast_dtype("cpu")
            steps = LowPrecisionLayer.apply(steps, *layer, precision)  # type: ignore[no-untyped-call]
        else:
            steps = _recur(_projected(steps, layer), layer)
    return steps.transpose(0, 1)


def word_states(gru: nn.GRU, embedding: nn.Embedding, ids: Tensor, channels: Tensor | None = None) -> Tensor:
    """The top layer's state after each word: ids [batch, time] -> [batch, time, hidden], with `gru` as in `gru_states`.

    A review's word vectors are multiplied by its row of `channels` [batch, features], which are constants.
    """
    ids = ids.t()
    if not torch.is_grad_enabled() or ids.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        steps = embedding(ids)
        return gru_states(gru, (steps if channels is None else steps * channels).transpose(0, 1))
    if channels is None:
        words, places = torch.unique(ids, return_inverse=True)
        vectors = embedding(words)
    else:
        batch = len(channels)
        pairs, places = torch.unique(ids * batch + torch.arange(batch), return_inverse=True)
        vectors = embedding(pairs // batch) * channels[pairs % batch]
    first, *others = gru.all_weights
    steps = _recur(F.embedding(places, _projected(vectors, first)), first)
    for layer in others:
        steps = _recur(_projected(steps, layer), layer)
    return steps.transpose(0, 1)


def _projected(steps: Tensor, layer: Sequence[Tensor]) -> Tensor:
    """Steps [..., features] -> what a layer's gates get of them, and of the biases: [..., 4 * hidden].

    Side by side: the candidate gate n, the gates r and z, and the part of n's argument that r multiplies.
    """
    input_weight, _, input_bias, hidden_bias = layer
    (weight_r, weight_z, weight_n), (r, z, n) = input_weight.chunk(3), input_bias.chunk(3)
    hidden_r, hidden_z, hidden_n = hidden_bias.chunk(3)
    weight, bias = torch.cat([weight_n, weight_r, weight_z]), torch.cat([n, r + hidden_r, z + hidden_z])
    return torch.cat([F.linear(steps, weight, bias), hidden_n.expand(*steps.shape[:-1], -1)], -1)


def _recur(projected: Tensor, layer: Sequence[Tensor]) -> Tensor:
    states: Tensor = _Recurrence.apply(projected, layer[1])  # type: ignore[no-untyped-call]
    return states


class _Recurrence(torch.autograd.Function):
    """Projected steps [time, batch, 4 * hidden] -> states [time, batch, hidden]. It uses the steps' memory up.

    With the gates' names in the documentation of `torch.nn.GRU`, `h` for the part that r multiplies, and all of them
    begun by what `_projected` gives:

        r, z, h += state before @ weight
        r, z = sigmoid(r, z)
        n = tanh(n + r * h)
        state = (1 - z) * n + z * state before

    What r, z, n and h become stays where the projection was, and the backward pass puts their gradients there.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor) -> Tensor:
        time, batch, hidden = *projected.shape[:2], weight.shape[1]
        states = projected.new_empty(time + 1, batch, hidden)
        states[0] = 0
        across = weight.t().contiguous()

        def run(rows: slice) -> None:
            state, *following = states[:, rows].unbind(0)
            for gates, after in zip(_by_step(projected[:, rows], hidden), following, strict=True):
                n, r, z, h, rz, rzh = gates
                rzh.addmm_(state, across)
                rz.sigmoid_()
                n.addcmul_(r, h).tanh_()
                state = torch.lerp(n, state, z, out=after)

        _in_threads(run, batch)
        ctx.save_for_backward(projected, weight, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, weight, states = ctx.saved_tensors
        batch, hidden = states.shape[1:]

        def run(rows: slice) -> None:
            before = states[:-1, rows].unbind(0)
            by_state, by_before = states.new_zeros(2, *before[0].shape).unbind(0)
            by_rz = states.new_empty(len(by_state), 2 * hidden)
            by_r, by_z = by_rz.chunk(2, 1)
            steps = zip(gradient[:, rows].unbind(0), before, _by_step(gates[:, rows], hidden), strict=True)
            for given, state, (n, r, z, h, rz, rzh) in reversed(list(steps)):
                by_state.add_(given)
                torch.sub(state, n, out=by_z).mul_(by_state)
                torch.mul(by_state, z, out=by_before)
                _tanh_backward(by_state.sub_(by_before), n, grad_input=n)
                torch.mul(n, h, out=by_r)
                torch.mul(n, r, out=h)
                _sigmoid_backward(by_rz, rz, grad_input=rz)
                by_state, by_before = by_before.addmm_(rzh, weight), by_state

        _in_threads(run, batch)
        by_weight = torch.mm(gates[..., hidden:].flatten(0, 1).t(), states[:-1].flatten(0, 1))
        return gates, by_weight


def _by_step(gates: Tensor, hidden: int) -> list[tuple[Tensor, ...]]:
    """Views of [time, rows, 4 * hidden] for each step: n, r, z and h, r and z together, and r, z and h together."""
    parts = [*gates.chunk(4, 2), gates[..., hidden : 3 * hidden], gates[..., hidden:]]
    return list(zip(*(part.unbind(0) for part in parts), strict=True))


def _in_threads(run: Callable[[slice], None], batch: int) -> None:
    """Call `run` for all rows of a batch, in as many parts as PyTorch has threads; each part stays on one thread."""
    threads = torch.get_num_threads()
    parts = min(threads, batch // _ROWS)
    if parts < 2:
        run(slice(batch))
        return

    def alone(rows: slice) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            run(rows)

    edges = [batch * part // parts for part in range(parts + 1)]
    try:
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(alone, [slice(*pair) for pair in pairwise(edges)]))
    finally:
        torch.set_num_threads(threads)  # the default of threads that begin later, which `alone` changed
