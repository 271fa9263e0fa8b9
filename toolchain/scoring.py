"""Batch scoring of a file: one stream of windows, read -> scored -> committed, in the file's order."""

import hashlib
import io
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from export.text import is_blank
from toolchain.errors import CheckFailed, UsageError
from toolchain.inputs import STDIO, open_input, rejects_path
from toolchain.parts import Parts, WindowEntry
from toolchain.records import TEXT_COLUMNS, Reader, Record, find_column, open_reader
from toolchain.rendering import Renderer, field_names, render_header, render_reject, row_renderer
from toolchain.scorer import PendingScores, Scorer

WINDOW_ROWS = 4096
WINDOW_BYTES = 8 << 20
WINDOWS_AHEAD = 2

_EDGE = 1 << 20


@dataclass(frozen=True)
class Options:
    """How a file is scored. `max_rejects` is a share of the rows."""

    text_column: str | None = None
    on_error: Literal["reject", "fail"] = "reject"
    max_rejects: float = 0.1
    resume: bool = True


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

    def add(self, entry: WindowEntry) -> None:
        """Count a window."""
        self.rows += entry.scored + entry.rejected
        self.scored += entry.scored
        self.rejected += entry.rejected
        self.tokens += entry.tokens
        self.unknown += entry.unknown
        self.labels = dict(sorted((Counter(self.labels) + Counter(entry.labels)).items()))


class Interrupted(Exception):
    """The run was asked to stop; what was finished is kept where it can be resumed."""


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
    """Score a CSV or JSONL file, or standard input (`-`), into `output` (`-` is standard output).

    The records pass through as they were read, with `prediction` and `confidence` appended. Rows that cannot be scored
    go to a file of rejects beside the output. A file's output appears when it is complete; an interrupted run continues
    when it is called again. `progress` gets bytes done, bytes in all, and the summary so far; when `stopping` says so,
    the windows in hand are committed and `Interrupted` is raised. Raises `UsageError` on input that cannot be read and
    `CheckFailed` on a row that cannot be scored with `on_error="fail"`.
    """
    start = time.perf_counter()
    with ExitStack() as stack:
        stream, total = open_input(source, stack)
        if STDIO not in (source, output) and Path(output).exists() and Path(output).samefile(source):
            raise UsageError(f"{output}: is the input itself; name another output: -o")
        reader = open_reader(stream, "standard input" if source == STDIO else source, None)
        text_column = find_column(reader, options.text_column, TEXT_COLUMNS, "--text-column NAME")
        names = field_names(reader.columns)
        render = row_renderer(reader, names, scorer.labels)
        header = render_header(reader, names)
        rejects = rejects_path(source, output)
        summary = Summary(source, output, None, scorer.model, scorer.provider, text_column)
        resumable = total is not None and output != STDIO
        sink: Parts | _StandardOutput
        if output == STDIO:
            sink = _StandardOutput(header, rejects)
        else:
            job = _job(source, stream if resumable else None, scorer, text_column)
            sink = Parts(Path(output), job, options.resume and resumable)
        stack.callback(sink.close)
        for entry in sink.entries:
            summary.add(entry)
        summary.resumed = summary.rows
        if sink.entries:
            reader.resume(sink.entries[-1].end_offset, sink.entries[-1].end_line)  # type: ignore[attr-defined]

        under_way: deque[_Window] = deque()

        def finish_oldest() -> None:
            window = under_way.popleft()
            entry, rows, rejected = _finish(window, render, names, scorer.labels, summary.input)
            sink.commit(entry, rows, rejected)
            summary.add(entry)
            summary.seconds = time.perf_counter() - start
            progress(entry.end_offset, total, summary)

        for number, records in enumerate(_windows(reader), len(sink.entries)):
            reasons = [_reason(record, text_column, names) for record in records]
            if options.on_error == "fail" and any(reasons):
                line, reason = next((r.line, why) for r, why in zip(records, reasons, strict=True) if why)
                if output != STDIO:
                    sink.discard()
                raise CheckFailed(f"{source}:{line}: {reason}; nothing was written (--on-error fail)")
            texts = [r.fields[text_column] for r, why in zip(records, reasons, strict=True) if why is None]
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
        summary.rejects = str(rejects) if summary.rejected else None
        sink.publish(header, rejects)
    summary.seconds = time.perf_counter() - start
    return summary


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


def _windows(reader: Reader) -> Iterator[list[Record]]:
    """Consecutive records, cut by count and bytes alone: the same file is always cut the same way."""
    window: list[Record] = []
    size = 0
    for record in reader:
        window.append(record)
        size += len(record.raw)
        if len(window) == WINDOW_ROWS or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _reason(record: Record, text_column: str, names: Sequence[str]) -> str | None:
    """Why a record cannot be scored, or None where it can."""
    if record.error is not None:
        return record.error
    text = record.fields.get(text_column)
    if text is None:
        return f"no text: the field {text_column!r} is missing or null"
    if not isinstance(text, str):
        return f"no text: the field {text_column!r} holds {type(text).__name__}, expected a string"
    if is_blank(text):
        return f"no text: the field {text_column!r} is blank"
    if taken := [name for name in names if name in record.fields]:
        return f"the record has a field {taken[0]!r} already, which the first records have not"
    return None


def _finish(
    window: _Window, render: Renderer, names: Sequence[str], labels: Sequence[str], source: str
) -> tuple[WindowEntry, bytes, bytes]:
    """Wait for a window's scores -> its journal entry, its rows and its rejects."""
    scores = window.pending.result()
    best = scores.best.tolist()
    confidences = scores.probabilities.max(axis=1).tolist() if best else []
    rows, rejects = io.BytesIO(), io.BytesIO()
    scored = 0
    for record, reason in zip(window.records, window.reasons, strict=True):
        if reason is None:
            rows.write(render(record, best[scored], confidences[scored]))
            scored += 1
        else:
            rejects.write(render_reject(record, reason, source))
    last = window.records[-1]
    entry = WindowEntry(
        window=window.number,
        scored=scored,
        rejected=len(window.records) - scored,
        tokens=int(scores.tokens.sum()),
        unknown=int(scores.unknown.sum()),
        labels={labels[index]: count for index, count in sorted(Counter(best).items())},
        end_offset=last.end_offset,
        end_line=last.end_line,
        rows_bytes=rows.tell(),
        rejects_bytes=rejects.tell(),
    )
    return entry, rows.getvalue(), rejects.getvalue()


def _job(source: str, stream: BinaryIO | None, scorer: Scorer, text_column: str) -> Mapping[str, Any]:
    """What the output depends on. A run continues only parts that were made with the same."""
    job: dict[str, Any] = {
        "input": source,
        "model": scorer.bundle.identity,
        "model file": scorer.model,
        "provider": scorer.provider,
        "text column": text_column,
        "window": [WINDOW_ROWS, WINDOW_BYTES],
    }
    if stream is not None:
        status = os.fstat(stream.fileno())
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
