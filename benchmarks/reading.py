"""How fast files of rows are read, with nothing done with the rows, and what finding out what a file is costs.

python benchmarks/reading.py [--rows 100000] [--against /path/to/another/checkout]

The files are made of the sample reviews, 100,000 rows as long as film reviews, in every format. `--against` reads them
with another checkout as well, in turns with this one: the ratio is what counts on a machine that is not idle.

Times are of the processor. The modules are imported beforehand, pyarrow too, without which no row of a Parquet file can
be read: importing it is no part of finding out, and stands in the last line.
"""

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORMATS = ("csv", "tsv", "jsonl", "parquet", "csv.gz")
ROUNDS = 5

# How the scorer opens its records, here and in checkouts from before the rooms.
READ = """
import sys, time
from contextlib import ExitStack
try:
    from toolchain.files.kind import Kind
    from toolchain.scoring.windows import Options, Plan, open_records
    output = Kind.of
except ModuleNotFoundError:
    from toolchain.windows import Options, Plan, open_records
    output = str
path, wanted = sys.argv[1], sys.argv[2]
begun = time.process_time()
if path.endswith(".parquet"):
    import pyarrow.parquet
imported = time.process_time() - begun
with ExitStack() as stack:
    started = time.process_time()
    opened = open_records(path, output(wanted), Options(text_column="text"), stack)
    reader = opened[1] if isinstance(opened, tuple) else opened.reader
    Plan.of(reader, (), Options(text_column="text"))
    found = time.process_time()
    rows = sum(1 for _ in reader)
    print(rows, time.process_time() - started, found - started, imported)
"""


def write(folder: Path, rows: int) -> None:
    """The same rows in every format."""
    import pyarrow
    import pyarrow.parquet

    with (ROOT / "data" / "sample_train.csv").open(encoding="utf-8", newline="") as file:
        sample = [(row["review"], row["label"]) for row in csv.DictReader(file)]
    # The sample's reviews are short: as many together as make the 1,300 characters that a film review has.
    texts = [" ".join(text for text, _ in (sample * 2)[at : at + 1 + at % 20]) for at in range(len(sample))]
    table = [(number, texts[number % len(sample)], sample[number % len(sample)][1]) for number in range(rows)]
    names = ("id", "text", "label")
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with (folder / f"rows.{ending}").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(table)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in table)
    (folder / "rows.csv.gz").write_bytes(gzip.compress((folder / "rows.csv").read_bytes(), 6, mtime=0))
    columns = dict(zip(names, map(list, zip(*table, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")


def read(path: Path, root: Path) -> tuple[int, float, float, float]:
    """Read a file with the code in `root`, in a process of its own: rows, seconds in all, of these to find out what it
    is, and before that to import pyarrow."""
    output = str(path.with_name("out." + path.name.partition(".")[2]))
    command = [sys.executable, "-c", READ, str(path), output]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=path.parent)
    rows, seconds, found, imported = ended.stdout.split()
    return int(rows), float(seconds), float(found), float(imported)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    roots = [ROOT, *([arguments.against.resolve()] if arguments.against else [])]
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.rows)
        print("| file | MB | rows/s | MB/s | found out in | against |\n|---|---|---|---|---|---|")
        imports: dict[str, float] = {}
        for ending in FORMATS:
            path = Path(name) / f"rows.{ending}"
            size = path.stat().st_size / 1e6
            turns = [[read(path, root) for root in roots] for _ in range(ROUNDS)]
            assert {rows for turn in turns for rows, *_ in turn} == {arguments.rows}
            best = [min(turn[which] for turn in turns) for which in range(len(roots))]
            fastest = [min(turn[which][1] for turn in turns) for which in range(len(roots))]
            ratio = f"{fastest[1] / fastest[0]:.2f} times as fast" if len(roots) > 1 else ""
            found = min(turn[0][2] for turn in turns)
            speeds = f"{best[0][0] / fastest[0]:,.0f} | {size / fastest[0]:,.0f} | {found * 1000:.0f} ms"
            print(f"| {path.name} | {size:.0f} | {speeds} | {ratio} |", flush=True)
            imports[ending] = min(turn[0][3] for turn in turns)
        print(f"\nimporting pyarrow, for Parquet alone: {imports['parquet'] * 1000:.0f} ms")


if __name__ == "__main__":
    main()
