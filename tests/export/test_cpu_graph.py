"""The graphs for the CPU provider: padding leaves no trace, integers never overflow, int8 says how far it drifts."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.bundle import open_bundle
from export.cpu_graph import STATE_ZERO, WEIGHT_LIMIT, classify_folded, classify_quantized, quantize_columns
from export.forms import FORMS, QUANTIZED_AGREEMENT
from export.onnx_graph import text_model
from tests.conftest import MakeSnapshot, TrainedSample
from tests.export.batch_mates import answers_beside
from toolchain.corpus.reviews import Source, read_texts
from toolchain.errors import CheckFailed, UsageError
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import export_snapshot
from toolchain.scoring.scorer import CPU, INT8, Scorer


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("recipe", ["gru", "rnn"])
@pytest.mark.parametrize("classify", [classify_folded, classify_quantized])
def test_padding_passes_the_state_bit_for_bit(
    make_snapshot: MakeSnapshot, recipe: str, layers: int, classify: object
) -> None:
    """However long its batch mates: the arithmetic of a row is the same, and padding adds none."""
    model = text_model(make_snapshot(recipe, layers).classifier(), {}, classify)  # type: ignore[arg-type]
    results = answers_beside(
        model, ["It is boring.", "", "a lively film with honest music"], ("x", "word " * 50, "word " * 700)
    )
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_integer_products_cannot_overflow_sixteen_bits() -> None:
    """Without VNNI two byte products are added in 16 bits: the largest sum has to fit."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(64, 32)).astype(np.float32)
    matrix[:, 0] = 0
    quantized, scales = quantize_columns(matrix)
    assert np.abs(quantized.astype(int)).max() == WEIGHT_LIMIT
    largest_state = STATE_ZERO + 127
    assert 2 * largest_state * WEIGHT_LIMIT <= np.iinfo(np.int16).max
    assert np.abs(quantized * scales - matrix).max() <= scales.max() / 2 + 1e-7
    assert not quantized[:, 0].any()


def test_int8_keeps_the_labels_and_its_drift_stands_in_the_manifest(trained: TrainedSample, tmp_path: Path) -> None:
    texts = read_texts(Source("sample"))
    export_snapshot(load_snapshot(trained.folder), tmp_path / "bundle", ["onnx"], texts, precision="int8")
    opened = open_bundle(tmp_path / "bundle")
    (recorded,) = (form for form in opened.manifest["parity"]["forms"] if form["form"] == "onnx-int8")
    assert recorded["cases"] == len(texts)
    assert QUANTIZED_AGREEMENT <= recorded["label_agreement"] <= 1
    assert 1e-5 < recorded["max_difference"] <= FORMS["onnx-int8"].tolerance
    with Scorer(opened, "cpu", precision="int8") as quantized, Scorer(opened, "cpu") as exact:
        assert (quantized.model, exact.model) == (INT8, CPU)
        drift = np.abs(
            quantized.submit(texts).result().probabilities - exact.submit(texts).result().probabilities
        ).max()
    assert drift == pytest.approx(recorded["max_difference"], abs=1e-3)


def test_an_int8_form_that_keeps_too_few_labels_needs_force(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMS, "onnx-int8", dataclasses.replace(FORMS["onnx-int8"], min_agreement=1.1))
    texts = read_texts(Source("sample"))[:50]
    with pytest.raises(CheckFailed, match=r"onnx-int8: .* of the labels agree, .* the bundle was not published"):
        export_snapshot(snapshot, tmp_path / "bundle", ["onnx"], texts, precision="int8")
    assert not (tmp_path / "bundle").exists()
    export_snapshot(snapshot, tmp_path / "bundle", ["onnx"], texts, precision="int8", force=True)
    bundle = open_bundle(tmp_path / "bundle")
    assert INT8 in bundle.files
    assert not bundle.manifest["parity"]["passed"]


def test_a_precision_that_cannot_be_had_is_refused(onnx_bundle: Path) -> None:
    with pytest.raises(
        UsageError, match=r"has no int8 form; leave --precision out, or export one: toolchain export --snapshot"
    ):
        Scorer(onnx_bundle, "cpu", precision="int8")
    with pytest.raises(UsageError, match="--precision half: expected fp32 or int8"):
        Scorer(onnx_bundle, "cpu", precision="half")
