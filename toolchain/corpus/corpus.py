"""Labelled reviews as torchtext data sets: read, tokenized, split, with their vocabulary and their batches."""

import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torchtext import data
from torchtext.vocab import Vocab

from export.text import PADDING, UNKNOWN, Tokenizer, clean, is_blank
from toolchain.corpus.checks import (
    check_amounts,
    check_conflicts,
    check_lengths,
    check_letters,
    check_vocabulary,
)
from toolchain.corpus.imdb import imdb_folder, is_imdb
from toolchain.corpus.near_copies import near_copies
from toolchain.errors import UsageError
from toolchain.files.records import LABEL_COLUMNS, TEXT_COLUMNS, Reader, find_column
from toolchain.files.tables import ReadOptions, open_table
from toolchain.models.recipes import Recipe

HELD_OUT_RATIO = 0.1
MAX_LABELS = 100
IMDB_LABELS = ("neg", "pos")


@dataclass(frozen=True)
class Source:
    """Where reviews come from: `imdb`, `sample`, an aclImdb folder, or a CSV/JSONL file with a text and a label column.

    `test` is a file of the same form to test on; without one, a tenth of the file is held out. `group_column` names
    what reviews have in common (a film, a product, an author): reviews of one group are never split. `unlabelled` is
    more text of the same kind: `imdb`, an aclImdb folder (its train/unsup), a folder of text files or a CSV/JSONL file.
    """

    data: str
    text_column: str | None = None
    label_column: str | None = None
    test: Path | None = None
    group_column: str | None = None
    unlabelled: str | None = None


@dataclass(frozen=True)
class Reviews:
    """Texts with their labels; `skipped` says which rows of the file could not be used and why.

    `origins` says where each review stands (`reviews.csv:17`, `train/pos/12_7.txt`), `groups` to which group it
    belongs: None where that is not known.
    """

    texts: list[str]
    labels: list[str]
    skipped: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)


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


def load_corpus(source: Source, recipe: Recipe, seed: int) -> Corpus:
    """Read `source` for a training with `recipe`: a training and a validation part (stratified), and a test part.

    The parts share no group where `source` names a group column or the recipe validates by group, which for IMDB is by
    film. Raises `UsageError` on data that cannot be trained on: missing, empty, with one label, or too small to split.
    """
    reviews, held_out = read_training_reviews(source)
    warnings = [
        f"{len(read.skipped)} rows were left out, the first at {read.skipped[0]}"
        for read in (reviews, held_out)
        if read and read.skipped
    ]
    labels = _check_labels(reviews, held_out, source)
    by_group = source.group_column is not None or (recipe.validation_by_group and _is_imdb_source(source))
    if by_group:
        warnings += _check_groups(reviews, source)
    text, label = TextField(recipe.tokenizer, recipe.max_tokens), _label_field(labels)
    train = _dataset(reviews, text, label)
    test = _dataset(held_out, text, label) if held_out else None
    if _is_imdb_source(source):
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
            f"{source.data}: no word stands {recipe.min_freq} times in the training reviews; too little text"
        )
    parts = (train, validation, test)
    warnings += _check_data(parts, labels, text.vocab) + _check_copies(parts, by_group or _is_imdb_source(source))
    return Corpus(_name(source), *parts, labels, list(text.vocab.itos), warnings, unlabelled)


def read_training_reviews(source: Source) -> tuple[Reviews, Reviews | None]:
    """The reviews of a source, and its test reviews where it has some."""
    if folder := _imdb_folder(source):
        return _read_imdb(folder, "train"), _read_imdb(folder, "test")
    if source.data == "sample":
        folder = sample_folder()
        train = read_reviews(folder / "sample_train.csv", group_column=source.group_column)
        return train, read_reviews(folder / "sample_test.csv")
    test = read_reviews(source.test, source.text_column, source.label_column) if source.test else None
    return read_reviews(Path(source.data), source.text_column, source.label_column, source.group_column), test


def read_test_reviews(source: Source) -> Reviews:
    """The reviews to evaluate on: the test part of `imdb` and `sample`, all of a file."""
    if folder := _imdb_folder(source):
        return _read_imdb(folder, "test")
    if source.data == "sample":
        return read_reviews(sample_folder() / "sample_test.csv")
    return read_reviews(Path(source.data), source.text_column, source.label_column)


def read_reviews(
    path: Path, text_column: str | None = None, label_column: str | None = None, group_column: str | None = None
) -> Reviews:
    """The labelled reviews of a CSV or JSONL file. Rows that cannot be used are named in `skipped`.

    Raises `UsageError` where there is no such file or column, or no usable row.
    """
    reviews = Reviews([], [])
    with ExitStack() as stack:
        reader = _open(path, text_column, stack)
        text_column = find_column(reader, text_column, TEXT_COLUMNS, "--text-column NAME")
        label_column = find_column(reader, label_column, LABEL_COLUMNS, "--label-column NAME")
        text_of, label_of = reader.text_getter(text_column), reader.getter(label_column)
        group_of = reader.getter(find_column(reader, group_column, (), "--group-column NAME")) if group_column else None
        for record in reader:
            text, label = text_of(record.fields), label_of(record.fields)
            origin = f"{path}:{record.line}"
            if not isinstance(text, str) or is_blank(text):
                reviews.skipped.append(f"{origin}: {record.error or f'no text in column {text_column!r}'}")
            elif isinstance(label, float) or (name := _as_name(label)) is None:
                reviews.skipped.append(f"{origin}: no label in column {label_column!r}")
            else:
                reviews.texts.append(clean(text))
                reviews.labels.append(name)
                reviews.origins.append(origin)
                reviews.groups.append(_as_name(group_of(record.fields)) if group_of else None)
    if not reviews:
        first = f"; the first row that was left out: {reviews.skipped[0]}" if reviews.skipped else ""
        raise UsageError(f"{path}: holds no labelled review{first}")
    return reviews


def read_texts(source: Source) -> list[str]:
    """The texts alone, labelled or not: the test part of `imdb` and `sample`, every usable row of a file."""
    if source.data == "sample" or _is_imdb_source(source):
        return read_test_reviews(source).texts
    with ExitStack() as stack:
        reader = _open(Path(source.data), source.text_column, stack)
        text_of = reader.text_getter(find_column(reader, source.text_column, TEXT_COLUMNS, "--text-column NAME"))
        texts = [text_of(record.fields) for record in reader]
    return [clean(text) for text in texts if isinstance(text, str)]


def read_unlabelled(source: Source) -> list[str]:
    """The texts of `source.unlabelled`. Raises `UsageError` where there are none."""
    path = imdb_folder() if source.unlabelled == "imdb" else Path(source.unlabelled or "")
    if not path.is_dir():
        texts = read_texts(Source(str(path), source.text_column))
    else:
        folder = path / "train" / "unsup" if (path / "train" / "unsup").is_dir() else path
        texts = [clean(file.read_text(encoding="utf-8", errors="replace")) for file in sorted(folder.rglob("*.txt"))]
    if not texts:
        raise UsageError(f"--unlabelled {path}: holds no text; expected a folder of .txt files or a CSV/JSONL file")
    return texts


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


def sample_folder() -> Path:
    """The embedded sample: inside an installed package, or in the repository's `data/`."""
    package = Path(__file__).parents[1]
    return package / "data" if (package / "data").is_dir() else package.parent / "data"


def _open(path: Path, text_column: str | None, stack: ExitStack) -> Reader:
    if not path.exists():
        raise UsageError(
            f"{path}: No such file or directory; expected imdb, sample, an aclImdb folder or a file of reviews"
        )
    return open_table(str(path), ReadOptions(text_column), stack).reader


def _name(source: Source) -> str:
    """What the snapshot calls the data."""
    if _is_imdb_source(source):
        return "IMDB"
    return "sample" if source.data == "sample" else Path(source.data).name


def _length(example: data.Example) -> int:
    return len(example.text)


def _as_name(value: object) -> str | None:
    """A field as the name of a label or of a group; None where it holds none."""
    return None if value is None or isinstance(value, dict | list) else str(value).strip() or None


def _is_imdb_source(source: Source) -> bool:
    return source.data == "imdb" or Path(source.data).is_dir()


def _imdb_folder(source: Source) -> Path | None:
    if source.data == "imdb":
        return imdb_folder()
    if not Path(source.data).is_dir():
        return None
    if not is_imdb(Path(source.data)):
        raise UsageError(
            f"{source.data}: not an aclImdb folder; expected train/neg, train/pos, test/neg and test/pos in it"
        )
    return Path(source.data)


def _read_imdb(folder: Path, part: str) -> Reviews:
    """The reviews of `train` or `test`, by label and file name, with their films as groups.

    torchtext's `datasets.IMDB` reads the same texts, but forgets the file names, which lead to the films.
    """
    reviews = Reviews([], [])
    for label in IMDB_LABELS:
        films = _imdb_films(folder / part / f"urls_{label}.txt")
        for path in sorted((folder / part / label).glob("*.txt")):
            reviews.texts.append(clean(path.read_text(encoding="utf-8", errors="replace")))
            reviews.labels.append(label)
            reviews.origins.append(path.relative_to(folder).as_posix())
            reviews.groups.append(films.get(path.name.partition("_")[0]))
    if not reviews:
        raise UsageError(f"{folder / part}: holds no reviews; expected neg/*.txt and pos/*.txt")
    return reviews


def _imdb_films(path: Path) -> dict[str, str]:
    """The title of each review number: line i + 1 of the list holds the address of the film of review `i_*.txt`."""
    if not path.is_file():
        return {}
    titles = (re.search(r"tt\d+", line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {str(number): title[0] for number, title in enumerate(titles) if title}


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
        raise UsageError(f"{source.data}: {len(dataset)} reviews are too few to split; expected 10 or more a label")
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
            f"{source.data}: {len(counts)} different labels; expected {MAX_LABELS} at most. Is it --label-column?"
        )
    if held_out and (unseen := sorted(set(held_out.labels) - counts.keys())):
        raise UsageError(f"{source.test}: the label {unseen[0]!r} is not among the training labels {sorted(counts)}")
    return tuple(sorted(counts))


def _check_groups(reviews: Reviews, source: Source) -> list[str]:
    """What to know of the groups. Raises `UsageError` where the column that was asked for holds none."""
    unknown = reviews.groups.count(None)
    if _is_imdb_source(source):
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
