"""A linear classifier beside the GRU, in one model: each is trained alone, and the validation part says how to weigh
them. So the model is never worse there than its linear part, which is fitted in seconds. When nothing is left to be
chosen, the linear part is fitted again, to the validation part as well: of a few hundred reviews a tenth is much.

Trained together the GRU would learn little: the linear part knows most of the training reviews by heart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchtext import data

from export.text import encode, lookup_table
from toolchain.corpus.corpus import Corpus
from toolchain.models.classifiers import BagOfWords, Model, PooledGRU
from toolchain.training.distillation import Answer, beginnings
from toolchain.training.distributed import of_first
from toolchain.training.likelihood import likeliest
from toolchain.training.linear_start import Choice, LinearStart, fit_linear

HEAVIEST = 2.0
"""The largest weight of either: a validation part without a mistake would ask for more and more."""
DOUBT = 0.5
"""Before the validation part speaks, the weights are thought to be 0 for the GRU and 1 for the linear part, with this
standard deviation: a few dozen reviews alone would give weights by chance."""


class Weights(NamedTuple):
    """What the logits of either are multiplied with."""

    gru: float
    linear: float


@dataclass(frozen=True)
class LinearPart:
    """The linear classifier in a model: its `bag`, and what was `fitted`, of which the model has no place for the bias.

    `answer` is what it teaches alone.
    """

    bag: BagOfWords
    fitted: LinearStart
    answer: Answer

    def weigh(
        self, together: NDArray[np.float32], terms: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[Weights, NDArray[np.float32]]:
        """The best weights for validation reviews, and the logits [reviews, classes] under them.

        `together` [reviews, classes] is what the model answers, in which the linear part has the share `terms`.
        """
        gru, linear = together - terms, terms + self.fitted.bias
        weights = best_weights(gru, linear, labels)
        return weights, (weights.gru * gru + weights.linear * linear).astype(np.float32)

    def weighed(self, state: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
        """The `state_dict` of a model that answers so."""
        factors = {"out.": weights.gru, "bag.": weights.linear}
        found = {name: tensor * factors.get(name[:4], 1.0) for name, tensor in state.items()}
        found["out.bias"] = found["out.bias"].cpu() + weights.linear * torch.from_numpy(self.fitted.bias)
        return found


def begin_linear(model: Model, corpus: Corpus, max_tokens: int, seed: int) -> LinearPart:
    """Fit the bag of `model` to the training part; no training of the GRU moves it."""
    assert isinstance(model, PooledGRU)
    assert model.bag is not None
    bag, table = model.bag, lookup_table(corpus.vocabulary)
    fitted = _fitted(bag, corpus, corpus.train.examples, max_tokens, seed)
    _put(fitted, bag, 1.0)
    bag.requires_grad_(False)

    def answer(texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        rows = _encoded(texts, table, max_tokens)
        ends = beginnings(torch.tensor([len(row) for row in rows])).t().tolist()
        cut = [[row[:end] for row, end in zip(rows, each, strict=True)] for each in ends]
        return np.stack([fitted.logits(each) for each in cut], 1)

    return LinearPart(bag, fitted, answer)


def end_linear(model: Model, begun: LinearPart, share: float, corpus: Corpus, max_tokens: int, seed: int) -> None:
    """Fit the bag of `model` again, to the training and the validation part, as the training part alone had chosen.

    In the model's logits those of the linear part count `share`: their weight over the temperature.
    """
    examples = corpus.train.examples + corpus.validation.examples
    fitted = _fitted(begun.bag, corpus, examples, max_tokens, seed, begun.fitted.choice)
    _put(fitted, begun.bag, share)
    with torch.no_grad():
        model.out.bias.add_(torch.from_numpy(fitted.bias - begun.fitted.bias).to(model.out.bias.device), alpha=share)


def _fitted(
    bag: BagOfWords,
    corpus: Corpus,
    examples: Sequence[data.Example],
    max_tokens: int,
    seed: int,
    choice: Choice | None = None,
) -> LinearStart:
    rows = _encoded([example.text for example in examples], lookup_table(corpus.vocabulary), max_tokens)
    labels = [example.label for example in examples]
    sizes = (len(corpus.vocabulary), bag.pairs.num_embeddings, len(corpus.labels))
    return of_first(lambda: fit_linear(rows, labels, *sizes, seed, choice))


def _encoded(texts: Sequence[Sequence[str]], table: Mapping[str, int], max_tokens: int) -> list[list[int]]:
    return [encode(tokens[:max_tokens], table) for tokens in texts]


@torch.no_grad()
def _put(fitted: LinearStart, bag: BagOfWords, share: float) -> None:
    bag.words.weight.copy_(torch.from_numpy(share * fitted.words))
    bag.pairs.weight.copy_(torch.from_numpy(share * fitted.pairs))


def best_weights(gru: NDArray[np.float32], linear: NDArray[np.float32], labels: NDArray[np.int64]) -> Weights:
    """The likeliest ones, given the logits [reviews, classes] of both on reviews of the validation part and `DOUBT`."""
    return Weights(*likeliest([gru, linear], labels, [0.0, 1.0], DOUBT, HEAVIEST).weights)
