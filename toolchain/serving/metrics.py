"""Figures for Prometheus. Of several worker processes, whichever is asked answers for all of them."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder where the figures of several processes meet; prometheus_client reads it while it is imported."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All figures of a service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("toolchain_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "toolchain_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_progress = Gauge(
            "toolchain_requests_in_progress",
            "Requests begun and not answered, this one included.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.waiting = Gauge(
            "toolchain_waiting_texts",
            "Texts without an answer yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.call_texts = Histogram(
            "toolchain_call_texts",
            "Texts in one call of the model.",
            buckets=[2**power for power in range(10)],
            registry=registry,
        )
        self.takeovers = Counter(
            "toolchain_takeovers", "New bundles, by what became of them.", ["result"], registry=registry
        )
        self.bundle = Gauge(
            "toolchain_bundle",
            "1 for the bundle that is served, by the SHA-256 of its manifest.",
            ["identity"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        for result in ("done", "failed"):
            self.takeovers.labels(result)
        if SHARED not in os.environ:
            ProcessCollector(registry=registry)

    def render(self) -> bytes:
        """All figures in the text format."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
