"""Durable partial output: every finished window is a part on disk before the journal names it.

`OUTPUT.parts/` holds `journal.jsonl` (first line: the job, then a line a window) and two files a window, `N.rows` and
`N.rejects`. A killed job loses the windows that were not in the journal, and nothing else.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.errors import UsageError
from toolchain.files.compression import check_packing, compressing
from toolchain.files.kind import Kind
from toolchain.files.outputs import real, record_bytes, record_path, write_durably
from toolchain.measures.metrics import LabelCounts
from toolchain.scoring.parquet_rows import join_parts

JOURNAL = "journal.jsonl"
PARTS = ".parts"
"""What is behind the output's name in the name of the folder."""
SHARDS = ".shards"
"""The same for the folder of the distributed engine."""
UNPUBLISHED = "meta.json"
"""The record of the output, in the folder until the output is in its place."""

_part = re.compile(rf"{re.escape(JOURNAL)}|{re.escape(UNPUBLISHED)}|rows|rejects|[0-9]{{9,}}\.(rows|rejects)")


@dataclass(frozen=True)
class WindowEntry:
    """One finished window in the journal. `end_offset` (bytes) and `end_line` are where the next one begins.

    The last fields are for jobs that ask for them: rows under the confidence limit, and `LabelCounts`; `statistics` are
    those of `toolchain.measures.drift`, where the model has a reference to compare them with.
    """

    window: int
    scored: int
    rejected: int
    tokens: int
    unknown: int
    labels: dict[str, int]
    end_offset: int
    end_line: int
    rows_bytes: int
    rejects_bytes: int
    abstained: int = 0
    confusion: Sequence[Sequence[int]] = ()
    log_loss: float = 0.0
    unlabelled: int = 0
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def label_counts(self) -> LabelCounts:
        """What the window adds to the figures against known labels."""
        confusion = np.array(self.confusion, np.int64)
        return LabelCounts(confusion, self.log_loss, self.unlabelled, Counter(self.unknown_labels))


class Parts:
    """The parts of one output file, those of an interrupted run included when the job is the same."""

    def __init__(self, target: Kind, job: Mapping[str, Any], resume: bool) -> None:
        """`job` is everything that shapes the output, input, model and options, in plain JSON values.

        Raises `UsageError` where the parts of a different job stand in the way and `resume` is on, or a folder that
        holds something else.
        """
        check_packing(target.packing, target.name)
        self._target = target
        self.output = output = real(target.name)
        self.folder = output.with_name(output.name + PARTS)
        self.entries: list[WindowEntry] = []
        self._refuse_others()
        if self.folder.exists() and not resume:
            shutil.rmtree(self.folder)
        if (self.folder / JOURNAL).exists():
            self._load(job)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what a full disk refused must not come again when the file is closed.
            self._journal = (self.folder / JOURNAL).open("ab", buffering=0)
            if self._journal.tell() == 0:
                self._append(job)
        except OSError as error:
            raise UsageError(
                f"{output.parent}: cannot write here ({error.strerror}); name another place: -o"
            ) from error

    def commit(self, entry: WindowEntry, rows: bytes, rejects: bytes) -> None:
        """Write a window's part, make it durable, then name it in the journal."""
        with self._writing():
            for path, data in zip(self._paths(entry.window), (rows, rejects), strict=True):
                if data:
                    with path.open("wb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
            self._append(asdict(entry))
        self.entries.append(entry)

    def publish(self, header: bytes, rejects: Path, record: Mapping[str, Any]) -> None:
        """Join the parts into the output and the rejects, and rename both into place; an output is whole or absent. The
        `record` goes into the metadata of a Parquet file, and beside any other.

        An output whose name says so is compressed here: the parts are plain, so that it does not matter where they were
        cut. What was put in its place before a kill is known by the record that is still among the parts.
        """
        scored, rejected = self._windows("rows_bytes"), self._windows("rejects_bytes")
        rows, set_aside, unpublished = (self.folder / name for name in ("rows", "rejects", UNPUBLISHED))
        in_file = self._target.format == "parquet"
        files: dict[str, Path] = {}
        with self._writing():
            if rejected:
                self._join(rejected, 1, b"", set_aside, Kind.of(str(rejects)))
                files[rejects.name] = set_aside
            if scored or header:
                self._join(scored, 0, header, rows, self._target, record if in_file else None)
                files[self.output.name] = rows
            write_durably(unpublished, record_bytes(record, files))
            for joined, target in ((set_aside, rejects), (rows, self.output)):
                if target.name in files:
                    joined.replace(target)
                else:
                    target.unlink(missing_ok=True)  # what an earlier run left there is not this run's
            if files and not in_file:
                unpublished.replace(record_path(self.output))
            elif not in_file:
                record_path(self.output).unlink(missing_ok=True)
        self.discard()

    def discard(self) -> None:
        """Remove the parts."""
        self._journal.close()
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Keep the parts for a later run."""
        self._journal.close()

    def _paths(self, window: int) -> tuple[Path, Path]:
        return self.folder / f"{window:09d}.rows", self.folder / f"{window:09d}.rejects"

    def _append(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(values).encode() + b"\n"
        while line:
            line = line[self._journal.write(line) :]
        os.fsync(self._journal.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A write that fails costs nothing that the journal names."""
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot write ({error.strerror or error}); make room, and run the same command again"
            ) from error

    def _windows(self, field: str) -> list[int]:
        return [entry.window for entry in self.entries if getattr(entry, field)]

    def _join(
        self,
        windows: Sequence[int],
        which: int,
        header: bytes,
        target: Path,
        kind: Kind,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        join(header, [self._paths(window)[which] for window in windows], target, kind, record)
        with target.open("rb+") as file:
            os.fsync(file.fileno())

    def _refuse_others(self) -> None:
        """Raise `UsageError` where the folder of the parts holds something that is none."""
        if self.folder.is_dir():
            others = sorted(path.name for path in self.folder.iterdir() if not _part.fullmatch(path.name))
            if others:
                raise UsageError(f"{self.folder}: holds {others[0]}, which toolchain did not put there; move it")

    def _load(self, job: Mapping[str, Any]) -> None:
        """Take over the windows an interrupted run of the same job finished; a torn last line is cut off."""
        path = self.folder / JOURNAL
        data = path.read_bytes()
        lines = data.split(b"\n")[:-1]
        whole = 0
        for number, line in enumerate(lines):
            try:
                values = json.loads(line)
                if number == 0:
                    check_same_job(self.folder, values, job)
                else:
                    entry = WindowEntry(**values)
                    if entry.window != len(self.entries) or not self._is_whole(entry):
                        break
                    self.entries.append(entry)
            except (ValueError, TypeError):
                break
            whole += len(line) + 1
        os.truncate(path, whole)

    def _is_whole(self, entry: WindowEntry) -> bool:
        sizes = (entry.rows_bytes, entry.rejects_bytes)
        return all(
            not size or (path.is_file() and path.stat().st_size == size)
            for path, size in zip(self._paths(entry.window), sizes, strict=True)
        )


def join(
    header: bytes, parts: Iterable[Path], target: Path, kind: Kind, record: Mapping[str, Any] | None = None
) -> None:
    """Put parts behind each other into the file `target`, as `kind` says; those of Parquet are Arrow streams, and the
    file has the `record` in its metadata. Compressed here, it does not matter to the bytes where the parts were cut."""
    if kind.format == "parquet":
        join_parts(header, parts, target, record)
        return
    with compressing(target, kind.packing) as out:
        out.write(header)
        for path in parts:
            with path.open("rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)


def check_same_job(folder: str | Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `UsageError` where the unfinished run in `folder` is of another job."""
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if changed:
        raise UsageError(
            f"{folder}: holds an unfinished run with another {', '.join(changed)}; finish that "
            f"run with its own options, or start over: --no-resume"
        )
