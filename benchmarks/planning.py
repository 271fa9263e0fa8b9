"""What cutting a file into windows costs, the sequential part of a distributed job, and how far others can help.

python benchmarks/planning.py reviews.csv [reviews.jsonl reviews.parquet …] [--processes 2]

The first table is in processor time, of one process. With `--processes` CSV files are cut by as many processes at once
as well, as tasks of a cluster do: in turns with one process, by the clock, and the seams in it.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolchain.files.inputs import output_path
from toolchain.files.kind import Kind
from toolchain.files.records import Reader
from toolchain.scoring import job
from toolchain.scoring.borders import Span, joined, ranges, read_span
from toolchain.scoring.ray.shards import SPAN
from toolchain.scoring.windows import Options, Plan, cut, open_records

ROUNDS = 3


@dataclass(frozen=True)
class Cutting:
    """One pass over a file of `size` bytes, in `seconds` of processor time."""

    size: int
    rows: int
    windows: int
    seconds: float


def opened(path: str, stack: ExitStack) -> Reader:
    return open_records(path, Kind.of(output_path(path, None, False)), Options(), stack).reader


def measure(path: str) -> Cutting:
    """Read and cut the file as the distributed engine does, scoring nothing."""
    with ExitStack() as stack:
        started = time.process_time()
        reader = opened(path, stack)
        Plan.of(reader, (), Options())
        counts = [len(records) for records in cut(reader, job.WINDOW_ROWS, job.WINDOW_BYTES)]
        return Cutting(Path(path).stat().st_size, sum(counts), len(counts), time.process_time() - started)


def part(path: str, span: tuple[int, int]) -> Span:
    with ExitStack() as stack:
        return read_span(opened(path, stack), *span)


def ends(path: str, pool: ProcessPoolExecutor | None) -> tuple[float, Sequence[int]]:
    """Seconds by the clock to find the records of a file, by the processes of `pool` or by this one, and their ends."""
    with ExitStack() as stack:
        started = time.perf_counter()
        reader = opened(path, stack)
        if pool is None:
            found = [record.end_offset for record in reader]
        else:
            spans = pool.map(partial(part, path), ranges(reader.start[0], Path(path).stat().st_size, SPAN))
            found = [border.end_offset for border in joined(reader, spans)]
        return time.perf_counter() - started, found


def at_once(path: str, processes: int) -> None:
    """Print how much faster several processes are."""
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(abs, range(100)))  # they are there
        turns = [(ends(path, None), ends(path, pool)) for _ in range(ROUNDS)]
    assert all(alone[1] == together[1] for alone, together in turns)
    fastest = [min(turn[which][0] for turn in turns) for which in (0, 1)]
    megabytes = Path(path).stat().st_size / 1e6
    speeds = " | ".join(f"{megabytes / seconds:,.0f}" for seconds in fastest)
    print(f"| {path} | {megabytes:,.0f} | {speeds} | {fastest[0] / fastest[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    print("| file | rows | windows | MB/s | rows/s |\n|---|---|---|---|---|")
    for path in arguments.files:
        best = min((measure(path) for _ in range(ROUNDS)), key=lambda cutting: cutting.seconds)
        speeds = f"{best.size / 1e6 / best.seconds:,.0f} | {best.rows / best.seconds:,.0f}"
        print(f"| {path} | {best.rows:,} | {best.windows:,} | {speeds} |", flush=True)
    if arguments.processes > 1:
        print(f"\n| file | MB | MB/s, 1 process | MB/s, {arguments.processes} processes | times as fast |")
        print("|---|---|---|---|---|")
        for path in arguments.files:
            if path.endswith((".csv", ".tsv")):
                at_once(path, arguments.processes)


if __name__ == "__main__":
    main()
