"""A bundle whose snapshot is gone, exported anew: the same answers, today's graphs, and the truth about both."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.bundle import InvalidBundle, open_bundle
from tests.conftest import MakeSnapshot
from toolchain.models.restoring import load_trained
from toolchain.release.release import export_snapshot, verify_bundle
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.scorer import Scorer

TEXTS = ["The story is dull.", "A lively, honest film!", "lively lively dull"]
ENTRIES = 100


@pytest.fixture(scope="module")
def shrunk(make_snapshot: MakeSnapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shrunk") / "bundle"
    export_snapshot(make_snapshot("auto"), folder, ["onnx-cpu"], TEXTS, entries=ENTRIES, force=True)
    return folder


@pytest.fixture(scope="module")
def anew(shrunk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anew") / "bundle"
    verification = export_snapshot(load_trained(str(shrunk)), folder, ["onnx-explain", "onnx-cpu"], TEXTS)
    assert verification.passed
    return folder


def test_it_answers_as_before_and_explains(shrunk: Path, anew: Path) -> None:
    with Scorer(shrunk) as before, Scorer(anew) as after:
        old, new = (scorer.submit(TEXTS).result().probabilities for scorer in (before, after))
    np.testing.assert_allclose(new, old, atol=1e-6)
    explanations = Explainer(anew).explain(TEXTS)
    np.testing.assert_allclose([list(each.probabilities.values()) for each in explanations], old, atol=1e-6)


def test_it_says_that_its_weights_come_from_a_bundle(shrunk: Path, anew: Path) -> None:
    manifest, before = (json.loads((folder / "manifest.json").read_bytes()) for folder in (anew, shrunk))
    identity = open_bundle(shrunk).identity
    assert manifest["training"]["restored"]["bundle"] == identity
    against = f"PyTorch, rebuilt from the weights in model.cpu.onnx of the bundle {identity}"
    assert manifest["parity"]["against"] == against
    card = (anew / "README.md").read_text(encoding="utf-8")
    assert f"read out of `model.cpu.onnx` of an earlier bundle (`{identity[:12]}…`" in card
    assert "| agreement |" in card
    agreement = {name: value for name, value in before["shrunk"].items() if name != "bytes"}
    assert manifest["shrunk"] == agreement


def test_a_table_stands_in_one_of_the_two_files_of_a_shrunk_bundle(anew: Path) -> None:
    graph = onnx.load_model(anew / "model.explain.onnx", load_external_data=False).graph
    elsewhere = [tensor.name for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert elsewhere == ["embedding.integers"]
    files = json.loads((anew / "manifest.json").read_bytes())["files"]
    assert {name: file["needs"] for name, file in files.items() if "needs" in file} == {
        "model.explain.onnx": ["model.cpu.onnx"]
    }
    assert verify_bundle(open_bundle(anew), None).passed


def test_the_file_that_holds_it_is_checked_with_the_one_that_reads_it(anew: Path, tmp_path: Path) -> None:
    shutil.copytree(anew, tmp_path / "bundle")
    damaged = bytearray((tmp_path / "bundle" / "model.cpu.onnx").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "bundle" / "model.cpu.onnx").write_bytes(damaged)
    with pytest.raises(InvalidBundle, match=r"model\.cpu\.onnx: its SHA-256"):
        Explainer(tmp_path / "bundle")


@pytest.mark.parametrize("needs", [["model.explain.onnx"], ["../model.cpu.onnx"], [7], 7])
def test_a_manifest_with_needs_that_make_no_sense_is_damaged(needs: object, anew: Path, tmp_path: Path) -> None:
    shutil.copytree(anew, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"]["model.explain.onnx"]["needs"] = needs
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InvalidBundle, match="damaged"):
        open_bundle(tmp_path / "bundle")


def test_each_file_of_another_bundle_stands_for_itself(make_snapshot: MakeSnapshot, tmp_path: Path) -> None:
    export_snapshot(make_snapshot("auto"), tmp_path / "bundle", ["onnx-cpu", "onnx-explain"])
    graph = onnx.load_model(tmp_path / "bundle" / "model.explain.onnx", load_external_data=False).graph
    assert not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)
