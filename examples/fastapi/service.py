"""A scoring service around `toolchain.Scorer`: requests that arrive together are scored together.

`python service.py` serves ./bundle on http://127.0.0.1:8000; README.md lists the environment variables.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export.errors import ExportError
from export.text import is_blank
from toolchain import Scorer
from toolchain.errors import UsageError
from toolchain.scoring.scorer import Prediction

# A call of the scorer takes what has arrived until it holds this much. While one call is computed the next is
# collected; more calls at once would only make smaller batches, the scorer uses every core for each.
CALL_TEXTS = 512
CALL_CHARACTERS = 1 << 20
CALLS_AT_ONCE = 2

REQUESTS = Counter("scorer_requests", "Requests answered.", ["path", "status"])
LATENCY = Histogram("scorer_request_seconds", "Seconds from a request's headers to the end of its answer.", ["path"])
IN_PROGRESS = Gauge("scorer_requests_in_progress", "Requests begun and not answered, this one included.")
WAITING = Gauge("scorer_waiting_texts", "Texts in the queue.")
BATCH = Histogram("scorer_batch_texts", "Texts in one call of the scorer.", buckets=[2**n for n in range(12)])


@dataclass(frozen=True)
class Settings:
    """What can be set: each field by the environment variable `SCORER_` and its name in capitals."""

    bundle: str = "bundle"
    provider: str = "auto"
    precision: str = "fp32"
    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 4_000_000
    max_batch_texts: int = 1_000
    max_text_characters: int = 100_000
    max_waiting_texts: int = 4_000
    grace_seconds: int = 30

    def __post_init__(self) -> None:
        if self.max_waiting_texts < self.max_batch_texts:
            raise ValueError("SCORER_MAX_WAITING_TEXTS is less than SCORER_MAX_BATCH_TEXTS: a full batch never fits")

    @classmethod
    def from_environment(cls) -> "Settings":
        """The defaults with what is set in the environment. Raises `ValueError` naming the variable that is wrong."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = f"SCORER_{field.name.upper()}"
            value = os.environ.get(name)
            if value is None:
                continue
            if field.type is int and not (value.isascii() and value.isdigit()):
                raise ValueError(f"{name} is {value!r}, expected a whole number")
            values[field.name] = int(value) if field.type is int else value
        return cls(**values)


class OneText(BaseModel):
    text: str


class ManyTexts(BaseModel):
    texts: list[str]


class Answer(BaseModel):
    """`confidence` is the label's own probability; `unknown` of the `tokens` are not in the vocabulary."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    tokens: int
    unknown: int


class Answers(BaseModel):
    """One answer a text, in order."""

    answers: list[Answer]


class Health(BaseModel):
    ready: bool


class Error(BaseModel):
    """Every error: one line that says what is wrong."""

    detail: str


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body is not UTF-8, or it did not arrive whole."},
    413: {"model": Error, "description": "The body is larger than SCORER_MAX_BODY_BYTES."},
    422: {
        "model": Error,
        "description": "Not the JSON described here, a blank text, or more than the limits.",
    },
    500: {"model": Error, "description": "The service failed; its log says why."},
    503: {
        "model": Error,
        "description": "The queue is full.",
        "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
    },
}


@dataclass(frozen=True)
class Job:
    """One request's texts, and where its answer is awaited."""

    texts: list[str]
    answer: asyncio.Future[list[Prediction]]


class Batcher:
    """Lets concurrent requests share calls of one `Scorer`, through one queue of at most `limit` texts."""

    def __init__(self, scorer: Scorer, limit: int) -> None:
        self._scorer = scorer
        self._limit = limit
        self._waiting = 0
        self._queue: asyncio.Queue[Job] = asyncio.Queue()

    @property
    def full(self) -> bool:
        return self._waiting >= self._limit

    async def score(self, texts: list[str]) -> list[Prediction]:
        """One prediction a text, in order. Raises `asyncio.QueueFull` where `texts` do not fit in the queue."""
        if self._waiting + len(texts) > self._limit:
            raise asyncio.QueueFull
        job = Job(texts, asyncio.get_running_loop().create_future())
        self._count_waiting(len(texts))
        self._queue.put_nowait(job)
        return await job.answer

    async def collect(self) -> None:
        """Until cancelled: wait for a request, take what else has arrived, score it all in one call."""
        while True:
            jobs = [await self._queue.get()]
            texts = list(jobs[0].texts)
            characters = sum(map(len, texts))
            while len(texts) < CALL_TEXTS and characters < CALL_CHARACTERS and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
                texts += jobs[-1].texts
                characters += sum(map(len, jobs[-1].texts))
            self._count_waiting(-len(texts))
            BATCH.observe(len(texts))
            await self._answer(jobs, texts)

    async def _answer(self, jobs: list[Job], texts: list[str]) -> None:
        try:
            predictions = iter(await asyncio.to_thread(self._scorer.score, texts))
        except Exception as error:  # whatever it is, those who wait must hear of it, and the next call goes on
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        for job in jobs:
            answer = list(islice(predictions, len(job.texts)))
            if not job.answer.done():  # its request may have been cancelled
                job.answer.set_result(answer)

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        WAITING.set(self._waiting)


class BodyLimit:
    """Ends the reading of a body at `limit` bytes, and before it begins where Content-Length says more.

    Not FastAPI's own `max_body_size`: that answers in plain text where Content-Length is too large.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        announced = int(dict(scope["headers"]).get(b"content-length", 0))
        received = 0

        async def limited() -> Message:
            nonlocal received
            if announced <= self._limit:
                message = await receive()
                received += len(message.get("body", b""))
                if received <= self._limit:
                    return message
            detail = f"the body is larger than {self._limit} bytes; send fewer texts at a time"
            raise HTTPException(413, detail, {"Connection": "close"})  # else what follows would be read and dropped

        await self._app(scope, limited, send)


class Metered:
    """Counts and times each request under its route's path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            with IN_PROGRESS.track_inprogress():
                await self._app(scope, receive, watched)
        finally:
            path = scope["route"].path if "route" in scope else "other"
            LATENCY.labels(path).observe(time.perf_counter() - began)
            REQUESTS.labels(path, status).inc()


def create_app(scorer: Scorer, settings: Settings) -> FastAPI:
    """The service, ready to be run by an ASGI server."""
    batcher = Batcher(scorer, settings.max_waiting_texts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        collectors = [asyncio.create_task(batcher.collect()) for _ in range(CALLS_AT_ONCE)]
        yield
        for collector in collectors:
            collector.cancel()

    app = FastAPI(title="Review scoring", version="1", lifespan=lifespan)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(Metered)
    app.add_exception_handler(RequestValidationError, explain_invalid)
    app.add_exception_handler(Exception, explain_failure)

    async def score(texts: dict[str, str]) -> list[Answer]:
        """Answers for texts by the name that an error calls them."""
        for name, text in texts.items():
            if is_blank(text):
                raise HTTPException(422, f"{name} is blank: there is nothing to score")
            if len(text) > settings.max_text_characters:
                raise HTTPException(422, f"{name} has more than {settings.max_text_characters} characters")
        try:
            predictions = await batcher.score(list(texts.values()))
        except asyncio.QueueFull:
            raise HTTPException(503, "the queue is full; try again", {"Retry-After": "1"}) from None
        return [
            Answer(
                label=prediction.label,
                confidence=prediction.confidence,
                probabilities=dict(zip(scorer.labels, prediction.probabilities, strict=True)),
                tokens=prediction.tokens,
                unknown=prediction.unknown,
            )
            for prediction in predictions
        ]

    @app.post("/score", responses=ERRORS)
    async def score_one(request: OneText) -> Answer:
        """Score a text."""
        return (await score({"text": request.text}))[0]

    @app.post("/score/batch", responses=ERRORS)
    async def score_many(request: ManyTexts) -> Answers:
        """Score texts; all of them, or none where one cannot be scored."""
        if len(request.texts) > settings.max_batch_texts:
            raise HTTPException(422, f"{len(request.texts)} texts, the limit is {settings.max_batch_texts} at a time")
        return Answers(answers=await score({f"texts[{i}]": text for i, text in enumerate(request.texts)}))

    @app.get("/healthz", responses={503: {"model": Health, "description": "The queue is full."}})
    async def health(response: Response) -> Health:
        """Whether a request would be taken now."""
        response.status_code = 503 if batcher.full else 200
        return Health(ready=not batcher.full)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


async def explain_invalid(_: Request, error: Exception) -> JSONResponse:
    """The first thing wrong with a body, in one line: `texts[3]: Input should be a valid string`."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"detail": f"the body is not JSON: {first['ctx']['error']} at {first['loc'][-1]}"}, 422)
    place = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in first["loc"][1:])
    if not place:
        return JSONResponse({"detail": "expected a JSON object with Content-Type: application/json"}, 422)
    return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)


async def explain_failure(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the service failed; its log says why"}, 500)


def main() -> None:
    try:
        settings = Settings.from_environment()
        scorer = Scorer(settings.bundle, settings.provider, precision=settings.precision)
    except (ValueError, ExportError, UsageError) as error:
        sys.exit(f"error: {error}")
    scorer.score(["The first call is slower than those that follow."])
    uvicorn.run(
        create_app(scorer, settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        timeout_graceful_shutdown=settings.grace_seconds,
    )


if __name__ == "__main__":
    main()
