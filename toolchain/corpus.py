"""Labelled reviews as torchtext data sets: read, tokenized, split, with their vocabulary and their batches."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from torchtext import data, datasets

from export.text import PADDING, UNKNOWN, Tokenizer, clean, is_blank
from toolchain.errors import UsageError
from toolchain.imdb import imdb_folder, is_imdb
from toolchain.recipes import Recipe
from toolchain.records import LABEL_COLUMNS, TEXT_COLUMNS, find_column, open_reader

SPLIT_RATIO = 0.8
HELD_OUT_RATIO = 0.1
MAX_LABELS = 100


@dataclass(frozen=True)
class Source:
    """Where reviews come from: `imdb`, `sample`, an aclImdb folder, or a CSV/JSONL file with a text and a label column.

    `test` is a file of the same form to test on; without one, a tenth of the file is held out.
    """

    data: str
    text_column: str | None = None
    label_column: str | None = None
    test: Path | None = None


@dataclass(frozen=True)
class Reviews:
    """Texts with their labels; `skipped` says which rows of the file could not be used and why."""

    texts: list[str]
    labels: list[str]
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Corpus:
    """What a training run reads. The three parts share the fields `text` and `label`; labels are sorted by name."""

    name: str
    train: data.Dataset
    validation: data.Dataset
    test: data.Dataset
    labels: tuple[str, ...]
    vocabulary: list[str]
    warnings: list[str]


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
    """Read `source` for a training with `recipe`: 80 % training, 20 % validation (stratified), and a test part.

    Raises `UsageError` on data that cannot be trained on: missing, empty, with one label, or too small to split.
    """
    text = TextField(recipe.tokenizer, recipe.max_tokens)
    warnings: list[str] = []
    if folder := _imdb_folder(source):
        label = _label_field(("neg", "pos"))
        name = "IMDB"
        train, test = datasets.IMDB.splits(text, label, path=str(folder))
        for part, dataset in (("train", train), ("test", test)):
            dataset.examples.sort(
                key=lambda example: (example.label, example.text)
            )  # the file system has its own order
            if not dataset.examples:
                raise UsageError(f"{folder / part}: holds no reviews; expected neg/*.txt and pos/*.txt")
        labels: tuple[str, ...] = ("neg", "pos")
    else:
        reviews, held_out = read_training_reviews(source)
        for read in (reviews, held_out):
            if read and read.skipped:
                warnings.append(f"{len(read.skipped)} rows were left out, the first at {read.skipped[0]}")
        labels = _check_labels(reviews, held_out, source)
        label = _label_field(labels)
        name = "sample" if source.data == "sample" else Path(source.data).name
        train = _dataset(reviews, text, label)
        if held_out:
            test = _dataset(held_out, text, label)
        else:
            train, test = _split(train, 1 - HELD_OUT_RATIO, seed, source)
    train, validation = _split(train, SPLIT_RATIO, seed, source)
    sources = (train,) if recipe.vocabulary_from == "training" else (train, validation)
    text.build_vocab(*sources, min_freq=recipe.min_freq, max_size=recipe.max_size)
    warnings += _warn_of_uncased_letters(text.vocab.freqs)
    if len(text.vocab.itos) < 3:
        raise UsageError(
            f"{source.data}: no word stands {recipe.min_freq} times in the training reviews; too little text"
        )
    return Corpus(name, train, validation, test, labels, list(text.vocab.itos), warnings)


def read_training_reviews(source: Source) -> tuple[Reviews, Reviews | None]:
    """The reviews of a CSV or JSONL source, and its test reviews where it names some."""
    if source.data == "sample":
        folder = sample_folder()
        return read_reviews(folder / "sample_train.csv"), read_reviews(folder / "sample_test.csv")
    test = read_reviews(source.test, source.text_column, source.label_column) if source.test else None
    return read_reviews(Path(source.data), source.text_column, source.label_column), test


def read_test_reviews(source: Source) -> Reviews:
    """The reviews to evaluate on: the test part of `imdb` and `sample`, all of a file."""
    if folder := _imdb_folder(source):
        files = [(path, name) for name in ("neg", "pos") for path in sorted((folder / "test" / name).glob("*.txt"))]
        texts = [path.read_text(encoding="utf-8") for path, _ in files]
        return Reviews([clean(text) for text in texts], [name for _, name in files])
    if source.data == "sample":
        return read_reviews(sample_folder() / "sample_test.csv")
    return read_reviews(Path(source.data), source.text_column, source.label_column)


def read_reviews(path: Path, text_column: str | None = None, label_column: str | None = None) -> Reviews:
    """The labelled reviews of a CSV or JSONL file. Rows that cannot be used are named in `skipped`.

    Raises `UsageError` where there is no such file or column, or no usable row.
    """
    texts, labels, skipped = [], [], []
    with _open(path) as stream:
        reader = open_reader(stream, str(path), None)
        text_column = find_column(reader, text_column, TEXT_COLUMNS, "--text-column NAME")
        label_column = find_column(reader, label_column, LABEL_COLUMNS, "--label-column NAME")
        text_of, label_of = reader.getter(text_column), reader.getter(label_column)
        for record in reader:
            text, label = text_of(record.fields), label_of(record.fields)
            if not isinstance(text, str) or is_blank(text):
                skipped.append(f"{path}:{record.line}: {record.error or f'no text in column {text_column!r}'}")
            elif label is None or isinstance(label, dict | list | float) or not str(label).strip():
                skipped.append(f"{path}:{record.line}: no label in column {label_column!r}")
            else:
                texts.append(clean(text))
                labels.append(str(label).strip())
    if not texts:
        first = f"; the first row that was left out: {skipped[0]}" if skipped else ""
        raise UsageError(f"{path}: holds no labelled review{first}")
    return Reviews(texts, labels, skipped)


def read_texts(source: Source) -> list[str]:
    """The texts alone, labelled or not: the test part of `imdb` and `sample`, every usable row of a file."""
    if source.data in ("imdb", "sample") or Path(source.data).is_dir():
        return read_test_reviews(source).texts
    with _open(Path(source.data)) as stream:
        reader = open_reader(stream, source.data, None)
        text_of = reader.getter(find_column(reader, source.text_column, TEXT_COLUMNS, "--text-column NAME"))
        texts = [text_of(record.fields) for record in reader]
    return [clean(text) for text in texts if isinstance(text, str)]


def iterators(
    corpus: Corpus, batch_size: int, seed: int, device: torch.device
) -> tuple[data.BucketIterator, data.BucketIterator, data.BucketIterator]:
    """Training, validation and test batches, really bucketed by length.

    torchtext's `BucketIterator` sorts by length only where `sort_within_batch` is set, which in training it is not.
    """
    random.seed(seed)  # the iterator's shuffler starts from Python's random state
    common = {"batch_size": batch_size, "device": device, "sort_key": _length, "sort_within_batch": True}
    return (
        data.BucketIterator(corpus.train, train=True, **common),
        data.BucketIterator(corpus.validation, train=False, **common),
        data.BucketIterator(corpus.test, train=False, **common),
    )


def sample_folder() -> Path:
    """The embedded sample: inside an installed package, or in the repository's `data/`."""
    package = Path(__file__).parent
    return package / "data" if (package / "data").is_dir() else package.parent / "data"


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; expected imdb, sample, an aclImdb folder or a CSV/JSONL file"
        ) from error


def _length(example: data.Example) -> int:
    return len(example.text)


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


def _label_field(labels: Sequence[str]) -> data.Field:
    """Labels as their index in `labels`, with neither `<unk>` nor `<pad>` among the classes."""
    index = {label: number for number, label in enumerate(labels)}
    to_index: Callable[[str], int] = index.__getitem__
    return data.Field(sequential=False, use_vocab=False, preprocessing=to_index)


def _dataset(reviews: Reviews, text: data.Field, label: data.Field) -> data.Dataset:
    fields = [("text", text), ("label", label)]
    examples = [data.Example.fromlist(pair, fields) for pair in zip(reviews.texts, reviews.labels, strict=True)]
    return data.Dataset(examples, fields)


def _split(dataset: data.Dataset, ratio: float, seed: int, source: Source) -> tuple[data.Dataset, data.Dataset]:
    """Two parts with the same shares of every label."""
    state = random.Random(seed).getstate()
    parts = dataset.split(split_ratio=ratio, stratified=True, random_state=state)
    if len(parts) != 2:
        raise UsageError(f"{source.data}: {len(dataset)} reviews are too few to split; expected 10 or more a label")
    return parts[0], parts[1]


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


def _warn_of_uncased_letters(counts: Counter[str]) -> list[str]:
    """Lower-casing is ASCII alone; say so where more than 1 % of the letters are cased and not ASCII."""
    letters = cased = 0
    for token, count in counts.items():
        letters += len(token) * count
        if not token.isascii():
            cased += count * sum(not c.isascii() and c.lower() != c.upper() for c in token)
    if cased <= 0.01 * letters:
        return []
    return [f"{cased / letters:.1%} of the letters are cased and not ASCII; the tokenizer lower-cases A-Z alone"]


def batch_tensors(batch: data.Batch) -> tuple[Tensor, Tensor, Tensor]:
    """A torchtext batch as ids [batch, time], lengths [batch], labels [batch]."""
    ids, lengths = batch.text
    return ids, lengths, batch.label
