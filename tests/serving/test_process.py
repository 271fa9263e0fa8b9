"""The process: how it starts, ends, and looks after its workers."""

import asyncio
import json
import logging
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import assert_agrees
from tests.serving.running import PATIENCE, Running, command, environment, post_all, serving, wait_until
from toolchain.serving.logs import _OneLine
from toolchain.serving.server import _listen

CONNECTIONS = 20


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_answers_what_was_accepted_and_refuses_the_rest(
    explaining_bundle: Path, vectors: list[dict[str, Any]], tmp_path: Path, workers: int
) -> None:
    vector = max(vectors, key=lambda vector: vector["tokens"])
    with serving(explaining_bundle, tmp_path / "log", "--workers", str(workers)) as service:

        async def stop_under_load() -> list[httpx.Response]:
            loading = asyncio.ensure_future(post_all(service.url, [vector["text"]] * CONNECTIONS, CONNECTIONS))
            begun = 0.0
            while begun < CONNECTIONS:
                samples = await asyncio.to_thread(service.samples)
                begun = samples.get("requests_total /score 200", 0) + samples["requests_in_progress"] - 1
            service.process.send_signal(signal.SIGTERM)
            return await loading

        for response in asyncio.run(stop_under_load()):
            assert response.status_code == 200, response.text
            assert_agrees(response.json(), vector)
        assert service.process.wait(PATIENCE) == 0
        with pytest.raises(httpx.ConnectError):
            service.get("/healthz")
    assert "Traceback" not in service.said()
    assert service.said().count("ending: what is under way is answered first") == workers


def test_clients_that_stay_connected_are_asked_to_leave_before_the_port_closes(
    explaining_bundle: Path, tmp_path: Path
) -> None:
    """Each goes on until an answer closes its connection; no request is left without an answer."""

    async def until_asked_to_leave(url: str, started: asyncio.Event) -> int:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            for answered in range(1_000_000):
                response = await client.post("/score", json={"text": "a fine film"})
                assert response.status_code == 200
                started.set()
                if response.headers.get("Connection") == "close":
                    return answered
        raise AssertionError("never")

    with serving(explaining_bundle, tmp_path / "log") as service:

        async def work() -> list[int]:
            started = [asyncio.Event() for _ in range(8)]
            clients = [asyncio.create_task(until_asked_to_leave(service.url, each)) for each in started]
            for each in started:
                await asyncio.wait_for(each.wait(), PATIENCE)
            service.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*clients)

        assert all(asyncio.run(work()))
        assert service.process.wait(PATIENCE) == 0


def test_ctrl_c_ends_it_well(explaining_bundle: Path, tmp_path: Path) -> None:
    with serving(explaining_bundle, tmp_path / "log") as service:
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(PATIENCE) == 0
    assert "Traceback" not in service.said()


def test_what_does_not_end_in_time_is_given_up(explaining_bundle: Path, tmp_path: Path) -> None:
    """A client that never sends the rest of its body."""
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with (
        serving(explaining_bundle, tmp_path / "log", "--grace-seconds", "1") as service,
        socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as connection,
    ):
        connection.sendall(head)
        wait_until(lambda: service.samples()["requests_in_progress"] == 2, "the request to begin")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0


def test_workers_share_the_load_and_their_figures_and_one_that_dies_is_replaced(
    explaining_bundle: Path, tmp_path: Path
) -> None:
    with serving(explaining_bundle, tmp_path / "log", "--workers", "2") as service:
        children = workers_of(service.process.pid)
        assert len(children) == 2
        for _ in range(20):
            assert service.post("/score", {"text": "a fine film"}).status_code == 200
        assert {service.samples()["requests_total /score 200"] for _ in range(8)} == {20}
        os.kill(children[0], signal.SIGKILL)
        service.wait_for(f"worker {children[0]} died (signal 9)")
        wait_until(lambda: len(workers_of(service.process.pid)) == 2, "another worker")
        assert service.samples()["requests_total /score 200"] == 20
        assert service.post("/score", {"text": "a fine film"}).status_code == 200
    assert not workers_of(service.process.pid)


def workers_of(pid: int) -> list[int]:
    """The processes that serve: multiprocessing has one more, which keeps its books."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_workers_end_when_nobody_looks_after_them_any_more(explaining_bundle: Path, tmp_path: Path) -> None:
    with serving(explaining_bundle, tmp_path / "log", "--workers", "2") as service:
        children = workers_of(service.process.pid)
        service.process.kill()
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "the workers to end")


def test_closing_the_terminal_ends_it(explaining_bundle: Path, tmp_path: Path) -> None:
    """There SIGHUP does not mean that a new bundle is there. (Under `nohup`, which may run the tests, it does.)"""
    log = tmp_path / "log"
    terminal, end = pty.openpty()
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["env", "--default-signal=HUP", "setsid", "--ctty", "--wait", *command(explaining_bundle, "--port", "0")],
            env=environment(),
            stdin=end,
            stderr=file,
        )
    os.close(end)
    wait_until(lambda: b" on http" in log.read_bytes(), "the service to start")
    os.close(terminal)
    assert process.wait(PATIENCE) == 0
    assert "ending" in log.read_text()


def test_small_answers_are_sent_at_once() -> None:
    """asyncio sets TCP_NODELAY on the connections of a listener that names its protocol, and on no others."""
    with _listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.fixture(scope="module")
def strict(explaining_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that takes small bodies."""
    with serving(explaining_bundle, tmp_path_factory.mktemp("strict") / "log", "--max-body-bytes", "50000") as running:
        yield running


@pytest.mark.parametrize(
    "request_so_far",
    [
        b"Content-Length: 50001\r\n\r\n",
        b"Content-Length: 50001\r\nExpect: 100-continue\r\n\r\n",
        b"Content-Length: 50001\r\n\r\n" + b" " * 50_001,
        b"Transfer-Encoding: chunked\r\n\r\n9c40\r\n" + b" " * 40_000 + b"\r\n2711\r\n" + b" " * 10_001,
    ],
)
def test_a_large_body_is_refused_and_the_client_hears_it(strict: Running, request_so_far: bytes) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    address = ("127.0.0.1", int(strict.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(head + request_so_far)
        status, _, rest = connection.makefile("rb").read().partition(b"\r\n")
    assert status.split()[1] == b"413"
    detail = "the body is larger than 50000 bytes; send fewer texts at a time"
    assert json.loads(rest.partition(b"\r\n\r\n")[2]) == {"detail": detail}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "error: nowhere: no bundle here"),
        (["nowhere", "--workers", "2"], "error: nowhere: no bundle here"),
        (["--max-waiting", "9"], "error: --max-waiting 9: less than --max-texts (1000)"),
        (["--precision", "int4"], "error: --precision int4: expected fp32 or int8"),
        (["--host", "192.0.2.1"], "error: --host 192.0.2.1 --port 8000: Cannot assign requested address"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(command(*arguments), env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(explaining_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command(explaining_bundle, "--port", port), env=environment(), capture_output=True, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --host 127.0.0.1 --port {port}: Address already in use")
    assert done.stderr.endswith("choose another, --port 0 for any\n")


def test_a_terminal_does_not_obey_what_a_log_line_says() -> None:
    formatter = _OneLine("%(levelname)s %(message)s")
    record = logging.LogRecord("toolchain.serving", logging.INFO, "", 0, "serving %s", ("좋다\x1b[31m\nERROR",), None)
    assert formatter.format(record) == "INFO serving 좋다\\x1b[31m\\nERROR"


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_its_extra_it_says_what_to_install(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from toolchain.cli.app import app; app(['serve'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: serve needs {module}, which is not installed; install all it needs: pip install 'toolchain[serve]'\n"
    )
