"""Training side by side on real reviews: the documented loop as its source has it, and ours.

    python benchmarks/training.py --data PATH/aclImdb [--batches 6] [--rounds 2] [--seed 0] [--json FILE]

It prints the processor and a table in Markdown. A whole epoch of the documented loop takes up to an hour, so both sides
train on the same number of batches of 64 real reviews, spread evenly over the lengths of the epoch's batches: neither
side gets the short ones. Both train on 80 % of the 25,000 training reviews, each after its own split. An epoch is
extrapolated as

    seconds measured / padded tokens measured x padded tokens of the epoch + seconds for making the epoch's batches

where the last two (numericalizing and padding) are measured on the whole epoch. Validation is no part.

Each side is a process of its own, because flushing subnormal floats is a switch of the whole process. The sides take
turns, and each starts anew in every round. One batch before the clock starts warms it up. Where other work shares the
cores, read the processor seconds of one thread (`OMP_NUM_THREADS=1`): threads that wait for each other use them up too.
"""

import argparse
import json
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from documented_loop import DocumentedGRU, documented_batches, documented_train, documented_training_set
from torch.optim import Adam
from torchtext import data

from export.text import PADDING_ID
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.measures.processor import processor
from toolchain.models.recipes import RECIPES
from toolchain.training.loops import Settings, fit

RECIPE = RECIPES["gru"]


@dataclass(frozen=True)
class Size:
    """Tokens of batches: as they stand in the reviews, and with the padding."""

    real: int
    padded: int


@dataclass(frozen=True)
class Run:
    """One side in one round. `making` is the seconds that numericalizing and padding a whole epoch takes."""

    seconds: float
    processor_seconds: float
    measured: Size
    epoch: Size
    making: float
    peak_mib: float

    @property
    def epoch_seconds(self) -> float:
        """The extrapolated epoch."""
        return self.seconds * self.epoch.padded / self.measured.padded + self.making


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the aclImdb folder")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    arguments = parser.parse_args()
    sides = {"documented": run_documented, "toolchain": run_ours}
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name, side in sides.items():
            print(f"round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr, flush=True)
            runs[name].append(in_process(side, arguments.data, arguments.batches, arguments.seed))
    show(runs, arguments.batches)
    if arguments.json:
        figures = {
            name: [{**asdict(run), "epoch_seconds": run.epoch_seconds} for run in each] for name, each in runs.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def in_process(side: Callable[[str, int, int], Run], folder: str, count: int, seed: int) -> Run:
    """What `side` measures in a fresh interpreter."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(side, (folder, count, seed))


def run_documented(folder: str, count: int, seed: int) -> Run:
    """The documented loop: random batches, padded to their longest, subnormal floats left as they are."""
    torch.manual_seed(seed)
    part, vocabulary_size = documented_training_set(folder, seed)
    model = DocumentedGRU(1, RECIPE.hidden, vocabulary_size, RECIPE.embedding, 2, RECIPE.dropout)
    sample = Sample(documented_batches(part, seed), count)
    documented_train(model, Adam(model.parameters(), lr=RECIPE.learning_rate), sample)
    return sample.run()


def run_ours(folder: str, count: int, seed: int) -> Run:
    """The first epoch of `toolchain train --recipe gru`, with the sample for its batches."""
    samples: list[Sample] = []

    def progress(batches: Iterable[Any], title: str) -> Iterable[Any]:
        if not title.endswith("training"):
            return islice(batches, 1)
        samples.append(Sample(batches, count))
        return samples[0]

    corpus = load_corpus(Source(folder), RECIPE, seed)
    settings = Settings(1, RECIPE.batch_size, RECIPE.learning_rate, layers=1, seed=seed, device="cpu")
    with tempfile.TemporaryDirectory() as room:
        fit(corpus, RECIPE, settings, Path(room), progress=progress)
    return samples[0].run()


class Sample:
    """`count` batches spread over the lengths of an epoch, and the clock and the memory of the loop that takes them."""

    def __init__(self, epoch: data.BucketIterator, count: int) -> None:
        state = epoch.random_shuffler.random_state
        start = time.perf_counter()
        self._sizes = [size(batch) for batch in epoch]
        self._making = time.perf_counter() - start
        self._chosen = spread([each.padded for each in self._sizes], count)
        epoch.random_shuffler.random_state = state  # the same batches again
        self._batches = [batch for number, batch in enumerate(epoch) if number in self._chosen]
        self._seconds = self._processor_seconds = self._peak_mib = math.nan

    def __iter__(self) -> Iterator[Any]:
        yield self._batches[0]  # warms up
        start, processor_start = time.perf_counter(), time.process_time()
        yield from self._batches
        self._seconds = time.perf_counter() - start
        self._processor_seconds = time.process_time() - processor_start
        self._peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def run(self) -> Run:
        """The figures, once a loop has gone through."""
        measured = total(self._sizes[number] for number in self._chosen)
        return Run(self._seconds, self._processor_seconds, measured, total(self._sizes), self._making, self._peak_mib)


def size(batch: Any) -> Size:
    """The tokens of a torchtext batch, with or without lengths beside its ids."""
    ids = batch.text[0] if isinstance(batch.text, tuple) else batch.text
    return Size(int((ids != PADDING_ID).sum()), ids.numel())


def total(sizes: Iterable[Size]) -> Size:
    sizes = list(sizes)
    return Size(sum(each.real for each in sizes), sum(each.padded for each in sizes))


def spread(lengths: list[int], count: int) -> set[int]:
    """The positions of `count` lengths in the middles of equal shares of their order: [9, 1, 5, 7], 2 -> {2, 0}."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return {order[(2 * share + 1) * len(order) // (2 * count)] for share in range(count)}


def show(runs: dict[str, list[Run]], count: int) -> None:
    """The processor, the medians of the rounds as a table in Markdown, and how they compare."""
    threads = torch.get_num_threads()
    print(f"{processor()}, {threads} threads, {count} batches of {RECIPE.batch_size} reviews\n")
    columns = ("seconds", "processor s", "real tokens/s", "padded tokens/s", "epoch, s", "peak memory, MiB")
    print("| loop |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name, each in runs.items():
        measured = each[0].measured
        seconds = median(run.seconds for run in each)
        cells = (
            f"{seconds:.2f}",
            f"{median(run.processor_seconds for run in each):.2f}",
            f"{measured.real / seconds:,.0f}",
            f"{measured.padded / seconds:,.0f}",
            f"{median(run.epoch_seconds for run in each):,.0f}",
            f"{max(run.peak_mib for run in each):,.0f}",
        )
        print(f"| {name} |", " | ".join(cells), "|")
    print()
    for name, each in runs.items():
        epoch = each[0].epoch
        share = epoch.real / epoch.padded
        print(f"{name}: an epoch is {epoch.real:,} tokens, {epoch.padded:,} with padding ({share:.0%} real)")
    ratios = [
        documented.epoch_seconds / ours.epoch_seconds
        for documented, ours in zip(runs["documented"], runs["toolchain"], strict=True)
    ]
    print(f"an epoch of ours is {median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
