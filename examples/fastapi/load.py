"""Loads a running service with concurrent requests of one text each; prints requests a second and the latencies.

`python load.py [--url URL] [--requests N] [--concurrency N]`. Exit status 1 where a request was not answered with 200.
"""

import argparse
import asyncio
import random
import ssl
import sys
import time

import httpx
import numpy as np

WORDS = ("a", "and", "film", "fine", "for", "i", "in", "is", "it", "less", "more", "never", "of", "than", "the", "was")


def make_texts(count: int) -> list[str]:
    """Texts of 1 to 999 words, most of them short: 230 words in the mean, as film reviews are."""
    generator = random.Random(0)
    lengths = [min(999, 1 + int(generator.expovariate(1 / 230))) for _ in range(count)]
    return [" ".join(generator.choices(WORDS, k=length)) for length in lengths]


async def load(url: str, requests: int, concurrency: int) -> tuple[list[float], list[int]]:
    """The seconds that each request took, and its status (0: no answer). `concurrency` clients work through all."""
    texts = make_texts(requests)
    seconds: list[float] = []
    statuses: list[int] = []

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, verify=tls, timeout=60) as session:
            while texts:
                began = time.perf_counter()
                try:
                    status = (await session.post("/score", json={"text": texts.pop()})).status_code
                except httpx.TransportError:
                    status = 0
                seconds.append(time.perf_counter() - began)
                statuses.append(status)

    # A connection pool for each: httpx looks at every connection of a shared one for every request.
    tls = ssl.create_default_context()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return seconds, statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=100)
    arguments = parser.parse_args()
    began = time.perf_counter()
    seconds, statuses = asyncio.run(load(arguments.url, arguments.requests, arguments.concurrency))
    elapsed = time.perf_counter() - began
    print(f"{len(statuses)} requests in {elapsed:.1f} s: {len(statuses) / elapsed:.0f} requests/s")
    median, p90, p99, longest = np.percentile(seconds, [50, 90, 99, 100]) * 1000
    print(f"latency: median {median:.0f} ms, 90 % {p90:.0f} ms, 99 % {p99:.0f} ms, longest {longest:.0f} ms")
    if failed := sum(status != 200 for status in statuses):
        sys.exit(f"{failed} requests were not answered with 200")


if __name__ == "__main__":
    main()
