"""Texts that the graph cuts are compared rightly, and a model that no ONNX file holds is one line before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from export import forms
from export.bundle import open_bundle
from export.forms import too_large
from export.spec import Specification
from tests import tiny
from toolchain.cli.app import app
from toolchain.errors import UsageError
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot, save_snapshot
from toolchain.release.release import export_snapshot, verify_bundle

VOCABULARY = ["<unk>", "<pad>", *(f"w{number}" for number in range(40))]
CUT = ["w1 w2 w3 " * 30, "w4 " * 19, "w5 " * 20, "w6 " * 21, "nobody " * 50]
OUTSIDE = ["w1\0w2 w3", "\0", "w4 \ud800 w5", "w6\0"]


def small_snapshot(model: str = "BasicGRU") -> Snapshot:
    pooling = ("last", "max", "mean") if model == "PooledGRU" else ("last",)
    specification = Specification(("a", "b"), "gru", embedding=12, hidden=16, max_tokens=20, pooling=pooling)  # type: ignore[arg-type]
    torch.manual_seed(1)
    built = build_model(model, specification, len(VOCABULARY), dropout=0.0)
    return Snapshot(model, specification, VOCABULARY, built.state_dict(), {"recipe": "gru"})


@pytest.mark.parametrize("model", ["BasicGRU", "PooledGRU"])
def test_texts_that_are_cut_are_compared_as_the_graph_reads_them(model: str, tmp_path: Path) -> None:
    """At `max_tokens`, and at U+0000, where a runtime would end the string."""
    snapshot = small_snapshot(model)
    export_snapshot(snapshot, tmp_path / "bundle", ["onnx", "onnx-explain", "onnx-ids"], CUT)
    opened = open_bundle(tmp_path / "bundle")
    verifications = [verify_bundle(opened, snapshot, [*CUT, *OUTSIDE]), verify_bundle(opened, None)]
    for verification in verifications:
        for comparison in verification.comparisons:
            assert comparison.passed, comparison.failure()
    assert max(vector["tokens"] for vector in opened.vectors()) > 20


def test_the_size_counts_weights_and_words_and_a_quantized_embedding_is_a_quarter() -> None:
    specification = Specification(("a", "b"), "gru", embedding=100_000, hidden=8)
    words = [f"word {number:04d}" for number in range(6_000)]
    assert too_large(specification, words).startswith("6,000 words and their weights take 2.41 GB")
    assert too_large(specification, words).endswith("GB, and an ONNX file holds 2.15 GB at most")
    assert too_large(specification, words, quantized=True) == ""
    assert too_large(specification, VOCABULARY) == ""


def test_the_size_is_that_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = small_snapshot()
    export_snapshot(snapshot, tmp_path / "bundle", ["onnx", "onnx-explain", "onnx-ids"])
    largest = max((tmp_path / "bundle" / form).stat().st_size for form in ("model.onnx", "model.explain.onnx"))
    monkeypatch.setattr(forms, "ONNX_BYTES", largest - 1)
    assert too_large(snapshot.specification, VOCABULARY)


def test_a_model_that_no_onnx_file_holds_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "ONNX_BYTES", 100_000)
    with pytest.raises(UsageError) as refused:
        export_snapshot(small_snapshot(), tmp_path / "bundle", ["all"])
    assert str(refused.value).endswith(
        "at most; export another form: --format torchscript, or fewer words: --shrink --vocabulary N"
    )
    assert list(tmp_path.iterdir()) == []
    assert export_snapshot(small_snapshot(), tmp_path / "bundle", ["torchscript"]).passed


Run = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process -> its status and stderr, on one line."""

    def run(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as stop:
            app([str(argument) for argument in arguments], prog_name="toolchain")
        return f"{stop.value.code}: {' '.join(capsys.readouterr().err.split())}"

    return run


def test_the_commands_say_it_in_one_line_and_training_before_its_first_epoch(
    said: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "ONNX_BYTES", 100_000)
    save_snapshot(small_snapshot(), tmp_path / "snapshot")
    refusal = said("export", "--snapshot", tmp_path / "snapshot", "--out", tmp_path / "bundle")
    assert refusal.startswith("2: ")
    assert "error: 42 words and their weights take 0.00 GB, and an ONNX file holds 0.00 GB at most; export" in refusal
    data = tiny.write_reviews(tmp_path / "reviews.csv", 60)
    trained = said("train", "--recipe", "gru", "--data", data, "--epochs", "1", "--out", tmp_path / "new")
    warning = "at most: such a model can be exported with --shrink, or with --format torchscript alone"
    assert trained.startswith("0: ")
    assert warning in trained
    assert trained.index(warning) < trained.index("epoch 1")
