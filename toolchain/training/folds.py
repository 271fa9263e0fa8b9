"""Cross-validation: every review is tested on once, by a model that was trained alike on all other folds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Reviews, Source
from toolchain.errors import UsageError
from toolchain.measures.standing import Folds, Standing
from toolchain.training.automatic import Plan
from toolchain.training.loops import Settings, fit
from toolchain.training.machine import Progress


def cross_validate(
    plan: Plan,
    source: Source,
    settings: Settings,
    count: int,
    on_fold: Callable[[int, Standing], None] = lambda number, standing: None,
    progress: Progress = lambda batches, title: batches,
) -> Folds:
    """Train by `plan` and `settings` once for each of `count` folds of its reviews, and test on that fold.

    The folds have nearly the same shares of every label, and share no group where the reviews have some. `on_fold`
    hears of each, from 1. Raises `UsageError` where there are fewer reviews of a label than folds.
    """
    standings = []
    for number, (others, own) in enumerate(split_folds(plan.reviews, count, settings.seed), 1):
        standings.append(train_and_test(plan, replace(source, test=None), settings, (others, own), progress))
        on_fold(number, standings[-1])
    return Folds.of(standings)


def train_and_test(
    plan: Plan,
    source: Source,
    settings: Settings,
    parts: tuple[Reviews, Reviews],
    progress: Progress = lambda batches, title: batches,
    on_warning: Callable[[str], None] = lambda warning: None,
) -> Standing:
    """Train by `plan` and `settings` on the first part, test on the second, and keep no snapshot.

    `on_warning` hears what there is to say against these two parts.
    """
    words = plan.start.vocabulary if plan.start else ()
    corpus = load_corpus(source, plan.recipe, settings.seed, parts, words)
    for warning in corpus.warnings:
        on_warning(warning)
    with TemporaryDirectory() as folder:
        metrics = fit(corpus, plan.recipe, settings, Path(folder), progress=progress, start=plan.start)
    return Standing.from_json(metrics["standing"])


def split_folds(reviews: Reviews, count: int, seed: int) -> list[tuple[Reviews, Reviews]]:
    """For each fold all other reviews, and its own. Raises `UsageError` as `cross_validate` does."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    rarest = min(reviews.labels.count(label) for label in set(reviews.labels))
    if rarest < count:
        raise UsageError(f"--folds {count}: a label has {rarest:,} reviews, fewer than one a fold")
    if any(group is not None for group in reviews.groups):
        groups = [f"row {row}" if group is None else f"group {group}" for row, group in enumerate(reviews.groups)]
        grouped = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        folds = grouped.split(reviews.texts, reviews.labels, groups)
    else:
        folds = StratifiedKFold(count, shuffle=True, random_state=seed).split(reviews.texts, reviews.labels)
    return [(reviews.at(others), reviews.at(own)) for others, own in folds]
