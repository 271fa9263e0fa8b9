"""A smaller model out of a trained one: some of its units stay, and take over what the others did.

A unit that goes is predicted from those that stay, by least squares over the states of real text, and its part in each
product is given to them: He, Zhang and Sun 2017 (arXiv:1707.06168) do so with the channels of convolutions. The
embedding keeps its main directions. Most answers stay the same without any training, which may go on from there.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from export.text import encode, lookup_table
from toolchain.models.classifiers import Model, PooledGRU, pooled_states
from toolchain.models.snapshot import Snapshot, batches_of, empty_model

TEXTS = 1_500
"""Texts that are looked at, spread over all of them."""
STATES = 30
"""States of each text that are looked at, spread over it."""
RIDGE = 1e-5
"""Added to the diagonal of the least-squares problem of states, as a share of its rows; a hundredfold to that of
answers, of which there are fewer."""


def can_prune(trained: Snapshot, model: Model) -> bool:
    """Whether `model` is `trained` with as many units or fewer."""
    if not isinstance(model, PooledGRU) or trained.model != "PooledGRU":
        return False
    theirs = trained.specification
    alike = theirs.pooling == model.pooling and theirs.layers == model.gru.num_layers == 1
    return alike and model.gru.hidden_size <= theirs.hidden


@torch.no_grad()
def prune(trained: Snapshot, hidden: int, embedding: int, texts: Sequence[Sequence[str]]) -> Snapshot:
    """What is left of `trained`, which `can_prune`, with so many units and so large an embedding.

    `texts` are those, as tokens, that it has to answer as before. A bag of words beside the GRU is left out.
    """
    whole = trained.without_bag()
    specification = replace(whole.specification, hidden=hidden, embedding=embedding)
    model = whole.build()
    smaller = empty_model(whole.model, specification, len(whole.vocabulary))
    assert isinstance(model, PooledGRU)
    assert isinstance(smaller, PooledGRU)
    table = lookup_table(whole.vocabulary)
    rows = [encode(tokens[: specification.max_tokens], table) for tokens in texts[:: max(1, len(texts) // TEXTS)]]
    states, pools = _observe(model, rows)
    by_input, by_state, input_bias, state_bias = model.gru.all_weights[0]
    kept = _most_telling(states, by_state, hidden)
    predicted, offset = _least_squares(states[:, kept], states, RIDGE)
    predicted[:, kept], offset[kept] = torch.eye(hidden, dtype=torch.float64), 0.0
    gates = torch.cat([kept + gate * model.gru.hidden_size for gate in range(3)])
    directions = _main_directions(model.embed.weight, embedding)
    smaller.embed.weight.copy_(model.embed.weight @ directions)
    felt = by_state[gates].double()
    mended = by_input[gates] @ directions, felt @ predicted.t(), input_bias[gates], state_bias[gates] + felt @ offset
    for weight, new in zip(smaller.gru.all_weights[0], mended, strict=True):
        weight.copy_(new)
    last, bias = _least_squares(_observe(smaller, rows)[1], model.out(pools.float()).double(), 100 * RIDGE)
    smaller.out.weight.copy_(last.t())
    smaller.out.bias.copy_(bias)
    return replace(whole, specification=specification, state=smaller.state_dict(), quantized_embedding=None)


def _observe(model: PooledGRU, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Some states of each text [states, hidden] and its pools [texts, hidden * pools], float64, longest text first."""
    states, pools = [], []
    for _, ids, lengths in batches_of(rows):
        steps = model.gru(model.embed(ids))[0]
        pools.append(pooled_states(steps, lengths, model.pooling))
        places = torch.linspace(0, 1, STATES) * (lengths - 1).clamp(min=0).unsqueeze(1)
        states.append(steps[torch.arange(len(ids)).unsqueeze(1), places.long()].flatten(0, 1))
    return torch.cat(states).double(), torch.cat(pools).double()


def _most_telling(states: Tensor, by_state: Tensor, count: int) -> Tensor:
    """The units that most of the others can be predicted from, in their order [count].

    They are found one after another, as pivots: of what is left of all units when those before are taken out, each is
    the largest, where a unit is as large as the next step feels it. `by_state` is [3 * hidden, hidden].
    """
    from scipy.linalg import qr

    felt = (states - states.mean(0)) * by_state.double().norm(dim=0)
    _, pivots = qr(felt.numpy(), mode="r", pivoting=True)
    return torch.from_numpy(np.sort(pivots[:count])).long()


def _least_squares(given: Tensor, wanted: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The weights [given, wanted] and the offset [wanted] that take rows of the one nearest to rows of the other."""
    mean, target = given.mean(0), wanted.mean(0)
    centred = given - mean
    square = centred.t() @ centred + ridge * len(given) * torch.eye(given.shape[1], dtype=given.dtype)
    weights = torch.linalg.solve(square, centred.t() @ (wanted - target))
    return weights, target - mean @ weights


def _main_directions(table: Tensor, size: int) -> Tensor:
    """So many directions in which the rows of `table` [rows, numbers] differ most, [numbers, size].

    With as many as there are numbers or more the rows stay as they are, and the rest is zero.
    """
    numbers = table.shape[1]
    if size >= numbers:
        return F.pad(torch.eye(numbers), (0, size - numbers))
    directions: Tensor = torch.linalg.svd(table, full_matrices=False).Vh[:size]
    return directions.t()
