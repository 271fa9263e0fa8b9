"""The routes: answers, limits, and one line of JSON for everything that is refused."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from export.bundle import open_bundle
from export.text import is_blank
from tests.serving.conftest import InProcess, Serve, assert_agrees
from tests.serving.running import samples
from toolchain.serving import schemas

JSON = {"Content-Type": "application/json"}


def test_every_vector_agrees_when_all_are_asked_at_once_and_they_share_calls(
    serve: Serve, explaining_bundle: Path, vectors: list[dict[str, Any]]
) -> None:
    service = serve(explaining_bundle)

    async def ask_all() -> list[Any]:
        async with service.client() as client:
            return await asyncio.gather(*(client.post("/score", json={"text": each["text"]}) for each in vectors))

    for response, vector in zip(asyncio.run(ask_all()), vectors, strict=True):
        assert response.status_code == 200, response.text
        assert_agrees(response.json(), vector)
    found = samples(service.get("/metrics").text)
    assert found["call_texts_sum"] == len(vectors)
    assert found["call_texts_count"] < len(vectors) / 4
    assert found["requests_total /score 200"] == len(vectors)
    assert found["waiting_texts"] == 0
    assert found["requests_in_progress"] == 1  # that for the metrics


def test_a_batch_is_answered_in_order(service: InProcess, vectors: list[dict[str, Any]]) -> None:
    response = service.post("/score/batch", {"texts": [vector["text"] for vector in vectors]})
    assert list(response.json()) == ["answers"]
    for answer, vector in zip(response.json()["answers"], vectors, strict=True):
        assert_agrees(answer, vector)
    assert service.post("/score/batch", {"texts": []}).json() == {"answers": []}


def test_an_explanation_is_the_text_in_pieces_and_adds_up(service: InProcess) -> None:
    answer = service.post("/explain", {"text": "A fine film,  but dull in the END"}).json()
    assert "".join(piece["text"] for piece in answer["pieces"]) == answer["text"] == "A fine film,  but dull in the END"
    scored = service.post("/score", {"text": answer["text"]}).json()
    assert answer["probabilities"] == pytest.approx(scored["probabilities"], abs=1e-5)
    assert [answer[name] for name in ("label", "tokens", "unknown")] == [scored["label"], 9, 1]
    odds = answer["start"] + sum(word["share"] for word in answer["words"])
    assert 1 / (1 + math.exp(-odds)) == pytest.approx(answer["confidence"], abs=1e-4)


def test_a_bundle_without_that_form_explains_nothing_and_says_so(serve: Serve, plain_bundle: Path) -> None:
    response = serve(plain_bundle).post("/explain", {"text": "a fine film"})
    assert response.status_code == 404
    assert response.json() == {
        "detail": "the bundle that is served cannot explain; export one that can: toolchain export --format all"
    }


@pytest.mark.parametrize("route", ["/score", "/explain"])
def test_what_the_model_cannot_be_given_is_replaced(service: InProcess, route: str) -> None:
    for given, read in [("a\0film", "a film"), ("cut \ud83d", "cut \ufffd"), ("pair \U0001f600", "pair \U0001f600")]:
        assert service.post(route, {"text": given}).json() == service.post(route, {"text": read}).json()


def test_blank_texts_are_refused_with_the_reason(service: InProcess, explaining_bundle: Path) -> None:
    blank = [text for vector in open_bundle(explaining_bundle).vectors() if is_blank(text := vector["text"])]
    assert len(blank) > 5
    for text in [*blank, "\0"]:
        for route in ("/score", "/explain"):
            response = service.post(route, {"text": text})
            assert response.status_code == 422
            assert response.json() == {"detail": "text is blank: there is nothing to score"}
    response = service.post("/score/batch", {"texts": ["fine", " "]})
    assert (response.status_code, response.json()["detail"].split(":")[0]) == (422, "texts[1] is blank")


@pytest.mark.parametrize(
    ("route", "body", "status", "detail"),
    [
        ("/score", b"", 400, "the body is not JSON in UTF-8"),
        ("/score", b'{"text": "cut off', 400, "the body is not JSON in UTF-8"),
        ("/score", b'{"text": "\xff"}', 400, "the body is not JSON in UTF-8"),
        ("/score", b"[" * 200_000, 400, "the body is not JSON in UTF-8"),
        ("/score", b"9" * 100_000, 400, "the body is not JSON in UTF-8"),
        ("/score", b"{}", 422, 'expected a JSON object with text: {"text": "\u2026"}'),
        ("/score", b"null", 422, "expected a JSON object with text"),
        ("/score", b'["a", "b"]', 422, "expected a JSON object with text"),
        ("/score", b'{"text": 7}', 422, "text is not a string"),
        ("/score", b'{"text": null}', 422, "text is not a string"),
        ("/explain", b'{"texts": ["a"]}', 422, "expected a JSON object with text"),
        ("/score/batch", b'{"text": "a"}', 422, "expected a JSON object with texts"),
        ("/score/batch", b'{"texts": "abc"}', 422, "texts is not a list"),
        ("/score/batch", b'{"texts": ["a", ["b"]]}', 422, "texts[1] is not a string"),
    ],
)
def test_a_malformed_body_is_refused_in_one_line(
    service: InProcess, route: str, body: bytes, status: int, detail: str
) -> None:
    response = service.request("POST", route, content=body, headers=JSON)
    assert response.status_code == status, response.text
    assert response.json().keys() == {"detail"}
    assert detail in response.json()["detail"]
    assert "\n" not in response.json()["detail"]


def test_what_is_no_json_by_its_header_is_refused(service: InProcess) -> None:
    """That keeps the pages of other sites out: a browser asks before it sends them JSON, and nobody says yes."""
    body = b'{"text": "a fine film"}'
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = service.request("POST", "/score", content=body, headers={"Content-Type": media_type})
        assert response.status_code == 415
        assert response.json() == {"detail": "send JSON with the header Content-Type: application/json"}
    for media_type in ("application/json", "Application/JSON; charset=utf-8"):
        assert service.request("POST", "/score", content=body, headers={"Content-Type": media_type}).status_code == 200
    preflight = service.request("OPTIONS", "/score", headers={"Origin": "http://elsewhere"})
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers


def test_a_place_that_is_not_there_and_a_method_that_is_not_for_it_say_what_is(service: InProcess) -> None:
    response = service.get("/predict")
    assert response.status_code == 404
    assert response.json()["detail"].startswith("no /predict here; there are POST /score, POST /score/batch, POST /exp")
    assert service.post("/score/", {"text": "fine"}).status_code == 404
    response = service.get("/score")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert response.json() == {"detail": "GET is not for /score; use POST"}


def test_limits_on_texts_and_their_length(serve: Serve, explaining_bundle: Path) -> None:
    service = serve(explaining_bundle, texts=2, characters=10, waiting=2)
    assert service.post("/score", {"text": "x" * 10}).status_code == 200
    for route in ("/score", "/explain"):
        response = service.post(route, {"text": "x" * 11})
        assert (response.status_code, response.json()["detail"]) == (422, "text has 11 characters; the limit is 10")
    response = service.post("/score/batch", {"texts": ["a", "x" * 11]})
    assert (response.status_code, response.json()["detail"]) == (422, "texts[1] has 11 characters; the limit is 10")
    response = service.post("/score/batch", {"texts": ["a", "b", "c"]})
    assert (response.status_code, response.json()["detail"]) == (422, "3 texts; the limit is 2 a request")


def test_a_body_over_the_limit_is_refused_announced_or_not(serve: Serve, explaining_bundle: Path) -> None:
    service = serve(explaining_bundle, body_bytes=100)
    refusal = {"detail": "the body is larger than 100 bytes; send fewer texts at a time"}
    body = json.dumps({"text": "x" * 88}).encode()
    assert len(body) == 100
    assert service.request("POST", "/score", content=body, headers=JSON).status_code == 200

    async def in_chunks() -> AsyncIterator[bytes]:
        yield body
        yield b" "

    for content in (body + b" ", in_chunks()):
        response = service.request("POST", "/score", content=content, headers=JSON)
        assert (response.status_code, response.json()) == (413, refusal)
        assert response.headers["Connection"] == "close"


def test_more_texts_than_may_wait_are_told_to_come_again(serve: Serve, explaining_bundle: Path) -> None:
    service = serve(explaining_bundle, texts=3, waiting=3)

    async def overload() -> tuple[list[Any], Any]:
        async with service.client() as client:
            asked = [
                asyncio.create_task(client.post("/score/batch", json={"texts": ["a fine film"] * 3})) for _ in range(4)
            ]
            while not service.service.scoring.full:
                await asyncio.sleep(0)
            return [await client.get("/readyz"), *await asyncio.gather(*asked)], await client.get("/readyz")

    (ready, *answers), after = asyncio.run(overload())
    assert sorted(response.status_code for response in answers) == [200, 503, 503, 503]
    for response in answers:
        if response.status_code == 503:
            assert response.headers["Retry-After"] == "1"
            assert response.json() == {"detail": "3 texts are waiting; send this again in a second"}
    assert (ready.status_code, ready.json()) == (503, {"detail": "3 texts are waiting"})
    assert after.status_code == 200


def test_health_and_readiness(serve: Serve, explaining_bundle: Path) -> None:
    service = serve(explaining_bundle)
    assert service.get("/healthz").json() == {"status": "ok"}
    identity = open_bundle(explaining_bundle).identity
    assert service.get("/readyz").json() == {"status": "ready", "waiting": 0, "bundle": identity}
    service.service.ending = True
    response = service.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"detail": "shutting down; ask another instance"})
    assert response.headers["Connection"] == "close"
    response = service.post("/score", {"text": "a fine film"})
    assert (response.status_code, response.headers["Connection"]) == (200, "close")
    assert service.get("/healthz").status_code == 200


def test_a_failure_is_an_answer_and_does_not_reach_the_next_request(
    serve: Serve, explaining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve(explaining_bundle)
    with monkeypatch.context() as patch:
        patch.setattr(service.service.model.scorer, "submit", lambda texts: 1 / 0)
        response = service.post("/score", {"text": "a fine film"})
    assert (response.status_code, response.json()) == (500, {"detail": "the service failed; its log says why"})
    assert service.post("/score", {"text": "a fine film"}).status_code == 200
    assert service.get("/readyz").json()["waiting"] == 0


def strict(model: type[BaseModel]) -> type[BaseModel]:
    return type(model.__name__, (model,), {"model_config": ConfigDict(extra="forbid", strict=True)})


def test_answers_are_what_openapi_says(service: InProcess) -> None:
    text = {"text": "a fine film"}
    strict(schemas.Answer).model_validate_json(service.post("/score", text).content)
    strict(schemas.Answers).model_validate_json(service.post("/score/batch", {"texts": ["a fine film"]}).content)
    strict(schemas.Explained).model_validate_json(service.post("/explain", text).content)
    strict(schemas.Health).model_validate_json(service.get("/healthz").content)
    strict(schemas.Readiness).model_validate_json(service.get("/readyz").content)
    strict(schemas.Error).model_validate_json(service.post("/score", {}).content)


def test_openapi_names_every_request_and_every_error(service: InProcess) -> None:
    page = service.get("/openapi.json").json()
    assert list(page["paths"]) == ["/score", "/score/batch", "/explain", "/healthz", "/readyz", "/metrics"]
    for path in ("/score", "/score/batch", "/explain"):
        operation = page["paths"][path]["post"]
        (schema,) = [body["schema"] for body in operation["requestBody"]["content"].values()]
        assert schema["required"] == ["texts" if path == "/score/batch" else "text"]
        errors = operation["responses"].keys() - {"200"}
        assert errors == {"400", "413", "415", "422", "500", "503"} | ({"404"} if path == "/explain" else set())
        for status in errors:
            shown = operation["responses"][status]["content"]["application/json"]["schema"]
            assert shown == {"$ref": "#/components/schemas/Error"}
        assert "Retry-After" in operation["responses"]["503"]["headers"]
    assert "1,000 texts a request, 100,000 characters a text, and 4,000,000 bytes" in page["info"]["description"]


def test_nothing_is_told_to_anyone(serve: Serve, explaining_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI can send every request to a collector that the environment names; here it does not."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    app = serve(explaining_bundle).app
    assert not {"tracing", "metrics", "logs", "auto_configure"} & {name for name, on in app._telemetry.items() if on}
    for path in ("/docs", "/redoc"):  # they would load scripts from elsewhere
        assert serve(explaining_bundle).get(path).status_code == 404
