"""A scored file read once, and counted: answers, texts, words that the model lacks, agreement with known labels.

Memory does not grow with the file: histograms, the most frequent unknown words, the rows that are shown in full, and a
sample of all rows.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.text import lookup_table
from toolchain.errors import UsageError
from toolchain.files.records import LABEL_COLUMNS, Reader, Record, find_column, find_text_column, its_columns
from toolchain.files.tables import ReadOptions, Table, open_table
from toolchain.look import opening
from toolchain.measures.calibration import answer_reliability
from toolchain.measures.drift import Drift, Statistics, bundle_reference, find_drift
from toolchain.measures.labels import LabelReader, Truth, describe_unknown
from toolchain.measures.metrics import LabelCounts, count_labels
from toolchain.measures.thresholds import ThresholdCounts
from toolchain.report.kept import Cell, Extremes, Sample, ScoredRow, WordCounts
from toolchain.scoring.provenance import Provenance
from toolchain.scoring.rendering import Appended

KEPT_TEXT = 20_000
"""A text that is shown is kept to so many characters."""

CONFIDENCE_BINS = 50
_CHUNK = 4096
_WORD = 64
_REASONS = 5
_EXCERPT = 200
_OTHERS = 8
_EXACT = 2**53
_EPSILON = 1e-9  # 0.58 * 50 is a little less than 29
_prediction = re.compile(r"prediction(?:_[0-9]+)?")

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Layout:
    """Which column of a scored file is which. `probabilities` follow the labels, and are none where they were not
    asked for; `others` are what else the rows hold."""

    prediction: str
    confidence: str
    probabilities: tuple[str, ...]
    text: str | None
    label: str | None
    others: tuple[str, ...]


class Survey:
    """What a scored file holds. `labels` are the model's, in whose order `answers` counts rows.

    - `rows` are counted; `unreadable` ones are no part of anything else, and `reasons` are those of the first of them
      by line.
    - `confidences` counts answers by `CONFIDENCE_BINS` equal bins from 0 to 1; `confidence_sum` is their sum.
    - `tokens`, `unknown` and `unknown_words` count words, `lengths` texts by their tokens; all empty without text.
    - `counts` holds the confusion, `thresholds` the curves and `reliability` the calibration of the rows with a known
      label. The curves need `complete` probabilities: one for every class, not that of the answer alone.
    - `mistakes` are the surest of the wrong answers, `unsure` the least sure of all, `sample` has rows under `columns`.
    - `drift` is None where the bundle has no reference, or the file too few texts.
    - `made_by` is what scored the file, as far as it is known, and `doubt` what there is to doubt about it.
    """

    def __init__(self, source: str, labels: Sequence[str], layout: Layout) -> None:
        classes = len(labels)
        self.source = source
        self.labels = labels
        self.layout = layout
        self.rows = 0
        self.unreadable = 0
        self.reasons: list[tuple[int, str]] = []
        self.answers = np.zeros(classes, np.int64)
        self.confidences = np.zeros(CONFIDENCE_BINS, np.int64)
        self.confidence_sum = 0.0
        self.tokens = 0
        self.unknown = 0
        self.unknown_words = WordCounts()
        self.lengths: Counter[int] = Counter()
        self.complete = classes == 2 or bool(layout.probabilities)
        self.counts = LabelCounts.none(classes)
        self.thresholds = ThresholdCounts.none(classes)
        self.reliability = answer_reliability(np.zeros(0), np.zeros(0, np.bool_))
        self.mistakes = Extremes()
        self.unsure = Extremes()
        self.sample = Sample()
        self.drift: Drift | None = None
        self.made_by: Provenance | None = None
        self.doubt: str | None = None

    @property
    def labelled(self) -> int:
        """How many rows have a label of the model's."""
        return int(self.counts.confusion.sum())

    @property
    def label_warning(self) -> str | None:
        """One line where labels of the file are none of the model's, with the `--label-map` that would fit."""
        if self.layout.label is None:
            return None
        return describe_unknown(self.source, self.layout.label, self.counts.unknown, self.labelled, self.labels)

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """The names of a sampled row's cells, and whether a column holds few different values."""
        text = [("text", False)] if self.layout.text is not None else []
        label = [("label", True), ("answer is", True)] if self.layout.label is not None else []
        words = [("tokens", False), ("unknown", False)] if text else []
        others = [(name, False) for name in self.layout.others[:_OTHERS]]
        return [("line", False), *text, *label, ("prediction", True), ("confidence", False), *words, *others]

    @property
    def columns_left_out(self) -> int:
        """How many of the file's columns the sampled rows do not have."""
        return max(0, len(self.layout.others) - _OTHERS)


def survey_file(
    source: str,
    bundle: Bundle,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: Progress = lambda done, total: None,
    label_map: str | None = None,
    reading: ReadOptions | None = None,
) -> Survey:
    """Read a CSV, JSONL or Parquet file that `toolchain score` has written with this bundle.

    The columns are found by name; a file without text (`score --drop`) or without labels has less to tell. `label_map`
    as `toolchain.measures.labels` has it. `progress` gets what is done and what there is in all, in bytes, or in rows
    of Parquet. Raises `UsageError` where the file is none that this bundle has scored.
    """
    labels = bundle.specification.labels
    with ExitStack() as stack:
        table = _open(source, reading or ReadOptions(), stack)
        layout = find_layout(table.reader, labels, text_column, label_column)
        if label_map is not None and layout.label is None:
            find_column(table.reader, None, LABEL_COLUMNS, "--label-column NAME")
        survey = Survey(source, labels, layout)
        counter = _Counter(survey, table.reader, bundle, LabelReader(labels, label_map))
        for record in table.reader:
            counter.add(record)
            if counter.full:
                counter.flush()
                progress(record.end_offset, table.size)
        counter.flush()
    counter.finish()
    if not survey.rows:
        why = f"; line {survey.reasons[0][0]}: {survey.reasons[0][1]}" if survey.reasons else ""
        raise UsageError(f"{source}: holds no scored row{why}")
    if (label_column is not None or label_map is not None) and not survey.labelled:
        raise UsageError(survey.label_warning)
    return survey


def _open(source: str, reading: ReadOptions, stack: ExitStack) -> Table:
    if Path(source).is_dir():
        raise UsageError(f"{source}: is a folder; name a file that toolchain score wrote")
    if not Path(source).is_file():
        raise UsageError(f"{source}: no such file; expected one that toolchain score wrote")
    return open_table(source, reading, stack, wanted=("prediction",))


def find_layout(reader: Reader, labels: Sequence[str], text_column: str | None, label_column: str | None) -> Layout:
    """Which column is which. Of a file that was scored more than once the last answers count (`prediction_2`).

    Raises `UsageError` where the file has no answers, or not the column that was named.
    """
    columns = reader.columns
    at = max((place for place, name in enumerate(columns) if _prediction.fullmatch(name)), default=None)
    if at is None:
        raise UsageError(
            f"{reader.name}: no column 'prediction'; {its_columns(columns)}. Score it first: "
            f"toolchain score {reader.name}"
        )
    prediction, confidence, *probabilities = Appended(labels, probabilities=True).names(columns[:at])
    if columns[at] != prediction or confidence not in columns:
        raise UsageError(
            f"{reader.name}: no column {confidence!r} beside {columns[at]!r}; expected a file that toolchain score "
            "wrote"
        )
    whole = set(probabilities) <= set(columns)
    text = _named(text_column, lambda: find_text_column(reader, text_column)[0])
    label = _named(label_column, lambda: find_column(reader, label_column, LABEL_COLUMNS, "--label-column NAME"))
    used = {prediction, confidence, text, label, *(probabilities if whole else ())}
    others = tuple(name for name in dict.fromkeys(columns) if name not in used)
    return Layout(prediction, confidence, tuple(probabilities) if whole else (), text, label, others)


def _named(wanted: str | None, find: Callable[[], str]) -> str | None:
    """The column that is found; None where none was named and none is there."""
    try:
        return find()
    except UsageError:
        if wanted is not None:
            raise
        return None


class _Counter:
    """Counts records into a survey; their numbers are added up in chunks of `_CHUNK` rows."""

    def __init__(self, survey: Survey, reader: Reader, bundle: Bundle, known_labels: LabelReader) -> None:
        self._survey = survey
        self._known_labels = known_labels
        self._specification = bundle.specification
        self._index = {label: number for number, label in enumerate(survey.labels)}
        self._known: Mapping[str, int] = {}
        layout = survey.layout
        self._text: Callable[[Mapping[str, Any]], Any] | None = None
        if layout.text is not None:
            self._text = reader.text_getter(layout.text)
            self._known = lookup_table(bundle.vocabulary())
        self._prediction = reader.getter(layout.prediction)
        self._confidence = reader.getter(layout.confidence)
        self._probabilities = [reader.getter(name) for name in layout.probabilities]
        self._label = None if layout.label is None else reader.getter(layout.label)
        self._others = [reader.getter(name) for name in layout.others[:_OTHERS]]
        self._reference = bundle_reference(bundle) if self._text is not None else None
        self._statistics = Statistics()
        self._best: list[int] = []
        self._truth: list[int] = []
        self._unknown_labels: Counter[str] = Counter()
        self._numbers: list[list[float]] = []
        self._tokens: list[int] = []
        self._unknown: list[int] = []

    @property
    def full(self) -> bool:
        """Whether the chunk is."""
        return len(self._best) >= _CHUNK

    def add(self, record: Record) -> None:
        """Count a record, or why it cannot be read. Raises `UsageError` on an answer that is not the model's."""
        try:
            row, numbers = self._read(record)
        except _Unreadable as reason:
            self._survey.unreadable += 1
            if len(self._survey.reasons) < _REASONS:
                self._survey.reasons.append((record.line, str(reason)))
            return
        survey = self._survey
        survey.rows += 1
        tokens, unknown = self._count_text(row.text)
        self._best.append(row.best)
        self._truth.append(row.truth)
        self._numbers.append(numbers)
        self._tokens.append(tokens)
        self._unknown.append(unknown)
        if row.truth >= 0 and row.truth != row.best:
            survey.mistakes.offer(row.confidence, _kept(row))
        survey.unsure.offer(-row.confidence, _kept(row))
        survey.sample.offer(row.line, lambda: self._cells(row, record.fields, tokens, unknown))

    def flush(self) -> None:
        """Add the chunk up."""
        if not self._best:
            return
        survey = self._survey
        best, truth = np.array(self._best), np.array(self._truth)
        numbers = np.array(self._numbers)
        confidence = numbers[:, 0]
        probabilities = self._by_class(best, numbers)
        bins = np.minimum((confidence * CONFIDENCE_BINS + _EPSILON).astype(np.int64), CONFIDENCE_BINS - 1)
        survey.confidences += np.bincount(bins, minlength=CONFIDENCE_BINS)
        survey.confidence_sum += float(confidence.sum())
        survey.answers += np.bincount(best, minlength=len(survey.labels))
        if self._label is not None:
            truths = Truth(truth, self._unknown_labels)
            survey.counts.add(count_labels(truths, best, probabilities.astype(np.float32)))
            self._unknown_labels = Counter()
            known = truth >= 0
            survey.reliability += answer_reliability(confidence[known], (best == truth)[known])
            if survey.complete:
                survey.thresholds.add(truth[known], probabilities[known])
        if self._reference is not None:
            answers = np.zeros_like(probabilities)
            answers[np.arange(len(best)), best] = confidence
            self._statistics += self._reference.count(np.array(self._tokens), np.array(self._unknown), answers)
        for numbers_of_chunk in (self._best, self._truth, self._numbers, self._tokens, self._unknown):
            numbers_of_chunk.clear()

    def finish(self) -> None:
        """Compare the whole with the bundle's reference."""
        if self._reference is not None:
            self._survey.drift = find_drift(self._reference, self._statistics, self._specification)

    def _read(self, record: Record) -> tuple[ScoredRow, list[float]]:
        """The row, and its confidence with the probabilities of the classes behind it, where they are there."""
        if record.error is not None:
            raise _Unreadable(record.error)
        prediction = self._prediction(record.fields)
        if not isinstance(prediction, str) or not prediction:
            raise _Unreadable(f"the field {self._survey.layout.prediction!r} holds no label")
        if prediction not in self._index:
            raise UsageError(
                f"{self._survey.source}:{record.line}: the prediction {prediction[:_WORD]!r} is not a label of "
                f"the model ({', '.join(self._survey.labels)}); name the bundle that scored the file: --bundle"
            )
        text = None if self._text is None else self._text(record.fields)
        if self._text is not None and not isinstance(text, str):
            raise _Unreadable(f"the field {self._survey.layout.text!r} holds no text")
        numbers = [_probability(get(record.fields)) for get in (self._confidence, *self._probabilities)]
        truth = -1
        if self._label is not None:
            truth, unknown = self._known_labels.match(self._label(record.fields))
            if unknown is not None:
                self._unknown_labels[unknown] += 1
        return ScoredRow(record.line, self._index[prediction], numbers[0], truth, text), numbers

    def _count_text(self, text: str | None) -> tuple[int, int]:
        """Tokens, and those that the vocabulary lacks."""
        if text is None:
            return 0, 0
        tokens = self._specification.tokenizer.tokenize(text)
        unknown = [token for token in tokens if token not in self._known]
        survey = self._survey
        survey.lengths[len(tokens)] += 1
        survey.tokens += len(tokens)
        survey.unknown += len(unknown)
        survey.unknown_words.add(unknown)
        return len(tokens), len(unknown)

    def _by_class(self, best: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """[N, classes]: as the file has them; else the answer's own, and what is left spread over the others."""
        if numbers.shape[1] > 1:
            return numbers[:, 1:]
        classes = len(self._survey.labels)
        probabilities = np.repeat((1 - numbers) / (classes - 1), classes, axis=1)
        probabilities[np.arange(len(best)), best] = numbers[:, 0]
        return probabilities

    def _cells(self, row: ScoredRow, fields: Mapping[str, Any], tokens: int, unknown: int) -> list[Cell]:
        """What a sampled row shows behind its line."""
        labels = self._survey.labels
        cells: list[Cell] = [] if row.text is None else [_excerpt(row.text)]
        if self._label is not None:
            verdict = "not known" if row.truth < 0 else "right" if row.truth == row.best else "wrong"
            cells += [_plain(self._label(fields)), verdict]
        cells += [labels[row.best], round(row.confidence, 6)]
        cells += [] if row.text is None else [tokens, unknown]
        return cells + [_plain(get(fields)) for get in self._others]


class _Unreadable(Exception):
    """A row that is none of `toolchain score`."""


def _probability(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise _Unreadable(f"{str(value)[:_WORD]!r} is no probability")
    return number


def _kept(row: ScoredRow) -> ScoredRow:
    """The row with as much of its text as is kept to be shown; one character more tells that there was more."""
    if row.text is None or len(row.text) <= KEPT_TEXT:
        return row
    return ScoredRow(row.line, row.best, row.confidence, row.truth, row.text[: KEPT_TEXT + 1])


def _plain(value: Any) -> Cell:
    """A field as a cell: a number that JSON and a browser hold exactly, or the beginning of its text."""
    if value is None:
        return None
    if isinstance(value, float) and np.isfinite(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _EXACT:
        return value
    return _excerpt(value if isinstance(value, str) else str(value))


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{opening(text, _EXCERPT)}… ({len(text):,} characters)"
