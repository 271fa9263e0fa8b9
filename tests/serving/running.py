"""`toolchain serve` as a process, and requests to it."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds until what never happens fails a test


@dataclass(frozen=True)
class Running:
    """A running service; `log` is its stderr."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def said(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, words: str, times: int = 1) -> None:
        """Until the log holds them so often."""
        wait_until(lambda: self.said().count(words) >= times, f"{words!r} in the log:\n{self.said()}")

    def post(self, path: str, body: object) -> httpx.Response:
        """One request on a connection of its own."""
        return httpx.post(self.url + path, json=body, timeout=PATIENCE)

    def get(self, path: str) -> httpx.Response:
        """One request on a connection of its own."""
        return httpx.get(self.url + path, timeout=PATIENCE)

    def samples(self) -> dict[str, float]:
        """The samples of /metrics by name and labels: `requests_total /score 200`."""
        return samples(self.get("/metrics").text)


def command(*arguments: str | Path) -> list[str]:
    """`toolchain serve` with these arguments."""
    return [sys.executable, "-m", "toolchain", "serve", *map(str, arguments)]


def environment() -> dict[str, str]:
    """That of every service that is started here."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def serving(bundle: Path, log: Path, *options: str) -> Iterator[Running]:
    """A service on a port that the system chose; killed at the end if it still runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(command(bundle, "--port", "0", *options), env=environment(), stderr=file)
    try:
        wait_until(lambda: process.poll() is not None or b" on http" in log.read_bytes(), "the service to start")
        found = re.search(r" on (http://\S+)", log.read_text(encoding="utf-8"))
        assert found, log.read_text(encoding="utf-8")
        yield Running(process, found[1], log)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again, `PATIENCE` seconds long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


def samples(text: str) -> dict[str, float]:
    """`requests_total /score 200` -> 3.0, of every sample of ours but the buckets."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("toolchain_") and "le" not in sample.labels:
                labels = [sample.labels[name] for name in sorted(sample.labels)]
                found[" ".join([sample.name.removeprefix("toolchain_"), *labels])] = sample.value
    return found


async def post_all(url: str, texts: Sequence[str], connections: int) -> list[httpx.Response]:
    """The answers of /score in the order of `texts`, asked for over so many connections at once."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client:
        return await asyncio.gather(*(client.post("/score", json={"text": text}) for text in texts))
