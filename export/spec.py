"""What a portable classifier is: its specification, its vocabulary, its weights, and their checks."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.text import LINE_BREAK, PADDING, UNKNOWN, Tokenizer

Cell = Literal["gru", "rnn"]
Nonlinearity = Literal["tanh", "relu"]
Pool = Literal["last", "max", "mean"]
Weights = Mapping[str, NDArray[np.float32]]

GATES: Mapping[Cell, int] = {"gru": 3, "rnn": 1}

PAIR_FACTOR = 0x9E3779B9
"""Odd, and 2**32 over the golden ratio, which keeps the rows of frequent pairs apart (Knuth, TAOCP 3, section 6.4)."""

MOST_PAIRS = 2**24
"""The largest `Specification.bag`."""

BELOW_STATES = -2.0
"""A number below every state of either cell: a state is a tanh, lies between two of them, or is not negative."""


class InvalidClassifier(ExportError):
    """A specification, vocabulary or set of weights that does not describe a classifier."""


@dataclass(frozen=True)
class Specification:
    """The architecture and the text definition: everything but the vocabulary and the numbers.

    tokens -> embedding [vocabulary, embedding] -> `layers` recurrent layers of `hidden` units -> the top layer's states
    after each token, pooled -> one Linear and ReLU for every width in `head` -> Linear to `len(labels)` logits.
    `pooling` names the pools, which stand side by side in its order: the `last` state, the `max` and the `mean` of all.
    `nonlinearity` is that of the cell `rnn`.
    Where `bag` is not 0, a linear model over the words and the pairs of words is added to the logits, as in fastText
    (Joulin et al. 2016, arXiv:1607.01759): for the ids i_1 … i_n of a text, and i_0 the padding,

        1 / sqrt(n) * (words[i_1] + pairs[(i_0 * PAIR_FACTOR + i_1) mod bag] + … + words[i_n] + pairs[…])

    with `bag.words.weight` [vocabulary, classes] and `bag.pairs.weight` [bag, classes], `bag` a power of two; summed in
    double precision, and nothing for a text without a token.
    Tokens beyond `max_tokens` are cut; a text without a token is classified from zeros.
    """

    labels: tuple[str, ...]
    cell: Cell
    embedding: int
    hidden: int
    layers: int = 1
    pooling: tuple[Pool, ...] = ("last",)
    head: tuple[int, ...] = ()
    max_tokens: int = 10_000
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    nonlinearity: Nonlinearity = "tanh"
    bag: int = 0

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise InvalidClassifier(f"labels are {list(self.labels)}, expected two or more different ones")
        if self.cell not in get_args(Cell):
            raise InvalidClassifier(f"cell is {self.cell!r}, expected one of {', '.join(get_args(Cell))}")
        if self.nonlinearity not in get_args(Nonlinearity):
            raise InvalidClassifier(
                f"nonlinearity is {self.nonlinearity!r}, expected one of {', '.join(get_args(Nonlinearity))}"
            )
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise InvalidClassifier(f"nonlinearity is {self.nonlinearity!r}, which the cell {self.cell!r} has not")
        pools = get_args(Pool)
        if not self.pooling or not set(self.pooling) <= set(pools) or len(set(self.pooling)) != len(self.pooling):
            raise InvalidClassifier(
                f"pooling is {list(self.pooling)}, expected one or more of {', '.join(pools)}, each once"
            )
        for size in (self.embedding, self.hidden, self.layers, self.max_tokens, *self.head):
            if not isinstance(size, int) or size < 1:
                raise InvalidClassifier(f"a size is {size!r}, expected a whole number from 1")
        if not isinstance(self.bag, int) or self.bag < 0 or self.bag & (self.bag - 1) or self.bag > MOST_PAIRS:
            raise InvalidClassifier(f"bag is {self.bag!r}, expected 0 or a power of two up to {MOST_PAIRS:,}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON and for a snapshot read with `weights_only=True`.

        `nonlinearity` is left out where it is tanh, and `bag` where it is 0, so that programs from before there was
        another read the rest.
        """
        tuples = {name: list(getattr(self, name)) for name in ("labels", "pooling", "head")}
        values = {**dataclasses.asdict(self), **tuples}
        if self.nonlinearity == "tanh":
            del values["nonlinearity"]
        if not self.bag:
            del values["bag"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Specification":
        """The inverse of `to_json`; without `pooling`, as before there was one, it is the last state, without
        `nonlinearity` a tanh, and without `bag` 0.

        Raises `InvalidClassifier` on anything that is not a specification.
        """
        try:
            return cls(
                **{
                    **values,
                    "labels": tuple(values["labels"]),
                    "pooling": tuple(values.get("pooling", cls.pooling)),
                    "head": tuple(values["head"]),
                    "tokenizer": Tokenizer(**values["tokenizer"]),
                }
            )
        except (KeyError, TypeError, ValueError, InvalidClassifier) as error:
            raise InvalidClassifier(f"not a specification: {error}") from error

    def weight_shapes(self, vocabulary_size: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, in PyTorch's layout (`nn.GRU`: gates r, z, n; `nn.Linear`: [out, in])."""
        rows = GATES[self.cell] * self.hidden
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary_size, self.embedding)}
        for layer in range(self.layers):
            shapes[f"recurrent.weight_ih_l{layer}"] = (rows, self.hidden if layer else self.embedding)
            shapes[f"recurrent.weight_hh_l{layer}"] = (rows, self.hidden)
            shapes[f"recurrent.bias_ih_l{layer}"] = (rows,)
            shapes[f"recurrent.bias_hh_l{layer}"] = (rows,)
        widths = [self.hidden * len(self.pooling), *self.head, len(self.labels)]
        for index, (before, after) in enumerate(pairwise(widths)):
            shapes[f"head.{index}.weight"] = (after, before)
            shapes[f"head.{index}.bias"] = (after,)
        if self.bag:
            shapes["bag.words.weight"] = (vocabulary_size, len(self.labels))
            shapes["bag.pairs.weight"] = (self.bag, len(self.labels))
        return shapes

    def parameters(self, vocabulary_size: int) -> int:
        """How many numbers the weights are."""
        return sum(math.prod(shape) for shape in self.weight_shapes(vocabulary_size).values())


@dataclass(frozen=True)
class QuantizedTable:
    """A table in bytes with a scale a row: `integers` int8[rows, columns], `scales` float32[rows, 1]."""

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]

    def numbers(self) -> NDArray[np.float32]:
        """The table it stands for, [rows, columns]: one product in single precision, the same in every runtime."""
        return self.integers * self.scales


_not_a_token = re.compile("[ \t\n\v\f\r\0]")


@dataclass(frozen=True)
class Classifier:
    """A specification with its vocabulary (`<unk>` and `<pad>` first) and its weights: all that an export needs.

    A `quantized_embedding` holds the very numbers of the weight `embedding.weight`, for graphs to store in its place.
    """

    specification: Specification
    vocabulary: Sequence[str]
    weights: Weights
    quantized_embedding: QuantizedTable | None = None

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary)
        expected = self.specification.weight_shapes(len(self.vocabulary))
        if missing := sorted(expected.keys() ^ self.weights.keys()):
            raise InvalidClassifier(f"weights missing or unexpected: {', '.join(missing)}")
        for name, shape in expected.items():
            if self.weights[name].shape != shape:
                raise InvalidClassifier(f"{name} has shape {self.weights[name].shape}, expected {shape}")
            if not np.isfinite(self.weights[name]).all():
                raise InvalidClassifier(f"{name} holds numbers that are not finite: the training diverged")
        quantized = self.quantized_embedding
        if quantized and not np.array_equal(quantized.numbers(), self.weights["embedding.weight"]):
            raise InvalidClassifier("the quantized embedding and embedding.weight hold different numbers")


def check_vocabulary(vocabulary: Sequence[str]) -> None:
    """Raise `InvalidClassifier` unless `vocabulary` is `<unk>`, `<pad>`, then words, each once.

    No word holds white space but the line break `<br />`, which is one token where punctuation is isolated.
    """
    if list(vocabulary[:2]) != [UNKNOWN, PADDING]:
        raise InvalidClassifier(f"the vocabulary starts with {list(vocabulary[:2])}, expected {[UNKNOWN, PADDING]}")
    if len(set(vocabulary)) != len(vocabulary):
        raise InvalidClassifier("the vocabulary holds a word twice")
    for index, word in enumerate(vocabulary):
        if word != LINE_BREAK and (not word or _not_a_token.search(word)):
            raise InvalidClassifier(f"the vocabulary's entry {index}, {word!r}, is empty or holds white space")
