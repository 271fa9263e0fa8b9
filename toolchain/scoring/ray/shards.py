"""The shards of a distributed job: what is cut from an input, and what is written of each window.

`OUTPUT.shards/` holds

- `rows/` and `rejects/`: a file a window that has some. Without a merge each of `rows/` can be read by itself.
- `journal/`: what the shards depend on (`job.json`), and a line a shard, written when the shard is durable. A window
  that is asked for again, after a fault or by a job that goes on, is read from here and not scored twice.
- `manifest.json`, when all is done: the totals, and every shard with its rows, its labels and its digests.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolchain.errors import UsageError
from toolchain.files.csv_records import CsvReader
from toolchain.files.kind import Kind
from toolchain.files.records import Record
from toolchain.files.storage import join as name_in
from toolchain.files.storage import read_bytes, write_bytes
from toolchain.scoring.borders import Border, Span, joined, ranges
from toolchain.scoring.job import found
from toolchain.scoring.journal import SHARDS, UNPUBLISHED, WindowEntry, check_same_job, join
from toolchain.scoring.windows import Options, Plan, UntilBroken, cut, describe_job, limited, open_records

SPAN = 64 << 20
"""Bytes of a file that one reading takes, where several find its records at once."""

ReadSpans = Callable[["File", Sequence[tuple[int, int]], int], Iterator[Span]]
"""The spans of a file of this size, each from one byte to another, in its order."""

_OURS = {"rows", "rejects", "journal", "manifest.json", ".manifest", "joined", "rejected", UNPUBLISHED}


@dataclass(frozen=True)
class Job:
    """What every task of a run knows. `window` is the limits of a cut, `run` tells this run from earlier ones."""

    run: str
    identity: str
    labels: Sequence[str]
    bundle: str
    provider: str
    provider_options: Mapping[str, str] | None
    precision: str
    options: Options
    merge: bool
    window: tuple[int, int]


@dataclass(frozen=True)
class File:
    """One input, by its place among them: `source` and `output` as they were named, `path` and `target` as they mean
    the same on every machine, whose tasks have working folders of their own."""

    number: int
    source: str
    output: Kind
    path: str
    target: Kind

    def told(self, message: str) -> str:
        """A message with the names as a person gave them, that of the unpacked file too."""
        packing = Kind.of(self.source).packing
        message = message.replace(self.path.removesuffix(packing), self.source.removesuffix(packing))
        return message.replace(self.target.name, self.output.name)

    @property
    def shards(self) -> str:
        """The folder of its shards."""
        return self.target.name + SHARDS

    def journal(self, name: str) -> str:
        """The line of the journal about a window, or `job`."""
        return name_in(self.shards, f"journal/{name}.json")

    def rows(self, window: int) -> str:
        """The rows of a window."""
        return name_in(self.shards, f"rows/{window:09d}{self.target.ending}")

    def rejects(self, window: int) -> str:
        """The rejects of a window."""
        return name_in(self.shards, f"rejects/{window:09d}.jsonl")


@dataclass(frozen=True)
class Task:
    """One window to score: `count` records from `begin` to `end` (offset, line). `size` is the input's, in bytes."""

    file: File
    number: int
    begin: tuple[int, int]
    end: tuple[int, int]
    count: int
    size: int
    share: float | None

    @property
    def files(self) -> tuple[str, str]:
        """Where its rows go, and its rejects."""
        return self.file.rows(self.number), self.file.rejects(self.number)


@dataclass(frozen=True)
class Planned:
    """A file that was cut to its end, or to where it broke off with an `error`, in this many windows.

    `refused` is the first row that cannot be scored, with `on_error="fail"`.
    """

    file: File
    windows: int = 0
    header: bytes = b""
    text_column: str = ""
    found: tuple[str, ...] = ()
    label_column: str | None = None
    seconds: float = 0.0
    error: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Shard:
    """A window that is done: its entry, and the digests of its files, None where it has none of that kind."""

    file: File
    entry: WindowEntry
    begin: tuple[int, int]
    rows_sha256: str | None
    rejects_sha256: str | None
    run: str
    provider: str
    model: str
    share: float | None


@dataclass(frozen=True)
class Failed:
    """A window that could not be read or written."""

    file: File
    error: str


@dataclass(frozen=True)
class Unusable:
    """A worker that cannot score at all."""

    error: str


def refuse_others(file: File) -> None:
    """Raise `UsageError` where the folder of the shards is on this machine and holds something that is none."""
    folder = Path(file.shards)
    if file.target.place == "local" and folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - _OURS)
        if others:
            raise UsageError(
                f"{file.output.name}.shards: holds {others[0]}, which toolchain did not put there; move it"
            )


def plan_windows(job: Job, file: File, read_spans: ReadSpans | None = None) -> Iterator[Task | Planned]:
    """Cut a file as the local engine does. The same file gives the same windows, so that Ray may do it again.

    A large CSV file is cut from many places at once where `read_spans` can, but not where each row has to be looked at.
    """
    started = time.perf_counter()
    planned = Planned(file)
    try:
        with ExitStack() as stack:
            table = open_records(file.path, file.target, job.options, stack)
            if table.status is None:
                raise UsageError(f"{file.source}: cannot be read in parts; leave --engine ray out")
            plan = Plan.of(table.reader, job.labels, job.options)
            planned = replace(
                planned,
                header=plan.rows().header,
                text_column=plan.text_column,
                found=tuple(found(table, plan)),
                label_column=plan.label_column,
            )
            model = {
                "model": job.identity,
                "provider": job.provider,
                "--precision": job.precision,
                "--merge": job.merge,
            }
            _claim(file, describe_job(file.source, table, model, plan, job.options, job.window))
            position = table.reader.start
            whole = UntilBroken(table.reader)
            records: Iterable[Record | Border] = limited(whole, job.options, 0)
            if job.options.on_error == "fail":
                records = _unrefused(limited(whole, job.options, 0), plan)
            elif read_spans and isinstance(table.reader, CsvReader) and table.size and job.options.limit is None:
                parts = ranges(position[0], table.size, SPAN)
                records = joined(table.reader, read_spans(file, parts, table.size)) if len(parts) > 1 else records
            for window in cut(records, *job.window):
                end = (window[-1].end_offset, window[-1].end_line)
                share = end[0] / table.size if table.size else None
                yield Task(file, planned.windows, position, end, len(window), table.status.size, share)
                planned = replace(planned, windows=planned.windows + 1)
                position = end
            error = None if whole.error is None else file.told(str(whole.error))
            yield replace(planned, error=error, seconds=time.perf_counter() - started)
    except _Refused as row:
        yield replace(planned, refused=f"{file.source}:{row}")
    except UsageError as error:
        yield replace(planned, error=file.told(str(error)))
    except OSError as error:
        yield replace(planned, error=f"{file.source}: {error.strerror or error}")


class _Refused(Exception):
    """A row that cannot be scored, where that ends the run."""


def _unrefused(records: Iterable[Record], plan: Plan) -> Iterator[Record]:
    for record in records:
        if reason := plan.reason(record):
            raise _Refused(f"{record.line}: {reason}")
        yield record


def _claim(file: File, job: Mapping[str, Any]) -> None:
    """Name what the shards depend on. Raises `UsageError` where there are shards of another job."""
    name = file.journal("job")
    if (old := read_bytes(name)) is not None:
        check_same_job(file.shards, json.loads(old), job)
    else:
        write_bytes(name, json.dumps(job, indent=2).encode())


def digest(data: bytes) -> str | None:
    """The SHA-256 of a shard's file, None where it has none of that kind."""
    return hashlib.sha256(data).hexdigest() if data else None


def write_shard(task: Task, shard: Shard, rows: bytes, rejects: bytes) -> None:
    """Write a shard's files, then its line of the journal: what is named there is durable."""
    for name, data in zip(task.files, (rows, rejects), strict=True):
        if data:
            write_bytes(name, data)
    line = {name: value for name, value in asdict(shard).items() if name not in ("file", "share")}
    write_bytes(task.file.journal(f"{task.number:09d}"), json.dumps(line).encode())


def done_before(task: Task) -> Shard | None:
    """The shard of a window that was scored already, by this run or one before it, where all of it is still there."""
    line = read_bytes(task.file.journal(f"{task.number:09d}"))
    if line is None:
        return None
    try:
        values = json.loads(line)
        entry = WindowEntry(**values.pop("entry"))
        begin = tuple(values.pop("begin"))
        shard = Shard(file=task.file, entry=entry, begin=begin, share=task.share, **values)
    except (ValueError, TypeError, KeyError):
        return None
    if (begin, (entry.end_offset, entry.end_line)) != (task.begin, task.end):
        return None
    files = zip(task.files, (shard.rows_sha256, shard.rejects_sha256), strict=True)
    whole = all(expected is None or digest(read_bytes(name) or b"") == expected for name, expected in files)
    return shard if whole else None


def readable(header: bytes, part: bytes, output: Kind) -> bytes:
    """A part as a file that can be read by itself."""
    if output.format != "parquet":
        return header + part
    with tempfile.TemporaryDirectory() as room:
        stream, whole = Path(room) / "part", Path(room) / "whole"
        stream.write_bytes(part)
        join(header, [stream], whole, output)
        return whole.read_bytes()
