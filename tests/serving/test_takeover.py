"""A new bundle is taken over without a lost request; one that cannot be taken changes nothing."""

import asyncio
import hashlib
import json
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from export.bundle import MANIFEST, VECTORS, open_bundle
from tests.serving.running import PATIENCE, Running, serving, wait_until
from toolchain import Scorer

CLIENTS = 8
TEXT = "a fine film but dull in the end"


def put(bundle: Path, place: Path) -> None:
    """Exchange the bundle in a place whole, as `toolchain export` does."""
    new, old = place.with_name("new"), place.with_name("old")
    shutil.copytree(bundle, new)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


@pytest.fixture
def place(tmp_path: Path, explaining_bundle: Path) -> Path:
    put(explaining_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


async def keep_asking(url: str, during: Callable[[list[float]], Awaitable[None]]) -> list[float]:
    """The confidences that clients got one after the other, over connections that stay open, while something happens.

    A request without its answer, for whatever reason, fails the test.
    """
    answers: list[float] = []
    done = asyncio.Event()

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as session:
            while not done.is_set():
                response = await session.post("/score", json={"text": TEXT})
                assert response.status_code == 200, response.text
                answers.append(response.json()["confidence"])

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    try:
        await during(answers)
    finally:
        done.set()
    await asyncio.gather(*clients)
    return answers


def exchange(service: Running, bundle: Path, place: Path, workers: int = 1, tell: bool = True) -> list[float]:
    """The confidences before, during and after a takeover under load."""

    async def during(answers: list[float]) -> None:
        await until(lambda: len(answers) >= 20)
        put(bundle, place)
        if tell:
            service.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(service.wait_for, "took over", workers)
        seen = len(answers)
        await until(lambda: len(answers) >= seen + 20 + CLIENTS)

    return asyncio.run(keep_asking(service.url, during))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def confidence(bundle: Path) -> float:
    with Scorer(bundle, "cpu") as scorer:
        return scorer.score([TEXT])[0].confidence


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_takes_a_new_bundle_over_under_load_without_a_lost_request(
    place: Path, explaining_bundle: Path, plain_bundle: Path, tmp_path: Path, workers: int
) -> None:
    old, new = confidence(explaining_bundle), confidence(plain_bundle)
    assert abs(old - new) > 1e-3
    with serving(place, tmp_path / "log", "--workers", str(workers)) as service:
        answers = exchange(service, plain_bundle, place, workers)
        assert answers[:20] == pytest.approx([old] * 20, abs=1e-5)
        assert answers[-20:] == pytest.approx([new] * 20, abs=1e-5)
        assert all(
            answer == pytest.approx(old, abs=1e-5) or answer == pytest.approx(new, abs=1e-5) for answer in answers
        )
        identity = open_bundle(plain_bundle).identity
        assert service.get("/readyz").json()["bundle"] == identity
        assert service.samples()[f"bundle {identity}"] == 1
        assert service.samples()["takeovers_total done"] == workers
        assert service.post("/explain", {"text": TEXT}).status_code == 404  # the old one could
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("holds the bundle that is served already", workers)
    assert "Traceback" not in service.said()


def test_a_watched_folder_needs_no_signal(place: Path, plain_bundle: Path, tmp_path: Path) -> None:
    with serving(place, tmp_path / "log", "--watch") as service:
        answers = exchange(service, plain_bundle, place, tell=False)
        assert answers[-20:] == pytest.approx([confidence(plain_bundle)] * 20, abs=1e-5)


def test_a_link_that_is_moved_is_followed_anew(explaining_bundle: Path, plain_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(explaining_bundle)
    with serving(link, tmp_path / "log") as service:
        (tmp_path / "next").symlink_to(plain_bundle)
        (tmp_path / "next").rename(link)
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("took over")
        assert service.get("/readyz").json()["bundle"] == open_bundle(plain_bundle).identity


def cut_short(place: Path) -> None:
    model = place / "model.cpu.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    (place / MANIFEST).write_text((place / MANIFEST).read_text(encoding="utf-8") + "\n", encoding="utf-8")


def gone(place: Path) -> None:
    shutil.rmtree(place)


def lying(place: Path) -> None:
    """A bundle whose files are whole and whose model says something else than its vectors."""
    other = open_bundle(place).vectors()
    for vector in other:
        vector["probabilities"][0] += 0.01
    (place / VECTORS).write_text("".join(json.dumps(vector) + "\n" for vector in other), encoding="utf-8")
    manifest = json.loads((place / MANIFEST).read_bytes())
    data = (place / VECTORS).read_bytes()
    manifest["files"][VECTORS] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (place / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut_short, "model.cpu.onnx: "),
        (gone, "no bundle here"),
        (lying, "checked texts wrongly"),
    ],
)
def test_a_bundle_that_cannot_be_taken_changes_nothing(
    place: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    identity = open_bundle(place).identity
    with serving(place, tmp_path / "log") as service:
        before = service.post("/score", {"text": TEXT}).json()
        spoil(place)
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("the bundle from before is still served")
        assert reason in service.said()
        assert service.post("/score", {"text": TEXT}).json() == before
        assert service.get("/readyz").json()["bundle"] == identity
        assert service.samples()["takeovers_total failed"] == 1


def test_a_copy_that_takes_its_time_is_taken_over_when_it_is_whole(
    place: Path, plain_bundle: Path, tmp_path: Path
) -> None:
    """File by file, the manifest first: until the last one it looks damaged, which is said once."""
    with serving(place, tmp_path / "log", "--watch") as service:
        shutil.copy(plain_bundle / MANIFEST, place / MANIFEST)
        service.wait_for("is still served")
        failed = service.samples()["takeovers_total failed"]
        wait_until(lambda: service.samples()["takeovers_total failed"] > failed, "another look")
        assert service.said().count("is still served") == 1
        for file in plain_bundle.iterdir():
            shutil.copy(file, place / file.name)
        service.wait_for("took over")
        assert service.get("/readyz").json()["bundle"] == open_bundle(plain_bundle).identity
