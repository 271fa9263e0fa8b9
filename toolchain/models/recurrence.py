"""The GRU of a training on a CPU: the arithmetic of `torch.nn.GRU`, with its backward pass written out.

PyTorch's own projects every token, keeps every intermediate of every step, adds to the weights' gradients after every
step, and lets all threads wait for each other at every product. Here a word that comes again is projected once, a step
leaves what its backward pass needs and nothing else, the weights' gradient is one product over all steps, and each
thread takes rows of the batch through all steps alone, in TorchScript, outside Python's lock.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from toolchain.models.low_precision import low_precision_states

_ROWS = 8
"""Rows of a batch that a thread takes at least: products of fewer are slow."""


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
            steps = low_precision_states(steps, layer, torch.get_autocast_dtype("cpu"))
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
    projected = _projected(vectors, first)
    places = places + torch.arange(0, len(vectors) * 4, len(vectors)).view(4, 1, 1)
    steps = _recur(F.embedding(places, projected.flatten(0, 1)), first)
    for layer in others:
        steps = _recur(_projected(steps, layer), layer)
    return steps.transpose(0, 1)


def _projected(steps: Tensor, layer: Sequence[Tensor]) -> Tensor:
    """Steps [..., features] -> what a layer's gates get of them, and of the biases: [4, ..., hidden].

    One after another: the candidate gate n, the gates r and z, and the part of n's argument that r multiplies.
    """
    input_weight, _, input_bias, hidden_bias = layer
    (by_r, by_z, by_n), (r, z, n) = input_weight.chunk(3), input_bias.chunk(3)
    hidden_r, hidden_z, hidden_n = hidden_bias.chunk(3)
    parts = F.linear(steps, by_n, n), F.linear(steps, by_r, r + hidden_r), F.linear(steps, by_z, z + hidden_z)
    return torch.stack([*parts, hidden_n.expand_as(parts[0])])


def _recur(projected: Tensor, layer: Sequence[Tensor]) -> Tensor:
    states: Tensor = _Recurrence.apply(projected, layer[1])  # type: ignore[no-untyped-call]
    return states


class _Recurrence(torch.autograd.Function):
    """Projected steps [4, time, batch, hidden] -> states [time, batch, hidden]. It uses the steps' memory up."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor) -> Tensor:
        _, time, batch, hidden = projected.shape
        states = projected.new_empty(time + 1, batch, hidden)
        states[0] = 0
        to_r, to_z, to_h = (part.t().contiguous() for part in weight.chunk(3))
        run = _outside_the_lock(_run)
        _in_threads(lambda rows: run(projected[:, :, rows], states[:, rows], to_r, to_z, to_h), batch)
        ctx.save_for_backward(projected, weight, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, weight, states = ctx.saved_tensors
        from_r, from_z, from_h = weight.chunk(3)
        run = _outside_the_lock(_run_back)
        _in_threads(
            lambda rows: run(gates[:, :, rows], states[:, rows], gradient[:, rows], from_r, from_z, from_h),
            states.shape[1],
        )
        before = states[:-1].flatten(0, 1)
        by_weight = [torch.mm(gate.flatten(0, 1).t(), before) for gate in gates[1:]]
        return gates, torch.cat(by_weight)


@cache
def _outside_the_lock(steps: Callable[..., None]) -> Callable[..., None]:
    """`steps` in TorchScript: the same operators, without Python between them, for whose lock threads would wait."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since torch 2.11, and what `model.ts` is made of
        return torch.jit.script(steps)  # type: ignore[no-any-return]


def _run(gates: Tensor, states: Tensor, to_r: Tensor, to_z: Tensor, to_h: Tensor) -> None:
    """All steps of some rows: what `_projected` gives [4, time, rows, hidden], and states [time + 1, rows, hidden].

    With the gates' names in the documentation of `torch.nn.GRU`, `h` for the part that r multiplies, and all of them
    begun by the projection:

        r, z, h += state before @ weight
        r, z = sigmoid(r, z)
        n = tanh(n + r * h)
        state = (1 - z) * n + z * state before

    What n, r, z and h become stays where the projection was, and `_run_back` puts their gradients there.
    """
    n, r, z, h = gates[0].unbind(0), gates[1].unbind(0), gates[2].unbind(0), gates[3].unbind(0)
    rz, state = gates[1:3].unbind(1), states.unbind(0)
    for step in range(len(n)):
        before = state[step]
        r[step].addmm_(before, to_r)
        z[step].addmm_(before, to_z)
        h[step].addmm_(before, to_h)
        rz[step].sigmoid_()
        n[step].addcmul_(r[step], h[step]).tanh_()
        torch.lerp(n[step], before, z[step], out=state[step + 1])


def _run_back(gates: Tensor, states: Tensor, gradient: Tensor, from_r: Tensor, from_z: Tensor, from_h: Tensor) -> None:
    """The steps of `_run` from the last to the first, with the gradient by each state, [time, rows, hidden]."""
    n, r, z, h = gates[0].unbind(0), gates[1].unbind(0), gates[2].unbind(0), gates[3].unbind(0)
    rz, state, given = gates[1:3].unbind(1), states.unbind(0), gradient.unbind(0)
    by_state, by_before = torch.zeros_like(state[0]), torch.zeros_like(state[0])
    by_rz = torch.empty_like(rz[0])
    by_r, by_z = by_rz[0], by_rz[1]
    for step in range(len(n) - 1, -1, -1):
        by_state.add_(given[step])
        torch.sub(state[step], n[step], out=by_z).mul_(by_state)
        torch.mul(by_state, z[step], out=by_before)
        torch.ops.aten.tanh_backward(by_state.sub_(by_before), n[step], grad_input=n[step])
        torch.mul(n[step], h[step], out=by_r)
        torch.mul(n[step], r[step], out=h[step])
        torch.ops.aten.sigmoid_backward(by_rz, rz[step], grad_input=rz[step])
        by_before.addmm_(r[step], from_r).addmm_(z[step], from_z).addmm_(h[step], from_h)
        by_state, by_before = by_before, by_state


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
