"""From Python: `train(...).export(...).verify()`, and what it says on the way."""

import inspect
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

import toolchain
from tests import tiny
from tests.conftest import TrainedSample
from toolchain.cli import export, train, verify
from toolchain.cli.options import READ_BY
from toolchain.models.recipes import FORMER
from toolchain.models.snapshot import load_snapshot, save_snapshot

OF_A_COMMAND = {"config", "quiet", "as_json", *READ_BY}
"""Options that say how a command is called; `reading` holds those of the files."""
SMALL: dict[str, Any] = {"recipe": "auto", "start": "none", "embedding": 8, "hidden": 8, "batch_size": 16}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", 240)


def test_a_model_is_trained_exported_verified_and_asked_in_one_line_each(
    reviews: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO, "toolchain"):
        snapshot = toolchain.train(reviews, **SMALL, out=tmp_path / "snapshot", epochs=3, lr=0.03)
        bundle = snapshot.export(tmp_path / "bundle", format="onnx", data=reviews)
        verification = bundle.verify()
        against_pytorch = bundle.verify(snapshot, data=reviews)
    with toolchain.load(bundle) as scorer:
        assert scorer.predict(["w1 superb w2 lovely witty", "dull w3 awful weak"]) == ["pos", "neg"]
        assert scorer.classes_ == list(snapshot.labels) == list(bundle.labels) == ["neg", "pos"]
    assert verification.passed
    assert against_pytorch.against == "PyTorch"
    assert toolchain.Snapshot(tmp_path / "snapshot").metrics == snapshot.metrics
    assert repr(snapshot) == (
        f"<Snapshot {tmp_path}/snapshot: auto; neg, pos; test accuracy {snapshot.metrics['test_accuracy']:.2f} %>"
    )
    assert repr(bundle) == f"<Bundle {tmp_path}/bundle: neg, pos; model.cpu.onnx, model.onnx>"
    assert repr(verification) == "<Verification against the bundle's vectors: onnx agrees, onnx-cpu agrees>"
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [message for level, message in told if level == "INFO" and message.startswith("epoch ")]
    assert [message for level, message in told if level == "INFO" and message.startswith("onnx on cpu: agrees")]
    assert {record.name.partition(".")[0] for record in caplog.records} == {"toolchain"}
    assert capfd.readouterr() == ("", "")


def test_a_warning_of_the_data_is_a_warning_of_the_logger(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    few = tiny.write_reviews(tmp_path / "few.csv", 60)
    toolchain.train(few, **SMALL, out=tmp_path / "snapshot", epochs=1)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(message.startswith("48 training reviews are few: ") for message in warned)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("recipe", FORMER)
def test_a_model_of_a_recipe_that_is_gone_is_a_model(recipe: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """Exported, asked, a start and a teacher; it keeps the name that it has."""
    trained = load_snapshot(tiny_bundle.parent / "snapshot")
    settings = {**trained.training["recipe_settings"], "name": recipe}
    about = {**trained.training, "recipe": recipe, "recipe_settings": settings}
    save_snapshot(replace(trained, training=about), tmp_path / "old")
    bundle = toolchain.Snapshot(tmp_path / "old").export(tmp_path / "bundle", format="onnx")
    assert bundle.verify(toolchain.Snapshot(tmp_path / "old")).passed
    assert f"# Review classifier `{recipe}`" in (bundle.folder / "README.md").read_text(encoding="utf-8")
    with toolchain.load(bundle) as scorer:
        assert scorer.predict(["w1 superb w2 lovely witty", "dull w3 awful weak"]) == ["pos", "neg"]
    few = tiny.write_reviews(tmp_path / "few.csv", 60)
    started = toolchain.train(few, out=tmp_path / "started", start=tmp_path / "old", epochs=1)
    taught = toolchain.train(few, **SMALL, out=tmp_path / "taught", teacher=[bundle.folder], epochs=1)
    assert started.metrics["start"]["recipe"] == recipe
    assert [teacher["recipe"] for teacher in taught.metrics["teachers"]] == [recipe]


def test_a_form_that_differs_is_an_error(onnx_bundle: Path, trained: TrainedSample) -> None:
    """Of another snapshot: no quiet answer."""
    with pytest.raises(toolchain.CheckFailed, match="differ from the snapshot's"):
        toolchain.Bundle(onnx_bundle).verify(trained.folder)


def test_real_text_without_a_snapshot_is_refused(onnx_bundle: Path) -> None:
    with pytest.raises(toolchain.UsageError, match="--data needs PyTorch to compare with"):
        toolchain.Bundle(onnx_bundle).verify(data="sample")


def test_what_is_no_bundle_or_snapshot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(toolchain.ExportError, match="no bundle here"):
        toolchain.Bundle(tmp_path)
    with pytest.raises(toolchain.UsageError, match="no snapshot here"):
        toolchain.Snapshot(tmp_path)


@pytest.mark.parametrize(
    ("command", "call", "own"),
    [
        (train.train, toolchain.train, {"progress"}),
        (export.export, toolchain.Snapshot.export, {"self"}),
        (verify.verify, toolchain.Bundle.verify, {"self"}),
    ],
    ids=["train", "export", "verify"],
)
def test_a_call_has_the_options_of_its_command(
    command: Callable[..., None], call: Callable[..., Any], own: set[str]
) -> None:
    """`snapshot` of export and `bundle` of verify are what the method belongs to."""
    app = typer.Typer()
    app.command()(command)
    (info,) = app.registered_commands
    assert info.callback is not None
    options = set(inspect.signature(info.callback).parameters) - OF_A_COMMAND - {"snapshot", "bundle"}
    assert set(inspect.signature(call).parameters) - own - {"reading", "snapshot"} == options


# --- the package -----------------------------------------------------------------------------------------------------


def test_every_public_name_is_there_and_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    for name in toolchain.__all__:
        assert hasattr(toolchain, name)
        assert name in dir(toolchain)
        assert name == "__version__" or f"\n::: toolchain.{name}\n" in page, name
    assert page.count("\n::: ") == len(toolchain.__all__) - 1
    with pytest.raises(AttributeError, match="module 'toolchain' has no attribute 'nothing'"):
        toolchain.nothing  # noqa: B018


def test_the_import_brings_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import toolchain\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules.keys() - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "toolchain\n"


USER = """
import numpy as np
from numpy.typing import NDArray

import toolchain


def run(reviews: str) -> None:
    snapshot = toolchain.train(reviews, recipe="auto", start="box", epochs=1)
    bundle: toolchain.Bundle = snapshot.export("bundle", format=["onnx", "torchscript"])
    verification: toolchain.Verification = bundle.verify(snapshot)
    passed: bool = verification.passed
    with toolchain.load(bundle, threads=1) as scorer:
        labels: list[str] = scorer.predict(["I loved this film."])
        probabilities: NDArray[np.float32] = scorer.predict_proba(["I loved this film."])
        explanation: toolchain.Explanation = scorer.explain("I loved this film.")
    print(passed, labels, probabilities, explanation.label)
"""


def test_mypy_sees_the_types_and_finds_a_mistake(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(USER, encoding="utf-8")
    wrong.write_text("import toolchain\n\ntoolchain.train('reviews.csv', epochs='three')\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(right), str(wrong)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    (found,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert "wrong.py:3: error: " in found
    assert "[arg-type]" in found
