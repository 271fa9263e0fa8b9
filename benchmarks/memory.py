"""Peak memory of `toolchain score` against the number of rows: it has to stay flat.

python benchmarks/memory.py --bundle bundle [--rows 20000 100000 1000000]
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
from scoring import run_process

from toolchain.corpus.reviews import Source, read_texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("bundle"))
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 50_000, 100_000, 300_000, 1_000_000])
    arguments = parser.parse_args()
    sentences = [text.split(". ")[0] for text in read_texts(Source("sample"))]
    peaks = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as room:
            source = Path(room) / "reviews.csv"
            with source.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["id", "review"])
                writer.writerows([number, sentences[number % len(sentences)]] for number in range(rows))
            command = [sys.executable, "-m", "toolchain", "score", str(source), "--bundle", str(arguments.bundle)]
            took, peak = run_process([*command, "--provider", "cpu", "--no-resume", "--quiet"])
        peaks.append(peak)
        print(f"{rows:>9,} rows  {took:6.1f} s  {rows / took:8,.0f} rows/s  {peak:6.0f} MiB", flush=True)
    slope = np.polyfit(arguments.rows, peaks, 1)[0] * 1e6 if len(peaks) > 1 else float("nan")
    print(f"slope: {slope:+.1f} MiB a million rows")


if __name__ == "__main__":
    main()
