"""`toolchain score --engine ray` without a cluster: what is refused, and how."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

JOB = "import sys; {before}; from toolchain.cli.app import app; app(['score', *sys.argv[1:]], prog_name='toolchain')"


def score(*arguments: str | Path, before: str = "pass") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", JOB.format(before=before), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("text\nfine\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--merge"], "--address, --workers, --gpus-per-worker and --merge are for --engine ray"),
        (["--workers", "2"], "--address, --workers, --gpus-per-worker and --merge are for --engine ray"),
        (
            ["--engine", "ray", "--device-id", "0"],
            "--device-id 0: Ray gives every worker its own GPU; leave --device-id out",
        ),
        (["-o", "s3://reviews/out.csv"], "s3://reviews/out.csv: only --engine ray writes to an object store"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str, source: Path) -> None:
    ended = score(source, *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("error:") == 1


def test_without_ray_it_says_what_to_install(source: Path) -> None:
    ended = score(source, "--engine", "ray", before="sys.modules['ray'] = None")
    assert ended.returncode == 2
    assert "ray, which is not installed; install all it needs: pip install 'toolchain[ray]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_local_engine_does_without_ray(source: Path, tmp_path: Path) -> None:
    ended = score(source, "-o", tmp_path / "out.csv", before="sys.modules['ray'] = None")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("text,prediction,confidence\n")


def test_an_address_where_nobody_answers_is_one_line_and_soon(source: Path) -> None:
    with socket.socket() as nobody:  # bound, so that the port is free and nobody else takes it
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = score(source, "--engine", "ray", "--address", address)
    assert done.returncode == 2
    assert f"--address {address}: no answer" in done.stderr.splitlines()[-1]
