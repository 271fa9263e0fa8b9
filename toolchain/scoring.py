"""Batch scoring of a file: one stream of windows, read -> scored -> committed, in the file's order."""

import hashlib
import itertools
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from export.text import is_blank
from toolchain.compression import BrokenInput
from toolchain.errors import CheckFailed, UsageError
from toolchain.inputs import STDIO, Input, open_input, rejects_path
from toolchain.metrics import LabelCounts, LabelMetrics, count_labels, label_index, label_metrics
from toolchain.parquet import MAGIC, ParquetReader, ParquetRows, check_names, is_parquet
from toolchain.parts import Parts, WindowEntry
from toolchain.records import (
    DELIMITERS,
    LABEL_COLUMNS,
    MAX_ROW_BYTES,
    TEXT_COLUMNS,
    Reader,
    Record,
    find_column,
    open_reader,
)
from toolchain.rendering import (
    Appended,
    Body,
    Rows,
    Selection,
    TextRows,
    body_anew,
    render_reject,
    select_columns,
)
from toolchain.scorer import PendingScores, Scorer

WINDOW_ROWS = 4096
WINDOW_BYTES = 8 << 20
WINDOWS_AHEAD = 2
PREVIEW_ROWS = 5
PREVIEW_TEXT = 60

_EDGE = 1 << 20


@dataclass(frozen=True)
class Options:
    """How a file is scored. `max_rejects` is a share of the rows.

    `label_column` asks for figures against known labels; `probabilities` and `min_confidence` add fields to the rows;
    `keep` or `drop` say which of a row's own columns stay, and `id_column` is one that stays and names the rejects;
    `limit` stops after the first records. `encoding` and `delimiter` are found out where they are None.
    """

    text_column: str | None = None
    on_error: Literal["reject", "fail"] = "reject"
    max_rejects: float = 0.1
    resume: bool = True
    label_column: str | None = None
    probabilities: bool = False
    min_confidence: float | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    id_column: str | None = None
    limit: int | None = None
    encoding: str | None = None
    delimiter: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES

    def __post_init__(self) -> None:
        if self.delimiter is not None and self.delimiter not in DELIMITERS:
            raise UsageError(f"--delimiter {self.delimiter}: expected , ; | or \\t")
        if self.drop and (self.keep or self.id_column):
            raise UsageError(
                f"--drop and {'--keep' if self.keep else '--id-column'}: name the columns that stay, or those that go"
            )


@dataclass
class Summary:
    """What a completed run did: `rows` read = `scored` + `rejected`."""

    input: str
    output: str
    rejects: str | None
    model: str
    provider: str
    text_column: str
    rows: int = 0
    scored: int = 0
    rejected: int = 0
    resumed: int = 0
    tokens: int = 0
    unknown: int = 0
    seconds: float = 0.0
    labels: dict[str, int] = field(default_factory=dict)
    abstained: int | None = None
    label_metrics: LabelMetrics | None = None

    def add(self, entry: WindowEntry) -> None:
        """Count a window."""
        self.rows += entry.scored + entry.rejected
        self.scored += entry.scored
        self.rejected += entry.rejected
        self.tokens += entry.tokens
        self.unknown += entry.unknown
        self.labels = dict(sorted((Counter(self.labels) + Counter(entry.labels)).items()))
        if self.abstained is not None:
            self.abstained += entry.abstained


class Interrupted(Exception):
    """The run was asked to stop; what was finished is kept where it can be resumed."""


@dataclass(frozen=True)
class PreviewRow:
    """One of the first rows: the start of its text and the answer, or the reason why it would be rejected."""

    line: int
    text: str | None
    prediction: str | None
    confidence: float | None
    reason: str | None


@dataclass(frozen=True)
class Preview:
    """What a run would read and write, from the first window alone: `rejected` of its `records` have no text."""

    input: str
    output: str
    format: str
    columns: tuple[str, ...]
    text_column: str
    label_column: str | None
    output_columns: tuple[str, ...]
    model: str
    provider: str
    records: int
    rejected: int
    rows: list[PreviewRow]


@dataclass(frozen=True)
class _Plan:
    """What becomes of a file's records.

    `reserved` are our field names, where a later object may have one as well; `rewritten` gives the own part of an
    object that is written anew, to know beforehand whether it can be.
    """

    reader: Reader
    text_column: str
    label_column: str | None
    text: Callable[[Mapping[str, Any]], Any]
    label: Callable[[Mapping[str, Any]], Any] | None
    identity: Callable[[Mapping[str, Any]], Any] | None
    appended: Appended
    names: Sequence[str]
    reserved: Sequence[str]
    selection: Selection | None
    rewritten: Body | None

    @classmethod
    def of(cls, reader: Reader, labels: Sequence[str], options: Options) -> "_Plan":
        """Find the columns. Raises `UsageError` where one is not there."""
        text_column = find_column(reader, options.text_column, TEXT_COLUMNS, "--text-column NAME")
        label_column = identity = None
        if options.label_column is not None:
            label_column = find_column(reader, options.label_column, LABEL_COLUMNS, "--label-column NAME")
        if options.id_column is not None:
            identity = reader.getter(find_column(reader, options.id_column, (), "--id-column NAME"))
        keep = options.keep if options.id_column is None else (options.id_column, *options.keep)
        selection = select_columns(reader, keep, options.drop)
        appended = Appended(labels, options.probabilities, options.min_confidence)
        names = appended.names(reader.columns if selection is None else selection.kept)
        if selection is None:
            reserved = names
        else:
            reserved = [name for name in names if selection.dropped is not None and name not in selection.dropped]
        return cls(
            reader=reader,
            text_column=text_column,
            label_column=label_column,
            text=reader.text_getter(text_column),
            label=None if label_column is None else reader.getter(label_column),
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


@dataclass(frozen=True)
class _Window:
    """Consecutive records, and what each is to become: scored (its text is under way) or rejected."""

    number: int
    records: Sequence[Record]
    reasons: Sequence[str | None]
    pending: PendingScores


Progress = Callable[[int, int | None, Summary], None]


def score_file(
    scorer: Scorer,
    source: str,
    output: str,
    options: Options,
    progress: Progress = lambda done, total, summary: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Summary:
    """Score a CSV, JSONL or Parquet file, or standard input (`-`), into `output` (`-` is standard output).

    The records pass through as they were read, with `prediction` and `confidence` appended; `options` may ask for more
    fields, and for fewer of the records' own, which then are written anew. Rows that cannot be scored go to a file of
    rejects beside the output. A file's output appears when it is complete; an interrupted run continues when it is
    called again. `progress` gets bytes done, bytes in all (of Parquet the rows), and the summary so far; when
    `stopping` says so, the windows in hand are committed and `Interrupted` is raised. Raises `UsageError` on input that
    cannot be read and `CheckFailed` on a row that cannot be scored with `on_error="fail"`.
    """
    start = time.perf_counter()
    with ExitStack() as stack:
        opened, reader = _open(source, output, options, stack)
        if STDIO not in (source, output) and Path(output).exists() and Path(output).samefile(source):
            raise UsageError(f"{output}: is the input itself; name another output: -o")
        plan = _Plan.of(reader, scorer.labels, options)
        rows = plan.rows()
        rejects = rejects_path(source, output)
        summary = Summary(source, output, None, scorer.model, scorer.provider, plan.text_column)
        summary.abstained = None if options.min_confidence is None else 0
        counts = LabelCounts.none(len(scorer.labels))
        resumable = opened.status is not None and output != STDIO
        sink: Parts | _StandardOutput
        if output == STDIO:
            sink = _StandardOutput(rows.header, rejects)
        else:
            job = _job(source, opened.status, scorer, plan, options)
            sink = Parts(Path(output), job, options.resume and resumable)
        stack.callback(sink.close)
        for entry in sink.entries:
            summary.add(entry)
            counts.add(entry)
        summary.resumed = summary.rows
        if sink.entries:
            reader.resume(sink.entries[-1].end_offset, sink.entries[-1].end_line)

        under_way: deque[_Window] = deque()

        def finish_oldest() -> None:
            window = under_way.popleft()
            entry, part, rejected = _finish(window, plan, rows, summary.input)
            sink.commit(entry, part, rejected)
            summary.add(entry)
            counts.add(entry)
            summary.seconds = time.perf_counter() - start
            progress(entry.end_offset, opened.size, summary)

        whole = _UntilBroken(reader)
        for number, records in enumerate(_windows(_limited(whole, options, summary.rows)), len(sink.entries)):
            reasons = [_reason(record, plan) for record in records]
            if options.on_error == "fail" and any(reasons):
                line, reason = next((r.line, why) for r, why in zip(records, reasons, strict=True) if why)
                if output != STDIO:
                    sink.discard()
                raise CheckFailed(f"{source}:{line}: {reason}; nothing was written (--on-error fail)")
            texts = [plan.text(r.fields) for r, why in zip(records, reasons, strict=True) if why is None]
            under_way.append(_Window(number, records, reasons, scorer.submit(texts)))
            if len(under_way) > WINDOWS_AHEAD:
                finish_oldest()
            if stopping():
                while under_way:
                    finish_oldest()
                if not resumable and output != STDIO:
                    sink.discard()
                raise Interrupted(_what_was_kept(summary, resumable))
        while under_way:
            finish_oldest()
        if whole.error is not None:
            if not resumable and output != STDIO:
                sink.discard()
            raise UsageError(f"{whole.error}. {_what_is_left(summary, sink)}")
        summary.rejects = str(rejects) if summary.rejected else None
        if plan.label_column is not None:
            summary.label_metrics = label_metrics(counts, scorer.labels, plan.label_column)
        sink.publish(rows.header, rejects)
    summary.seconds = time.perf_counter() - start
    return summary


def preview_file(scorer: Scorer, source: str, output: str, options: Options) -> Preview:
    """What `score_file` would do: reads the first window, scores the first rows, writes nothing.

    Raises `UsageError` where the input cannot be read.
    """
    with ExitStack() as stack:
        _, reader = _open(source, output, options, stack)
        plan = _Plan.of(reader, scorer.labels, options)
        records = next(_windows(_limited(reader, options, 0)), [])
    reasons = [_reason(record, plan) for record in records]
    texts = [None if why else plan.text(r.fields) for r, why in zip(records, reasons, strict=True)][:PREVIEW_ROWS]
    predictions = iter(scorer.score([text for text in texts if text is not None]))
    rows = []
    for record, reason, text in zip(records, reasons, texts, strict=False):
        if text is None:
            rows.append(PreviewRow(record.line, None, None, None, reason))
        else:
            prediction = next(predictions)
            start = " ".join(text[: 2 * PREVIEW_TEXT].split())[:PREVIEW_TEXT]
            rows.append(PreviewRow(record.line, start, prediction.label, prediction.confidence, None))
    return Preview(
        input=source,
        output=output,
        format=reader.format,
        columns=reader.columns,
        text_column=plan.text_column,
        label_column=plan.label_column,
        output_columns=(*(reader.columns if plan.selection is None else plan.selection.kept), *plan.names),
        model=scorer.model,
        provider=scorer.provider,
        records=len(records),
        rejected=sum(reason is not None for reason in reasons),
        rows=rows,
    )


def write_summaries(summaries: Sequence[Summary], path: Path) -> None:
    """A JSON list with an object a run, renamed into place when it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        text = json.dumps([asdict(summary) for summary in summaries], indent=2, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot write the summary here ({error.strerror}); name another: --summary"
        ) from error


def check_rejects(summary: Summary, options: Options) -> None:
    """Raise `CheckFailed` where too few rows of a completed run were scored."""
    if summary.scored == 0:
        raise CheckFailed(
            f"{summary.input}: no row could be scored; see {summary.rejects or 'the input, it has no rows'}"
        )
    share = summary.rejected / summary.rows
    if share > options.max_rejects:
        raise CheckFailed(
            f"{summary.input}: {summary.rejected} of {summary.rows} rows rejected ({share:.1%}), more than "
            f"--max-rejects {options.max_rejects:.1%}; see {summary.rejects}. The scored rows are in {summary.output}"
        )


def _open(source: str, output: str, options: Options, stack: ExitStack) -> tuple[Input, Reader]:
    check_names(source, output)
    if is_parquet(source):
        opened = open_input(source, stack)
        rows = ParquetReader(opened.stream, source, options.max_row_bytes)
        return replace(opened, size=rows.rows), rows
    opened = open_input(source, stack, options.encoding)
    name = "standard input" if source == STDIO else source
    if opened.stream.peek(len(MAGIC)).startswith(MAGIC):  # type: ignore[attr-defined]
        raise UsageError(f"{name}: is Parquet; expected a file with a name that ends in .parquet")
    wanted = TEXT_COLUMNS if options.text_column is None else (options.text_column,)
    return opened, open_reader(opened.stream, name, None, options.max_row_bytes, options.delimiter, wanted)


class _UntilBroken:
    """The records of a file up to where it breaks off, if it does; then `error` says how."""

    def __init__(self, reader: Reader) -> None:
        self.error: BrokenInput | None = None
        self._reader = reader

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._reader
        except BrokenInput as error:
            self.error = error


def _limited(reader: Iterable[Record], options: Options, done: int) -> Iterable[Record]:
    """The records that are still to do under `--limit`."""
    return reader if options.limit is None else itertools.islice(reader, max(0, options.limit - done))


def _windows(reader: Iterable[Record]) -> Iterator[list[Record]]:
    """Consecutive records, cut by count and bytes alone: the same file is always cut the same way."""
    window: list[Record] = []
    size = 0
    for record in reader:
        window.append(record)
        size += record.size
        if len(window) == WINDOW_ROWS or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _reason(record: Record, plan: _Plan) -> str | None:
    """Why a record cannot be scored, or None where it can."""
    if record.error is not None:
        return record.error
    text = plan.text(record.fields)
    if text is None:
        return f"no text: the field {plan.text_column!r} is missing or null"
    if not isinstance(text, str):
        return f"no text: the field {plan.text_column!r} holds {type(text).__name__}, expected a string"
    if is_blank(text):
        return f"no text: the field {plan.text_column!r} is blank"
    if taken := [name for name in plan.reserved if name in record.fields]:
        return f"the record has a field {taken[0]!r} already, which the first records have not"
    if plan.rewritten is not None:
        try:
            plan.rewritten(record)
        except TypeError as error:
            return f"cannot be written anew: {error}"
    return None


def _finish(window: _Window, plan: _Plan, rows: Rows, source: str) -> tuple[WindowEntry, bytes, bytes]:
    """Wait for a window's scores -> its journal entry, its rows and its rejects."""
    scores = window.pending.result()
    best = scores.best.tolist()
    labels = plan.appended.labels
    judged = list(zip(window.records, window.reasons, strict=True))
    scored = [record for record, reason in judged if reason is None]
    part = rows.render(scored, scores)
    rejects = b"".join(render_reject(record, why, source, plan.identity) for record, why in judged if why is not None)
    truth: list[int] = []
    if plan.label is not None:
        index = {label: number for number, label in enumerate(labels)}
        truth = [label_index(plan.label(record.fields), index) for record in scored]
    counts = LabelCounts.none(0) if plan.label is None else count_labels(truth, scores.best, scores.probabilities)
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
    )
    return entry, part, rejects


def _job(
    source: str, status: os.stat_result | None, scorer: Scorer, plan: _Plan, options: Options
) -> Mapping[str, Any]:
    """What the output depends on. A run continues only parts that were made with the same."""
    job: dict[str, Any] = {
        "input": source,
        "model": scorer.bundle.identity,
        "model file": scorer.model,
        "provider": scorer.provider,
        "text column": plan.text_column,
        "window": [WINDOW_ROWS, WINDOW_BYTES],
        "--label-column": options.label_column,
        "--probabilities": options.probabilities,
        "--min-confidence": options.min_confidence,
        "--keep": options.keep,
        "--drop": options.drop,
        "--id-column": options.id_column,
        "--limit": options.limit,
        "--encoding": options.encoding,
        "--delimiter": plan.reader.delimiter,
        "--max-row-bytes": options.max_row_bytes,
    }
    if status is not None:
        edges = hashlib.sha256()
        with Path(source).open("rb") as again:
            edges.update(again.read(_EDGE))
            again.seek(max(0, status.st_size - _EDGE))
            edges.update(again.read(_EDGE))
        job["input contents"] = [status.st_size, status.st_mtime_ns, edges.hexdigest()]
    return job


def _what_was_kept(summary: Summary, resumable: bool) -> str:
    if resumable:
        return f"{summary.rows:,} rows of {summary.input} are done and kept; run the same command again to continue"
    return f"{summary.input}: nothing was kept, this input cannot be resumed"


def _what_is_left(summary: Summary, sink: "Parts | _StandardOutput") -> str:
    """What an input that broke off leaves behind."""
    before = f"The {summary.rows:,} rows before that"
    if not isinstance(sink, Parts):
        return f"{before} are written"
    if not sink.folder.exists():
        return "Nothing was kept, this input cannot be resumed"
    last = sink.entries[-1].end_line - 1 if sink.entries else 1
    return f"{before}, to line {last:,}, are scored and kept: {sink.folder}/*.rows"


class _StandardOutput:
    """Rows to standard output as windows finish; it cannot be taken back, so there is nothing to resume."""

    def __init__(self, header: bytes, rejects: Path) -> None:
        self.entries: list[WindowEntry] = []
        self._rejects = rejects
        self._reject_file: BinaryIO | None = None
        self._write(header)

    def commit(self, entry: WindowEntry, rows: bytes, rejects: bytes) -> None:
        self._write(rows)
        if rejects:
            if self._reject_file is None:
                self._reject_file = self._rejects.open("wb")
            self._reject_file.write(rejects)

    def publish(self, header: bytes, rejects: Path) -> None:
        pass

    def discard(self) -> None:
        pass

    def close(self) -> None:
        if self._reject_file:
            self._reject_file.close()

    def _write(self, data: bytes) -> None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit tries the same bytes again
            raise UsageError(f"standard output: {error.strerror}") from error
