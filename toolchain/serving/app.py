"""The routes: JSON in, JSON out, every error one line. The answers' shapes are those of `examples/node`."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.routing import request_response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export.text import clean, is_blank
from toolchain import __version__
from toolchain.serving.batching import Batcher, QueueFull
from toolchain.serving.bodies import MANY, ONE, many_texts, one_text, read_json
from toolchain.serving.model import NoExplanations
from toolchain.serving.page import HEADERS, render_page
from toolchain.serving.schemas import (
    ERRORS,
    NO_EXPLANATIONS,
    Answer,
    Answers,
    Explained,
    Health,
    ManyTexts,
    OneText,
    Readiness,
)
from toolchain.serving.service import Service


def create_app(service: Service) -> FastAPI:
    """The service for an ASGI server."""
    limits = service.settings.limits

    # Their pages would load scripts from elsewhere; openapi.json is there for the tools that people have.
    app = FastAPI(
        title="toolchain serve",
        version=__version__,
        description=f"At most {limits.texts:,} texts a request, {limits.characters:,} characters a text, and "
        f"{limits.body_bytes:,} bytes a body.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.router.route_class = _Route
    app.add_middleware(_Edge, service=service)
    app.add_exception_handler(AnyHTTPException, _refuse)
    app.add_exception_handler(Exception, _fail)

    async def answered(batcher: Batcher[dict[str, Any]], texts: Mapping[str, str]) -> list[dict[str, Any]]:
        """Answers to texts by the name that an error calls them."""
        for name, text in texts.items():
            if len(text) > limits.characters:
                raise HTTPException(422, f"{name} has {len(text)} characters; the limit is {limits.characters}")
            if is_blank(text):
                raise HTTPException(422, f"{name} is blank: there is nothing to score")
        try:
            return await batcher.submit([clean(text) for text in texts.values()])
        except QueueFull:
            detail = f"{batcher.waiting} texts are waiting; send this again in a second"
            raise HTTPException(503, detail, {"Retry-After": "1"}) from None

    @app.post("/score", responses={200: {"model": Answer}, **ERRORS}, openapi_extra=_takes(OneText))
    async def score(request: Request) -> Response:
        """Score a text."""
        text = one_text(await read_json(request, limits.body_bytes, ONE))
        return _json((await answered(service.scoring, {"text": text}))[0])

    @app.post("/score/batch", responses={200: {"model": Answers}, **ERRORS}, openapi_extra=_takes(ManyTexts))
    async def score_batch(request: Request) -> Response:
        """Score texts; all of them, or none where one cannot be scored."""
        texts = many_texts(await read_json(request, limits.body_bytes, MANY))
        if len(texts) > limits.texts:
            raise HTTPException(422, f"{len(texts)} texts; the limit is {limits.texts} a request")
        named = {f"texts[{place}]": text for place, text in enumerate(texts)}
        return _json({"answers": await answered(service.scoring, named)})

    @app.post(
        "/explain",
        responses={200: {"model": Explained}, **NO_EXPLANATIONS, **ERRORS},
        openapi_extra=_takes(OneText),
    )
    async def explain(request: Request) -> Response:
        """Score a text and say what every word did to its label."""
        text = one_text(await read_json(request, limits.body_bytes, ONE))
        try:
            return _json((await answered(service.explaining, {"text": text}))[0])
        except NoExplanations:
            raise HTTPException(
                404, "the bundle that is served cannot explain; export one that can: toolchain export --format all"
            ) from None

    @app.get("/healthz", responses={200: {"model": Health}})
    async def health(_: Request) -> Response:
        """Whether the process answers."""
        return _json({"status": "ok"})

    @app.get("/readyz", responses={200: {"model": Readiness}, 503: ERRORS[503]})
    async def readiness(_: Request) -> Response:
        """Whether to send requests here: not once the service is ending, and not while as many texts wait as may."""
        if service.ending:
            raise HTTPException(503, "shutting down; ask another instance", {"Retry-After": "1"})
        if service.scoring.full:
            raise HTTPException(503, f"{service.scoring.waiting} texts are waiting", {"Retry-After": "1"})
        return _json({"status": "ready", "waiting": service.waiting, "bundle": service.model.identity})

    @app.get("/metrics", response_class=Response)
    async def metrics(_: Request) -> Response:
        """Figures for Prometheus."""
        service.metrics.waiting.set(service.waiting)
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page(_: Request) -> Response:
        return Response(render_page(service.model, limits), media_type="text/html; charset=utf-8", headers=HEADERS)

    return app


class _Route(APIRoute):
    """A route that FastAPI describes in OpenAPI and Starlette runs: its endpoint takes the request and gives the
    response. What FastAPI would do between the two, for parameters and dependencies, costs as much as the rest."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **settings: Any) -> None:
        super().__init__(path, endpoint, **settings)
        self.app = request_response(endpoint)


class _Edge:
    """Counts and times each request under its route's path; while the service ends, clients are asked to leave."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._service.ending:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        metrics = self._service.metrics
        began = time.perf_counter()
        try:
            with metrics.in_progress.track_inprogress():
                await self._app(scope, receive, watched)
        finally:
            path = scope["route"].path if "route" in scope else "other"
            metrics.seconds.labels(path).observe(time.perf_counter() - began)
            metrics.requests.labels(path, status).inc()


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    """The request's body in OpenAPI: handlers read it themselves, for errors of one kind and half the time."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    """Every refusal as JSON; those of the router say what there is."""
    assert isinstance(error, AnyHTTPException)
    detail = error.detail
    if error.status_code == 404 and "route" not in request.scope:
        detail = f"no {request.url.path} here; there are {_listed(request.app)}"
    elif error.status_code == 405:
        detail = f"{request.method} is not for {request.url.path}; use {(error.headers or {}).get('Allow', '')}"
    return Response(orjson.dumps({"detail": detail}), error.status_code, error.headers, "application/json")


async def _fail(_: Request, __: Exception) -> Response:
    return Response(b'{"detail":"the service failed; its log says why"}', 500, media_type="application/json")


def _listed(app: FastAPI) -> str:
    """`POST /score, POST /score/batch, …`."""
    return ", ".join(
        f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods
    )
