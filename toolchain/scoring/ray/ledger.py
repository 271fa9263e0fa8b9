"""What the driver of a distributed job knows of each input, and what it makes of the shards in the end."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from export.bundle import Bundle
from toolchain.errors import CheckFailed, UsageError
from toolchain.files.inputs import rejects_path
from toolchain.files.kind import Kind
from toolchain.files.outputs import RECORD, record_bytes, write_durably
from toolchain.files.storage import beside, is_remote, last_name, read_bytes, remove, remove_tree, upload
from toolchain.files.storage import join as name_in
from toolchain.measures.drift import Statistics, bundle_reference, find_drift
from toolchain.measures.metrics import LabelCounts, label_metrics
from toolchain.scoring.batch import Outcome
from toolchain.scoring.job import Summary
from toolchain.scoring.journal import UNPUBLISHED, join
from toolchain.scoring.places import rejects_of
from toolchain.scoring.provenance import Provenance
from toolchain.scoring.ray.shards import Failed, File, Job, Planned, Shard

_SMALL = 1 << 20
"""So many bytes of a manifest are kept in memory while it grows: ten thousand inputs are not as many open files."""


@dataclass
class Ledger:
    """What the driver knows of one file. Shards come in any order and are counted in the file's, so that sums are those
    of the local engine bit for bit; what is counted goes to a file, so that a long job needs no memory."""

    file: File
    job: Job
    bundle: Bundle
    summary: Summary = field(init=False)
    share: float = 0.0
    complete: bool = False
    _planned: Planned | None = None
    _error: str | None = None

    def __post_init__(self) -> None:
        self.summary = Summary(self.file.source, f"{self.file.output.name}.shards", None, "", self.job.provider, "")
        self.summary.abstained = None if self.job.options.min_confidence is None else 0
        self._started = time.perf_counter()
        self._counts = LabelCounts.none(len(self.job.labels))
        self._seen = Statistics()
        self._waiting: dict[int, Shard] = {}
        self._counted = 0
        self._line = 1
        self._with_rows: list[int] = []
        self._with_rejects: list[int] = []
        self._lines = tempfile.SpooledTemporaryFile(_SMALL)  # noqa: SIM115 - closed with the ledger

    def add(self, answer: Planned | Shard | Failed) -> None:
        """Take in what a task says."""
        if isinstance(answer, Planned):
            self._planned = answer
        elif isinstance(answer, Failed):
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

    def _count(self, shard: Shard) -> None:
        entry = shard.entry
        self.summary.add(entry)
        self._counts.add(entry.label_counts())
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
            kept = f". {before}{self.file.output.name}.shards/rows" if self._counted else ""
            return self._failed(UsageError(self._planned.error + kept))
        self.summary.text_column = self._planned.text_column
        self.summary.found = list(self._planned.found)
        if self._planned.label_column is not None:
            self.summary.label_metrics = label_metrics(self._counts, self.job.labels, self._planned.label_column)
        described = json.loads(read_bytes(self.file.journal("job")) or b"{}")
        self._made_by = Provenance.of(described, Path(self.job.bundle), self.summary.model, self.summary.provider)
        self.summary.made_by = self._made_by
        if (reference := bundle_reference(self.bundle)) is not None:
            self.summary.drift = find_drift(reference, self._seen, self.bundle.specification)
        try:
            self._merge() if self.job.merge else self._list()
        except OSError as error:
            return self._failed(
                UsageError(
                    f"{self.file.output.name}: cannot write ({error.strerror or error}); run the same command again"
                )
            )
        self.summary.seconds = time.perf_counter() - self._started
        return Outcome.of(self.summary, self.job.options)

    def give_up(self) -> Outcome:
        """The outcome of a file of which windows are missing, when no task is under way any more."""
        if self._planned is not None and self._planned.refused:
            remove_tree(self.file.shards)
            return self._failed(CheckFailed(f"{self._planned.refused}; nothing was written (--on-error fail)"))
        error = self._error or f"{self.file.source}: windows are missing"
        return self._failed(
            UsageError(
                f"{error}. Its other windows are scored and kept: {self.file.output.name}.shards; run the same command "
                "again"
            )
        )

    def close(self) -> None:
        """Let go of what was counted."""
        self._lines.close()

    def _failed(self, error: UsageError | CheckFailed) -> Outcome:
        return Outcome.failed(self.file.source, error)

    def _merge(self) -> None:
        """One file of the rows and one of the rejects, and the record of both, as the local engine writes them."""
        assert self._planned is not None
        target = self.file.target
        name, rejects = last_name(target.name), rejects_path(Kind.of(self.file.source), target).name
        record = self._made_by.record(self.summary.scored, self.summary.rejected)
        in_file = target.format == "parquet"
        files: dict[str, Path] = {}
        with tempfile.TemporaryDirectory() as room:
            work = self._work(room)
            if self._with_rejects:
                lines = _local(self.file.rejects(number) for number in self._with_rejects)
                join(b"", lines, work / "rejected", Kind.of(rejects))
                files[rejects] = work / "rejected"
            if self._with_rows or self._planned.header:
                rows = _local(self.file.rows(number) for number in self._with_rows)
                join(self._planned.header, rows, work / "joined", target, record if in_file else None)
                files[name] = work / "joined"
            write_durably(work / UNPUBLISHED, record_bytes(record, files))
            for written in (rejects, name):
                if written in files:
                    upload(files[written], beside(target.name, written))
                else:
                    remove(beside(target.name, written))
            if files and not in_file:
                upload(work / UNPUBLISHED, target.name + RECORD)
            elif not in_file:
                remove(target.name + RECORD)
        remove_tree(self.file.shards)
        self.summary.output = self.file.output.name
        if self.summary.rejected:
            local = target.place == "local"
            self.summary.rejects = (
                str(rejects_of(self.file.source, self.summary.output)) if local else beside(target.name, rejects)
            )

    def _work(self, room: str) -> Path:
        """A local folder to put a file together in: on the output's own disk, where it has one."""
        return Path(self.file.shards if self.file.target.place == "local" else room)

    def _list(self) -> None:
        """Write the manifest."""
        assert self._planned is not None
        self.summary.rejects = f"{self.file.output.name}.shards/rejects" if self.summary.rejected else None
        about = {
            "job": json.loads(read_bytes(self.file.journal("job")) or b"{}"),
            "planning_seconds": round(self._planned.seconds, 3),
            "summary": asdict(self.summary),
        }
        with tempfile.TemporaryDirectory() as room:
            work = self._work(room)
            with (work / ".manifest").open("wb") as file:
                file.write(json.dumps(about, indent=2, ensure_ascii=False).encode().removesuffix(b"\n}"))
                file.write(b',\n  "shards": [\n')
                self._lines.seek(0)
                shutil.copyfileobj(self._lines, file)
                file.write(b"\n]}\n")
            upload(work / ".manifest", name_in(self.file.shards, "manifest.json"))


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
