"""Which texts are run together: batches of nearly equal length."""

from collections.abc import Sequence
from dataclasses import dataclass

from export.text import Tokenizer

_BYTES_A_TOKEN = 64


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is full: texts, and tokens it would hold with every text padded to its longest."""

    texts: int
    padded_tokens: int


CPU_LIMITS = BatchLimits(texts=64, padded_tokens=3 << 15)
ACCELERATOR_LIMITS = BatchLimits(texts=512, padded_tokens=3 << 18)


def plan_batches(texts: Sequence[str], tokenizer: Tokenizer, limits: BatchLimits) -> list[list[int]]:
    """Indices into `texts`, shortest first, cut into batches within `limits`; a giant is alone in its own.

    A batch costs its rows times its longest text, and so the length is that in tokens: of texts with as many bytes one
    has half as many tokens again as another. Where the tokens are giants, 64 bytes count as one.
    """
    if len(texts) == 1:
        return [[0]]
    lengths = [
        max(tokens, len(text) // _BYTES_A_TOKEN) for text, tokens in zip(texts, tokenizer.count(texts), strict=True)
    ]
    batches: list[list[int]] = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == limits.texts or (len(batch) + 1) * lengths[index] > limits.padded_tokens):
            batches.append(batch)
            batch = []
        batch.append(index)
    if batch:
        batches.append(batch)
    return batches
