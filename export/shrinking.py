"""A smaller classifier for a browser or a package: a shorter vocabulary and an embedding in bytes.

The table of the embedding is nearly all of a model's file. In bytes with a scale a row it takes a quarter; the other
weights stay as they are. The shrunk classifier is one of its own, whose weights are the numbers that the bytes stand
for: its forms are held to the same tolerance as any, and how far it is from the full one is a question apart.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.forms import softmax
from export.spec import Classifier, QuantizedTable

SHRUNK_ENTRIES = 30_000
SHRUNK_AGREEMENT = 0.995
SPECIAL_ENTRIES = 2
"""`<unk>` and `<pad>`, which every vocabulary keeps."""

_LARGEST = 127


@dataclass(frozen=True)
class Agreement:
    """How a shrunk classifier answers `texts` texts beside the full one: equal labels, largest probability change."""

    texts: int
    label_agreement: float
    max_difference: float

    def failure(self) -> str:
        """What is wrong with it; empty where enough labels are kept."""
        if self.label_agreement >= SHRUNK_AGREEMENT:
            return ""
        return (
            f"the shrunk model keeps {self.label_agreement:.2%} of the full one's labels, "
            f"expected {SHRUNK_AGREEMENT:.1%}; keep more entries of the vocabulary"
        )


def shrink(classifier: Classifier, entries: int) -> Classifier:
    """The first `entries` of the vocabulary, the most frequent ones, and an embedding in bytes.

    A word that is cut becomes `<unk>`. The same classifier and number give the same result, bit for bit; an embedding
    that is in bytes keeps them. Raises `ExportError` where no word would be left.
    """
    if entries <= SPECIAL_ENTRIES:
        raise ExportError(f"a vocabulary of {entries} entries holds no word; keep more than {SPECIAL_ENTRIES}")
    if (known := classifier.quantized_embedding) is not None:
        table = QuantizedTable(known.integers[:entries], known.scales[:entries])
    else:
        table = quantize_rows(classifier.weights["embedding.weight"][:entries])
    weights = {**classifier.weights, "embedding.weight": table.numbers()}
    if classifier.specification.bag:
        weights["bag.words.weight"] = weights["bag.words.weight"][:entries]
    return dataclasses.replace(
        classifier,
        vocabulary=classifier.vocabulary[:entries],
        weights=weights,
        quantized_embedding=table,
    )


def quantize_rows(table: NDArray[np.float32]) -> QuantizedTable:
    """[rows, columns] -> integers in [-127, 127], the largest of each row at an end.

    A row of zeros stays one; so becomes a row whose scale would be subnormal, which some runtimes flush to zero.
    """
    scales = np.abs(table).max(axis=1, keepdims=True) / np.float32(_LARGEST)
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return QuantizedTable(np.rint(table / scales).astype(np.int8), scales)


def agreement(full: NDArray[np.floating[Any]], shrunk: NDArray[np.floating[Any]]) -> Agreement:
    """Both classifiers' logits [texts, classes] of the same texts, one or more."""
    return Agreement(
        texts=len(full),
        label_agreement=float((full.argmax(axis=1) == shrunk.argmax(axis=1)).mean()),
        max_difference=float(np.abs(softmax(full) - softmax(shrunk)).max()),
    )
