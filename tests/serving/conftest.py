"""A small bundle that explains, and the service around it in this process."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from export.bundle import open_bundle
from tests.explaining import small_snapshot
from toolchain.release.release import export_snapshot
from toolchain.serving.app import create_app
from toolchain.serving.service import Service
from toolchain.serving.settings import Limits, Settings


@dataclass(frozen=True)
class InProcess:
    """A service without a port."""

    service: Service
    app: FastAPI

    def client(self) -> httpx.AsyncClient:
        """For several requests in one event loop."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """One request."""

        async def ask() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **content)

        return asyncio.run(ask())

    def post(self, path: str, body: object) -> httpx.Response:
        """One request with a JSON body."""
        return self.request("POST", path, content=json.dumps(body), headers={"Content-Type": "application/json"})

    def get(self, path: str) -> httpx.Response:
        """One request."""
        return self.request("GET", path)


Serve = Callable[..., InProcess]


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Makes a service of a bundle, with these limits."""

    def serve(bundle: Path, **limits: int) -> InProcess:
        service = Service(Settings(bundle, limits=Limits(**limits)), threads=2)
        return InProcess(service, create_app(service))

    return serve


@pytest.fixture(scope="session")
def explaining_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes that explains; its labels have a comma, quotes and Hangul in them. Do not change it."""
    folder = tmp_path_factory.mktemp("explaining") / "bundle"
    export_snapshot(small_snapshot(), folder, ["onnx", "onnx-explain"])
    return folder


@pytest.fixture(scope="session")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model with the same labels, which does not explain. Do not change it."""
    folder = tmp_path_factory.mktemp("plain") / "bundle"
    export_snapshot(small_snapshot("BasicGRU"), folder, ["onnx"])
    return folder


@pytest.fixture(scope="session")
def vectors(explaining_bundle: Path) -> list[dict[str, Any]]:
    """Those of `explaining_bundle` whose texts are not blank."""
    return [vector for vector in open_bundle(explaining_bundle).vectors() if vector["text"].replace("\0", " ").strip()]


@pytest.fixture(scope="session")
def service(serve: Serve, explaining_bundle: Path) -> InProcess:
    """A service of it, with the usual limits."""
    return serve(explaining_bundle)


def assert_agrees(answer: dict[str, Any], vector: dict[str, Any], tolerance: float = 1e-5) -> None:
    """An answer is what the vector says."""
    assert answer["label"] == vector["label"], vector["text"][:80]
    assert list(answer["probabilities"].values()) == pytest.approx(vector["probabilities"], abs=tolerance, rel=0)
    assert answer["confidence"] == answer["probabilities"][answer["label"]]
    assert (answer["tokens"], answer["unknown"]) == (vector["tokens"], vector["unknown"])
