"""What stands behind the routes: the model being served, the queues in front of it, and how a new bundle gets in."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from export.errors import ExportError
from toolchain.errors import UsageError
from toolchain.scoring.planning import ACCELERATOR_LIMITS, CPU_LIMITS
from toolchain.serving.batching import Batcher
from toolchain.serving.metrics import Metrics
from toolchain.serving.model import Model, read_identity
from toolchain.serving.settings import Settings

logger = logging.getLogger(__name__)

WATCH_SECONDS = 2.0


class Service:
    """Answers texts with the bundle of `settings`, with so many `threads`; one a process.

    The model is exchanged whole. A call that began with the old one ends with it, and with the last of them the old
    one is gone: nothing else refers to it.
    """

    def __init__(self, settings: Settings, threads: int) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.ending = False
        self._threads = threads
        self._taking_over = asyncio.Lock()
        self.model = self._open()
        self.metrics.bundle.labels(self.model.identity).set(1)
        on_cpu = self.model.scorer.provider == "cpu"
        limits = CPU_LIMITS if on_cpu else ACCELERATOR_LIMITS
        # One call keeps one thread of the scorer busy on a CPU. An accelerator computes one call and gets the next.
        calls = threads if on_cpu else 2
        waiting = settings.limits.waiting
        self.scoring: Batcher[dict[str, Any]] = Batcher(
            lambda texts: self.model.score(texts), calls, limits.texts, waiting, self.metrics.call_texts.observe
        )
        self.explaining: Batcher[dict[str, Any]] = Batcher(
            lambda texts: self.model.explain(texts), 1, CPU_LIMITS.texts, waiting
        )

    @property
    def waiting(self) -> int:
        """Texts without an answer yet."""
        return self.scoring.waiting + self.explaining.waiting

    async def take_over(self) -> None:
        """Serve the bundle that stands in the folder now, if it is another one and a good one; else go on as before."""
        async with self._taking_over:
            if (problem := await self._try_to_take_over()) is not None:
                logger.error("%s; the bundle from before is still served", problem)

    async def watch(self) -> None:
        """Until cancelled: take over every new bundle within seconds."""
        said = None
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            async with self._taking_over:
                found = await asyncio.to_thread(read_identity, self.settings.bundle)
                if found is None or found == self.model.identity:  # None: between two bundles, or gone
                    continue
                problem = await self._try_to_take_over()
            if problem is not None and problem != said:  # a copy that has not ended yet looks damaged: once is enough
                logger.error("%s; the bundle from before is still served", problem)
            said = problem

    async def _try_to_take_over(self) -> str | None:
        """Exchange the model. Gives what is wrong where that cannot be done."""
        folder = self.settings.bundle
        before = self.model
        if await asyncio.to_thread(read_identity, folder) == before.identity:
            logger.info("%s: holds the bundle that is served already", folder)
            return None
        try:
            self.model = await asyncio.to_thread(self._open)
        except (ExportError, UsageError, OSError) as error:
            self.metrics.takeovers.labels("failed").inc()
            return str(error)
        except Exception as error:  # a service answers whatever a bundle may hold
            logger.exception("the new bundle could not be loaded")
            self.metrics.takeovers.labels("failed").inc()
            return f"{folder}: {type(error).__name__}"
        self.metrics.bundle.labels(before.identity).set(0)
        self.metrics.bundle.labels(self.model.identity).set(1)
        self.metrics.takeovers.labels("done").inc()
        logger.info("took over %s", describe(self.model, folder))
        return None

    def _open(self) -> Model:
        settings = self.settings
        return Model(settings.bundle, settings.provider, settings.precision, self._threads)


def describe(model: Model, folder: Path) -> str:
    """`bundle (neg, pos; 1a2b3c4d)`."""
    return f"{folder} ({', '.join(model.scorer.labels)}; {(model.identity or '')[:8]})"
