"""The model as a function of DuckDB."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.tests.conftest import EXAMPLES

FOLDER = EXAMPLES / "sql"


def run(bundle: Path, query: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "score.py"), str(bundle)]
    return subprocess.run(command, input=query, capture_output=True, encoding="utf-8", check=False, cwd=cwd)


def query_file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_every_vector_agrees(bundle: Path, vectors: list[dict[str, Any]], tmp_path: Path) -> None:
    done = run(bundle, query_file("check.sql"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"│ {len(vectors):>18} │" in done.stdout


def test_the_first_disagreement_ends_the_check(tampered_bundle: Path, tmp_path: Path) -> None:
    done = run(tampered_bundle, query_file("check.sql"), tmp_path)
    assert done.returncode == 1
    assert "differs by 0.0001" in done.stderr or "differs by 9.99" in done.stderr


def test_a_parquet_file_is_scored_in_a_query(
    bundle: Path, vectors: list[dict[str, Any]], tolerance: float, tmp_path: Path
) -> None:
    """In many row groups, more rows than one call of the function takes, with rows that have no text."""
    short = [vector for vector in vectors if len(vector["text"]) < 200]
    rows = [*vectors, *(short * 20)[:4_096]]
    texts = [None if index % 97 == 5 else row["text"] for index, row in enumerate(rows)]
    table = pa.table({"row": range(len(rows)), "text": texts})
    pq.write_table(table, tmp_path / "reviews.parquet", row_group_size=500)
    query = "COPY (SELECT row, score(text) AS answer FROM 'reviews.parquet' ORDER BY row) TO 'scored.parquet'"
    done = run(bundle, query, tmp_path)
    assert done.returncode == 0, done.stderr
    scored = pq.read_table(tmp_path / "scored.parquet").to_pylist()
    assert [row["row"] for row in scored] == list(range(len(rows)))
    for row, vector, text in zip(scored, rows, texts, strict=True):
        if text is None:
            assert row["answer"] is None
        else:
            assert row["answer"]["label"] == vector["label"]
            assert row["answer"]["probabilities"] == pytest.approx(vector["probabilities"], abs=tolerance, rel=0)


def test_u0000_is_a_space(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, "SELECT score('one' || chr(0) || 'film') = score('one film') AS same", tmp_path)
    assert "true" in done.stdout, done.stderr


def test_an_empty_file_has_no_answers(bundle: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "reviews.parquet")
    done = run(bundle, "COPY (SELECT score(text) AS answer FROM 'reviews.parquet') TO 'scored.parquet'", tmp_path)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "scored.parquet").num_rows == 0


def test_the_query_of_the_readme_runs(bundle: Path, vectors: list[dict[str, Any]], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [vector["text"] for vector in vectors[:50]]}), tmp_path / "reviews.parquet")
    done = run(bundle, query_file("query.sql"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10 rows" in done.stdout


def test_a_query_that_is_wrong_is_said_in_words(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, "SELECT nothing FROM nowhere", tmp_path)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
