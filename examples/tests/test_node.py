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
TEXTS_A_REQUEST = 1_000
TEXTS_WAITING = 4_000
CHARACTERS_A_TEXT = 100_000
BODY_BYTES = 4_000_000
PATIENCE = 120.0  # seconds until a hung service fails a test

JSON = {"Content-Type": "application/json"}

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
            connection.request(method, path, body, JSON)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def score(self, value: Any) -> Answer:
        path = "/score/batch" if "texts" in value else "/score"
        return self.request("POST", path, json.dumps(value).encode())

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
    shares = list(answer["probabilities"].values())
    assert shares == pytest.approx(vector["probabilities"], abs=tolerance, rel=0), vector["text"][:80]
    assert answer["confidence"] == answer["probabilities"][answer["label"]]
    assert (answer["tokens"], answer["unknown"]) == (vector["tokens"], vector["unknown"])


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
    scorable = [vector for vector in vectors if len(vector["text"]) < 1_000 and not is_blank(vector["text"])]
    requests = [rng.sample(scorable, 7) for _ in range(100)]
    answers = service.score_at_once([{"texts": [vector["text"] for vector in sent]} for sent in requests])
    for (status, answer), sent in zip(answers, requests, strict=True):
        assert status == 200
        for result, vector in zip(answer["answers"], sent, strict=True):
            assert_agrees(result, vector, tolerance)


def test_what_the_model_cannot_be_given_is_replaced(service: Service) -> None:
    texts = ["one\0film", "one film", "lone \ud83d half", "lone \ufffd half", "pair \U0001f600", "\ufeff"]
    status, answer = service.score({"texts": texts})
    assert status == 200
    results = answer["answers"]
    assert results[0] == results[1]
    assert results[2] == results[3]
    assert len(results) == len(texts)
    assert service.score({"texts": []}) == (200, {"answers": []})


def test_blank_texts_are_refused_with_their_place(service: Service, vectors: list[dict[str, Any]]) -> None:
    blank = [vector["text"] for vector in vectors if is_blank(vector["text"])] + ["\0", "\x1c\x85\u3000"]
    assert len(blank) > 5
    for text in blank:
        assert service.score({"text": text}) == (422, {"detail": "text is blank: there is nothing to score"})
    status, answer = service.score({"texts": ["fine", "\t"]})
    assert (status, answer) == (422, {"detail": "texts[1] is blank: there is nothing to score"})
    assert service.score({"texts": ["\u200b", "..."]})[0] == 200


@pytest.mark.parametrize("body", [b'{"text": "' + b"x" * BODY_BYTES + b'"}', b"x" * (16 * BODY_BYTES)])
def test_a_large_body_is_refused_and_the_client_hears_it(service: Service, body: bytes) -> None:
    status, value = service.request("POST", "/score", body)
    assert (status, value["detail"].split(";")[0]) == (413, f"the body is larger than {BODY_BYTES} bytes")
    assert service.request("GET", "/healthz") == (200, {"status": "ok"})


def test_the_limits_themselves_are_allowed(service: Service) -> None:
    status, answer = service.score({"texts": ["a"] * TEXTS_A_REQUEST})
    assert (status, len(answer["answers"])) == (200, TEXTS_A_REQUEST)
    body = json.dumps({"text": "x" * CHARACTERS_A_TEXT}).encode()
    status, _ = service.request("POST", "/score", body + b" " * (BODY_BYTES - len(body)))
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
            assert "send this again" in answer["detail"]
        else:
            for result, vector in zip(answer["answers"], sent, strict=True):
                assert_agrees(result, vector, tolerance)
    assert service.request("GET", "/readyz")[1]["waiting"] == 0
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
                connection.request("POST", "/score", json.dumps({"text": vector["text"]}), JSON)
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
        while service.request("GET", "/readyz")[1]["waiting"] < 3:
            assert not any(answer.done() for answer in answers)
        service.process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGTERM)
        while (ready := service.request("GET", "/readyz"))[0] == 200:
            pass
        assert ready == (503, {"detail": "shutting down; ask another instance"})
        for answer in answers:
            status, value = answer.result()
            assert status == 200
            for result in value["answers"]:
                assert_agrees(result, longest, tolerance)
        assert service.process.wait(PATIENCE) == 0


def test_a_service_without_a_bundle_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(["node", FOLDER / "server.mjs", tmp_path], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert str(tmp_path / "manifest.json") in done.stderr
    assert len(done.stderr.splitlines()) == 1
