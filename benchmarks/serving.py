"""A service under load beside the same model called in process, in turns, on this machine alone.

    python benchmarks/serving.py --bundle bundle [--words 230] [--texts 600] [--rounds 3] [--workers 1]

Texts are words of the bundle's own vocabulary, all of one length, and no text is asked twice. Each round scores them in
one call of `Scorer` in this process, then asks a `toolchain serve` of its own over 127.0.0.1 with 1, 8 and 64 clients;
a client asks, waits for the answer and asks again over one connection. One client gets an eighth of the texts. The
client is this process: what it costs counts against the service, because both share the cores. Figures are medians over
the rounds. A load that takes longer than `--seconds` is cut there, and the rate is that of what was answered. The
milliseconds of a core are those of both processes, by text; other work on the machine moves them less than the rates.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from export.bundle import open_bundle
from toolchain import Scorer

CLIENTS = (1, 8, 64)
ROOT = Path(__file__).parents[1]
START_SECONDS = 120.0


@dataclass
class Load:
    """What clients got: answers a second and seconds of a core a text by round, and the seconds that every request
    took."""

    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    core_seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Rows a second, the median of the rounds."""
        return statistics.median(self.rates)

    def to_json(self) -> dict[str, float]:
        """Plain values, the latencies in milliseconds."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1000
        core = statistics.median(self.core_seconds) * 1000
        return {"rows_per_second": self.rate, "p50_ms": p50, "p99_ms": p99, "core_ms": core}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("bundle"))
    parser.add_argument("--words", type=int, default=230)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    texts = make_texts(arguments.bundle, arguments.words, arguments.texts)
    messages = Console(stderr=True)
    calls = {"one call": Load(), "a call a text": Load()}
    loads = {clients: Load() for clients in CLIENTS}
    with Scorer(arguments.bundle, "cpu") as scorer, tempfile.TemporaryDirectory() as room:
        scorer.score(texts[:64])
        service, port = start(arguments.bundle, arguments.workers, Path(room) / "log")
        try:
            for number in range(arguments.rounds):
                messages.print(f"round {number + 1} of {arguments.rounds}")
                call(scorer, [texts], calls["one call"])
                call(scorer, [[text] for text in texts[: len(texts) // 8]], calls["a call a text"])
                for clients, load in loads.items():
                    asked = texts if clients > 1 else texts[: len(texts) // 8]
                    asyncio.run(ask(port, asked, clients, arguments.seconds, load))
        finally:
            service.terminate()
            service.wait()
    show(calls, loads, arguments)
    if arguments.json:
        figures = {**{f"in process, {name}": load for name, load in calls.items()}}
        figures |= {f"{clients} clients": load for clients, load in loads.items()}
        values = {name: load.to_json() for name, load in figures.items()}
        arguments.json.write_text(json.dumps(values, indent=2) + "\n")


def make_texts(bundle: Path, words: int, count: int) -> list[str]:
    """Texts of so many words each that the model knows."""
    vocabulary = open_bundle(bundle).vocabulary()[2:]
    generator = random.Random(0)
    return [" ".join(generator.choices(vocabulary, k=words)) for _ in range(count)]


def start(bundle: Path, workers: int, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A service on a port that the system chose, once it answers."""
    command = [sys.executable, "-m", "toolchain", "serve", str(bundle), "--port", "0", "--provider", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--workers", str(workers)], env=environment, stderr=file)
    end = time.monotonic() + START_SECONDS
    while not (found := re.search(r" on http://127\.0\.0\.1:(\d+)", log.read_text())):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise SystemExit(f"the service did not start: {log.read_text()}")
        time.sleep(0.05)
    return process, int(found[1])


def call(scorer: Scorer, calls: list[list[str]], load: Load) -> None:
    """Score in this process, one call after the other."""
    began, worked = time.perf_counter(), time.process_time()
    for texts in calls:
        called = time.perf_counter()
        scorer.score(texts)
        load.seconds.append(time.perf_counter() - called)
    count = sum(map(len, calls))
    load.rates.append(count / (time.perf_counter() - began))
    load.core_seconds.append((time.process_time() - worked) / count)


async def ask(port: int, texts: list[str], clients: int, seconds: float, load: Load) -> None:
    """So many clients share the texts; each asks for the next when its answer has come."""
    left = [request(text) for text in texts]
    loop = asyncio.get_running_loop()
    done: list[asyncio.Future[None]] = [loop.create_future() for _ in range(clients)]
    before, worked = len(load.seconds), core_seconds(port)
    began = time.perf_counter()
    for each in done:
        await loop.create_connection(lambda each=each: _Client(left, load, each), "127.0.0.1", port)  # type: ignore[misc]
    loop.call_later(seconds, left.clear)
    await asyncio.gather(*done)
    count = len(load.seconds) - before
    load.rates.append(count / (time.perf_counter() - began))
    load.core_seconds.append((core_seconds(port) - worked) / count)


def core_seconds(port: int) -> float:
    """What the service and this process have worked so far; of several workers nothing is known."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as figures:
        found = re.search(rb"(?m)^process_cpu_seconds_total (.+)$", figures.read())
    return time.process_time() + (float(found[1]) if found else float("nan"))


def request(text: str) -> bytes:
    """A whole request for one text."""
    body = json.dumps({"text": text}).encode()
    head = f"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class _Client(asyncio.Protocol):
    """One connection. Not a library's client: those take as long for a request as the service does."""

    def __init__(self, left: list[bytes], load: Load, done: "asyncio.Future[None]") -> None:
        self._left = left
        self._load = load
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended or len(body) < int(re.search(rb"(?i)content-length: (\d+)", head)[1]):  # type: ignore[index]
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(SystemExit(self._received.decode()))
            return
        self._load.seconds.append(time.perf_counter() - self._asked)
        self._received = b""
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the service closed a connection"))

    def _ask(self) -> None:
        if not self._left:
            self._done.set_result(None)
            self._transport.close()
            return
        self._asked = time.perf_counter()
        self._transport.write(self._left.pop())


def show(calls: dict[str, Load], loads: dict[int, Load], arguments: argparse.Namespace) -> None:
    """The table; the last column sets every line beside one call with all texts."""
    table = Table(title=f"{arguments.texts:,} texts of {arguments.words} words, {arguments.rounds} rounds")
    for column in ("route", "rows/s", "p50 ms", "p99 ms", "of one call", "ms of a core"):
        table.add_column(column, justify="left" if column == "route" else "right")
    whole = calls["one call"]
    rows = {f"in process, {name}": load for name, load in calls.items()}
    rows |= {f"{clients} client{'s' * (clients > 1)}": load for clients, load in loads.items()}
    for name, load in rows.items():
        figures = load.to_json()
        latencies = ("", "") if load is whole else (f"{figures['p50_ms']:.1f}", f"{figures['p99_ms']:.1f}")
        share = statistics.median(one / other for one, other in zip(load.rates, whole.rates, strict=True))
        table.add_row(name, f"{load.rate:,.0f}", *latencies, f"{share:.0%}", f"{figures['core_ms']:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
