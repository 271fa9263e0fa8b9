"""What needs an NVIDIA GPU and onnxruntime-gpu. Where there is none, the report says that these did not run."""

from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnxruntime
import pytest
import torch

from export.bundle import open_bundle
from export.sessions import RuntimeUnavailable, choose_provider, installed_providers, open_session
from tests import tiny
from toolchain.corpus.reviews import Source, read_texts
from toolchain.interface.training import train
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import verify_bundle
from toolchain.scoring.scorer import GENERAL, Scorer


def cuda_takes_a_session(model: Path) -> bool:
    return choose_provider(model, "auto") == "cuda"


@pytest.fixture
def on_cuda(bundle: Path) -> Path:
    if not cuda_takes_a_session(bundle / GENERAL):
        pytest.skip("did not run: there is no CUDA device that takes a session here")
    return bundle


@pytest.mark.cuda
def test_every_form_agrees_with_pytorch_on_cuda(on_cuda: Path, snapshot: Snapshot) -> None:
    verification = verify_bundle(open_bundle(on_cuda), snapshot, read_texts(Source("sample"))[:200], "cuda")
    assert verification.passed
    assert {c.provider for c in verification.comparisons if c.form in ("onnx", "onnx-ids")} == {"cuda"}


@pytest.mark.cuda
def test_cuda_scores_as_the_cpu_does_and_uses_the_general_graph(on_cuda: Path) -> None:
    texts = read_texts(Source("sample"))
    with Scorer(on_cuda, "cuda") as cuda, Scorer(on_cuda, "cpu") as cpu:
        assert cuda.model == GENERAL
        difference = np.abs(cuda.submit(texts).result().probabilities - cpu.submit(texts).result().probabilities)
    assert difference.max() <= 1e-5


@pytest.mark.cuda
def test_a_device_that_is_not_there_is_refused_on_cuda(on_cuda: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="the provider 'cuda' is installed and cannot run"):
        open_session(on_cuda / GENERAL, "cuda", options={"device_id": "99"})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="did not run: PyTorch finds no CUDA device here")
def test_a_student_that_was_taught_on_cuda_is_right_on_the_cpu(tmp_path: Path) -> None:
    data = tiny.write_reviews(tmp_path / "reviews.csv", 200)
    more = tmp_path / "more.csv"
    more.write_text("text\n" + "a superb and lovely w1 w2\n" * 30)
    common = partial(train, data, "auto", start="none", embedding=8, lr=0.03, batch_size=16, epochs=4, device="cuda")
    teacher = common(out=tmp_path / "teacher", hidden=8, unlabelled=more)
    student = common(out=tmp_path / "student", hidden=6, teacher=[teacher])
    assert student.metrics["speed"]["processor"] == torch.cuda.get_device_name()
    assert student.metrics["test_accuracy"] > 90.0
    trained = load_snapshot(tmp_path / "student")
    texts = [review.split() for review in read_texts(Source("sample"))[:50]]
    assert np.allclose(trained.answer_tokens(device="cuda")(texts), trained.answer_tokens()(texts), atol=1e-2)  # TF32


def test_auto_is_the_provider_that_really_takes_a_session(bundle: Path) -> None:
    with Scorer(bundle) as scorer:
        assert scorer.provider == ("cuda" if cuda_takes_a_session(bundle / GENERAL) else "cpu")


def test_a_provider_that_is_not_installed_is_refused_and_the_installed_ones_are_named(bundle: Path) -> None:
    with pytest.raises(
        RuntimeUnavailable, match=f"'rocm' is not installed; expected auto, .*{installed_providers()[0]}"
    ):
        open_session(bundle / GENERAL, "rocm")


def test_a_provider_that_does_not_take_the_session_is_an_error_and_not_the_cpu(bundle: Path) -> None:
    """`azure` is built into the ordinary package and runs no model."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("did not run: this build of ONNX Runtime has no provider that runs no model")
    assert "azure" not in installed_providers()  # so that nobody is offered it
    session = open_session(bundle / GENERAL, "cpu")
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(RuntimeUnavailable, match="'azure' is installed and cannot run a model here"):
        open_session(bundle / GENERAL, "azure")


def test_a_batch_that_fails_on_an_accelerator_is_an_error_in_a_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=here")

    with Scorer(bundle, "cpu") as scorer:
        monkeypatch.setattr(scorer, "provider", "cuda")
        monkeypatch.setattr("toolchain.scoring.scorer.run_text", fail)
        with pytest.raises(RuntimeUnavailable) as refusal:
            scorer.score(["fine", "dull"])
    assert str(refusal.value) == (
        "the provider 'cuda' failed on a batch of 2 texts; use --provider cpu. "
        "ONNX Runtime says: CUDA failure 2: out of memory"
    )
