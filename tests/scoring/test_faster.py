"""What a long run ends with: a faster form or a provider that is there and was not used, and only then."""

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
from typer.testing import CliRunner

from export.forms import FORMS
from tests import tiny
from toolchain.cli.app import app
from toolchain.scoring.faster import faster_ways
from toolchain.scoring.scorer import INT8, Scorer

KEPT = {"form": "onnx-int8", "label_agreement": 0.9975, "cases": 800}
WITH_CUDA = ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def int8_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose manifest lists `model.int8.onnx` with what its export found."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    shutil.copy(folder / FORMS["onnx-cpu"].file, folder / INT8)
    manifest["files"][INT8] = manifest["files"][FORMS["onnx-cpu"].file]
    manifest["parity"]["forms"].append(KEPT)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_int8_that_is_there_is_named_with_the_labels_it_kept_and_the_command_that_measures_it(
    int8_bundle: Path,
) -> None:
    with Scorer(int8_bundle, "cpu") as scorer:
        (line,) = faster_ways(scorer, "cpu", "reviews.csv")
        assert "--precision int8 may be faster" in line
        assert "it kept 99.75% of the labels of 800 texts in its export" in line
        assert line.endswith(f"toolchain bench --bundle {int8_bundle} --data reviews.csv")
        assert faster_ways(scorer, "cpu", "-")[0].endswith(f"toolchain bench --bundle {int8_bundle}")


def test_int8_is_not_named_where_it_ran_or_is_not_there(int8_bundle: Path, tiny_bundle: Path) -> None:
    with Scorer(int8_bundle, "cpu", precision="int8") as scorer:
        assert faster_ways(scorer, "cpu", "reviews.csv") == []
    with Scorer(tiny_bundle, "cpu") as scorer:
        assert faster_ways(scorer, "cpu", "reviews.csv") == []


def test_a_provider_that_auto_did_not_take_is_named(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scorer(tiny_bundle, "cpu") as scorer:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: WITH_CUDA[1:])
        assert faster_ways(scorer, "auto", "reviews.csv") == []
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: WITH_CUDA)
        (line,) = faster_ways(scorer, "auto", "reviews.csv")
        assert line.startswith("not used: the provider cuda, which is installed; --provider cuda uses it, or says why")
        assert faster_ways(scorer, "cpu", "reviews.csv") == []  # as it was asked for


@pytest.mark.parametrize(("limit", "said"), [(-1.0, True), (float("inf"), False)], ids=["a long run", "a short run"])
def test_only_a_long_run_ends_with_it(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, said: bool
) -> None:
    monkeypatch.setattr("toolchain.cli.score._LONG_RUN", limit)
    source = tiny.write_reviews(tmp_path / "reviews.csv", 10)
    done = CliRunner().invoke(app, ["score", str(source), "--bundle", str(int8_bundle)])
    assert done.exit_code == 0, done.output
    assert ("--precision int8 may be faster" in done.output) is said
    quiet = CliRunner().invoke(app, ["score", str(source), "--bundle", str(int8_bundle), "--quiet"])
    assert "int8" not in quiet.output
