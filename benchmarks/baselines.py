"""`toolchain train --recipe auto` beside what costs nothing, on labelled files of your own: one line of a table a file.

    python benchmarks/baselines.py PATH... [--folds 5 | --test PATH] [--rows N] [--start none] [--seeds 1]

Cross-validated with --folds; with --test every model is trained on PATH and tested there. --rows takes so many rows by
chance, equally many of each label. Seconds are processor time of one training and its test.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np

from toolchain.corpus.reviews import Reviews, Source, read_test_reviews, read_training_reviews
from toolchain.measures.standing import Folds
from toolchain.training.automatic import Plan, plan
from toolchain.training.folds import split_folds, train_and_test
from toolchain.training.loops import Settings


def some_of(reviews: Reviews, count: int, seed: int) -> Reviews:
    """`count` reviews by chance, as many of each label."""
    shuffled = list(range(len(reviews)))
    random.Random(seed).shuffle(shuffled)
    labels = sorted(set(reviews.labels))
    of_each = -(-count // len(labels))
    rows = [row for label in labels for row in [row for row in shuffled if reviews.labels[row] == label][:of_each]]
    return reviews.at(rows)


def settings_of(planned: Plan, seed: int) -> Settings:
    """Those of the plan, on the CPU."""
    recipe = planned.recipe
    amount = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "patience": recipe.patience}
    return Settings(**amount, learning_rate=recipe.learning_rate, layers=planned.layers, seed=seed, device="cpu")


def main() -> None:
    """Print the table, a line as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--first", type=int, help="only so many of the folds")
    parser.add_argument("--test", help="aclImdb folder or file to test on, in place of folds")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--start")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print("| data | rows | most common label, % | TF-IDF, % | recipe auto, % | seconds | chosen |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for path in options.paths:
        source = Source(path)
        standings, seconds = [], []
        for seed in range(options.seeds):
            read = read_training_reviews(source)[0]
            if options.rows:
                read = some_of(read, options.rows, seed)
            planned = plan(source, "auto", seed, options.start, read=(read, None))
            if options.test:
                parts = [(read, read_test_reviews(Source(options.test)))]
            else:
                parts = split_folds(read, options.folds, seed)[: options.first]
            for part in parts:
                began = time.process_time()
                standings.append(train_and_test(planned, source, settings_of(planned, seed), part))
                seconds.append(time.process_time() - began)
        found = Folds.of(standings)
        figures = (f"{np.mean(each):.1f} ± {np.std(each):.1f}" for each in (found.baseline, found.model))
        print(
            f"| {Path(path).stem} | {len(read):,} | {np.mean(found.majority):.1f} | {' | '.join(figures)} | "
            f"{np.mean(seconds):.0f} | {planned.reason} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
