"""The window: consecutive records of a file, judged, scored and rendered in the same way wherever it runs.

What is here decides the bytes of the output. The local engine calls it in one process, the distributed one on its
workers.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from export.text import is_blank
from toolchain.errors import UsageError
from toolchain.files.compression import BrokenInput
from toolchain.files.json_records import Unreadable
from toolchain.files.kind import NOT_WRITTEN, Kind
from toolchain.files.parquet import ParquetReader
from toolchain.files.records import LABEL_COLUMNS, Reader, Record, find_column, find_text_column
from toolchain.files.storage import Status
from toolchain.files.tables import ReadOptions, Table, open_table, refuse_packed_parquet
from toolchain.measures.drift import Reference, Statistics
from toolchain.measures.labels import LabelMap, LabelReader, Truth
from toolchain.measures.metrics import LabelCounts, count_labels
from toolchain.scoring.borders import Border
from toolchain.scoring.journal import WindowEntry
from toolchain.scoring.parquet_rows import ParquetRows
from toolchain.scoring.rendering import (
    Appended,
    Body,
    Rows,
    Selection,
    TextRows,
    body_anew,
    render_reject,
    select_columns,
)
from toolchain.scoring.scorer import PendingScores, Scorer

Held = TypeVar("Held", bound=Record | Border)
"""What a window is cut by."""

_EDGE = 1 << 20
_FORMAT_NAMES = {"csv": "CSV", "jsonl": "JSONL", "parquet": "Parquet"}


@dataclass(frozen=True)
class Options(ReadOptions):
    """How a file is read and scored. `max_rejects` is a share of the rows; `overwrite` replaces outputs that are not
    ours.

    `label_column` or `label_map` (`1=pos,0=neg`, see `toolchain.measures.labels`) ask for figures against known labels,
    in a column with a usual name where none is named; `probabilities` and `min_confidence` add fields to the rows;
    `keep` or `drop` say which of a row's own columns stay, and `id_column` is one that stays and names the rejects;
    `limit` stops after the first records; `explain` adds as many of the strongest words on either side, and has to be
    the scorer's own.
    """

    on_error: Literal["reject", "fail"] = "reject"
    max_rejects: float = 0.1
    resume: bool = True
    overwrite: bool = False
    label_column: str | None = None
    label_map: str | None = None
    probabilities: bool = False
    min_confidence: float | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    id_column: str | None = None
    limit: int | None = None
    explain: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        LabelMap.parse(self.label_map)
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise UsageError(f"--min-confidence {self.min_confidence:g}: expected a number from 0 to 1, such as 0.6")
        if self.drop and (self.keep or self.id_column):
            raise UsageError(f"--drop and {'--keep' if self.keep else '--id-column'}: give one of them, not both")


@dataclass(frozen=True)
class Plan:
    """What becomes of a file's records.

    `note` is what a person has to know of the text column. `reserved` are our field names, where a later object may
    have one as well; `rewritten` gives the own part of an object that is written anew, to know beforehand whether it
    can be.
    """

    reader: Reader
    text_column: str
    note: str | None
    label_column: str | None
    text: Callable[[Mapping[str, Any]], Any]
    label: Callable[[Mapping[str, Any]], Any] | None
    known_labels: LabelReader
    identity: Callable[[Mapping[str, Any]], Any] | None
    appended: Appended
    names: Sequence[str]
    reserved: Sequence[str]
    selection: Selection | None
    rewritten: Body | None

    @classmethod
    def of(cls, reader: Reader, labels: Sequence[str], options: Options) -> "Plan":
        """Find the columns. Raises `UsageError` where one is not there."""
        text_column, note = find_text_column(reader, options.text_column)
        label_column = identity = None
        if options.label_column is not None or options.label_map is not None:
            label_column = find_column(reader, options.label_column, LABEL_COLUMNS, "--label-column NAME")
        if options.id_column is not None:
            identity = reader.getter(find_column(reader, options.id_column, (), "--id-column NAME"))
        keep = options.keep if options.id_column is None else (options.id_column, *options.keep)
        selection = select_columns(reader, keep, options.drop)
        appended = Appended(labels, options.probabilities, options.min_confidence, options.explain > 0)
        names = appended.names(reader.columns if selection is None else selection.kept)
        if selection is None:
            reserved = names
        else:
            reserved = [name for name in names if selection.dropped is not None and name not in selection.dropped]
        return cls(
            reader=reader,
            text_column=text_column,
            note=note,
            label_column=label_column,
            text=reader.text_getter(text_column),
            label=None if label_column is None else reader.getter(label_column),
            known_labels=LabelReader(labels, options.label_map),
            identity=identity,
            appended=appended,
            names=names,
            reserved=reserved,
            selection=selection,
            rewritten=body_anew(reader, selection) if selection is not None and reader.format == "jsonl" else None,
        )

    def rows(self) -> Rows:
        """What makes the output."""
        if isinstance(self.reader, ParquetReader):
            return ParquetRows(self.reader, self.appended, self.names, self.selection)
        return TextRows(self.reader, self.appended, self.names, self.selection)

    def truth(self, records: Sequence[Record]) -> Truth:
        """The true labels of some records, none known where there is no label column."""
        return self.known_labels.read(None if self.label is None else self.label(record.fields) for record in records)

    def reason(self, record: Record) -> str | None:
        """Why a record cannot be scored, or None where it can."""
        if record.error is not None:
            return record.error
        text = self.text(record.fields)
        if text is None:
            return f"no text: the field {self.text_column!r} is missing or null"
        if not isinstance(text, str):
            if isinstance(text, Unreadable):
                return f"the field {self.text_column!r} holds half of a surrogate pair, which is no character"
            return f"no text: the field {self.text_column!r} holds {_kind_of(text)}, expected a string"
        if is_blank(text):
            return f"no text: the field {self.text_column!r} is blank"
        if taken := [name for name in self.reserved if name in record.fields]:
            return f"the record has a field {taken[0]!r}, where its answer would stand; rename it"
        if self.rewritten is not None:
            try:
                self.rewritten(record)
            except TypeError as error:
                return f"cannot be written anew: {error}"
        return None


@dataclass(frozen=True)
class Window:
    """Consecutive records, and what each is to become: scored (its text is under way) or rejected. `bundle` is the
    identity of what scores them."""

    number: int
    records: Sequence[Record]
    reasons: Sequence[str | None]
    pending: PendingScores
    bundle: str
    reference: Reference | None

    @cached_property
    def rejected(self) -> int:
        """How many of the records are rejected."""
        return sum(reason is not None for reason in self.reasons)

    def answered(self) -> int:
        """How many of the records are done by now; those that are rejected are from the start."""
        return self.pending.done() + self.rejected


def open_records(source: str, output: Kind, options: Options, stack: ExitStack, end: int | None = None) -> Table:
    """`open_table`, for an output of that kind. Raises `UsageError` where the one is not scored into the other."""
    table = open_table(source, options, stack, end=end)
    refuse_packed_parquet(output)
    _check_output(table, output)
    return table


def _check_output(table: Table, output: Kind) -> None:
    """Raise `UsageError` where the rows, which stay in the format of the input, would get the name of another one."""
    found = table.kind.format or "csv"
    if "parquet" in (found, output.format):
        fits = found == output.format
    elif output.ending.lower() == ".tsv":
        fits = table.reader.delimiter == "\t"
    else:
        fits = output.format in (None, found)
    as_named = "parquet" not in (found, output.format) and output.ending.lower() == table.kind.ending.lower()
    if output.ending.lower() in NOT_WRITTEN or not (fits or as_named):
        ending = ".tsv" if table.kind.ending.lower() == ".tsv" else f".{found}"
        raise UsageError(
            f"{table.kind.title}: is scored into {_FORMAT_NAMES[found]}, not {output.name}; name an output that ends "
            f"in {ending}: -o"
        )


def describe_job(
    source: str, table: Table, model: Mapping[str, Any], plan: Plan, options: Options, window: tuple[int, int]
) -> Mapping[str, Any]:
    """What the output depends on, as plain JSON values: a run continues only parts that were made with the same.

    `source` is the input as it was named, `model` names the model and what it runs on, `window` is the limits of `cut`.
    Of a local file the edges count as well, which costs the same whatever its size and however often a run is resumed;
    an object is replaced whole, so that its time and size tell.
    """
    job: dict[str, Any] = {
        "input": source,
        **model,
        "text column": plan.text_column,
        "window": window,
        "--label-column": options.label_column,
        "--label-map": options.label_map,
        "--probabilities": options.probabilities,
        "--min-confidence": options.min_confidence,
        "--keep": options.keep,
        "--drop": options.drop,
        "--id-column": options.id_column,
        "--limit": options.limit,
        "--explain": options.explain,
        "--encoding": options.encoding,
        "--delimiter": plan.reader.delimiter,
        "reading": plan.reader.describe(),
        "--max-row-bytes": options.max_row_bytes,
    }
    if table.status is not None:
        job["input contents"] = _contents(table.kind, table.status)
    plain: Mapping[str, Any] = json.loads(json.dumps(job))
    return plain


def _contents(kind: Kind, status: Status) -> tuple[int, int, str | None, str | None]:
    """Size, time in nanoseconds, SHA-256, and of what: `all` of a local file of up to two `_EDGE`, else its `edges`."""
    if kind.place != "local":
        return status.size, status.modified_ns, None, None
    edges = hashlib.sha256()
    with Path(kind.name).open("rb") as again:
        edges.update(again.read(min(_EDGE, status.size)))
        again.seek(max(_EDGE, status.size - _EDGE))
        edges.update(again.read(max(0, status.size - again.tell())))
    return status.size, status.modified_ns, edges.hexdigest(), "all" if status.size <= 2 * _EDGE else "edges"


class UntilBroken:
    """The records of a file up to where it breaks off, if it does; then `error` says how."""

    def __init__(self, reader: Reader) -> None:
        self.error: BrokenInput | None = None
        self._reader = reader

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._reader
        except BrokenInput as error:
            self.error = error


def limited(reader: Iterable[Record], options: Options, done: int) -> Iterable[Record]:
    """The records that are still to do under `--limit`."""
    return reader if options.limit is None else itertools.islice(reader, max(0, options.limit - done))


def cut(records: Iterable[Held], rows: int, size: int) -> Iterator[list[Held]]:
    """Consecutive records, cut by count (`rows`) and bytes (`size`) alone: the same file is always cut the same way."""
    window: list[Held] = []
    held = 0
    for record in records:
        window.append(record)
        held += record.size
        if len(window) == rows or held >= size:
            yield window
            window, held = [], 0
    if window:
        yield window


def begin(scorer: Scorer, plan: Plan, number: int, records: Sequence[Record], reasons: Sequence[str | None]) -> Window:
    """Start scoring the records that have no reason against it; several windows may be under way at once."""
    texts = [plan.text(record.fields) for record, why in zip(records, reasons, strict=True) if why is None]
    return Window(number, records, reasons, scorer.submit(texts), scorer.identity, scorer.reference)


def finish(window: Window, plan: Plan, rows: Rows, source: str) -> tuple[WindowEntry, bytes, bytes]:
    """Wait for a window's scores -> its journal entry, its rows and its rejects."""
    scores = window.pending.result()
    best = scores.best.tolist()
    labels = plan.appended.labels
    judged = list(zip(window.records, window.reasons, strict=True))
    scored = [record for record, reason in judged if reason is None]
    part = rows.render(scored, scores)
    rejects = b"".join(
        render_reject(record, why, source, window.bundle, plan.identity) for record, why in judged if why is not None
    )
    counts = LabelCounts.none(0)
    if plan.label is not None:
        counts = count_labels(plan.truth(scored), scores.best, scores.probabilities)
    statistics = Statistics()
    if window.reference is not None:
        statistics = window.reference.count(scores.tokens, scores.unknown, scores.probabilities)
    last = window.records[-1]
    entry = WindowEntry(
        window=window.number,
        scored=len(scored),
        rejected=len(window.records) - len(scored),
        tokens=int(scores.tokens.sum()),
        unknown=int(scores.unknown.sum()),
        labels={labels[index]: count for index, count in sorted(Counter(best).items())},
        end_offset=last.end_offset,
        end_line=last.end_line,
        rows_bytes=len(part),
        rejects_bytes=len(rejects),
        abstained=int(plan.appended.abstains(scores).sum()),
        confusion=counts.confusion.tolist(),
        log_loss=counts.log_loss,
        unlabelled=counts.unlabelled,
        unknown_labels=dict(counts.unknown),
        statistics=statistics.to_json(),
    )
    return entry, part, rejects


def _kind_of(value: Any) -> str:
    """What a value of a record is, in words."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case bytes():
            return "bytes"
    return f"a value of the type {type(value).__name__}"
