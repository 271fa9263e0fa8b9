"""What each repaired defect of the documented GRU is worth, one at a time, on a fixed subset of IMDB.

    python benchmarks/defects.py --data PATH/aclImdb [--reviews 5000] [--test-reviews 5000] [--max-tokens N]
                                 [--epochs N] [--seeds 3] [--results FILE.jsonl]

The repaired `gru` recipe is the baseline; each variant puts one defect back, the last all three. All else is equal:
the reviews and their split (80/20, always the same), the first `--max-tokens` tokens of each, subnormal floats
flushed, the checkpoint of the lowest validation loss tested. Validation and test batches are sorted by length in every
variant, as the source's are. Losses are those that the variant's own loop reports: after a sigmoid that is no log-loss,
and never below ln(1 + 1/e) = 0.313.

A run trains on one thread, and as many run side by side as there are cores. Every finished run is a line in
`--results`; the same command again runs only what is missing.
"""

import argparse
import copy
import csv
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import torch
from documented_loop import documented_batches
from torch import Tensor
from torch.optim import Adam

from toolchain.corpus.corpus import Corpus, iterators, load_corpus
from toolchain.corpus.reviews import Source
from toolchain.models.classifiers import BasicGRU, last_states
from toolchain.models.recipes import RECIPES
from toolchain.training.loops import evaluate, train
from toolchain.training.machine import choose_precision

VARIANTS = {
    "repaired": frozenset[str](),
    "answer read off the padding": frozenset({"padding"}),
    "dropout thrown away": frozenset({"dropout"}),
    "sigmoid before the loss": frozenset({"sigmoid"}),
    "all three": frozenset({"padding", "dropout", "sigmoid"}),
}


class DefectiveGRU(BasicGRU):
    """`BasicGRU` with some of the defects `padding`, `dropout` and `sigmoid` put back."""

    def __init__(self, defects: frozenset[str], sizes: tuple[int, int, int, int, int], dropout: float) -> None:
        super().__init__(*sizes, dropout)
        self.defects = defects

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [batch, time], padded on the right, and lengths [batch] -> what goes into the loss [batch, classes]."""
        states, _ = self.gru(self.embed(ids))
        state = states[:, -1, :] if "padding" in self.defects else last_states(states, lengths)
        logits: Tensor = self.out(state if "dropout" in self.defects else self.dropout(state))
        return torch.sigmoid(logits) if "sigmoid" in self.defects else logits


@dataclass(frozen=True)
class Setting:
    """What all runs of a table share. `test_reviews` and `reviews` are drawn evenly from both labels."""

    reviews: int
    test_reviews: int
    epochs: int
    max_tokens: int


@dataclass(frozen=True)
class Result:
    """One finished run: the checkpoint of the lowest validation loss, and the seconds of all its epochs."""

    variant: str
    seed: int
    epoch: int
    validation_loss: float
    test_loss: float
    test_accuracy: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the aclImdb folder")
    parser.add_argument("--reviews", type=int, default=5000)
    parser.add_argument("--test-reviews", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--results", type=Path, default=Path("defects.jsonl"))
    arguments = parser.parse_args()
    setting = Setting(arguments.reviews, arguments.test_reviews, arguments.epochs, arguments.max_tokens)
    results = read_results(arguments.results, setting)
    done = {(result.variant, result.seed) for result in results}
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in VARIANTS if (name, seed) not in done]
    with tempfile.TemporaryDirectory() as room:
        write_subset(arguments.data / "train", setting.reviews, Path(room) / "train.csv")
        write_subset(arguments.data / "test", setting.test_reviews, Path(room) / "test.csv")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), context, initializer=prepare) as pool:
            for future in as_completed([pool.submit(run, Path(room), setting, *job) for job in jobs]):
                result = future.result()
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(setting) | asdict(result)) + "\n")
                results.append(result)
                print(f"{len(results)}: {result}", file=sys.stderr, flush=True)
    print(table(results))


def read_results(path: Path, setting: Setting) -> list[Result]:
    """The finished runs of this setting; runs of other settings are left alone."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    values = [json.loads(line) for line in lines]
    shared = asdict(setting)
    return [
        Result(**{key: value for key, value in each.items() if key not in shared})
        for each in values
        if all(each[key] == value for key, value in shared.items())
    ]


def write_subset(folder: Path, count: int, target: Path) -> None:
    """`count` reviews of an aclImdb part as CSV, half of each label, taken at even distances from the sorted files."""
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for label in ("neg", "pos"):
            paths = sorted((folder / label).glob("*.txt"))
            if len(paths) < count // 2:
                raise SystemExit(f"{folder / label}: holds {len(paths)} reviews; expected {count // 2}")
            chosen = [paths[number * len(paths) // (count // 2)] for number in range(count // 2)]
            writer.writerows([path.read_text(encoding="utf-8"), label] for path in chosen)


def prepare() -> None:
    """A worker process: one thread, subnormal floats flushed."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@cache
def corpus_of(room: Path, max_tokens: int) -> Corpus:
    """The subset, read once a process, with a split that no seed changes."""
    recipe = replace(RECIPES["gru"], max_tokens=max_tokens)
    return load_corpus(Source(str(room / "train.csv"), test=room / "test.csv"), recipe, seed=0)


def run(room: Path, setting: Setting, variant: str, seed: int) -> Result:
    """Train one variant and test its best checkpoint."""
    recipe, defects = RECIPES["gru"], VARIANTS[variant]
    corpus = corpus_of(room, setting.max_tokens)
    torch.manual_seed(seed)
    sizes = (1, recipe.hidden, len(corpus.vocabulary), recipe.embedding, len(corpus.labels))
    model = DefectiveGRU(defects, sizes, recipe.dropout)
    precision = choose_precision("auto", torch.device("cpu"))
    optimizer = Adam(model.parameters(), lr=recipe.learning_rate)
    batches, validation, test = iterators(corpus, recipe.batch_size, seed)
    if "padding" in defects:
        batches = documented_batches(corpus.train, seed)
    best_loss, best_epoch, best_state = math.inf, 0, model.state_dict()
    start = time.perf_counter()
    for epoch in range(1, setting.epochs + 1):
        train(model, optimizer, batches, precision=precision)
        loss, accuracy = evaluate(model, validation)
        print(f"{variant}, seed {seed}, epoch {epoch}: {loss:.3f} {accuracy:.1f} %", file=sys.stderr, flush=True)
        if loss < best_loss:
            best_loss, best_epoch, best_state = loss, epoch, copy.deepcopy(model.state_dict())
    seconds = time.perf_counter() - start
    model.load_state_dict(best_state)
    test_loss, test_accuracy = evaluate(model, test)
    return Result(variant, seed, best_epoch, best_loss, test_loss, test_accuracy, seconds)


def table(results: list[Result]) -> str:
    """Markdown: mean ± standard deviation over the seeds."""
    lines = [
        "| variant | test accuracy, % | test loss | best epoch |",
        "|---|---|---|---|",
    ]
    for variant in VARIANTS:
        if runs := [result for result in results if result.variant == variant]:
            cells = [
                spread([result.test_accuracy for result in runs], 2),
                spread([result.test_loss for result in runs], 3),
                ", ".join(str(result.epoch) for result in sorted(runs, key=lambda result: result.seed)),
            ]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """[1.0, 2.0, 3.0], 1 -> "2.0 ± 1.0": the mean, and the standard deviation where there is one."""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


if __name__ == "__main__":
    main()
