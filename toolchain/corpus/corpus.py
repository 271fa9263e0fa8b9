"""Labelled reviews as torchtext data sets: tokenized, split, with their vocabulary and their batches."""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchtext import data
from torchtext.vocab import Vocab

from export.text import PADDING, UNKNOWN, Tokenizer
from toolchain.corpus.checks import (
    check_amounts,
    check_conflicts,
    check_lengths,
    check_letters,
    check_vocabulary,
)
from toolchain.corpus.near_copies import near_copies
from toolchain.corpus.reviews import Reviews, Source, read_training_reviews, read_unlabelled
from toolchain.errors import UsageError
from toolchain.measures.labels import describe_unknown
from toolchain.models.recipes import Recipe

HELD_OUT_RATIO = 0.1
MAX_LABELS = 100


@dataclass(frozen=True)
class Corpus:
    """What a training run reads. Labels are sorted by name; each warning is one line that says what to do.

    The examples of the three parts have a `text` (tokens), a `label` (index), an `origin` (file and line), a `group`.
    `unlabelled` holds the tokens of more texts.
    """

    name: str
    train: data.Dataset
    validation: data.Dataset
    test: data.Dataset
    labels: tuple[str, ...]
    vocabulary: list[str]
    warnings: list[str]
    unlabelled: list[list[str]] = field(default_factory=list)


class TextField(data.Field):  # type: ignore[misc]
    """torchtext's `Field` for our tokenizer. Reviews are cut at `max_tokens`, and never padded to it."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        super().__init__(tokenize=self._tokens, batch_first=True, include_lengths=True)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def _tokens(self, text: str) -> list[str]:
        """Interned, because 25,000 reviews repeat the same words; a text that spells a special holds an unknown."""
        tokens = self._tokenizer.tokenize(text)
        return [sys.intern(token) if token not in (PADDING, UNKNOWN) else UNKNOWN for token in tokens]

    def pad(self, minibatch: Sequence[list[str]]) -> tuple[list[list[str]], list[int]]:
        """Token lists -> rows of equal length, and how many tokens each holds."""
        padded: tuple[list[list[str]], list[int]] = super().pad([tokens[: self._max_tokens] for tokens in minibatch])
        return padded


class _Words(NamedTuple):
    """What `Vocab.extend` reads of another vocabulary."""

    itos: Sequence[str]


def load_corpus(
    source: Source,
    recipe: Recipe,
    seed: int,
    read: tuple[Reviews, Reviews | None] | None = None,
    known_words: Sequence[str] = (),
) -> Corpus:
    """Read `source` for a training with `recipe`: a training and a validation part (stratified), and a test part.

    The parts share no group where `source` names a group column or the recipe validates by group, which for IMDB is by
    film. Reviews that were `read` from it before, and maybe reviews to test on, are not read again. The vocabulary ends
    with the `known_words` of a trained model, whether the reviews hold them or not. Raises `UsageError` on data that
    cannot be trained on: missing, empty, with one label, or too small to split.
    """
    reviews, held_out = read or read_training_reviews(source)
    warnings = [
        f"{len(read.skipped)} rows were left out, the first at {read.skipped[0]}"
        for read in (reviews, held_out)
        if read and read.skipped
    ]
    labels = _check_labels(reviews, held_out, source)
    warnings += _check_label_map(reviews)
    by_group = source.group_column is not None or (recipe.validation_by_group and source.is_imdb)
    if by_group:
        warnings += _check_groups(reviews, source)
    text, label = TextField(recipe.tokenizer, recipe.max_tokens), _label_field(labels)
    train = _dataset(reviews, text, label)
    test = _dataset(held_out, text, label) if held_out else None
    if source.is_imdb:
        for dataset in filter(None, (train, test)):  # an order that no file system decides
            dataset.examples.sort(key=lambda example: (example.label, example.text, example.origin))
    split = _split_by_group if by_group else _split
    if test is None:
        train, test = split(train, 1 - HELD_OUT_RATIO, seed, source)
    train, validation = split(train, 1 - recipe.validation_share, seed, source)
    unlabelled = [text.preprocess(line) for line in read_unlabelled(source)] if source.unlabelled else []
    sources = (train,) if recipe.vocabulary_from == "training" else (train, validation)
    text.build_vocab(*sources, unlabelled, min_freq=recipe.min_freq, max_size=recipe.max_size)
    if len(text.vocab.itos) < 3:
        raise UsageError(
            f"{source.data}: no word occurs {recipe.min_freq} times in the training reviews; add more text"
        )
    text.vocab.extend(_Words(known_words))
    parts = (train, validation, test)
    warnings += _check_data(parts, labels, text.vocab) + _check_copies(parts, by_group or source.is_imdb)
    return Corpus(_name(source), *parts, labels, list(text.vocab.itos), warnings, unlabelled)


def iterators(
    corpus: Corpus, batch_size: int, seed: int
) -> tuple[data.BucketIterator, data.BucketIterator, data.BucketIterator]:
    """Training, validation and test batches, really bucketed by length.

    torchtext's `BucketIterator` sorts by length only where `sort_within_batch` is set, which in training it is not.
    """
    random.seed(seed)  # the iterator's shuffler starts from Python's random state
    common = {"batch_size": batch_size, "sort_key": _length, "sort_within_batch": True}
    return (
        data.BucketIterator(corpus.train, train=True, **common),
        data.BucketIterator(corpus.validation, train=False, **common),
        data.BucketIterator(corpus.test, train=False, **common),
    )


def _name(source: Source) -> str:
    """What the snapshot calls the data."""
    if source.is_imdb:
        return "IMDB"
    return "sample" if source.data == "sample" else Path(source.data).name


def _length(example: data.Example) -> int:
    return len(example.text)


def _label_field(labels: Sequence[str]) -> data.Field:
    """Labels as their index in `labels`, with neither `<unk>` nor `<pad>` among the classes."""
    index = {label: number for number, label in enumerate(labels)}
    to_index: Callable[[str], int] = index.__getitem__
    return data.Field(sequential=False, use_vocab=False, preprocessing=to_index)


def _dataset(reviews: Reviews, text: data.Field, label: data.Field) -> data.Dataset:
    fields = [("text", text), ("label", label), ("origin", data.RawField()), ("group", data.RawField())]
    rows = zip(reviews.texts, reviews.labels, reviews.origins, reviews.groups, strict=True)
    return data.Dataset([data.Example.fromlist(row, fields) for row in rows], fields)


def _split(dataset: data.Dataset, ratio: float, seed: int, source: Source) -> tuple[data.Dataset, data.Dataset]:
    """Two parts with the same shares of every label."""
    state = random.Random(seed).getstate()
    parts = dataset.split(split_ratio=ratio, stratified=True, random_state=state)
    if len(parts) != 2:
        raise UsageError(
            f"{source.data}: {len(dataset)} reviews are too few to split; expected at least 10 of each label"
        )
    return parts[0], parts[1]


def _split_by_group(
    dataset: data.Dataset, ratio: float, seed: int, source: Source
) -> tuple[data.Dataset, data.Dataset]:
    """Two parts with nearly the same shares of every label, and no group in common."""
    labels = [example.label for example in dataset.examples]
    parts = grouped_split(labels, [example.group for example in dataset.examples], ratio, seed)
    if not all(parts):
        raise UsageError(
            f"{source.data}: its groups are too few or too large to hold out {1 - ratio:.0%} of the reviews; expected "
            "a column with more of them: --group-column NAME"
        )
    first, second = ([dataset.examples[index] for index in part] for part in parts)
    return data.Dataset(first, dataset.fields), data.Dataset(second, dataset.fields)


def grouped_split(
    labels: Sequence[int], groups: Sequence[str | None], ratio: float, seed: int
) -> tuple[list[int], list[int]]:
    """The indices of two parts that share no group, the first with about `ratio` of the reviews of every label.

    The groups are dealt out by size, the largest first, equal ones in an order that `seed` decides, each to the part
    that is less full with it: full of the labels that the group has, measured by what the part should get of them. A
    review whose group is None is a group of its own. A part stays empty where the groups are too large for it.
    """
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[index if group is None else group].append(index)
    dealt = list(members.values())
    random.Random(seed).shuffle(dealt)
    dealt.sort(key=len, reverse=True)
    totals = Counter(labels)
    parts: tuple[list[int], list[int]] = ([], [])
    held: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for group_members in dealt:
        counts = Counter(labels[index] for index in group_members)
        first, second = (
            sum(count * (has[label] + count) / totals[label] for label, count in counts.items()) for has in held
        )
        chosen = 0 if first / ratio <= second / (1 - ratio) else 1
        parts[chosen].extend(group_members)
        held[chosen].update(counts)
    return sorted(parts[0]), sorted(parts[1])


def _check_labels(reviews: Reviews, held_out: Reviews | None, source: Source) -> tuple[str, ...]:
    """The labels, sorted. Raises `UsageError` where they cannot be learned."""
    counts = Counter(reviews.labels)
    if len(counts) < 2:
        raise UsageError(
            f"{source.data}: every review has the label {reviews.labels[0]!r}; expected two or more labels"
        )
    if len(counts) > MAX_LABELS:
        raise UsageError(
            f"{source.data}: {len(counts)} different labels; expected at most {MAX_LABELS}; is --label-column right?"
        )
    labels = tuple(sorted(counts))
    if held_out:
        tested = Counter(held_out.labels)
        unseen = {label: count for label, count in tested.items() if label not in counts}
        known = len(held_out) - sum(unseen.values())
        strange = describe_unknown(
            held_out.name, held_out.label_column, unseen, known, labels, whose="those trained on"
        )
        if strange:
            raise UsageError(strange)
    return labels


def _check_label_map(reviews: Reviews) -> list[str]:
    """With a `--label-map`, what it says nothing of is seldom meant to be a label."""
    forgotten = Counter(label for label in reviews.labels if not reviews.label_map.speaks_of(label))
    if not reviews.label_map.text or not forgotten:
        return []
    ((label, count),) = forgotten.most_common(1)
    return [
        f"--label-map says nothing of {label} ({count:,} rows), which stays a label of its own; leave such rows out: "
        f"--label-map {reviews.label_map.text},{label}="
    ]


def _check_groups(reviews: Reviews, source: Source) -> list[str]:
    """What to know of the groups. Raises `UsageError` where the column that was asked for holds none."""
    unknown = reviews.groups.count(None)
    if source.is_imdb:
        if source.group_column is not None:
            raise UsageError(f"--group-column {source.group_column}: {source.data} has no columns; leave it out")
        if unknown == len(reviews):
            return ["train/urls_neg.txt and urls_pos.txt name no film: validation shares films with the training part"]
    elif unknown == len(reviews):
        raise UsageError(f"{source.data}: no review has a value in column {source.group_column!r}; name another")
    return [f"{unknown:,} reviews name no group; each is taken as one of its own"] if unknown else []


def _check_data(
    parts: tuple[data.Dataset, data.Dataset, data.Dataset], labels: tuple[str, ...], vocabulary: Vocab
) -> list[str]:
    """What `data_checks` finds in the training reviews, in the vocabulary, and between the parts."""
    train, validation, _ = (part.examples for part in parts)
    counts = Counter(example.label for example in train)
    examples = [example for part in parts for example in part.examples]
    return [
        *check_amounts({label: counts[number] for number, label in enumerate(labels)}),
        *check_lengths([example.text for example in train]),
        *check_vocabulary([example.text for example in validation], vocabulary.itos),
        *check_letters(vocabulary.freqs),
        *check_conflicts(
            [example.text for example in examples],
            [labels[example.label] for example in examples],
            [example.origin for example in examples],
        ),
    ]


def _check_copies(parts: tuple[data.Dataset, data.Dataset, data.Dataset], grouped: bool) -> list[str]:
    """Reviews to measure on that are training reviews over again. Where not `grouped`, grouping is the advice."""
    train, validation, test = (part.examples for part in parts)
    measured = validation + test
    copies = near_copies([example.text for example in measured], [example.text for example in train])
    if not copies:
        return []
    in_validation = sum(number < len(validation) for number in copies)
    number, original = next(iter(copies.items()))
    return [
        f"{in_validation:,} validation and {len(copies) - in_validation:,} test reviews are near copies of training "
        f"reviews, such as {measured[number].origin} of {train[original].origin}: their accuracy flatters; remove them"
        + ("" if grouped else ", or keep what belongs together in one part: --group-column NAME")
    ]


def batch_tensors(batch: data.Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A torchtext batch as ids [batch, time], lengths [batch], labels [batch], on `device`."""
    ids, lengths = batch.text
    if device.type == "cpu":
        return ids, lengths, batch.label
    ids, lengths, labels = (tensor.pin_memory().to(device, non_blocking=True) for tensor in (ids, lengths, batch.label))
    return ids, lengths, labels
