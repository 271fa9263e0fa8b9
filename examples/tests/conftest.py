"""A freshly exported bundle and what PyTorch says of its vectors, for the tests of every example.

`EMBED_BUNDLE=PATH` tests the examples on a bundle of yours instead; it needs every form (`--format all`).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export.bundle import VECTORS, open_bundle

EXAMPLES = Path(__file__).parent.parent
TAMPERED_ROW = 100


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `gru` trained for one epoch on the beginning of the embedded sample, which has nearly all of its words."""
    folder = tmp_path_factory.mktemp("embed")
    sample = (EXAMPLES.parent / "data" / "sample_train.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "reviews.csv").write_text("".join(sample[:1000]), encoding="utf-8")
    toolchain(
        "train", "--recipe", "gru", "--data", folder / "reviews.csv", "--epochs", "1", "--out", folder / "snapshot"
    )
    return folder / "snapshot"


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Path:
    """A bundle of it with every form. Shared: do not change it."""
    if ours := os.environ.get("EMBED_BUNDLE"):
        return Path(ours).resolve()
    snapshot: Path = request.getfixturevalue("snapshot")
    toolchain("export", "--format", "all", "--snapshot", snapshot, "--out", snapshot.parent / "bundle")
    return snapshot.parent / "bundle"


@pytest.fixture(scope="session")
def shrunk_bundle(snapshot: Path) -> Path:
    """A small bundle of it, for a browser."""
    toolchain("export", "--format", "onnx", "--shrink", "--snapshot", snapshot, "--out", snapshot.parent / "shrunk")
    return snapshot.parent / "shrunk"


def toolchain(*arguments: str | Path) -> None:
    """A command of ours, as a process of its own."""
    done = subprocess.run([sys.executable, "-m", "toolchain", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def vectors(bundle: Path) -> list[dict[str, Any]]:
    """The bundle's conformance vectors: `text`, `label`, `probabilities`, `tokens`, `unknown`."""
    return open_bundle(bundle).vectors()


@pytest.fixture(scope="session")
def tolerance(bundle: Path) -> float:
    """How far a probability may be from a vector's, from the manifest."""
    return float(open_bundle(bundle).manifest["tolerance"])


@pytest.fixture(scope="session")
def tampered_bundle(bundle: Path, tolerance: float, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle in which one vector, line `TAMPERED_ROW` + 1, is off by ten times the tolerance."""
    copy = tmp_path_factory.mktemp("tampered") / "bundle"
    shutil.copytree(bundle, copy)
    lines = (copy / VECTORS).read_text(encoding="utf-8").split("\n")
    row = json.loads(lines[TAMPERED_ROW])
    row["probabilities"][0] += 10 * tolerance
    lines[TAMPERED_ROW] = json.dumps(row)
    (copy / VECTORS).write_text("\n".join(lines), encoding="utf-8", newline="\n")
    return copy


@pytest.fixture(scope="session")
def tampered_vectors(tampered_bundle: Path) -> Path:
    """The vectors of `tampered_bundle`, for the programs that take them beside a bundle."""
    return tampered_bundle / VECTORS
