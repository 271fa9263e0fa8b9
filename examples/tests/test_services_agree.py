"""`toolchain serve` and the Node service are one service to their clients: the same questions, the same answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.tests import test_node
from export.bundle import open_bundle
from tests.serving.running import serving

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def services(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of both."""
    with serving(bundle, tmp_path_factory.mktemp("serve") / "log") as ours, test_node.serving(bundle) as node:
        yield ours.url, f"http://127.0.0.1:{node.port}"


def ask(address: str, method: str, path: str, **content: Any) -> httpx.Response:
    return httpx.request(method, address + path, timeout=120, **content)


def rounded(answer: Any) -> Any:
    """An answer whose probabilities are those of either runtime."""
    if isinstance(answer, dict):
        return {name: rounded(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [rounded(value) for value in answer]
    if isinstance(answer, float):
        return round(answer, 4)
    return answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/score", {"text": "A lively film."}),
        ("/score", {"text": "A lively film.", "id": 7}),
        ("/score", {"text": "É\0 \ud83d \U0001f600"}),
        ("/score", {"text": "\ufeff"}),
        ("/score", {"text": ""}),
        ("/score", {"text": " \t\u2003\x1c\x85\0"}),
        ("/score", {"text": "x" * 100_000}),
        ("/score", {"text": "\U0001f600" * 100_000}),
        ("/score", {"text": "x" * 100_001}),
        ("/score", {"text": 1}),
        ("/score", {"text": None}),
        ("/score", {}),
        ("/score", []),
        ("/score", None),
        ("/score", "text"),
        ("/score", {"texts": ["a"]}),
        ("/score/batch", {"texts": ["A lively film.", "I was bored.", "Dull"]}),
        ("/score/batch", {"texts": []}),
        ("/score/batch", {"texts": ["a", ""]}),
        ("/score/batch", {"texts": ["a", None]}),
        ("/score/batch", {"texts": ["a", "x" * 100_001]}),
        ("/score/batch", {"texts": ["a"] * 1_000}),
        ("/score/batch", {"texts": ["a"] * 1_001}),
        ("/score/batch", {"texts": "a"}),
        ("/score/batch", {"text": "a"}),
        ("/score/batch", None),
        ("/score", {"text": "x" * 4_000_000}),
    ],
    ids=lambda value: json.dumps(value)[:50] if not isinstance(value, str) else value,
)
def test_the_same_question_has_the_same_answer(services: tuple[str, str], path: str, body: object) -> None:
    content = json.dumps(body).encode()
    ours, node = (ask(address, "POST", path, content=content, headers=JSON) for address in services)
    assert node.status_code == ours.status_code
    assert rounded(node.json()) == rounded(ours.json())


@pytest.mark.parametrize("body", [b"", b"{", b'{"text": "\xff"}', b"[" * 100_000])
def test_what_is_no_json_is_refused_alike(services: tuple[str, str], body: bytes) -> None:
    answers = [ask(address, "POST", "/score", content=body, headers=JSON) for address in services]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("the body is not JSON in UTF-8 (")
        assert answer.json()["detail"].endswith('); send {"text": "…"}')


def test_the_rest_is_alike(services: tuple[str, str], bundle: Path) -> None:
    for address in services:
        assert ask(address, "GET", "/healthz").json() == {"status": "ok"}
        identity = open_bundle(bundle).identity
        assert ask(address, "GET", "/readyz").json() == {"status": "ready", "waiting": 0, "bundle": identity}
        refused = ask(address, "POST", "/score", content=b'{"text": "a"}', headers={"Content-Type": "text/plain"})
        assert refused.status_code == 415
        assert refused.json() == {"detail": "send JSON with the header Content-Type: application/json"}
        refused = ask(address, "GET", "/score/batch")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
        assert refused.json() == {"detail": "GET is not for /score/batch; use POST"}
        refused = ask(address, "GET", "/nothing")
        assert refused.status_code == 404
        assert refused.json()["detail"].startswith("no /nothing here; there are POST /score, POST /score/batch, ")
