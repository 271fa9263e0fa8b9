"""What needs an NVIDIA GPU and onnxruntime-gpu. Where there is none, the report says that these did not run."""

from pathlib import Path

import numpy as np
import pytest

from export.bundle import open_bundle
from export.sessions import RuntimeUnavailable, choose_provider, installed_providers, open_session
from toolchain.corpus.reviews import Source, read_texts
from toolchain.models.snapshot import Snapshot
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
    assert "azure" not in installed_providers()  # so that nobody is offered it
    session = open_session(bundle / GENERAL, "cpu")
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(RuntimeUnavailable, match="'azure' is installed and cannot run a model here"):
        open_session(bundle / GENERAL, "azure")
