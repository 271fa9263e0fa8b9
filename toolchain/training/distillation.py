"""Distillation: a student learns what its teachers answer, on labelled and on unlabelled text.

Method: Hinton, Vinyals and Dean 2015 (arXiv:1503.02531), at temperature 1: the teachers are calibrated. The student
learns what they answer to the beginnings of a text, too: that costs one reading of it, and teaches more.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchtext import data

from export.forms import softmax
from toolchain.corpus.corpus import Corpus
from toolchain.errors import UsageError
from toolchain.models.recipes import Recipe
from toolchain.models.snapshot import Snapshot
from toolchain.training.machine import Progress

TRUTH = 0.5
"""Share of its own label in what a whole labelled review teaches: the teachers may have learned it by heart, so that
they add little. Where it begins is answered by them alone: its label may not be seen yet."""
TOGETHER = 1_024
"""Texts that a teacher answers before the progress moves on."""

BEGINNINGS = (0.25, 0.5, 0.75, 1.0)
"""Shares of a text's tokens, rounded up, after which it is answered. The last is the whole text."""

Answer = Callable[[Sequence[Sequence[str]]], NDArray[np.float32]]
"""The tokens of each text -> logits after each of its `BEGINNINGS`, [texts, beginnings, classes]."""


def beginnings(lengths: Tensor) -> Tensor:
    """How many tokens the `BEGINNINGS` of texts of these lengths have: [texts] -> [texts, beginnings]."""
    shares = torch.tensor(BEGINNINGS, dtype=torch.float64, device=lengths.device)
    return (lengths.unsqueeze(1) * shares).ceil().long()


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

    `targets` are probabilities [texts, beginnings, classes]. An unlabelled text has the likeliest label, and no origin.
    """
    count = len(corpus.train)
    examples = [
        _example(example.text, example.label, example.origin, example.group, target)
        for example, target in zip(corpus.train, targets[:count], strict=True)
    ] + [
        _example(tokens, int(target[-1].argmax()), None, None, target)
        for tokens, target in zip(corpus.unlabelled, targets[count:], strict=True)
    ]
    target_field = data.Field(sequential=False, use_vocab=False, dtype=torch.float32)
    return replace(corpus, train=data.Dataset(examples, {**corpus.train.fields, "target": target_field}))


def teach(corpus: Corpus, teachers: Sequence[Answer], progress: Progress) -> NDArray[np.float32]:
    """What each training review and each unlabelled text teaches: probabilities [texts, beginnings, classes].

    That is the mean of what the teachers answer; of a whole labelled review, half of that and half of its label.
    """
    texts = [example.text for example in corpus.train] + corpus.unlabelled
    mean = np.zeros((len(texts), len(BEGINNINGS), len(corpus.labels)), np.float32)
    for number, answer in enumerate(teachers, 1):
        begins = range(0, len(texts), TOGETHER)
        for begin in progress(begins, f"teacher {number} of {len(teachers)}"):
            some = slice(begin, begin + TOGETHER)
            mean[some] += softmax(answer(texts[some])) / len(teachers)
    labels = [example.label for example in corpus.train]
    mean[: len(labels), -1] *= 1 - TRUTH
    mean[np.arange(len(labels)), -1, labels] += TRUTH
    return mean


def _example(
    tokens: list[str], label: int, origin: str | None, group: str | None, target: NDArray[np.float32]
) -> data.Example:
    example = data.Example()
    example.text, example.label, example.origin, example.group = tokens, label, origin, group
    example.target = target.tolist()
    return example
