"""Distillation: a student learns what its teachers answer, on labelled and on unlabelled text.

Method: Hinton, Vinyals and Dean 2015 (arXiv:1503.02531), at temperature 1: the teachers are calibrated.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchtext import data

from export.forms import softmax
from toolchain.corpus.corpus import Corpus
from toolchain.errors import UsageError
from toolchain.models.recipes import Recipe
from toolchain.models.snapshot import Snapshot
from toolchain.training.machine import Progress

TRUTH = 0.5
"""Share of its own label in what a labelled review teaches. The teachers may have learned that review by heart."""
TOGETHER = 1_024
"""Texts that a teacher answers before the progress moves on."""

Answer = Callable[[Sequence[Sequence[str]]], NDArray[np.float32]]
"""The tokens of each text -> logits [texts, classes]."""


def check_teacher(teacher: Snapshot, labels: Sequence[str], recipe: Recipe) -> None:
    """Raise `UsageError` where a teacher has other labels than the data, or cuts text into other tokens."""
    specification = teacher.specification
    if specification.labels != tuple(labels):
        raise UsageError(
            f"--teacher: its labels are {', '.join(specification.labels)}, the data's {', '.join(labels)}; name a "
            "snapshot with those of the data"
        )
    if specification.tokenizer != recipe.tokenizer:
        raise UsageError("--teacher: it cuts text into other tokens than the recipe does; train with its --tokenizer")


def taught(corpus: Corpus, targets: NDArray[np.float32]) -> Corpus:
    """`corpus` with the unlabelled texts behind its training reviews, and for each what it teaches.

    `targets` are probabilities [texts, classes]. An unlabelled text has the likeliest label, and no origin.
    """
    count = len(corpus.train)
    examples = [
        _example(example.text, example.label, example.origin, example.group, target)
        for example, target in zip(corpus.train, targets[:count], strict=True)
    ] + [
        _example(tokens, int(target.argmax()), None, None, target)
        for tokens, target in zip(corpus.unlabelled, targets[count:], strict=True)
    ]
    target_field = data.Field(sequential=False, use_vocab=False, dtype=torch.float32)
    return replace(corpus, train=data.Dataset(examples, {**corpus.train.fields, "target": target_field}))


def teach(corpus: Corpus, teachers: Sequence[Answer], progress: Progress) -> NDArray[np.float32]:
    """What each training review and each unlabelled text teaches: probabilities [texts, classes].

    That is the mean of what the teachers answer; of a labelled review, half of that and half of its label.
    """
    texts = [example.text for example in corpus.train] + corpus.unlabelled
    mean = np.zeros((len(texts), len(corpus.labels)), np.float32)
    for number, answer in enumerate(teachers, 1):
        begins = range(0, len(texts), TOGETHER)
        for begin in progress(begins, f"teacher {number} of {len(teachers)}"):
            some = slice(begin, begin + TOGETHER)
            mean[some] += softmax(answer(texts[some])) / len(teachers)
    labels = [example.label for example in corpus.train]
    mean[: len(labels)] *= 1 - TRUTH
    mean[np.arange(len(labels)), labels] += TRUTH
    return mean


def teacher_vectors(teacher: Snapshot, vocabulary: Sequence[str], size: int) -> NDArray[np.float32]:
    """The teacher's embedding by word in `size` numbers, [vocabulary, size]; zero for a word that it does not know.

    With fewer numbers than the teacher's these are its main directions, with more the last are zero.
    """
    table = teacher.state["embed.weight"].numpy()
    if size < table.shape[1]:
        table = table @ np.linalg.svd(table, full_matrices=False)[2][:size].T
    rows = dict(zip(teacher.vocabulary, table, strict=True))
    unknown = np.zeros(table.shape[1], np.float32)
    vectors = np.stack([rows.get(word, unknown) for word in vocabulary])
    return np.pad(vectors, ((0, 0), (0, size - vectors.shape[1])))


def _example(
    tokens: list[str], label: int, origin: str | None, group: str | None, target: NDArray[np.float32]
) -> data.Example:
    example = data.Example()
    example.text, example.label, example.origin, example.group = tokens, label, origin, group
    example.target = target.tolist()
    return example
