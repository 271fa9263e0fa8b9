"""Batch scoring on a Ray cluster: the local engine's windows as rows of a Ray dataset, its window code in Ray's actors.

One task a file reads it once, in order, and cuts it (where the quotes of a CSV or the batches of a Parquet file fall is
known only then); its windows stream to the actors while it goes on. On a large cluster other tasks find the records of
a large CSV file ahead of it (`toolchain.scoring.borders`). An actor holds the model, reads a window by its
offset, scores it and writes it as a shard (`toolchain.scoring.ray.shards`).
"""

import logging
import os
import pickle
import socket
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
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
from toolchain.errors import UsageError
from toolchain.files.kind import STDIO, Kind
from toolchain.files.storage import remove_tree
from toolchain.scoring import job as local
from toolchain.scoring.batch import Outcome
from toolchain.scoring.job import Interrupted
from toolchain.scoring.places import check_output, check_places, followed, is_passing
from toolchain.scoring.ray.cutting import read_spans
from toolchain.scoring.ray.ledger import Ledger
from toolchain.scoring.ray.shards import (
    Failed,
    File,
    Job,
    Planned,
    Shard,
    Task,
    Unusable,
    digest,
    done_before,
    plan_windows,
    readable,
    refuse_others,
    write_shard,
)
from toolchain.scoring.rendering import Rows
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.windows import Options, Plan, begin, finish, open_records

_SCORERS_A_CUTTER = 32
"""One core finds the records for some hundred that score them; the first windows are to be there soon."""

_PATIENCE = 5.0  # seconds until somebody has to answer at --address

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

    As `toolchain.scoring.job.score_file`, and with `merge` the same bytes; without it an output is the folder
    `OUTPUT.shards`. A file that cannot be read, from the start or in its middle, costs itself alone. Raises
    `UsageError` where the cluster or the model cannot be had, and `Interrupted` when `stopping` says so; shards that
    are done stay.
    """
    bundle = open_bundle(model.bundle)
    job, jobs = _prepare(files, bundle, model, options, cluster, merge)
    ledgers = [Ledger(file, job, bundle) for file in jobs]
    with ExitStack() as stack:
        for ledger in ledgers:
            stack.callback(ledger.close)
        stack.enter_context(connected(cluster.address))
        dataset = _dataset(job, jobs, bundle, cluster)
        with _as_usage_errors():
            for answer in _answers(dataset):
                if isinstance(answer, Unusable):
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
) -> tuple[Job, list[File]]:
    """Refuse what cannot be, and begin anew what is not to be resumed."""
    for source, output in files:
        if source == STDIO or is_passing(output):
            passing = STDIO if source == STDIO else output
            raise UsageError(f"{passing}: --engine ray reads and writes files; leave it out for pipes and devices")
        if source == output:
            raise UsageError(f"{output}: is an input; name another output: -o")
        if merge:
            check_output(source, output, options.overwrite)
    check_places(files, sharded=not merge)
    job = Job(
        run=uuid.uuid4().hex,
        identity=bundle.identity,
        labels=bundle.specification.labels,
        bundle=str(model.bundle),
        provider=_provider(model.provider, cluster.gpus_per_worker),
        provider_options=model.provider_options,
        precision=model.precision,
        options=options,
        merge=merge,
        window=(local.WINDOW_ROWS, local.WINDOW_BYTES),
    )
    jobs = [
        File(number, source, Kind.of(output), _anywhere(source), Kind.of(_anywhere(followed(output))))
        for number, (source, output) in enumerate(files)
    ]
    for file in jobs:
        refuse_others(file)
        if not options.resume:
            remove_tree(file.shards)
    return job, jobs


def _anywhere(name: str) -> str:
    """A name that means the same in any working folder."""
    return os.path.abspath(name) if Kind.of(name).place == "local" else name


def _provider(provider: str, gpus: float) -> str:
    """What `auto` means is settled by whether workers get a GPU, the same for all of them."""
    if provider == "auto":
        return "cuda" if gpus else "cpu"
    if provider == "cpu" and gpus:
        raise UsageError("--provider cpu with --gpus-per-worker: leave one of them out")
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
    _require_answer(address)
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


def _require_answer(address: str | None) -> None:
    """Raise `UsageError` where nobody listens at `HOST:PORT` or `ray://HOST:PORT`; Ray would try for a minute."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--address {address}: no answer ({_one_line(error)}); start a cluster (ray start --head), or "
            "take this machine: --address local"
        ) from error


@contextmanager
def _as_usage_errors() -> Iterator[None]:
    """What Ray itself gives up on."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UsageError(
            f"Ray ended the job ({_one_line(error)}); finished windows are kept: run the same command again to continue"
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


def _dataset(job: Job, files: Sequence[File], bundle: Bundle, cluster: Cluster) -> Dataset:
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
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors")  # a small file has few windows
    workers = _workers(cluster)
    shipped = ray.put({name: (bundle.folder / name).read_bytes() for name in (MANIFEST, *bundle.files)})
    windows = ray.data.read_datasource(
        _Windows(job, files, max(1, workers // _SCORERS_A_CUTTER)),
        override_num_blocks=len(files),
        num_cpus=0,
        concurrency=max(1, min(len(files), workers)),
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

    def __init__(self, job: Job, files: Sequence[File], cutters: int) -> None:
        super().__init__()
        self._job = job
        self._cutters = cutters
        self._files = files

    def get_name(self) -> str:
        return "Windows"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_planned, self._job, file, self._cutters), unknown) for file in self._files]


def _planned(job: Job, file: File, cutters: int) -> Iterator[Any]:
    return map(_block, plan_windows(job, file, partial(read_spans, job, cutters) if cutters > 1 else None))


def _block(item: Any) -> Any:
    """A dataset's block of one row."""
    return pyarrow.table({"item": [pickle.dumps(item)]})


class _Worker:
    """One actor: a session of the model, and the file it is at."""

    def __init__(self, job: Job, shipped: Sequence[Any]) -> None:
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

    def _answer(self, item: Task | Planned) -> Planned | Shard | Failed | Unusable:
        if isinstance(item, Planned):
            return item
        if self._unusable is not None:
            return Unusable(self._unusable)
        try:
            return done_before(item) or self._score(item)
        except (UsageError, OSError) as error:
            self._source.close()
            return Failed(item.file, _told(item.file, error))

    def _score(self, task: Task) -> Shard:
        plan, rows, records = self._source.read(task)
        reasons = [plan.reason(record) for record in records]
        window = begin(self._scorer, plan, task.number, records, reasons)
        entry, part, rejects = finish(window, plan, rows, task.file.source)
        data = part if self._job.merge or not part else readable(rows.header, part, task.file.target)
        entry = replace(entry, rows_bytes=len(data))
        shard = Shard(
            task.file,
            entry,
            task.begin,
            digest(data),
            digest(rejects),
            self._job.run,
            self._scorer.provider,
            self._scorer.model,
            task.share,
        )
        write_shard(task, shard, data, rejects)
        return shard


class _OpenSource:
    """The file that a worker reads from; it stays open from one of its windows to the next."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stack = ExitStack()
        self._file: File | None = None

    def read(self, task: Task) -> tuple[Plan, Rows, list[Any]]:
        """The records of a window. Raises `UsageError` where they are no longer what was planned."""
        if self._file != task.file:
            self.close()
            table = open_records(task.file.path, task.file.target, self._job.options, self._stack, task.size)
            self._reader = table.reader
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


def _told(file: File, error: Exception) -> str:
    """An error with the input's name, if it is not in it."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.filename or file.output.name}: {error.strerror or _one_line(error)}"
    text = file.told(text)
    return text if file.source in text else f"{file.source}: {text}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
