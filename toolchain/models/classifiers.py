"""The classifiers: the three documented ones, each answering from the state after its last token, and a pooled one.

The pooled one may hold a linear classifier as well, whose logits are added to its own.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.spec import BELOW_STATES, PAIR_FACTOR, InvalidClassifier, Pool, Specification
from export.text import PADDING_ID, UNKNOWN_ID
from toolchain.models.recurrence import gru_states, word_states


def last_states(states: Tensor, lengths: Tensor) -> Tensor:
    """The state after each row's own last token, zero for a row without one: [batch, time, hidden] -> [batch, hidden].

    `lengths` are [batch], or [batch, prefixes] for the states after several prefixes: [batch, prefixes, hidden]. The
    source reads `states[:, -1, :]`, which is the state after the padding of the longest review in the batch.
    """
    rows = torch.arange(states.shape[0], device=states.device)
    rows = rows.unsqueeze(1) if lengths.dim() == 2 else rows
    last = states[rows, (lengths - 1).clamp(min=0)]
    return last * (lengths > 0).unsqueeze(-1)


def pooled_states(states: Tensor, lengths: Tensor, pooling: Sequence[Pool]) -> Tensor:
    """The pools of each row's own states side by side: [batch, time, hidden] -> [batch, hidden * pools].

    The last state, the largest of each unit and the mean. All are zero for a row without a token, and so are their
    gradients. `lengths` are [batch], or [batch, prefixes] for the pools of several prefixes, which are then
    [batch, prefixes, hidden * pools].
    """
    if lengths.dim() == 2:
        return torch.stack([pooled_states(states, prefix, pooling) for prefix in lengths.unbind(1)], 1)
    has_token = (lengths > 0).unsqueeze(1)
    own = (torch.arange(states.shape[1], device=states.device) < lengths.unsqueeze(1)).unsqueeze(2)
    pools = []
    for pool in pooling:
        if pool == "last":
            pools.append(last_states(states, lengths))
        elif pool == "max":
            pools.append(states.masked_fill(~own, BELOW_STATES).amax(1) * has_token)
        else:
            pools.append(states.masked_fill(~own, 0.0).sum(1) / lengths.clamp(min=1).unsqueeze(1))
    return torch.cat(pools, 1)


class BagOfWords(nn.Module):
    """A linear classifier over the words and the pairs of words of a text (see `export.spec.Specification.bag`).

    All of its weights are zero to begin with; `toolchain.training.linear_start` fits them.
    """

    def __init__(self, n_vocab: int, n_pairs: int, n_classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(n_vocab, n_classes)
        self.pairs = nn.Embedding(n_pairs, n_classes)
        nn.init.zeros_(self.words.weight)
        nn.init.zeros_(self.pairs.weight)

    def running(self, ids: Tensor) -> Tensor:
        """ids [batch, time] -> the terms of the first 1, 2 … time tokens, float64 [batch, time, classes]."""
        pairs = pair_rows(ids, self.pairs.num_embeddings)
        sums = (self.words(ids).double() + self.pairs(pairs).double()).cumsum(1)
        counts = torch.arange(1, ids.shape[1] + 1, device=ids.device, dtype=torch.float64)
        terms: Tensor = sums / counts.sqrt().unsqueeze(1)
        return terms

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> the terms of whole texts, [batch, classes]."""
        return last_states(self.running(ids), lengths).float()


def pair_rows(ids: Tensor, pairs: int) -> Tensor:
    """The row, of `pairs` in all, for each token with the one before it: ids [batch, time] -> the same shape."""
    before = nn.functional.pad(ids, (1, 0), value=PADDING_ID)[:, :-1]
    return (before * PAIR_FACTOR + ids) % pairs


class BasicGRU(nn.Module):
    """Embedding -> GRU -> dropout -> Linear, the walk-through's `BasicGRU`."""

    portable_names: ClassVar[dict[str, str]] = {"embed.": "embedding.", "gru.": "recurrent.", "out.": "head.0."}

    def __init__(
        self, n_layers: int, hidden_dim: int, n_vocab: int, embed_dim: int, n_classes: int, dropout_p: float = 0.5
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_vocab, embed_dim)
        self.gru = nn.GRU(embed_dim, hidden_dim, num_layers=n_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout_p)
        self.out = nn.Linear(hidden_dim, n_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> logits [batch, classes]."""
        states = word_states(self.gru, self.embed, ids)
        logits: Tensor = self.out(self.dropout(last_states(states, lengths)))
        return logits


class BasicRNN(nn.Module):
    """The same with a plain tanh RNN, the walk-through's `BasicRNN`."""

    portable_names: ClassVar[dict[str, str]] = {"embed.": "embedding.", "rnn.": "recurrent.", "out.": "head.0."}

    def __init__(
        self, n_layers: int, hidden_dim: int, n_vocab: int, embed_dim: int, n_classes: int, dropout_p: float = 0.5
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_vocab, embed_dim)
        self.rnn = nn.RNN(embed_dim, hidden_dim, num_layers=n_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout_p)
        self.out = nn.Linear(hidden_dim, n_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> logits [batch, classes]."""
        states, _ = self.rnn(self.embed(ids))
        logits: Tensor = self.out(self.dropout(last_states(states, lengths)))
        return logits


class PooledGRU(nn.Module):
    """Embedding -> GRU -> pools of its states -> dropout -> Linear, with dropout of words and of input channels.

    In training `word_dropout` is the share of tokens that become `<unk>`, and `input_dropout` the share of a review's
    embedding channels that are dropped for all its steps alike (Gal and Ghahramani 2016, arXiv:1512.05287). With a
    `bag`, the number of its rows for pairs, the logits of a linear classifier over the same words are added. In
    training the GRU answers alone: the other is fitted by itself (see `toolchain.training.mixing`).
    """

    portable_names: ClassVar[dict[str, str]] = {**BasicGRU.portable_names, "bag.": "bag."}

    def __init__(
        self,
        n_layers: int,
        hidden_dim: int,
        n_vocab: int,
        embed_dim: int,
        n_classes: int,
        pooling: Sequence[Pool],
        dropout_p: float = 0.5,
        input_dropout: float = 0.0,
        word_dropout: float = 0.0,
        bag: int = 0,
    ) -> None:
        super().__init__()
        self.pooling = tuple(pooling)
        self.word_dropout = word_dropout
        self.embed = nn.Embedding(n_vocab, embed_dim)
        self.input_dropout = nn.Dropout1d(input_dropout)
        self.gru = nn.GRU(embed_dim, hidden_dim, num_layers=n_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout_p)
        self.out = nn.Linear(hidden_dim * len(self.pooling), n_classes)
        self.bag = BagOfWords(n_vocab, bag, n_classes) if bag else None

    def forward(self, ids: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> logits [batch, classes].

        For lengths [batch, prefixes] they are the logits of prefixes, [batch, prefixes, classes].
        `noise` [batch, time, embedding] is added to the embedding.
        """
        if self.training and self.word_dropout:
            dropped = torch.rand(ids.shape, device=ids.device) < self.word_dropout
            ids = ids.masked_fill(dropped & (ids != PADDING_ID), UNKNOWN_ID)
        channels = self.embed.weight.new_ones(len(ids), self.embed.embedding_dim)
        channels = self.input_dropout(channels.unsqueeze(2)).squeeze(2)
        if noise is None:
            states = word_states(self.gru, self.embed, ids, channels if self.training else None)
        else:
            states = gru_states(self.gru, (self.embed(ids.t()).transpose(0, 1) + noise) * channels.unsqueeze(1))
        logits: Tensor = self.out(self.dropout(pooled_states(states, lengths, self.pooling)))
        return logits if self.bag is None or self.training else logits + self.bag(ids, lengths)


class RNNCellClassifier(nn.Module):
    """An `RNNCell` stepped over time by hand, then Linear -> ReLU -> Linear."""

    def __init__(
        self, n_layers: int, hidden_dim: int, n_vocab: int, embed_dim: int, n_classes: int, head_dim: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_vocab, embed_dim)
        self.cells = nn.ModuleList(
            nn.RNNCell(hidden_dim if layer else embed_dim, hidden_dim) for layer in range(n_layers)
        )
        self.fc = nn.Linear(hidden_dim, head_dim)
        self.out = nn.Linear(head_dim, n_classes)
        self.portable_names: dict[str, str] = {"embed.": "embedding.", "fc.": "head.0.", "out.": "head.1."} | {
            f"cells.{layer}.{name}": f"recurrent.{name}_l{layer}"
            for layer in range(n_layers)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }

    def states(self, ids: Tensor) -> Tensor:
        """The top layer's state after each token: ids [batch, time] -> [batch, time, hidden]."""
        steps = self.embed(ids)
        hidden = [steps.new_zeros(ids.shape[0], self.fc.in_features) for _ in self.cells]
        states = []
        for step in steps.unbind(1):
            for layer, cell in enumerate(self.cells):
                step = hidden[layer] = cell(step, hidden[layer])
            states.append(step)
        return torch.stack(states, 1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> logits [batch, classes]."""
        logits: Tensor = self.out(torch.relu(self.fc(last_states(self.states(ids), lengths))))
        return logits


class ImportedClassifier(nn.Module):
    """Embedding -> GRU or RNN -> Linear, with a ReLU between several of them: what `toolchain import` reads."""

    portable_names: ClassVar[dict[str, str]] = {"embed.": "embedding.", "recurrent.": "recurrent.", "head.": "head."}

    def __init__(self, specification: Specification, n_vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_vocab, specification.embedding)
        sizes = (specification.embedding, specification.hidden, specification.layers)
        self.recurrent: nn.RNNBase
        if specification.cell == "gru":
            self.recurrent = nn.GRU(*sizes, batch_first=True)
        else:
            self.recurrent = nn.RNN(*sizes, batch_first=True, nonlinearity=specification.nonlinearity)
        widths = [specification.hidden, *specification.head, len(specification.labels)]
        self.head = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def classify(self, state: Tensor) -> Tensor:
        """[..., hidden] -> logits [..., classes]."""
        for index, linear in enumerate(self.head):
            state = linear(torch.relu(state) if index else state)
        return state

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> logits [batch, classes]."""
        states, _ = self.recurrent(self.embed(ids))
        return self.classify(last_states(states, lengths))


Model = BasicGRU | BasicRNN | PooledGRU | RNNCellClassifier


def build_model(
    name: str,
    specification: Specification,
    vocabulary_size: int,
    dropout: float,
    input_dropout: float = 0.0,
    word_dropout: float = 0.0,
) -> Model:
    """An untrained model of the class `name` (see `Recipe.model`) with the specification's sizes.

    `input_dropout` and `word_dropout` are `PooledGRU`'s alone.
    """
    sizes = (
        specification.layers,
        specification.hidden,
        vocabulary_size,
        specification.embedding,
        len(specification.labels),
    )
    if name == "PooledGRU":
        return PooledGRU(*sizes, specification.pooling, dropout, input_dropout, word_dropout, specification.bag)
    if name == "RNNCellClassifier":
        return RNNCellClassifier(*sizes, head_dim=specification.head[0])
    return BasicGRU(*sizes, dropout) if name == "BasicGRU" else BasicRNN(*sizes, dropout)


def class_name(specification: Specification) -> str:
    """The class that computes what `specification` describes; of two, the one that can be trained.

    Raises `InvalidClassifier` where there is none.
    """
    pooled = specification.pooling != ("last",) or specification.bag > 0
    if specification.cell == "gru" and not specification.head:
        return "PooledGRU" if pooled else "BasicGRU"
    if pooled:
        raise InvalidClassifier(
            "no model of this program has pools or a bag of words with an RNN, or linear layers behind pools"
        )
    if specification.cell == "rnn" and specification.nonlinearity == "tanh" and len(specification.head) < 2:
        return "RNNCellClassifier" if specification.head else "BasicRNN"
    return "ImportedClassifier"


def output_parameters(model: Model) -> list[nn.Parameter]:
    """The weights that the logits are proportional to, all together: the last layer's and the bag's."""
    bag = model.bag if isinstance(model, PooledGRU) else None
    return [*model.out.parameters(), *(bag.parameters() if bag else ())]


def portable_weights(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
    """A model's `state_dict` under the names `export.spec.Specification.weight_shapes` gives."""
    return {portable_name(name, names): tensor.detach().cpu().numpy() for name, tensor in state.items()}


def portable_name(name: str, names: Mapping[str, str]) -> str:
    """What a tensor of a model is called in `Specification.weight_shapes`; `names` are its class's `portable_names`."""
    prefix = next(prefix for prefix in names if name.startswith(prefix))
    return names[prefix] + name.removeprefix(prefix)
