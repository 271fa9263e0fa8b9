"""Reviews as they are read from their source, with their labels: plain Python, for judging as well as for training."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from export.text import clean, is_blank
from toolchain.corpus.imdb import imdb_folder, is_imdb
from toolchain.errors import UsageError
from toolchain.files.kind import Kind
from toolchain.files.records import LABEL_COLUMNS, Reader, find_column, find_text_column
from toolchain.files.tables import ReadOptions, Table, open_table
from toolchain.measures.labels import LabelMap, label_name, why_no_label

IMDB_LABELS = ("neg", "pos")


@dataclass(frozen=True)
class Source:
    """Where reviews come from: `imdb`, `sample`, an aclImdb folder, or a file of rows with a text and a label column.

    `test` is a file of the same form to test on; without one, a tenth of the file is held out. `group_column` names
    what reviews have in common (a film, a product, an author): reviews of one group are never split. `unlabelled` is
    more text of the same kind: `imdb`, an aclImdb folder (its train/unsup), a folder of text files or a file of rows.
    `label_map` as `toolchain.measures.labels` has it. `reading` says what is not to be found out of the files; `say` is
    told what was, a line a file.
    """

    data: str
    text_column: str | None = None
    label_column: str | None = None
    test: Path | None = None
    group_column: str | None = None
    unlabelled: str | None = None
    label_map: str | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)
    say: Callable[[str], None] = lambda line: None

    @property
    def is_imdb(self) -> bool:
        """Whether it is the IMDB set, or a folder that is laid out like it."""
        return self.data == "imdb" or Path(self.data).is_dir()

    @property
    def is_file(self) -> bool:
        """Whether it is a file of rows of the user's own."""
        return self.data != "sample" and not self.is_imdb

    def folder(self) -> Path | None:
        """The folder of the IMDB set. Raises `UsageError` on another folder."""
        if self.data == "imdb":
            return imdb_folder(say=self.say)
        if not Path(self.data).is_dir():
            return None
        if not is_imdb(Path(self.data)):
            raise UsageError(
                f"{self.data}: not an aclImdb folder; expected train/neg, train/pos, test/neg and test/pos in it, or "
                "a file of reviews"
            )
        return Path(self.data)

    def open(self, path: str | Path, stack: ExitStack) -> Table:
        """A file of rows. Raises `UsageError` where there is none."""
        if Kind.of(str(path)).place == "local" and not Path(path).exists():
            raise UsageError(
                f"{path}: No such file or directory; expected imdb, sample, an aclImdb folder or a file of reviews"
            )
        return open_table(str(path), replace(self.reading, text_column=self.text_column), stack)


@dataclass(frozen=True)
class Reviews:
    """Texts with their labels; `skipped` says which rows of the file could not be used and why.

    `origins` says where each review stands (`reviews.csv:17`, `train/pos/12_7.txt`), `groups` to which group it
    belongs: None where that is not known. `name` and `label_column` are where they come from, `label_map` is what their
    labels went through, and `left_out` counts the rows that it left out.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    name: str = "the data"
    label_column: str | None = None
    label_map: LabelMap = field(default_factory=LabelMap)
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, rows: Sequence[int]) -> "Reviews":
        """Those of these numbers, in this order; nothing of them is skipped."""
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            skipped=[],
            origins=[self.origins[row] for row in rows],
            groups=[self.groups[row] for row in rows],
        )

    def add(self, text: str, label: str, origin: str, group: str | None) -> None:
        """Take a review, under the label that the map makes of its own."""
        mapped = self.label_map(label)
        if mapped is None:
            self.left_out[label] += 1
            return
        self.texts.append(clean(text))
        self.labels.append(mapped)
        self.origins.append(origin)
        self.groups.append(group)


def read_training_reviews(source: Source) -> tuple[Reviews, Reviews | None]:
    """The reviews of a source, and its test reviews where it has some."""
    folder = source.folder()
    if source.test and (folder or source.data == "sample"):
        raise UsageError(f"--test-data {source.test}: {source.data} has its own test reviews; leave --test-data out")
    if folder:
        return _read_imdb(folder, "train", source), _read_imdb(folder, "test", source)
    if source.data == "sample":
        own = Source("sample", group_column=source.group_column, label_map=source.label_map)
        return read_reviews(sample_folder() / "sample_train.csv", own), read_test_reviews(own)
    test = read_reviews(source.test, replace(source, group_column=None)) if source.test else None
    return read_reviews(source.data, source), test


def read_test_reviews(source: Source) -> Reviews:
    """The reviews to evaluate on: the test part of `imdb` and `sample`, all of a file."""
    if folder := source.folder():
        return _read_imdb(folder, "test", source)
    if source.data == "sample":
        own = Source("sample", label_map=source.label_map)
        return read_reviews(sample_folder() / "sample_test.csv", own)
    return read_reviews(source.data, replace(source, group_column=None))


def read_reviews(path: str | Path, source: Source | None = None) -> Reviews:
    """The labelled reviews of a file of rows, by the columns and the label map of `source`.

    Rows that cannot be used are named in `skipped`. Raises `UsageError` where there is no such file or column, or no
    usable row.
    """
    source = source or Source(str(path))
    with ExitStack() as stack:
        table = source.open(path, stack)
        reader = table.reader
        text_column, note = find_text_column(reader, source.text_column)
        label_column = find_column(reader, source.label_column, LABEL_COLUMNS, "--label-column NAME")
        source.say(_what_was_found(table, f"text column {text_column!r}, label column {label_column!r}", note))
        text_of, label_of = reader.text_getter(text_column), reader.getter(label_column)
        group_of = None
        if source.group_column is not None:
            group_of = reader.getter(find_column(reader, source.group_column, (), "--group-column NAME"))
        reviews = Reviews(name=str(path), label_column=label_column, label_map=LabelMap.parse(source.label_map))
        for record in reader:
            text, label = text_of(record.fields), label_of(record.fields)
            origin = f"{path}:{record.line}"
            if not isinstance(text, str) or is_blank(text):
                reviews.skipped.append(f"{origin}: {record.error or f'no text in column {text_column!r}'}")
            elif (name := label_name(label)) is None:
                reviews.skipped.append(f"{origin}: {why_no_label(label, label_column)}")
            else:
                reviews.add(text, name, origin, label_name(group_of(record.fields)) if group_of else None)
    if not reviews:
        first = f"; the first row that was left out: {reviews.skipped[0]}" if reviews.skipped else ""
        left = f"; --label-map leaves out {reviews.left_out.total():,} rows" if reviews.left_out else ""
        raise UsageError(f"{path}: holds no labelled review{left}{first}")
    return reviews


def read_texts(source: Source) -> list[str]:
    """The texts alone, labelled or not: the test part of `imdb` and `sample`, every usable row of a file."""
    if source.data == "sample" or source.is_imdb:
        return read_test_reviews(source).texts
    return _read_texts(source.data, source)


def read_texts_with_labels(source: Source) -> list[tuple[str, str | None]]:
    """The same texts, and the label of each through the label map; None where it has none, or where no column of the
    file is named as those of labels are.

    Raises `UsageError` where the source names a column of labels that is not there.
    """
    if source.data == "sample" or source.is_imdb:
        reviews = read_test_reviews(source)
        return list(zip(reviews.texts, reviews.labels, strict=True))
    label_map = LabelMap.parse(source.label_map)
    with ExitStack() as stack:
        table = source.open(source.data, stack)
        text_of = _text_getter(table, source)
        label_of = _label_getter(table.reader, source.label_column)
        rows = [(text_of(record.fields), label_name(label_of(record.fields))) for record in table.reader]
    return [(clean(text), label and label_map(label)) for text, label in rows if isinstance(text, str)]


def read_unlabelled(source: Source) -> list[str]:
    """The texts of `source.unlabelled`. Raises `UsageError` where there are none."""
    path = imdb_folder(say=source.say) if source.unlabelled == "imdb" else Path(source.unlabelled or "")
    if not path.is_dir():
        texts = _read_texts(path, source)
    else:
        coding = source.reading.encoding or "utf-8"
        unlabelled = path / "train" / "unsup"
        folder = unlabelled if unlabelled.is_dir() else path
        if folder == path and is_imdb(path):  # its labelled reviews, and those to test on, are not what was meant
            raise UsageError(
                f"--unlabelled {path}: an aclImdb folder without train/unsup; unpack its unlabelled reviews"
            )
        texts = [clean(file.read_text(coding, errors="replace")) for file in sorted(folder.rglob("*.txt"))]
    if not texts:
        raise UsageError(f"--unlabelled {path}: holds no text; expected a folder of .txt files or a file of rows")
    return texts


def sample_folder() -> Path:
    """The embedded sample: inside an installed package, or in the repository's `data/`."""
    package = Path(__file__).parents[1]
    return package / "data" if (package / "data").is_dir() else package.parent / "data"


def _text_getter(table: Table, source: Source) -> Callable[[Any], Any]:
    """What takes the text from a row's fields; the choice of the column is told."""
    column, note = find_text_column(table.reader, source.text_column)
    source.say(_what_was_found(table, f"text column {column!r}", note))
    return table.reader.text_getter(column)


def _what_was_found(table: Table, columns: str, note: str | None) -> str:
    """A line on how a file is read: its columns, and what is not as usual."""
    return "; ".join([f"read {table.kind.title}: {columns}", *table.found, *([note] if note else [])])


def _label_getter(reader: Reader, label_column: str | None) -> Callable[[Any], object]:
    """The label of a row's fields; None everywhere in a file that has no column of a usual name."""
    if label_column is None and not any(column.strip().lower() in LABEL_COLUMNS for column in reader.columns):
        return lambda fields: None
    return reader.getter(find_column(reader, label_column, LABEL_COLUMNS, "--label-column NAME"))


def _read_texts(path: str | Path, source: Source) -> list[str]:
    with ExitStack() as stack:
        table = source.open(path, stack)
        text_of = _text_getter(table, source)
        texts = [text_of(record.fields) for record in table.reader]
    return [clean(text) for text in texts if isinstance(text, str)]


def _read_imdb(folder: Path, part: str, source: Source) -> Reviews:
    """The reviews of `train` or `test`, by label and file name, with their films as groups.

    torchtext's `datasets.IMDB` reads the same texts, but forgets the file names, which lead to the films.
    """
    reviews = Reviews(name=str(folder / part), label_map=LabelMap.parse(source.label_map))
    for label in IMDB_LABELS:
        films = _imdb_films(folder / part / f"urls_{label}.txt")
        for path in sorted((folder / part / label).glob("*.txt")):
            text = path.read_text(encoding="utf-8", errors="replace")
            film = films.get(path.name.partition("_")[0])
            reviews.add(text, label, path.relative_to(folder).as_posix(), film)
    if not reviews:
        raise UsageError(f"{folder / part}: holds no reviews; expected neg/*.txt and pos/*.txt")
    return reviews


def _imdb_films(path: Path) -> dict[str, str]:
    """The title of each review number: line i + 1 of the list holds the address of the film of review `i_*.txt`."""
    if not path.is_file():
        return {}
    titles = (re.search(r"tt\d+", line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {str(number): title[0] for number, title in enumerate(titles) if title}
