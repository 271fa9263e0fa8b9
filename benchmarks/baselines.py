"""`toolchain train --recipe auto` beside what costs nothing, on labelled files of your own: one line of a table a file.

    python benchmarks/baselines.py PATH... [--folds 5 | --test PATH] [--rows N] [--start none] [--tokenizer characters]

Cross-validated with --folds; with --test every model is trained on PATH and tested there. --rows takes so many rows by
chance, equally many of each label. TF-IDF is logistic regression over words and word pairs, NB the same over the
presence of runs of up to three tokens times their log-count ratios (NB-SVM, Wang and Manning 2012,
https://aclanthology.org/P12-2018/). All see the same reviews, our validation part included. Seconds are processor time
of one training and its test, with the TF-IDF that it is set beside. What there is to say against the data goes to
standard error.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from export.text import TOKENIZERS, Tokenizer
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


def naive_bayes_accuracy(seen: Reviews, tested: Reviews, tokenizer: Tokenizer) -> float:
    """In percent: each label told from the others by presence of token runs times log-count ratios."""
    vectorizer = CountVectorizer(analyzer=lambda text: _runs(tokenizer.tokenize(text)), binary=True)
    there, there_too = vectorizer.fit_transform(seen.texts), vectorizer.transform(tested.texts)
    labels, truth = sorted(set(seen.labels)), np.array(seen.labels)
    scores = []
    for label in labels:
        own = truth == label
        inside, outside = (np.asarray(there[rows].sum(axis=0)).ravel() + 1.0 for rows in (own, ~own))
        ratios = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        regression = LogisticRegression(solver="liblinear").fit(there.multiply(ratios).tocsr(), own)
        scores.append(regression.decision_function(there_too.multiply(ratios).tocsr()))
    answers = np.array(labels)[np.argmax(scores, axis=0)]
    return 100 * float((answers == np.array(tested.labels)).mean())


def _runs(tokens: list[str]) -> list[str]:
    return [" ".join(tokens[start : start + size]) for size in (1, 2, 3) for start in range(len(tokens) - size + 1)]


def settings_of(planned: Plan, seed: int) -> Settings:
    """Those of the plan, on the CPU."""
    recipe = planned.recipe
    amount = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "patience": recipe.patience}
    return Settings(**amount, learning_rate=recipe.learning_rate, layers=planned.layers, seed=seed, device="cpu")


def mean_and_spread(figures: Sequence[float]) -> str:
    """The standard deviation stands there where there are several."""
    return f"{np.mean(figures):.1f}" + (f" ± {np.std(figures):.1f}" if len(figures) > 1 else "")


def main() -> None:
    """Print the table, a line as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--first", type=int, help="only so many of the folds")
    parser.add_argument("--test", help="aclImdb folder or file to test on, in place of folds")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--start")
    parser.add_argument("--tokenizer", choices=TOKENIZERS)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print("| data | rows | most common label, % | TF-IDF, % | NB, % | recipe auto, % | seconds | chosen |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for path in options.paths:
        source = Source(path)
        standings, seconds, naive_bayes = [], [], []
        for seed in range(options.seeds):
            read = read_training_reviews(source)[0]
            if options.rows:
                read = some_of(read, options.rows, seed)
            planned = plan(source, "auto", seed, options.start, options.tokenizer, read=(read, None))
            if options.test:
                parts = [(read, read_test_reviews(Source(options.test)))]
            else:
                parts = split_folds(read, options.folds, seed)[: options.first]
            for part in parts:
                began = time.process_time()
                warn = partial(print, f"{path}:", file=sys.stderr)
                settings = settings_of(planned, seed)
                standings.append(train_and_test(planned, source, settings, part, on_warning=warn))
                seconds.append(time.process_time() - began)
                naive_bayes.append(naive_bayes_accuracy(*part, planned.recipe.tokenizer))
        found = Folds.of(standings)
        figures = map(mean_and_spread, (found.baseline, naive_bayes, found.model))
        print(
            f"| {Path(path).stem} | {len(read):,} | {np.mean(found.majority):.1f} | {' | '.join(figures)} | "
            f"{np.mean(seconds):.0f} | {planned.reason} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
