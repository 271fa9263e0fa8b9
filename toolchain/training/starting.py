"""Where the weights begin: at a trained model's, or at word vectors and a language model of the text at hand."""

from collections.abc import Sequence
from typing import Any

import torch

from export.spec import Specification
from toolchain.corpus.corpus import Corpus
from toolchain.errors import UsageError
from toolchain.models.classifiers import Model, PooledGRU
from toolchain.models.recipes import Recipe
from toolchain.models.snapshot import Snapshot
from toolchain.training.language_model import LEARNING_RATE, pretrain
from toolchain.training.machine import Progress
from toolchain.training.pruning import can_prune, prune
from toolchain.training.word_vectors import word_vectors

UNREAD = 0.1
"""How large the embedding of a language model is when it has read nothing yet, as a share of PyTorch's normal numbers:
about as large as word vectors are."""
STARTED_RATE = 1e-3
"""Learning rate of a language model that goes on from a trained model, lower so that it forgets less."""


def check_start(specification: Specification) -> None:
    """Raise `UsageError` where nothing can start from a model like this."""
    if specification.cell != "gru" or specification.head:
        head = f" and {len(specification.head) + 1} linear layers" if specification.head else ""
        raise UsageError(
            f"--start: the model is a {specification.cell.upper()} with {specification.layers} recurrent layers{head}; "
            "expected a GRU with one linear layer"
        )


def origin(start: Snapshot) -> dict[str, Any]:
    """What a snapshot says of a start, as far as it is known: its recipe, its data, how many reviews, their digest."""
    known = {name: start.training.get(name) for name in ("recipe", "data", "training_digest")}
    return {**known, "reviews": start.training.get("reviews", {}).get("train")}


def answers_alike(labels: Sequence[str], start: Snapshot) -> bool:
    """Whether a start has these labels, in whatever order, so that it answers before it is trained any further."""
    return set(labels) == set(start.specification.labels)


@torch.no_grad()
def take_over(model: Model, labels: Sequence[str], vocabulary: Sequence[str], start: Snapshot) -> None:
    """Give `model`, for these labels and words, the weights of `start`, which has the same sizes.

    A word that `start` does not know begins at the mean of those that it knows. The last layer is taken over where the
    labels are the same, in whatever order.
    """
    assert isinstance(model, PooledGRU)
    theirs = {word: row for row, word in enumerate(start.vocabulary)}
    table = start.state["embed.weight"]
    rows = torch.tensor([theirs.get(word, -1) for word in vocabulary])
    model.embed.weight.copy_(torch.where((rows >= 0).unsqueeze(1), table[rows.clamp(min=0)], table[2:].mean(0)))
    for name, parameter in model.gru.named_parameters():
        parameter.copy_(start.state[f"gru.{name}"])
    if answers_alike(labels, start):
        order = torch.tensor([start.specification.labels.index(label) for label in labels])
        model.out.weight.copy_(start.state["out.weight"][order])
        model.out.bias.copy_(start.state["out.bias"][order])


def begin(
    model: Model,
    corpus: Corpus,
    recipe: Recipe,
    seed: int,
    precision: torch.dtype,
    start: Snapshot | None,
    teachers: Sequence[Snapshot],
    progress: Progress,
) -> None:
    """Give `model` the weights of `start`, or of the first teacher that can be pruned to its sizes, or else word
    vectors of all text.

    Then make the GRU a language model of all text, if the recipe says so and there is no teacher.
    """
    sentences = [example.text for example in corpus.train] + corpus.unlabelled
    larger = [teacher for teacher in teachers if can_prune(teacher, model)]
    if start:
        take_over(model, corpus.labels, corpus.vocabulary, start)
    elif larger:
        take_over(model, corpus.labels, corpus.vocabulary, prune(larger[0], recipe.hidden, recipe.embedding, sentences))
    elif recipe.vector_epochs:
        words = (corpus.vocabulary, recipe.embedding, seed, recipe.vector_epochs)
        model.embed.weight.data.copy_(torch.from_numpy(word_vectors(sentences, *words, progress)))
    elif recipe.language_model_epochs:
        model.embed.weight.data.mul_(UNREAD)
    if recipe.language_model_epochs and not teachers and isinstance(model, PooledGRU):
        rate = STARTED_RATE if start else LEARNING_RATE
        pretrain(*(model, sentences, corpus.vocabulary, seed, recipe.language_model_epochs, precision, progress), rate)
