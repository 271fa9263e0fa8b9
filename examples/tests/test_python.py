"""The ten lines of Python."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.tests.conftest import EXAMPLES, TAMPERED_ROW

FOLDER = EXAMPLES / "python"


def run(script: str, *arguments: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command: list[str | Path] = [sys.executable, FOLDER / script, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_every_vector_agrees(bundle: Path, vectors: list[dict[str, Any]]) -> None:
    done = run("check.py", bundle)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith(f"{len(vectors)} vectors agree")


def test_the_first_disagreement_ends_the_check(bundle: Path, tampered_vectors: Path) -> None:
    done = run("check.py", bundle, tampered_vectors)
    assert done.returncode == 1
    assert f"{tampered_vectors}, line {TAMPERED_ROW + 1}: " in done.stderr.decode()


def test_no_vectors_are_no_agreement(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "vectors.jsonl").touch()
    done = run("check.py", bundle, tmp_path / "vectors.jsonl")
    assert done.returncode == 1
    assert b"holds no vectors" in done.stderr


def test_lines_are_scored_as_pytorch_scores_them(bundle: Path, vectors: list[dict[str, Any]], tolerance: float) -> None:
    lines = [vector for vector in vectors if "\n" not in vector["text"]]
    done = run("score.py", bundle, stdin="".join(f"{vector['text']}\n" for vector in lines).encode())
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == [vector["label"] for vector in lines], done.stderr.decode()
    for answer, vector in zip(answers, lines, strict=True):
        assert answer["probabilities"] == pytest.approx(vector["probabilities"], abs=tolerance, rel=0)


def test_bytes_that_are_no_text_are_scored_all_the_same(bundle: Path) -> None:
    done = run("score.py", bundle, stdin="one\0film\none film\n\ufffd\n".encode() + b"\xff\nno line feed")
    answers = done.stdout.splitlines()
    assert len(answers) == 5, done.stderr.decode()
    assert answers[0] == answers[1]
    assert answers[2] == answers[3]


@pytest.mark.parametrize("script", ["score.py", "check.py"])
def test_onnxruntime_and_numpy_are_all_it_needs(script: str) -> None:
    tree = ast.parse((FOLDER / script).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime"}
