"""Self-training: unlabelled texts that a trained model is sure of become training reviews with its answer as label.

Method: Yarowsky 1995 (doi:10.3115/981658.981684); with dropout and fresh weights for the student, Xie et al. 2020
(arXiv:1911.04252).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torchtext import data

from export.forms import softmax
from toolchain.corpus.corpus import Corpus
from toolchain.errors import UsageError
from toolchain.models.recipes import Recipe
from toolchain.models.snapshot import Snapshot

MIN_CONFIDENCE = 0.9
"""Of the teacher's answer. Its probabilities are calibrated: nine in ten of its least sure labels are right."""


def with_pseudo_labels(corpus: Corpus, teacher: Snapshot, recipe: Recipe) -> Corpus:
    """`corpus` with the unlabelled texts that `teacher` is sure of in its training part.

    Raises `UsageError` where the teacher has other labels, cuts text into other tokens or has an embedding of another
    size than the student will.
    """
    specification = teacher.specification
    if specification.labels != corpus.labels:
        raise UsageError(f"--teacher: its labels are {list(specification.labels)}, the data's {list(corpus.labels)}")
    if specification.tokenizer != recipe.tokenizer:
        raise UsageError(f"--teacher: its tokenizer is {specification.tokenizer}, the recipe's {recipe.tokenizer}")
    if specification.embedding != recipe.embedding:
        raise UsageError(
            f"--teacher: its embedding has {specification.embedding} numbers a word, the recipe's {recipe.embedding}; "
            "name a snapshot of gru or gru-pool"
        )
    if not corpus.unlabelled:
        raise UsageError("--teacher: it has no text to label; add --unlabelled PATH")
    probabilities = softmax(teacher.answer_tokens()(corpus.unlabelled))
    examples = [
        _example(tokens, int(row.argmax()))
        for tokens, row in zip(corpus.unlabelled, probabilities, strict=True)
        if row.max() >= MIN_CONFIDENCE
    ]
    return replace(corpus, train=data.Dataset(corpus.train.examples + examples, corpus.train.fields))


def teacher_vectors(teacher: Snapshot, vocabulary: Sequence[str]) -> NDArray[np.float32]:
    """The teacher's embedding by word, [vocabulary, embedding]; zero for a word that it does not know."""
    table = teacher.state["embed.weight"].numpy()
    rows = dict(zip(teacher.vocabulary, table, strict=True))
    unknown = np.zeros(table.shape[1], np.float32)
    return np.stack([rows.get(word, unknown) for word in vocabulary])


def _example(tokens: list[str], label: int) -> data.Example:
    example = data.Example()
    example.text, example.label, example.origin, example.group = tokens, label, None, None
    return example
