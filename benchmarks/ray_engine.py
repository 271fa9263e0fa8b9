"""What a Ray cluster costs and brings on one machine: against the local engine on the same cores, and per worker.

    python benchmarks/ray_engine.py --bundle bundle --data PATH/aclImdb [--rows 50000] [--rounds 2] [--workers 2]

Routes take turns; the figures are medians. Rows a second are counted from the first finished window to the last, so
that the start of processes and sessions is apart; it is the column `start`. `peak` is the largest worker's memory.
"""

import argparse
import csv
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ray
from rich.console import Console
from rich.table import Table

import toolchain.scoring.job
from toolchain.corpus.reviews import Source, read_texts
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.ray.engine import Cluster, Model, connected, score_files
from toolchain.scoring.scorer import Scorer

WINDOWS = (1024, 4096, 16384)
ANEW = Options(resume=False)


@dataclass
class Run:
    """When how many rows were done, in seconds since the run began."""

    began: float = field(default_factory=time.perf_counter)
    done: list[tuple[float, int]] = field(default_factory=list)
    peak: int = 0

    def note(self, rows: int) -> None:
        if rows and (not self.done or rows > self.done[-1][1]):
            self.done.append((time.perf_counter() - self.began, rows))

    @property
    def start(self) -> float:
        """Seconds to the first window that was done."""
        return self.done[0][0]

    @property
    def speed(self) -> float:
        """Rows a second from there to the end."""
        (first, before), (last, after) = self.done[0], self.done[-1]
        return (after - before) / (last - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("bundle"))
    parser.add_argument("--data", default="sample")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    runs: dict[str, list[Run]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as room, connected("local"):
        source = write_reviews(Path(room) / "reviews.csv", arguments.data, arguments.rows)
        routes: dict[str, Callable[[], Run]] = {"local": lambda: locally(arguments.bundle, source)}
        for workers in {1, arguments.workers}:
            routes[f"ray, {workers} workers"] = lambda workers=workers: on_ray(arguments.bundle, source, workers, 4096)
        for rows in WINDOWS:
            routes[f"ray, windows of {rows:,}"] = lambda rows=rows: on_ray(
                arguments.bundle, source, arguments.workers, rows
            )
        for _ in range(arguments.rounds):
            for name, run in routes.items():
                runs[name].append(run())
    show(runs)


def write_reviews(path: Path, data: str, rows: int) -> Path:
    """The texts of `data`, repeated to as many rows."""
    unique = read_texts(Source(data))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "review"])
        writer.writerows([number, unique[number % len(unique)]] for number in range(rows))
    return path


def locally(bundle: Path, source: Path) -> Run:
    run = Run()
    with Scorer(bundle, "cpu") as scorer:
        output = str(source.with_name("local.csv"))
        score_file(scorer, str(source), output, ANEW, lambda done, total, summary: run.note(summary.rows))
    return run


def on_ray(bundle: Path, source: Path, workers: int, window: int) -> Run:
    toolchain.scoring.job.WINDOW_ROWS = window
    run = Run()
    files = [(str(source), str(source.with_name("ray.csv")))]
    ended = threading.Event()
    watch = threading.Thread(target=watch_memory, args=(run, ended))
    watch.start()
    for outcome in score_files(
        files, Model(bundle), ANEW, Cluster(workers=workers), progress=lambda done, total, rows: run.note(rows)
    ):
        outcome.completed()
    ended.set()
    watch.join()
    toolchain.scoring.job.WINDOW_ROWS = 4096
    return run


def watch_memory(run: Run, ended: threading.Event) -> None:
    """The largest resident set of a worker, in bytes, read twice a second."""
    while not ended.wait(0.5):
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"_Worker" in (entry / "cmdline").read_bytes():
                    pages = int((entry / "statm").read_text().split()[1])
                    run.peak = max(run.peak, pages * 4096)
            except OSError:
                continue


def show(runs: dict[str, list[Run]]) -> None:
    table = Table(title=f"ray {ray.__version__}, medians of {len(runs['local'])}")
    for column in ("route", "rows/s", "of local", "start, s", "peak, MiB"):
        table.add_column(column, justify="left" if column == "route" else "right")
    local = statistics.median(run.speed for run in runs["local"])
    for name, each in runs.items():
        speed = statistics.median(run.speed for run in each)
        peak = max(run.peak for run in each) >> 20
        start = statistics.median(run.start for run in each)
        table.add_row(name, f"{speed:,.0f}", f"{speed / local:.0%}", f"{start:.1f}", f"{peak}" if peak else "")
    Console().print(table)


if __name__ == "__main__":
    main()
