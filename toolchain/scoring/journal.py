"""Durable partial output: every finished window is a part on disk before the journal names it.

`OUTPUT.parts/` holds `journal.jsonl` (first line: the job, then a line a window) and two files a window, `N.rows` and
`N.rejects`. A killed job loses the windows that were not in the journal, and nothing else.
"""

import json
import os
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
from toolchain.measures.metrics import LabelCounts
from toolchain.scoring.parquet_rows import join_parts

JOURNAL = "journal.jsonl"


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

        Raises `UsageError` where the parts of a different job stand in the way and `resume` is on.
        """
        check_packing(target.packing, target.name)
        self._target = target
        self.output = output = Path(target.name)
        self.folder = output.with_name(output.name + ".parts")
        self.entries: list[WindowEntry] = []
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

    def publish(self, header: bytes, rejects: Path) -> None:
        """Join the parts into the output and the rejects, and rename both into place; an output is whole or absent.

        An output whose name says so is compressed here: the parts are plain, so that it does not matter where they were
        cut.
        """
        with self._writing():
            rejected = [entry.window for entry in self.entries if entry.rejects_bytes]
            self._join(rejected, 1, b"", rejects, Kind.of(str(rejects)))
            scored = [entry.window for entry in self.entries if entry.rows_bytes]
            self._join(scored, 0, header, self.output, self._target)
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

    def _join(self, windows: Sequence[int], which: int, header: bytes, target: Path, kind: Kind) -> None:
        if not windows and not header:
            target.unlink(missing_ok=True)  # what an earlier run left there is not this run's
            return
        joined = self.folder / ("rows", "rejects")[which]
        join(header, [self._paths(window)[which] for window in windows], joined, kind)
        with joined.open("rb+") as file:
            os.fsync(file.fileno())
        joined.replace(target)

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


def join(header: bytes, parts: Iterable[Path], target: Path, kind: Kind) -> None:
    """Put parts behind each other into the file `target`, as `kind` says; those of Parquet are Arrow streams.
    Compressed here, it does not matter to the bytes where the parts were cut."""
    if kind.format == "parquet":
        join_parts(header, parts, target)
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
            f"{folder}: holds an unfinished run with another {', '.join(changed)}; finish that one "
            f"with what it began with, or start over: --no-resume"
        )
