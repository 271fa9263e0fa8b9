"""What cutting a file into windows costs, the sequential part of a distributed job, in processor time.

python benchmarks/planning.py reviews.csv [reviews.jsonl reviews.parquet …]
"""

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from toolchain.files.inputs import output_path
from toolchain.files.kind import Kind
from toolchain.scoring import job
from toolchain.scoring.windows import Options, Plan, cut, open_records

ROUNDS = 3


@dataclass(frozen=True)
class Cutting:
    """One pass over a file of `size` bytes, in `seconds` of processor time."""

    size: int
    rows: int
    windows: int
    seconds: float


def measure(path: str) -> Cutting:
    """Read and cut the file as the distributed engine does, scoring nothing."""
    with ExitStack() as stack:
        started = time.process_time()
        reader = open_records(path, Kind.of(output_path(path, None, False)), Options(), stack).reader
        Plan.of(reader, (), Options())
        counts = [len(records) for records in cut(reader, job.WINDOW_ROWS, job.WINDOW_BYTES)]
        return Cutting(Path(path).stat().st_size, sum(counts), len(counts), time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    print("| file | rows | windows | MB/s | rows/s |\n|---|---|---|---|---|")
    for path in parser.parse_args().files:
        best = min((measure(path) for _ in range(ROUNDS)), key=lambda cutting: cutting.seconds)
        speeds = f"{best.size / 1e6 / best.seconds:,.0f} | {best.rows / best.seconds:,.0f}"
        print(f"| {path} | {best.rows:,} | {best.windows:,} | {speeds} |", flush=True)


if __name__ == "__main__":
    main()
