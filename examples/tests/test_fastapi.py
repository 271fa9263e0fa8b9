"""The FastAPI service over a real socket: answers, batching, limits, errors, and a shutdown that loses nothing."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.fastapi.service import Settings
from examples.tests.conftest import EXAMPLES
from export.text import is_blank

FOLDER = EXAMPLES / "fastapi"
LIMITS = {"MAX_BODY_BYTES": 50_000, "MAX_BATCH_TEXTS": 2, "MAX_TEXT_CHARACTERS": 20_000, "MAX_WAITING_TEXTS": 2}
LONG = "slow " * 4_000  # as many characters as LIMITS allow, and a second or so of work for every few of them
PATIENCE = 120


@dataclass(frozen=True)
class Service:
    """A running service, and a client of it."""

    process: subprocess.Popen[bytes]
    port: int
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: object) -> httpx.Response:
        return self.client.post(path, json=body)

    def samples(self) -> dict[str, float]:
        """Every sample of /metrics that has no labels but a path and a status: `requests_total /score 200`."""
        found = {}
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name.startswith("scorer_") and "le" not in sample.labels:
                    name = [sample.name.removeprefix("scorer_"), *sample.labels.values()]
                    found[" ".join(name)] = sample.value
        return found


@contextmanager
def serve(bundle: Path, log: Path, **settings: int) -> Iterator[Service]:
    """A service on a port that the system chose; killed at the end if it still runs."""
    environment = {f"SCORER_{name}": str(value) for name, value in settings.items()}
    environment |= {"SCORER_BUNDLE": str(bundle), "SCORER_PORT": "0"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, FOLDER / "service.py"], env={**os.environ, **environment}, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: process.poll() is not None or b"running on" in log.read_bytes(), "the service to start")
        running = re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())
        assert running, log.read_text()
        port = int(running[1])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            yield Service(process, port, client)
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


async def post_all(service: Service, texts: Sequence[str], connections: int) -> list[httpx.Response]:
    """The answers of /score in the order of `texts`, asked for over so many connections at once."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE, limits=limits) as client:
        return await asyncio.gather(*(client.post("/score", json={"text": text}) for text in texts))


@pytest.fixture(scope="module")
def service(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(bundle, tmp_path_factory.mktemp("service") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def strict(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits."""
    with serve(bundle, tmp_path_factory.mktemp("strict") / "log", **LIMITS) as running:
        yield running


def assert_agrees(answer: dict[str, Any], vector: dict[str, Any], tolerance: float) -> None:
    assert answer["label"] == vector["label"], vector["text"][:80]
    assert list(answer["probabilities"].values()) == pytest.approx(vector["probabilities"], abs=tolerance, rel=0)
    assert answer["confidence"] == answer["probabilities"][answer["label"]]
    assert (answer["tokens"], answer["unknown"]) == (vector["tokens"], vector["unknown"])


def test_concurrent_requests_get_the_answers_of_the_vectors_and_share_batches(
    service: Service, vectors: list[dict[str, Any]], tolerance: float
) -> None:
    scorable = [vector for vector in vectors if not is_blank(vector["text"])]
    assert len(scorable) >= 200
    before = service.samples()
    responses = asyncio.run(post_all(service, [vector["text"] for vector in scorable], 300))
    after = service.samples()
    for response, vector in zip(responses, scorable, strict=True):
        assert response.status_code == 200, response.text
        assert_agrees(response.json(), vector, tolerance)
    assert after["batch_texts_sum"] - before["batch_texts_sum"] == len(scorable)
    assert after["batch_texts_count"] - before["batch_texts_count"] < len(scorable) / 2
    answered = "requests_total /score 200"
    assert after[answered] - before.get(answered, 0) == len(scorable)
    assert after["waiting_texts"] == 0
    assert after["requests_in_progress"] == 1  # that for the metrics


def test_a_batch_is_answered_in_order(service: Service, vectors: list[dict[str, Any]], tolerance: float) -> None:
    scorable = [vector for vector in vectors if not is_blank(vector["text"])][:500]
    answers = service.post("/score/batch", {"texts": [vector["text"] for vector in scorable]}).json()["answers"]
    for answer, vector in zip(answers, scorable, strict=True):
        assert_agrees(answer, vector, tolerance)
    assert service.post("/score/batch", {"texts": []}).json() == {"answers": []}


def test_blank_texts_are_refused_with_the_reason(service: Service, vectors: list[dict[str, Any]]) -> None:
    blank = [vector["text"] for vector in vectors if is_blank(vector["text"])] + ["\0"]
    assert len(blank) > 5
    for text in blank:
        response = service.post("/score", {"text": text})
        assert (response.status_code, response.json()) == (422, {"detail": "text is blank: there is nothing to score"})
    response = service.post("/score/batch", {"texts": ["fine", " "]})
    assert (response.status_code, response.json()["detail"].split(":")[0]) == (422, "texts[1] is blank")


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b'{"text": "cut off', 422, "the body is not JSON"),
        (b"", 422, "expected a JSON object"),
        (b"{}", 422, "text: Field required"),
        (b'{"text": 7}', 422, "text: Input should be a valid string"),
        (b'["a", "b"]', 422, "expected a JSON object"),
        (b'{"text": "\xff"}', 400, "parsing the body"),
        (b"[" * 40_000, 400, "parsing the body"),
    ],
)
def test_a_malformed_body_is_one_line_of_json(service: Service, body: bytes, status: int, detail: str) -> None:
    response = service.client.post("/score", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert response.json().keys() == {"detail"}
    assert detail in response.json()["detail"]
    assert "\n" not in response.json()["detail"]


def test_limits_on_texts_and_batches(strict: Service) -> None:
    assert strict.post("/score", {"text": LONG}).status_code == 200
    response = strict.post("/score", {"text": LONG + "x"})
    assert (response.status_code, response.json()["detail"]) == (422, "text has more than 20000 characters")
    response = strict.post("/score/batch", {"texts": ["a", "b", "c"]})
    assert (response.status_code, response.json()["detail"]) == (422, "3 texts, the limit is 2 at a time")


@pytest.mark.parametrize(
    "request_so_far",
    [
        b"Content-Length: 50001\r\n\r\n",
        b"Content-Length: 50001\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"9c40\r\n" + b" " * 40_000 + b"\r\n" + b"2711\r\n" + b" " * 10_001,
    ],
)
def test_a_large_body_is_refused_before_it_has_arrived(strict: Service, request_so_far: bytes) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", strict.port), timeout=PATIENCE) as connection:
        connection.sendall(head + request_so_far)
        status, _, rest = connection.makefile("rb").read().partition(b"\r\n")
    assert status.split()[1] == b"413"
    assert json.loads(rest.partition(b"\r\n\r\n")[2]) == {
        "detail": "the body is larger than 50000 bytes; send fewer texts at a time"
    }


def test_a_full_queue_refuses_with_retry_after_and_is_not_ready(strict: Service) -> None:
    """Clients keep the queue full until both a refusal and a health check that is not ready were seen."""
    responses: list[httpx.Response] = []
    health: set[int] = set()

    def seen() -> bool:
        return 503 in health and {200, 503} <= {response.status_code for response in responses}

    async def insist(client: httpx.AsyncClient) -> None:
        while not seen():
            responses.append(await client.post("/score", json={"text": LONG}))
            await asyncio.sleep(0.05)

    async def watch(client: httpx.AsyncClient) -> None:
        while not seen():
            health.add((await client.get("/healthz")).status_code)

    async def overload() -> None:
        async with httpx.AsyncClient(base_url=strict.url, timeout=PATIENCE) as client, asyncio.timeout(PATIENCE):
            await asyncio.gather(watch(client), *(insist(client) for _ in range(12)))

    asyncio.run(overload())
    for response in responses:
        if response.status_code == 503:
            assert response.headers["Retry-After"] == "1"
            assert response.json() == {"detail": "the queue is full; try again"}
    ready = strict.client.get("/healthz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})


def test_shutdown_under_load_answers_what_was_accepted_and_refuses_the_rest(
    bundle: Path, vectors: list[dict[str, Any]], tolerance: float, tmp_path: Path
) -> None:
    vector = max(vectors, key=lambda vector: vector["tokens"])  # seconds of work to send in a tenth of one
    count = 20

    async def stop_under_load(service: Service) -> tuple[list[httpx.Response], int]:
        loading = asyncio.ensure_future(post_all(service, [vector["text"]] * count, count))
        begun = answered = 0
        while begun < count:
            samples = await asyncio.to_thread(service.samples)
            answered = int(samples.get("requests_total /score 200", 0))
            begun = answered + int(samples["requests_in_progress"]) - 1
        service.process.send_signal(signal.SIGTERM)
        return await loading, answered

    with serve(bundle, tmp_path / "log", GRACE_SECONDS=PATIENCE) as service:
        responses, answered = asyncio.run(stop_under_load(service))
        assert answered < count, "nothing was left to do at the signal"
        for response in responses:
            assert response.status_code == 200, response.text
            assert_agrees(response.json(), vector, tolerance)
        with pytest.raises(httpx.ConnectError):
            service.client.get("/healthz")
        assert service.process.wait(PATIENCE) == -signal.SIGTERM
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_openapi_names_every_error(service: Service) -> None:
    page = service.client.get("/openapi.json").json()
    for path in ("/score", "/score/batch"):
        responses = page["paths"][path]["post"]["responses"]
        assert responses.keys() == {"200", "400", "413", "422", "500", "503"}
        for status in responses.keys() - {"200"}:
            schema = responses[status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}
        assert "Retry-After" in responses["503"]["headers"]
    assert page["components"]["schemas"]["Error"]["properties"].keys() == {"detail"}
    assert "HTTPValidationError" not in page["components"]["schemas"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"SCORER_BUNDLE": "nowhere"}, "error: nowhere: no bundle here"),
        ({"SCORER_PORT": "http"}, "error: SCORER_PORT is 'http', expected a whole number"),
        ({"SCORER_PROVIDER": "abacus"}, "error: the provider 'abacus' is not installed"),
        ({"SCORER_MAX_WAITING_TEXTS": "9"}, "error: SCORER_MAX_WAITING_TEXTS is less than SCORER_MAX_BATCH_TEXTS"),
    ],
)
def test_wrong_settings_are_one_line(bundle: Path, settings: dict[str, str], message: str) -> None:
    environment = {**os.environ, "SCORER_BUNDLE": str(bundle), **settings}
    done = subprocess.run([sys.executable, FOLDER / "service.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_the_load_script_reports_rates_and_latencies(service: Service) -> None:
    command = [sys.executable, str(FOLDER / "load.py"), "--url", service.url, "--requests", "40", "--concurrency", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^40 requests in [\d.]+ s: \d+ requests/s\nlatency: median \d+ ms, 90 % ", done.stdout)
    nobody = subprocess.run([*command, "--url", "http://127.0.0.1:1"], capture_output=True, text=True)
    assert (nobody.returncode, nobody.stderr) == (1, "40 requests were not answered with 200\n")


def test_the_readme_lists_every_setting_with_its_default() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8").partition("| variable |")[2]
    listed: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`SCORER_.*?) \| (.*?) \|", table, re.MULTILINE):
        listed |= zip(re.findall(r"\w+", names), re.findall(r"[\w.,]+\b", defaults), strict=True)
    assert {name: default.replace(",", "") for name, default in listed.items()} == {
        f"SCORER_{field.name.upper()}": str(field.default) for field in fields(Settings)
    }
