"""How long a job takes on how many machines, from one machine's measured speed: a table to a billion rows.

python benchmarks/sizing.py --rows-per-second 1019 --measured-on 2 [--cores 16] [--efficiency 0.8] [--price 0.04]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

ROWS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
MACHINES = (1, 4, 16, 64)


@dataclass(frozen=True)
class Sizing:
    """`rows_per_second` on `measured_on` cores (or GPUs), machines of `cores`, and what of it a cluster keeps."""

    rows_per_second: float
    measured_on: int
    cores: int
    efficiency: float

    def core_hours(self, rows: int) -> float:
        """The work, and with the price of a core-hour the bill."""
        return rows * self.measured_on / (self.rows_per_second * self.efficiency * 3600)

    def hours(self, rows: int, machines: int) -> float:
        """Start-up apart, and as long as nothing else limits it: one file is not cut faster than it is read."""
        return self.core_hours(rows) / (self.cores * machines)


def table(sizing: Sizing, price: float | None = None) -> Iterator[str]:
    """Lines of Markdown: rows, core-hours, the bill where there is a price, and the time on so many machines."""
    bill = [] if price is None else ["cost"]
    columns = ["rows", "core-hours", *bill, *(f"{machines} × {sizing.cores} cores" for machines in MACHINES)]
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for rows in ROWS:
        work = sizing.core_hours(rows)
        bill = [] if price is None else [f"{work * price:,.2f}"]
        times = [duration(sizing.hours(rows, machines)) for machines in MACHINES]
        yield "| " + " | ".join([f"{rows:,}", f"{work:,.1f}", *bill, *times]) + " |"


def duration(hours: float) -> str:
    """Two digits in the unit that suits."""
    for unit, size in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 2 * size:
            return f"{hours / size:.1f} {unit}"
    return f"{hours * 3600:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows-per-second", type=float, required=True, help="as `toolchain score` prints it")
    parser.add_argument("--measured-on", type=int, required=True, help="cores (or GPUs) of that machine")
    parser.add_argument("--cores", type=int, default=16, help="cores (or GPUs) of a machine of the cluster")
    parser.add_argument("--efficiency", type=float, default=0.8, help="what of the speed a cluster keeps")
    parser.add_argument("--price", type=float, help="of a core-hour")
    arguments = parser.parse_args()
    sizing = Sizing(arguments.rows_per_second, arguments.measured_on, arguments.cores, arguments.efficiency)
    print(*table(sizing, arguments.price), sep="\n")


if __name__ == "__main__":
    main()
