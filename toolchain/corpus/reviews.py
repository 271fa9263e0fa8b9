"""Reviews as they are read from their source, with their labels: plain Python, for judging as well as for training."""

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from export.text import clean, is_blank
from toolchain.corpus.imdb import imdb_folder, is_imdb
from toolchain.errors import UsageError
from toolchain.files.records import LABEL_COLUMNS, TEXT_COLUMNS, Reader, find_column
from toolchain.files.tables import ReadOptions, open_table

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
    if source.data == "sample" or is_imdb_source(source):
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


def _as_name(value: object) -> str | None:
    """A field as the name of a label or of a group; None where it holds none."""
    return None if value is None or isinstance(value, dict | list) else str(value).strip() or None


def is_imdb_source(source: Source) -> bool:
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
