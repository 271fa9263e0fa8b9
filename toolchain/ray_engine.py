"""Batch scoring on a Ray cluster: the local engine's windows as rows of a Ray dataset, its window code in Ray's actors.

One task a file reads it once, in order, and cuts it (where the quotes of a CSV or the batches of a Parquet file fall is
known only then); its windows stream to the actors while it goes on. An actor holds the model, reads a window by its
offset, scores it and writes it as a **shard**. `OUTPUT.shards/` holds

- `rows/` and `rejects/`: a file a window that has some. Without a merge each of `rows/` can be read by itself.
- `journal/`: what the shards depend on (`job.json`), and a line a shard, written when the shard is durable. A window
  that is asked for again, by Ray after a fault or by a job that goes on, is read from here and not scored twice.
- `manifest.json`, when all is done: the totals, and every shard with its rows, its labels and its digests.
"""

import hashlib
import json
import logging
import os
import pickle
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import ray
import ray.data
import ray.exceptions
from ray.data import ActorPoolStrategy, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from export.bundle import MANIFEST, Bundle, open_bundle
from export.errors import ExportError
from toolchain import scoring
from toolchain.compression import split_suffix
from toolchain.drift import Statistics, bundle_reference, find_drift
from toolchain.errors import CheckFailed, UsageError
from toolchain.inputs import STDIO, rejects_path
from toolchain.metrics import LabelCounts, label_metrics
from toolchain.parquet import is_parquet
from toolchain.parts import WindowEntry, check_same_job, join
from toolchain.rendering import Rows
from toolchain.scorer import Scorer
from toolchain.scoring import Interrupted, Summary
from toolchain.storage import beside, is_remote, last_name, read_bytes, remove, remove_tree, upload, write_bytes
from toolchain.storage import join as name_in
from toolchain.windows import Options, Plan, UntilBroken, begin, cut, describe_job, finish, limited, open_records

_SMALL = 1 << 20
"""So many bytes of a manifest are kept in memory while it grows: ten thousand inputs are not as many open files."""

Progress = Callable[[float, float, int], None]
"""Files done (with fractions), files in all, rows done."""


@dataclass(frozen=True)
class Cluster:
    """Where the workers run: `address` as `ray.init` has it, None for the running cluster or else this machine.

    A worker is one core and `gpus_per_worker` of a GPU. None of `workers` is as many as the cluster has room for.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0


@dataclass(frozen=True)
class Model:
    """What scores: the arguments of `Scorer`."""

    bundle: Path
    provider: str = "auto"
    provider_options: Mapping[str, str] | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class Outcome:
    """How one input ended: a summary, or the reason why there is none."""

    source: str
    summary: Summary | None
    error: UsageError | CheckFailed | None

    def completed(self) -> Summary:
        """The summary, or the error raised."""
        if self.summary is None:
            raise self.error or UsageError(f"{self.source}: was not scored")
        return self.summary


@dataclass(frozen=True)
class _Job:
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
class _File:
    """One input, by its place among them: `source` and `output` as they were named, `path` and `target` as they mean
    the same on every machine, whose tasks have working folders of their own."""

    number: int
    source: str
    output: str
    path: str
    target: str

    @property
    def shards(self) -> str:
        """The folder of its shards."""
        return f"{self.target}.shards"

    def journal(self, name: str) -> str:
        return name_in(self.shards, f"journal/{name}.json")

    def rows(self, window: int) -> str:
        return name_in(self.shards, f"rows/{window:09d}{split_suffix(self.output)[0].suffix}")

    def rejects(self, window: int) -> str:
        return name_in(self.shards, f"rejects/{window:09d}.jsonl")


@dataclass(frozen=True)
class _Task:
    """One window to score: `count` records from `begin` to `end` (offset, line). `size` is the input's, in bytes."""

    file: _File
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
class _Planned:
    """A file that was cut to its end, or to where it broke off with an `error`, in this many windows.

    `refused` is the first row that cannot be scored, with `on_error="fail"`.
    """

    file: _File
    windows: int = 0
    header: bytes = b""
    text_column: str = ""
    label_column: str | None = None
    seconds: float = 0.0
    error: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class _Shard:
    """A window that is done: its entry, and the digests of its files, None where it has none of that kind."""

    file: _File
    entry: WindowEntry
    begin: tuple[int, int]
    rows_sha256: str | None
    rejects_sha256: str | None
    run: str
    provider: str
    model: str
    share: float | None


@dataclass(frozen=True)
class _Failed:
    """A window that could not be read or written."""

    file: _File
    error: str


@dataclass(frozen=True)
class _Unusable:
    """A worker that cannot score at all."""

    error: str


def score_files(
    files: Sequence[tuple[str, str]],
    model: Model,
    options: Options,
    cluster: Cluster,
    merge: bool = False,
    progress: Progress = lambda done, total, rows: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """Score files (input, output) on a cluster, and give each one's outcome when it is known.

    As `toolchain.scoring.score_file`, and with `merge` the same bytes; without it an output is the folder
    `OUTPUT.shards`. A file that cannot be read, from the start or in its middle, costs itself alone. Raises
    `UsageError` where the cluster or the model cannot be had, and `Interrupted` when `stopping` says so; shards that
    are done stay.
    """
    bundle = open_bundle(model.bundle)
    job, jobs = _prepare(files, bundle, model, options, cluster, merge)
    ledgers = [_Ledger(file, job, bundle) for file in jobs]
    with connected(cluster.address):
        dataset = _dataset(job, jobs, bundle, cluster)
        with _as_usage_errors():
            for answer in _answers(dataset):
                if isinstance(answer, _Unusable):
                    raise UsageError(answer.error)
                ledger = ledgers[answer.file.number]
                ledger.add(answer)
                if ledger.complete:
                    yield ledger.conclude()
                progress(sum(each.share for each in ledgers), len(ledgers), sum(each.summary.rows for each in ledgers))
                if stopping():
                    raise Interrupted(
                        f"{sum(each.summary.rows for each in ledgers):,} rows are done and kept; run the same command "
                        "again to continue"
                    )
        for ledger in ledgers:
            if not ledger.complete:
                yield ledger.give_up()


def _prepare(
    files: Sequence[tuple[str, str]], bundle: Bundle, model: Model, options: Options, cluster: Cluster, merge: bool
) -> tuple[_Job, list[_File]]:
    """Refuse what cannot be, and begin anew what is not to be resumed."""
    for source, output in files:
        if STDIO in (source, output):
            raise UsageError("-: --engine ray reads and writes files; leave it away for standard input and output")
        if source == output:
            raise UsageError(f"{output}: is the input itself; name another output: -o")
    job = _Job(
        run=uuid.uuid4().hex,
        identity=bundle.identity,
        labels=bundle.specification.labels,
        bundle=str(model.bundle),
        provider=_provider(model.provider, cluster.gpus_per_worker),
        provider_options=model.provider_options,
        precision=model.precision,
        options=options,
        merge=merge,
        window=(scoring.WINDOW_ROWS, scoring.WINDOW_BYTES),
    )
    jobs = [
        _File(
            number, source, output, *(name if is_remote(name) else os.path.abspath(name) for name in (source, output))
        )
        for number, (source, output) in enumerate(files)
    ]
    if not options.resume:
        for file in jobs:
            remove_tree(file.shards)
    return job, jobs


def _provider(provider: str, gpus: float) -> str:
    """What `auto` means is settled by whether workers get a GPU, the same for all of them."""
    if provider == "auto":
        return "cuda" if gpus else "cpu"
    if provider == "cpu" and gpus:
        raise UsageError("--provider cpu with --gpus-per-worker: leave one of them away")
    if provider != "cpu" and not gpus:
        raise UsageError(f"--provider {provider}: workers get no GPU; add --gpus-per-worker 1")
    return provider


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster, of our own unless the process has one. Raises `UsageError` where there is none."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it is our messages that are for the user
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is None:
            try:
                ray.init("auto", **quiet)
            except ConnectionError:
                address = "local"
        if address == "local":
            ray.init("local", include_dashboard=False, **quiet)
        elif address is not None:
            ray.init(address, **quiet)
    except Exception as error:  # the class that Ray raises where a node does not start
        raise UsageError(
            f"--address {address or 'auto'}: no Ray cluster ({_one_line(error)}); start one (ray start --head), or "
            "take this machine: --address local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _as_usage_errors() -> Iterator[None]:
    """What Ray itself gives up on."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UsageError(
            f"Ray gave the job up ({_one_line(error)}); what is done is kept: run the same command again to continue"
        ) from error


def _workers(cluster: Cluster) -> int:
    """How many actors to ask for. Raises `UsageError` where the cluster has not what one of them needs."""
    has = ray.cluster_resources()
    if cluster.gpus_per_worker and (cluster.workers is None or cluster.address == "local"):
        room = int(min(has.get("CPU", 0), has.get("GPU", 0) / cluster.gpus_per_worker))
    else:
        room = int(has.get("CPU", 0))
    if cluster.workers is None and not room:
        raise UsageError(
            f"the cluster has {has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs, no room for a worker; if it "
            "grows on demand, say how many workers: --workers N"
        )
    if cluster.address == "local" and not room:
        raise UsageError(f"this machine has {has.get('GPU', 0):g} GPUs, too few for --gpus-per-worker")
    return cluster.workers or room


def _dataset(job: _Job, files: Sequence[_File], bundle: Bundle, cluster: Cluster) -> Dataset:
    """The pipeline: one reading task a file -> its windows, a block each -> actors -> shards. Ray starts an actor that
    dies anew, and gives its window to the next.

    A block of its own is what lets a window go to a worker while the file is still being cut; one task at a time in an
    actor keeps the last windows from waiting behind each other. The tasks that cut take no core from the actors.
    """
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = _workers(cluster)
    shipped = ray.put({name: (bundle.folder / name).read_bytes() for name in (MANIFEST, *bundle.files)})
    windows = ray.data.read_datasource(
        _Windows(job, files), override_num_blocks=len(files), num_cpus=0, concurrency=max(1, min(len(files), workers))
    )
    return windows.map_batches(
        _Worker,
        fn_constructor_args=(job, [shipped]),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        num_gpus=cluster.gpus_per_worker or None,
    )


def _answers(dataset: Dataset) -> Iterator[Any]:
    for row in dataset.iter_rows():
        yield pickle.loads(row["item"])


class _Windows(Datasource):  # type: ignore[misc]  # of no known type
    """The work list, made while it is worked off."""

    def __init__(self, job: _Job, files: Sequence[_File]) -> None:
        super().__init__()
        self._job = job
        self._files = files

    def get_name(self) -> str:
        return "Windows"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_planned, self._job, file), unknown) for file in self._files]


def _planned(job: _Job, file: _File) -> Iterator[Any]:
    return map(_block, _plan(job, file))


def _block(item: Any) -> Any:
    """A dataset's block of one row."""
    return pyarrow.table({"item": [pickle.dumps(item)]})


def _plan(job: _Job, file: _File) -> Iterator[_Task | _Planned]:
    """Cut a file as the local engine does. The same file gives the same windows, so that Ray may do it again."""
    started = time.perf_counter()
    planned = _Planned(file)
    try:
        with ExitStack() as stack:
            opened, reader = open_records(file.path, file.target, job.options, stack)
            if opened.status is None:
                raise UsageError(f"{file.source}: is no file that can be read by parts; leave --engine ray away")
            plan = Plan.of(reader, job.labels, job.options)
            planned = replace(
                planned, header=plan.rows().header, text_column=plan.text_column, label_column=plan.label_column
            )
            model = {
                "model": job.identity,
                "provider": job.provider,
                "--precision": job.precision,
                "--merge": job.merge,
            }
            _claim(file, describe_job(file.source, opened.status, model, plan, job.options, job.window))
            position = reader.start
            whole = UntilBroken(reader)
            for records in cut(limited(whole, job.options, 0), *job.window):
                if job.options.on_error == "fail":
                    refused = next(((r.line, why) for r in records if (why := plan.reason(r))), None)
                    if refused:
                        yield replace(planned, refused=f"{file.source}:{refused[0]}: {refused[1]}")
                        return
                end = (records[-1].end_offset, records[-1].end_line)
                share = end[0] / opened.size if opened.size else None
                yield _Task(file, planned.windows, position, end, len(records), opened.status.size, share)
                planned = replace(planned, windows=planned.windows + 1)
                position = end
            error = None if whole.error is None else str(whole.error)
            yield replace(planned, error=error, seconds=time.perf_counter() - started)
    except UsageError as error:
        yield replace(planned, error=str(error))
    except OSError as error:
        yield replace(planned, error=f"{file.source}: {error.strerror or error}")


def _claim(file: _File, job: Mapping[str, Any]) -> None:
    """Name what the shards depend on. Raises `UsageError` where there are shards of another job."""
    name = file.journal("job")
    if (old := read_bytes(name)) is not None:
        check_same_job(file.shards, json.loads(old), job)
    else:
        write_bytes(name, json.dumps(job, indent=2).encode())


class _Worker:
    """One actor: a session of the model, and the file it is at."""

    def __init__(self, job: _Job, shipped: Sequence[Any]) -> None:
        self._job = job
        self._source = _OpenSource(job)
        self._unusable: str | None = None
        with tempfile.TemporaryDirectory(prefix="toolchain-bundle-") as room:
            try:
                for name, data in ray.get(shipped[0]).items():
                    (Path(room) / name).write_bytes(data)
                bundle = open_bundle(Path(room))
                bundle.check()
                self._scorer = Scorer(
                    bundle, job.provider, job.provider_options, job.precision, job.options.explain, threads=1
                )
            except (UsageError, ExportError) as error:
                self._unusable = str(error).replace(room, job.bundle)

    def __call__(self, batch: Any) -> Any:
        return _block(self._answer(pickle.loads(batch["item"][0].as_py())))

    def _answer(self, item: _Task | _Planned) -> _Planned | _Shard | _Failed | _Unusable:
        if isinstance(item, _Planned):
            return item
        if self._unusable is not None:
            return _Unusable(self._unusable)
        try:
            return _done_before(item) or self._score(item)
        except (UsageError, OSError) as error:
            self._source.close()
            return _Failed(item.file, _told(item.file, error))

    def _score(self, task: _Task) -> _Shard:
        plan, rows, records = self._source.read(task)
        reasons = [plan.reason(record) for record in records]
        window = begin(self._scorer, plan, task.number, records, reasons)
        entry, part, rejects = finish(window, plan, rows, task.file.source)
        data = part if self._job.merge or not part else _readable(rows.header, part, task.file.output)
        return self._commit(task, replace(entry, rows_bytes=len(data)), data, rejects)

    def _commit(self, task: _Task, entry: WindowEntry, rows: bytes, rejects: bytes) -> _Shard:
        """Write a shard's files, then its line of the journal: what is named there is durable."""
        for name, data in zip(task.files, (rows, rejects), strict=True):
            if data:
                write_bytes(name, data)
        digests = [hashlib.sha256(data).hexdigest() if data else None for data in (rows, rejects)]
        provider, model = self._scorer.provider, self._scorer.model
        shard = _Shard(task.file, entry, task.begin, digests[0], digests[1], self._job.run, provider, model, task.share)
        line = {name: value for name, value in asdict(shard).items() if name not in ("file", "share")}
        write_bytes(task.file.journal(f"{task.number:09d}"), json.dumps(line).encode())
        return shard


class _OpenSource:
    """The file that a worker reads from; it stays open from one of its windows to the next."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._stack = ExitStack()
        self._file: _File | None = None

    def read(self, task: _Task) -> tuple[Plan, Rows, list[Any]]:
        """The records of a window. Raises `UsageError` where they are no longer what was planned."""
        if self._file != task.file:
            self.close()
            _, self._reader = open_records(task.file.path, task.file.target, self._job.options, self._stack, task.size)
            self._plan = Plan.of(self._reader, self._job.labels, self._job.options)
            self._rows = self._plan.rows()
            self._file = task.file
        self._reader.resume(*task.begin)
        records = list(islice(self._reader, task.count))
        if len(records) < task.count or (records[-1].end_offset, records[-1].end_line) != task.end:
            raise UsageError(
                f"{task.file.source}: has changed since the job began, behind line {task.begin[1]:,}; score it again "
                "when it is whole: --no-resume"
            )
        return self._plan, self._rows, records

    def close(self) -> None:
        self._stack.close()
        self._file = None


def _done_before(task: _Task) -> _Shard | None:
    """The shard of a window that was scored already, by this run or one before it, where all of it is still there."""
    line = read_bytes(task.file.journal(f"{task.number:09d}"))
    if line is None:
        return None
    try:
        values = json.loads(line)
        entry = WindowEntry(**values.pop("entry"))
        begin = tuple(values.pop("begin"))
        shard = _Shard(file=task.file, entry=entry, begin=begin, share=task.share, **values)
    except (ValueError, TypeError, KeyError):
        return None
    if (begin, (entry.end_offset, entry.end_line)) != (task.begin, task.end):
        return None
    for name, digest in zip(
        (task.file.rows(task.number), task.file.rejects(task.number)),
        (shard.rows_sha256, shard.rejects_sha256),
        strict=True,
    ):
        if digest is not None:
            data = read_bytes(name)
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                return None
    return shard


def _readable(header: bytes, part: bytes, output: str) -> bytes:
    """A part as a file that can be read by itself."""
    if not is_parquet(output):
        return header + part
    with tempfile.TemporaryDirectory() as room:
        stream, whole = Path(room) / "part", Path(room) / "whole"
        stream.write_bytes(part)
        join(header, [stream], whole, "", parquet=True)
        return whole.read_bytes()


def _told(file: _File, error: Exception) -> str:
    """An error with the input's name, if it is not in it."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.filename or file.output}: {error.strerror or _one_line(error)}"
    return text if file.source in text else f"{file.source}: {text}"


@dataclass
class _Ledger:
    """What the driver knows of one file. Shards come in any order and are counted in the file's, so that sums are those
    of the local engine bit for bit; what is counted goes to a file, so that a long job needs no memory."""

    file: _File
    job: _Job
    bundle: Bundle
    summary: Summary = field(init=False)
    share: float = 0.0
    complete: bool = False
    _planned: _Planned | None = None
    _error: str | None = None

    def __post_init__(self) -> None:
        self.summary = Summary(self.file.source, f"{self.file.output}.shards", None, "", self.job.provider, "")
        self.summary.abstained = None if self.job.options.min_confidence is None else 0
        self._started = time.perf_counter()
        self._counts = LabelCounts.none(len(self.job.labels))
        self._seen = Statistics()
        self._waiting: dict[int, _Shard] = {}
        self._counted = 0
        self._line = 1
        self._with_rows: list[int] = []
        self._with_rejects: list[int] = []
        self._lines = tempfile.SpooledTemporaryFile(_SMALL)  # noqa: SIM115 - closed with the ledger

    def add(self, answer: _Planned | _Shard | _Failed) -> None:
        """Take in what a task says."""
        if isinstance(answer, _Planned):
            self._planned = answer
        elif isinstance(answer, _Failed):
            self._error = self._error or answer.error
        else:
            self._waiting[answer.entry.window] = answer
            while shard := self._waiting.pop(self._counted, None):
                self._count(shard)
        planned = self._planned
        self.complete = (
            planned is not None and not planned.refused and self._error is None and self._counted == planned.windows
        )
        if self.complete:
            self.share = 1.0

    def _count(self, shard: _Shard) -> None:
        entry = shard.entry
        self.summary.add(entry)
        self._counts.add(entry)
        self._seen += Statistics.from_json(entry.statistics)
        self.summary.model, self.summary.provider = shard.model, shard.provider
        if shard.run != self.job.run:
            self.summary.resumed += entry.scored + entry.rejected
        if shard.rows_sha256:
            self._with_rows.append(entry.window)
        if shard.rejects_sha256:
            self._with_rejects.append(entry.window)
        self.share = shard.share or self.share
        self._line = entry.end_line
        line = {
            **asdict(entry),
            "rows": last_name(self.file.rows(entry.window)) if shard.rows_sha256 else None,
            "rows_sha256": shard.rows_sha256,
            "rejects": last_name(self.file.rejects(entry.window)) if shard.rejects_sha256 else None,
            "rejects_sha256": shard.rejects_sha256,
        }
        self._lines.write((b",\n" if self._counted else b"") + json.dumps(line, ensure_ascii=False).encode())
        self._counted += 1

    def conclude(self) -> Outcome:
        """Put the output together."""
        assert self._planned is not None
        if self._planned.error:
            before = f"The {self.summary.rows:,} rows before that, to line {self._line - 1:,}, are scored and kept: "
            kept = f". {before}{self.file.output}.shards/rows" if self._counted else ""
            return self._failed(UsageError(self._planned.error + kept))
        self.summary.text_column = self._planned.text_column
        if self._planned.label_column is not None:
            self.summary.label_metrics = label_metrics(self._counts, self.job.labels, self._planned.label_column)
        if (reference := bundle_reference(self.bundle)) is not None:
            self.summary.drift = find_drift(reference, self._seen, self.bundle.specification)
        try:
            self._merge() if self.job.merge else self._list()
        except OSError as error:
            return self._failed(
                UsageError(f"{self.file.output}: cannot write ({error.strerror or error}); run the same command again")
            )
        self.summary.seconds = time.perf_counter() - self._started
        return Outcome(self.file.source, self.summary, None)

    def give_up(self) -> Outcome:
        """The outcome of a file of which windows are missing, when no task is under way any more."""
        if self._planned is not None and self._planned.refused:
            remove_tree(self.file.shards)
            return self._failed(CheckFailed(f"{self._planned.refused}; nothing was written (--on-error fail)"))
        error = self._error or f"{self.file.source}: windows are missing"
        return self._failed(
            UsageError(
                f"{error}. Its other windows are scored and kept: {self.file.output}.shards; run the same command again"
            )
        )

    def _failed(self, error: UsageError | CheckFailed) -> Outcome:
        self._lines.close()
        return Outcome(self.file.source, None, error)

    def _merge(self) -> None:
        """One file of the rows and one of the rejects, as the local engine writes them."""
        assert self._planned is not None
        rejects = rejects_path(self.file.source, self.file.output).name
        with tempfile.TemporaryDirectory() as room:
            work = Path(room if is_remote(self.file.output) else self.file.shards)
            rows = _local(self.file.rows(number) for number in self._with_rows)
            suffix = split_suffix(self.file.output)[1]
            if self._with_rejects:
                lines = _local(self.file.rejects(number) for number in self._with_rejects)
                join(b"", lines, work / "rejected", "", parquet=False)
                upload(work / "rejected", beside(self.file.target, rejects))
            else:
                remove(beside(self.file.target, rejects))
            if self._with_rows or self._planned.header:
                join(self._planned.header, rows, work / "joined", suffix, is_parquet(self.file.output))
                upload(work / "joined", self.file.target)
            else:
                remove(self.file.target)
        remove_tree(self.file.shards)
        self._lines.close()
        self.summary.output = self.file.output
        self.summary.rejects = beside(self.file.output, rejects) if self.summary.rejected else None

    def _list(self) -> None:
        """Write the manifest."""
        assert self._planned is not None
        self.summary.rejects = f"{self.file.output}.shards/rejects" if self.summary.rejected else None
        about = {
            "job": json.loads(read_bytes(self.file.journal("job")) or b"{}"),
            "planning_seconds": round(self._planned.seconds, 3),
            "summary": asdict(self.summary),
        }
        with tempfile.TemporaryDirectory() as room:
            work = Path(room if is_remote(self.file.output) else self.file.shards)
            with (work / ".manifest").open("wb") as file:
                file.write(json.dumps(about, indent=2, ensure_ascii=False).encode().removesuffix(b"\n}"))
                file.write(b',\n  "shards": [\n')
                self._lines.seek(0)
                shutil.copyfileobj(self._lines, file)
                file.write(b"\n]}\n")
            upload(work / ".manifest", name_in(self.file.shards, "manifest.json"))
        self._lines.close()


def _local(names: Iterable[str]) -> Iterator[Path]:
    """Files as local ones, each for as long as it is the last one asked for."""
    with tempfile.TemporaryDirectory() as room:
        for name in names:
            if not is_remote(name):
                yield Path(name)
                continue
            fetched = Path(room) / "part"
            fetched.write_bytes(read_bytes(name) or b"")
            yield fetched


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
