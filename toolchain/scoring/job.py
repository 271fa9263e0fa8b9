"""Batch scoring of a file: one stream of windows, read -> scored -> committed, in the file's order."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from toolchain.errors import CheckFailed, UsageError
from toolchain.files.kind import Kind
from toolchain.files.tables import Table
from toolchain.look import opening
from toolchain.measures.drift import Drift, Statistics, find_drift
from toolchain.measures.metrics import LabelCounts, LabelMetrics, label_metrics
from toolchain.scoring.journal import Parts, WindowEntry
from toolchain.scoring.places import check_output, is_passing, rejects_of
from toolchain.scoring.provenance import Provenance
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.streaming import Stream
from toolchain.scoring.windows import Options as Options
from toolchain.scoring.windows import Plan, UntilBroken, Window, begin, cut, describe_job, finish, limited, open_records

WINDOW_ROWS = 4096
WINDOW_BYTES = 8 << 20
WINDOWS_AHEAD = 2
PREVIEW_ROWS = 5
PREVIEW_TEXT = 60


@dataclass
class Summary:
    """What a run did: `rows` read = `scored` + `rejected`.

    `found` is what was found out of the input that is not as usual, in words. `error` is what went wrong, None where
    nothing did. Where the input could not be read through there is no `output`.
    """

    input: str
    output: str | None
    rejects: str | None
    model: str
    provider: str
    text_column: str
    found: list[str] = field(default_factory=list)
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
    drift: Drift | None = None
    error: str | None = None
    made_by: Provenance | None = None

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
    found: list[str]
    label_column: str | None
    output_columns: tuple[str, ...]
    model: str
    provider: str
    records: int
    rejected: int
    rows: list[PreviewRow]


@dataclass(frozen=True)
class JobProgress:
    """How far a run is: `done` of `total` bytes (of Parquet rows; None where that is not known), and the `rows` that
    are answered. Both count what is under way; `finished` are the rows of finished windows, `resumed` of them from an
    interrupted run. `kept` says in words what a stop now would leave.
    """

    done: float
    total: int | None
    rows: int
    finished: int
    resumed: int
    kept: str


OnProgress = Callable[[JobProgress], None]
"""Called several times a second."""


def score_file(
    scorer: Scorer,
    source: str,
    output: str,
    options: Options,
    progress: OnProgress = lambda reached: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Summary:
    """Score a CSV, JSONL or Parquet file, or standard input (`-`), into `output` (`-` is standard output).

    The records pass through as they were read, with `prediction` and `confidence` appended; `options` may ask for more
    fields, and for fewer of the records' own, which then are written anew. Rows that cannot be scored go to a file of
    rejects beside the output. A file's output appears when it is complete; an interrupted run continues when it is
    called again. An output that is there already is replaced where it is one of ours, as it was written, or with
    `options.overwrite`; a link is followed, and what goes to a FIFO or a device goes through. `progress` is told how
    far it is, and `stopping` is asked, several times a second; when that says so, the batches in hand end and
    `Interrupted` is raised: what is kept are the windows that were finished before. Raises `UsageError` on input
    that cannot be read or an output that cannot be written, and `CheckFailed` on a row that cannot be scored with
    `on_error="fail"`.
    """
    start = time.perf_counter()
    if options.explain != scorer.explained_words:
        raise UsageError(f"explanations of {options.explain} words need Scorer(explain={options.explain})")
    target, passing = Kind.of(output), is_passing(output)
    if target.place == "object store":
        raise UsageError(
            f"{output}: only --engine ray writes to an object store; add it, or name a local file: -o FILE"
        )
    if passing and target.format == "parquet":
        raise UsageError(f"{output}: Parquet cannot be written to a pipe or a device; name a file: -o FILE")
    check_output(source, output, options.overwrite)
    with ExitStack() as stack:
        table = open_records(source, target, options, stack)
        plan = Plan.of(table.reader, scorer.labels, options)
        rows = plan.rows()
        rejects = rejects_of(source, output)
        summary = Summary(source, output, None, scorer.model, scorer.provider, plan.text_column)
        summary.found = found(table, plan)
        summary.abstained = None if options.min_confidence is None else 0
        counts = LabelCounts.none(len(scorer.labels))
        resumable = table.status is not None and not passing
        job = describe_job(source, table, _model(scorer), plan, options, (WINDOW_ROWS, WINDOW_BYTES))
        sink = Stream(target, rows.header, rejects) if passing else Parts(target, job, options.resume and resumable)
        stack.callback(sink.close)
        for entry in sink.entries:
            summary.add(entry)
            counts.add(entry.label_counts())
        summary.resumed = summary.rows
        if sink.entries:
            table.reader.resume(sink.entries[-1].end_offset, sink.entries[-1].end_line)

        under_way: deque[Window] = deque()

        def tell_and_ask() -> None:
            done: float = sink.entries[-1].end_offset if sink.entries else 0
            begun, rows_done = done, summary.rows
            for window in under_way:
                answered, end = window.answered(), window.records[-1].end_offset
                done += (end - begun) * answered / len(window.records)
                rows_done += answered
                begun = end
            kept = _what_was_kept(summary, resumable)
            progress(JobProgress(done, table.size, rows_done, summary.rows, summary.resumed, kept))
            if stopping():
                for window in under_way:
                    window.pending.cancel()
                if not resumable:
                    sink.discard()
                raise Interrupted(kept)

        def finish_oldest() -> None:
            for _ in under_way[0].pending.waiting():
                tell_and_ask()
            window = under_way.popleft()
            entry, part, rejected = finish(window, plan, rows, summary.input)
            sink.commit(entry, part, rejected)
            summary.add(entry)
            counts.add(entry.label_counts())
            tell_and_ask()

        tell_and_ask()
        whole = UntilBroken(table.reader)
        to_do = cut(limited(whole, options, summary.rows), WINDOW_ROWS, WINDOW_BYTES)
        for number, records in enumerate(to_do, len(sink.entries)):
            reasons = [plan.reason(record) for record in records]
            if options.on_error == "fail" and any(reasons):
                line, reason = next((r.line, why) for r, why in zip(records, reasons, strict=True) if why)
                sink.discard()
                raise CheckFailed(f"{source}:{line}: {reason}; nothing was written (--on-error fail)")
            under_way.append(begin(scorer, plan, number, records, reasons))
            if len(under_way) > WINDOWS_AHEAD:
                finish_oldest()
            tell_and_ask()
        while under_way:
            finish_oldest()
        if whole.error is not None:
            if not resumable:
                sink.discard()
            raise UsageError(f"{whole.error}. {_what_is_left(summary, sink)}")
        summary.rejects = str(rejects) if summary.rejected else None
        if plan.label_column is not None:
            summary.label_metrics = label_metrics(counts, scorer.labels, plan.label_column)
        if scorer.reference is not None:
            seen = sum((Statistics.from_json(entry.statistics) for entry in sink.entries), Statistics())
            summary.drift = find_drift(scorer.reference, seen, scorer.bundle.specification)
        if table.passed is not None and options.limit is None:
            job = {**job, "input contents": (table.passed.size, None, table.passed.sha256(), "all")}
        made_by = Provenance.of(job, scorer.bundle.folder, scorer.model, scorer.provider)
        sink.publish(rows.header, rejects, made_by.record(summary.scored, summary.rejected))
        summary.made_by = made_by
    summary.seconds = time.perf_counter() - start
    return summary


def preview_file(scorer: Scorer, source: str, output: str, options: Options) -> Preview:
    """What `score_file` would do: reads the first window, scores the first rows, writes nothing.

    Raises `UsageError` where the input cannot be read, or the output not be written.
    """
    check_output(source, output, options.overwrite)
    with ExitStack() as stack:
        table = open_records(source, Kind.of(output), options, stack)
        reader = table.reader
        plan = Plan.of(reader, scorer.labels, options)
        records = next(cut(limited(reader, options, 0), WINDOW_ROWS, WINDOW_BYTES), [])
    reasons = [plan.reason(record) for record in records]
    texts = [None if why else plan.text(r.fields) for r, why in zip(records, reasons, strict=True)][:PREVIEW_ROWS]
    predictions = iter(scorer.score([text for text in texts if text is not None]))
    rows = []
    for record, reason, text in zip(records, reasons, texts, strict=False):
        if text is None:
            rows.append(PreviewRow(record.line, None, None, None, reason))
        else:
            prediction = next(predictions)
            line = " ".join(text[: 2 * PREVIEW_TEXT].split())
            start = line if len(line) <= PREVIEW_TEXT else f"{opening(line, PREVIEW_TEXT)} …"
            rows.append(PreviewRow(record.line, start, prediction.label, prediction.confidence, None))
    return Preview(
        input=source,
        output=output,
        format=reader.format,
        columns=reader.columns,
        text_column=plan.text_column,
        found=found(table, plan),
        label_column=plan.label_column,
        output_columns=(*(reader.columns if plan.selection is None else plan.selection.kept), *plan.names),
        model=scorer.model,
        provider=scorer.provider,
        records=len(records),
        rejected=sum(reason is not None for reason in reasons),
        rows=rows,
    )


def found(table: Table, plan: Plan) -> list[str]:
    """What was found out of an input that is not as usual, and of its output, in words."""
    written_as = table.reader.written_as
    return [*table.found, *([f"written as {written_as}"] if written_as else []), *([plan.note] if plan.note else [])]


def _model(scorer: Scorer) -> Mapping[str, Any]:
    return {"model": scorer.bundle.identity, "model file": scorer.model, "provider": scorer.provider}


def _what_was_kept(summary: Summary, resumable: bool) -> str:
    if resumable:
        return f"{summary.rows:,} rows of {summary.input} are done and kept; run the same command again to continue"
    return f"{summary.input}: nothing was kept, this input cannot be resumed"


def _what_is_left(summary: Summary, sink: Parts | Stream) -> str:
    """What an input that broke off leaves behind."""
    before = f"The {summary.rows:,} rows before that"
    if not isinstance(sink, Parts):
        return f"{before} are written"
    if not sink.folder.exists():
        return "Nothing was kept, this input cannot be resumed"
    last = sink.entries[-1].end_line - 1 if sink.entries else 1
    return f"{before}, to line {last:,}, are scored and kept: {sink.folder}/*.rows"
