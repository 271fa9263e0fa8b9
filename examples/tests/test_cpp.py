"""The C++ program, compiled here against the libtorch in torch's wheel."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.tests.conftest import EXAMPLES, TAMPERED_ROW

FOLDER = EXAMPLES / "cpp-torchscript"


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("cpp")
    # -O0: the work is libtorch's, and the program compiles in half the time.
    command = ["make", "-C", str(FOLDER), f"PYTHON={sys.executable}", f"BUILD={build}", "CXXFLAGS=-O0 -Wall -Werror"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return build / "classify"


def run(command: list[str | Path], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, input=stdin, capture_output=True, env=environment)


def check(classify: Path, bundle: Path, *vectors: Path) -> subprocess.CompletedProcess[bytes]:
    return run([sys.executable, FOLDER / "check.py", classify, bundle, *vectors])


def test_every_vector_agrees(classify: Path, bundle: Path, vectors: list[dict[str, Any]]) -> None:
    done = check(classify, bundle)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith(f"{len(vectors)} vectors agree")


def test_the_first_disagreement_ends_the_check(classify: Path, bundle: Path, tampered_vectors: Path) -> None:
    done = check(classify, bundle, tampered_vectors)
    assert done.returncode == 1
    assert f"{tampered_vectors}, line {TAMPERED_ROW + 1}: " in done.stderr.decode()


def test_a_line_is_a_text_and_a_blank_one_too(classify: Path, bundle: Path, vectors: list[dict[str, Any]]) -> None:
    texts = ["a fine film", "", "a dull one"]
    lines = run([classify, bundle / "model.ts"], "\n".join(texts).encode()).stdout.decode().splitlines()
    by_zero = run([classify, "-0", bundle / "model.ts"], "\0".join(texts).encode()).stdout.decode().splitlines()
    assert lines == by_zero
    assert len(lines) == 3
    (empty,) = [vector for vector in vectors if vector["text"] == ""]
    label, *probabilities = lines[1].split("\t")
    assert label == empty["label"]
    assert [float(value) for value in probabilities] == pytest.approx(empty["probabilities"], abs=1e-5, rel=0)


def test_more_texts_than_a_batch_and_none_at_all(classify: Path, bundle: Path) -> None:
    lines = run([classify, bundle / "model.ts"], b"a fine film\n" * 150).stdout.splitlines()
    assert len(lines) == 150
    assert run([classify, bundle / "model.ts"]).stdout == b""


def test_wrong_use_is_one_line_and_status_2(classify: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ts").write_bytes(b"not a model")
    for model in (tmp_path / "model.ts", tmp_path / "missing.ts"):
        done = run([classify, model], b"text\n")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {model}: ".encode())
        assert done.stderr.count(b"\n") == 1, done.stderr.decode()
    done = run([classify])
    assert (done.returncode, done.stderr) == (2, b"usage: classify [-0] model.ts < texts\n")
    with open("/dev/full", "wb") as full:
        command = [classify, bundle / "model.ts"]
        done = subprocess.run(command, input=b"text\n", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"error: standard output cannot be written\n")
