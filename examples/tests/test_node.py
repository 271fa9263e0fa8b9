"""The Node service, over real sockets and under concurrent load."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from examples.tests.conftest import EXAMPLES, TAMPERED_ROW
from export.text import is_blank

FOLDER = EXAMPLES / "node"
CLIENTS = 300
TEXTS_A_REQUEST = 256
TEXTS_WAITING = 1024
BODY_BYTES = 1 << 20
PATIENCE = 120.0  # seconds until a hung service fails a test

Answer = tuple[int, Any]


def check(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = ["node", FOLDER / "check.mjs", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


class Service:
    """A running service."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """The status and the JSON of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def score(self, value: Any) -> Answer:
        return self.request("POST", "/score", json.dumps(value).encode())

    def score_at_once(self, values: Sequence[Any]) -> list[Answer]:
        """The answers to requests that are all sent at the same moment."""
        start = threading.Barrier(len(values))

        def send(value: Any) -> Answer:
            start.wait(PATIENCE)
            return self.score(value)

        with ThreadPoolExecutor(len(values)) as pool:
            return list(pool.map(send, values))


@contextmanager
def serving(bundle: Path) -> Iterator[Service]:
    process = subprocess.Popen(
        ["node", FOLDER / "server.mjs", bundle],
        env={**os.environ, "PORT": "0"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()
        yield Service(process, urlsplit(address).port or pytest.fail(f"the service did not start: {address!r}"))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[Service]:
    with serving(bundle) as service:
        yield service


def assert_agrees(answer: Any, vector: dict[str, Any], tolerance: float) -> None:
    assert answer["label"] == vector["label"], vector["text"][:80]
    assert answer["probabilities"] == pytest.approx(vector["probabilities"], abs=tolerance, rel=0), vector["text"][:80]


def test_every_vector_agrees(bundle: Path, vectors: list[dict[str, Any]]) -> None:
    done = check(bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{len(vectors)} vectors agree")


def test_the_first_disagreement_ends_the_check(bundle: Path, tampered_vectors: Path) -> None:
    done = check(bundle, tampered_vectors)
    assert done.returncode == 1
    assert f"{tampered_vectors}, line {TAMPERED_ROW + 1}: " in done.stderr


def test_no_vectors_are_no_agreement(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "vectors.jsonl").touch()
    done = check(bundle, tmp_path / "vectors.jsonl")
    assert done.returncode == 1
    assert "holds no vectors" in done.stderr


def test_every_vector_agrees_under_concurrent_load(
    service: Service, vectors: list[dict[str, Any]], tolerance: float
) -> None:
    scorable = [vector for vector in vectors if not is_blank(vector["text"])]
    sent = (scorable * (CLIENTS // len(scorable) + 1))[:CLIENTS]
    random.Random(0).shuffle(sent)
    answers = service.score_at_once([{"text": vector["text"]} for vector in sent])
    assert [status for status, _ in answers] == [200] * CLIENTS
    for (_, answer), vector in zip(answers, sent, strict=True):
        assert_agrees(answer, vector, tolerance)


BATCHES_OF = """
import { Worker } from "node:worker_threads";
const batches = [];
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (texts) {
  batches.push(texts.length);
  post.call(this, texts);
};
const [scorer_file, bundle, count, characters] = process.argv.slice(2);
const { Scorer } = await import(scorer_file);
const scorer = await Scorer.open(bundle);
await Promise.all(Array.from({ length: Number(count) }, () => scorer.score(["x".repeat(characters)])));
console.log(JSON.stringify(batches));
await scorer.close();
"""


@pytest.mark.parametrize(
    ("calls", "characters", "batches"),
    [(300, 10, [1, 64, 64, 64, 64, 43]), (8, 20_000, [1, 3, 3, 1]), (3, 100_000, [1, 1, 1])],
)
def test_calls_that_come_while_the_model_runs_share_its_next_batch(
    bundle: Path, tmp_path: Path, calls: int, characters: int, batches: list[int]
) -> None:
    """As many as keep a batch with its padding small."""
    script = tmp_path / "batches.mjs"
    script.write_text(BATCHES_OF, encoding="utf-8")
    command = ["node", str(script), str(FOLDER / "scorer.mjs"), str(bundle), str(calls), str(characters)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == batches


def test_the_texts_of_a_request_keep_their_order(
    service: Service, vectors: list[dict[str, Any]], tolerance: float
) -> None:
    rng = random.Random(1)
    requests = [
        rng.sample([v for v in vectors if len(v["text"]) < 1_000 and not is_blank(v["text"])], 7) for _ in range(100)
    ]
    answers = service.score_at_once([{"texts": [vector["text"] for vector in sent]} for sent in requests])
    for (status, answer), sent in zip(answers, requests, strict=True):
        assert status == 200
        for result, vector in zip(answer["results"], sent, strict=True):
            assert_agrees(result, vector, tolerance)


def test_what_the_model_cannot_be_given_is_replaced(service: Service) -> None:
    texts = ["one\0film", "one film", "lone \ud83d half", "lone \ufffd half", "pair \U0001f600"]
    status, answer = service.score({"texts": texts})
    assert status == 200
    results = answer["results"]
    assert results[0] == results[1]
    assert results[2] == results[3]
    assert len(results) == len(texts)
    assert service.score({"texts": []}) == (200, {"results": []})


def test_blank_texts_are_refused_with_their_place(service: Service, vectors: list[dict[str, Any]]) -> None:
    blank = [vector["text"] for vector in vectors if is_blank(vector["text"])] + ["\0", "\x1c\x85\u3000"]
    assert len(blank) > 5
    for text in blank:
        assert service.score({"text": text}) == (400, {"error": "text is blank: there is nothing to score"})
    status, answer = service.score({"texts": ["fine", "\t"]})
    assert (status, answer) == (400, {"error": "texts[1] is blank: there is nothing to score"})
    assert service.score({"texts": ["\u200b", "..."]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/score", b"", 400, "JSON"),
        ("POST", "/score", b"{", 400, "JSON"),
        ("POST", "/score", b'{"text": "\xff"}', 400, "UTF-8"),
        ("POST", "/score", b"null", 400, "texts"),
        ("POST", "/score", b"[]", 400, "texts"),
        ("POST", "/score", b"{}", 400, "texts"),
        ("POST", "/score", b'{"text": 1}', 400, "strings only"),
        ("POST", "/score", b'{"texts": ["a", null]}', 400, "strings only"),
        ("POST", "/score", b'{"text": "a", "texts": ["b"]}', 400, "not both"),
        ("POST", "/score", json.dumps({"texts": ["a"] * (TEXTS_A_REQUEST + 1)}).encode(), 400, f"{TEXTS_A_REQUEST}"),
        ("POST", "/score", b'"' + b"x" * BODY_BYTES + b'"', 413, f"at most {BODY_BYTES}"),
        ("POST", "/score", b"x" * (16 * BODY_BYTES), 413, f"at most {BODY_BYTES}"),
        ("GET", "/score", None, 405, "use POST"),
        ("POST", "/healthz", b"", 405, "use GET"),
        ("GET", "/", None, 404, "POST /score"),
    ],
)
def test_what_is_refused_says_what_to_do(
    service: Service, method: str, path: str, body: bytes | None, status: int, says: str
) -> None:
    answered, value = service.request(method, path, body)
    assert answered == status
    assert says in value["error"]
    assert service.request("GET", "/healthz") == (200, {"status": "ok", "waiting": 0})


def test_the_limits_themselves_are_allowed(service: Service) -> None:
    status, answer = service.score({"texts": ["a"] * TEXTS_A_REQUEST})
    assert (status, len(answer["results"])) == (200, TEXTS_A_REQUEST)
    body = json.dumps({"text": ""}).encode()
    status, _ = service.request("POST", "/score", body.replace(b'""', b'"' + b"x" * (BODY_BYTES - len(body)) + b'"'))
    assert status == 200


def test_a_full_queue_refuses_and_recovers(service: Service, vectors: list[dict[str, Any]], tolerance: float) -> None:
    """Eight times what it takes: what is accepted is answered right, the rest is told to come again."""
    middling = [vector for vector in vectors if 20 <= len(vector["text"]) < 1_000][:16]
    sent = middling * (TEXTS_A_REQUEST // len(middling))
    requests = TEXTS_WAITING // TEXTS_A_REQUEST * 8
    answers = service.score_at_once([{"texts": [vector["text"] for vector in sent]}] * requests)
    assert {status for status, _ in answers} == {200, 503}
    for status, answer in answers:
        if status == 503:
            assert "send this again" in answer["error"]
        else:
            for result, vector in zip(answer["results"], sent, strict=True):
                assert_agrees(result, vector, tolerance)
    assert service.request("GET", "/healthz") == (200, {"status": "ok", "waiting": 0})
    assert service.score({"text": "a film"})[0] == 200


def test_a_client_that_leaves_hurts_nobody(service: Service) -> None:
    for sent in (b"", b"POST /score HT", b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(sent)
    assert service.score({"text": "a film"})[0] == 200


def test_sigterm_loses_nothing_that_was_sent(bundle: Path, vectors: list[dict[str, Any]], tolerance: float) -> None:
    middling = [vector for vector in vectors if 20 <= len(vector["text"]) < 1_000]
    sent = [middling[index % len(middling)] for index in range(CLIENTS)]
    with serving(bundle) as service, ThreadPoolExecutor(CLIENTS) as pool:
        every_connection_is_open = threading.Barrier(CLIENTS + 1)

        def score(vector: dict[str, Any]) -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
            with closing(connection):
                connection.request("POST", "/score", json.dumps({"text": vector["text"]}))
                every_connection_is_open.wait(PATIENCE)
                response = connection.getresponse()
                return response.status, json.loads(response.read())

        answers = [pool.submit(score, vector) for vector in sent]
        every_connection_is_open.wait(PATIENCE)
        service.process.send_signal(signal.SIGTERM)
        for answer, vector in zip(answers, sent, strict=True):
            status, value = answer.result()
            assert status == 200
            assert_agrees(value, vector, tolerance)
        assert service.process.wait(PATIENCE) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port))


def test_a_service_that_is_shutting_down_says_so_and_answers_what_waits(
    bundle: Path, vectors: list[dict[str, Any]], tolerance: float
) -> None:
    longest = max(vectors, key=lambda vector: int(vector["tokens"]))
    with serving(bundle) as service, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(service.score, {"texts": [longest["text"]] * 2}) for _ in range(4)]
        while service.request("GET", "/healthz")[1]["waiting"] < 3:
            assert not any(answer.done() for answer in answers)
        service.process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGTERM)
        while (health := service.request("GET", "/healthz"))[0] == 200:
            pass
        assert health == (503, {"error": "shutting down; ask another instance"})
        for answer in answers:
            status, value = answer.result()
            assert status == 200
            for result in value["results"]:
                assert_agrees(result, longest, tolerance)
        assert service.process.wait(PATIENCE) == 0


def test_a_service_without_a_bundle_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(["node", FOLDER / "server.mjs", tmp_path], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert str(tmp_path / "model.onnx") in done.stderr
    assert len(done.stderr.splitlines()) == 1
