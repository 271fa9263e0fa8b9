"""Which texts are run together: batches of nearly equal length."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is full: texts, and bytes it would hold with every text padded to its longest."""

    texts: int
    padded_bytes: int


CPU_LIMITS = BatchLimits(texts=64, padded_bytes=1 << 19)
ACCELERATOR_LIMITS = BatchLimits(texts=512, padded_bytes=1 << 22)


def plan_batches(lengths: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """Indices into `lengths` (bytes), shortest first, cut into batches within `limits`; a giant is alone in its own."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == limits.texts or (len(batch) + 1) * lengths[index] > limits.padded_bytes):
            batches.append(batch)
            batch = []
        batch.append(index)
    if batch:
        batches.append(batch)
    return batches
