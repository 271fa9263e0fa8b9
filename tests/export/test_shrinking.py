"""Shrunk bundles: a fraction of the bytes, nearly all of the answers, and forms that say exactly what PyTorch says."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from export.bundle import open_bundle
from export.cpu_graph import classify_folded, classify_quantized
from export.errors import ExportError
from export.forms import FORMATS, TOLERANCE
from export.onnx_graph import Classify, ids_model, text_model
from export.shrinking import agreement, quantize_rows, shrink
from export.spec import Cell, InvalidClassifier, Pool, Specification
from export.text import Tokenizer
from tests.conftest import TrainedSample
from toolchain.cli.app import app
from toolchain.corpus.reviews import Source, read_texts
from toolchain.errors import CheckFailed, UsageError
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.release.model_card import model_card
from toolchain.release.release import export_snapshot, verify_bundle

VOCABULARY = ["<unk>", "<pad>", *(f"w{index}" for index in range(198))]
ENTRIES = 150
KEPT = [" ".join(f"w{(7 * text + 3 * index) % 148}" for index in range(text % 9 + 1)) for text in range(60)]
"""Texts without a word that is cut."""


def _snapshot(cell: Cell = "gru", layers: int = 1, pooling: Sequence[Pool] = ("last", "max", "mean")) -> Snapshot:
    """Random weights, large enough for answers to differ between texts."""
    specification = Specification(
        labels=("a", "b", "c"),
        cell=cell,
        embedding=24,
        hidden=32,
        layers=layers,
        pooling=tuple(pooling),
        max_tokens=100,
        tokenizer=Tokenizer(punctuation="isolated"),
    )
    model = {"gru": "PooledGRU", "rnn": "BasicRNN"}[cell]
    torch.manual_seed(0)
    state = build_model(model, specification, len(VOCABULARY), dropout=0.0).state_dict()
    state["out.weight"] *= 5
    return Snapshot(model, specification, VOCABULARY, state, {"recipe": "ours"})


@pytest.fixture(scope="module")
def pooled() -> Snapshot:
    return _snapshot()


@pytest.fixture(scope="module")
def shrunk_bundle(pooled: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shrunk bundle with every form. Shared and not to be changed."""
    folder = tmp_path_factory.mktemp("shrunk") / "bundle"
    export_snapshot(pooled, folder, ["all"], KEPT, precision="int8", entries=ENTRIES)
    return folder


# --- the arithmetic --------------------------------------------------------------------------------------------------


def test_a_row_keeps_its_numbers_to_half_a_step() -> None:
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    table *= np.logspace(-6, 6, 50, dtype=np.float32)[:, None]
    quantized = quantize_rows(table)
    assert quantized.integers.dtype == np.int8
    assert (np.abs(quantized.integers.astype(int)).max(axis=1) == 127).all()
    assert (np.abs(quantized.numbers() - table) <= quantized.scales * 0.5001).all()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 1e-38])
def test_a_row_too_small_for_a_scale_becomes_zeros(size: float) -> None:
    table = np.full((1, 4), size, np.float32)
    assert not quantize_rows(table).numbers().any()


def test_shrinking_cuts_the_rare_words_and_keeps_every_other_weight(pooled: Snapshot) -> None:
    full = pooled.classifier()
    shrunk = shrink(full, ENTRIES)
    assert shrunk.vocabulary == VOCABULARY[:ENTRIES]
    assert shrunk.weights["embedding.weight"].shape == (ENTRIES, 24)
    assert all(shrunk.weights[name] is full.weights[name] for name in full.weights if name != "embedding.weight")
    assert shrink(full, 10**6).vocabulary == VOCABULARY
    with pytest.raises(ExportError, match="a vocabulary of 2 entries holds no word"):
        shrink(full, 2)


def test_a_quantized_table_of_other_numbers_is_refused(pooled: Snapshot) -> None:
    shrunk = shrink(pooled.classifier(), ENTRIES)
    weights = {**shrunk.weights, "embedding.weight": np.nextafter(shrunk.weights["embedding.weight"], np.float32(9))}
    with pytest.raises(InvalidClassifier, match="hold different numbers"):
        dataclasses.replace(shrunk, weights=weights)


def test_agreement_counts_labels_and_the_largest_change() -> None:
    full = np.log(np.array([[0.9, 0.1], [0.4, 0.6]]))
    answers = agreement(full, np.log(np.array([[0.8, 0.2], [0.55, 0.45]])))
    assert (answers.texts, answers.label_agreement) == (2, 0.5)
    assert answers.max_difference == pytest.approx(0.15)
    assert answers.failure().startswith("the shrunk model keeps 50.00% of the full one's labels, expected 99.5%")
    assert agreement(full, full).failure() == ""


# --- the graphs ------------------------------------------------------------------------------------------------------


def _initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("classify", [None, classify_folded, classify_quantized])
def test_the_table_stands_in_a_text_graph_as_bytes(pooled: Snapshot, classify: Classify | None) -> None:
    _check_bytes(text_model(shrink(pooled.classifier(), ENTRIES), {}, classify))


def test_the_table_stands_in_the_ids_graph_as_bytes(pooled: Snapshot) -> None:
    _check_bytes(ids_model(shrink(pooled.classifier(), ENTRIES), {}))


def _check_bytes(model: onnx.ModelProto) -> None:
    constants = _initializers(model)
    assert constants["embedding.integers"].dtype == np.int8
    assert constants["embedding.integers"].shape == (ENTRIES, 24)
    assert constants["embedding.scales"].shape == (ENTRIES, 1)
    assert not [name for name, value in constants.items() if value.shape == (ENTRIES, 24) and value.dtype != np.int8]


def test_the_folded_tables_are_computed_while_the_session_loads(pooled: Snapshot, tmp_path: Path) -> None:
    """Nothing is left to unfold or to multiply a call, but the head."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = text_model(shrink(pooled.classifier(), ENTRIES), {}, classify_folded)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(options.optimized_model_filepath)
    assert [node.name for node in optimized.graph.node if node.op_type == "Gemm"] == ["head_0"]
    assert not {"embedding.integers", "embedding.scales", "embedding.weight"} & _initializers(optimized).keys()
    assert not {"embedding.unscaled", "embedding.weight"} & {node.name for node in optimized.graph.node}


def test_a_browser_unfolds_only_the_rows_it_looks_up(pooled: Snapshot) -> None:
    graph = text_model(shrink(pooled.classifier(), ENTRIES), {}).graph
    users = [node.op_type for node in graph.node if {"embedding.integers", "embedding.scales"} & set(node.input)]
    assert users == ["Gather", "Gather"]


# --- the bundle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "layers"), [("gru", 2), ("rnn", 1), ("rnn", 2)])  # one GRU: the bundle below
def test_every_shrunk_form_says_what_pytorch_says(cell: Cell, layers: int, tmp_path: Path) -> None:
    snapshot = _snapshot(cell, layers, ("last", "max", "mean") if cell == "gru" else ("last",))
    verification = export_snapshot(snapshot, tmp_path / "bundle", ["all"], KEPT, entries=ENTRIES, force=True)
    assert [comparison.form for comparison in verification.comparisons] == list(FORMATS["all"])
    for comparison in verification.comparisons:
        assert comparison.max_difference <= TOLERANCE, comparison.failure()
    opened = open_bundle(tmp_path / "bundle")
    for against in (None, snapshot):
        assert verify_bundle(opened, against).passed


def test_verify_shrinks_the_snapshot_as_the_bundle_was_and_says_so(pooled: Snapshot, shrunk_bundle: Path) -> None:
    texts = [*KEPT, "w197 is cut", "w149 w150"]
    verification = verify_bundle(open_bundle(shrunk_bundle), pooled, texts)
    assert verification.passed
    assert verification.against == "PyTorch with the snapshot's weights, shrunk as the bundle's are"
    assert {comparison.form for comparison in verification.comparisons} == {*FORMATS["all"], "onnx-int8"}
    assert verify_bundle(open_bundle(shrunk_bundle), None).passed


def test_verify_finds_a_shrunk_bundle_of_other_weights(pooled: Snapshot, shrunk_bundle: Path) -> None:
    opened = open_bundle(shrunk_bundle)
    state = {**pooled.state, "embed.weight": pooled.state["embed.weight"] * 1.1}
    other = verify_bundle(opened, dataclasses.replace(pooled, state=state))
    assert not any(comparison.passed for comparison in other.comparisons if comparison.form != "onnx-int8")
    renamed = [*VOCABULARY[:-60], *(f"v{index}" for index in range(60))]
    with pytest.raises(CheckFailed, match="vocabulary differ from the snapshot's"):
        verify_bundle(opened, dataclasses.replace(pooled, vocabulary=renamed))


def test_the_same_snapshot_gives_the_same_bytes(pooled: Snapshot, shrunk_bundle: Path, tmp_path: Path) -> None:
    export_snapshot(pooled, tmp_path / "again", ["onnx", "onnx-ids"], KEPT, entries=ENTRIES)
    for file in ("model.onnx", "model.cpu.onnx", "model.ids.onnx"):
        assert (tmp_path / "again" / file).read_bytes() == (shrunk_bundle / file).read_bytes()


def test_sizes_and_agreement_are_reported_and_kept(
    pooled: Snapshot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_snapshot(pooled, tmp_path / "full", ["onnx"])
    with caplog.at_level(logging.INFO, "toolchain"):
        export_snapshot(pooled, tmp_path / "small", ["onnx"], KEPT, entries=ENTRIES)
    kept = open_bundle(tmp_path / "small").manifest["shrunk"]
    (report,) = [message for message in caplog.messages if message.startswith("shrunk: ")]
    assert f"entries of the vocabulary 200 → {ENTRIES}, model.onnx " in report
    assert kept["vocabulary"] == {"full": 200, "shrunk": ENTRIES}
    for file in ("model.onnx", "model.cpu.onnx"):
        sizes = [(tmp_path / folder / file).stat().st_size for folder in ("full", "small")]
        assert list(kept["bytes"][file].values()) == sizes
        assert sizes[0] - sizes[1] >= 4 * 24 * 200 - (24 + 4) * ENTRIES
    assert kept["texts"] == len(KEPT)
    full, small = pooled.reference()(KEPT), _answers(tmp_path / "small" / "model.onnx", KEPT)
    drift = np.abs(torch.tensor(full).softmax(1).numpy() - small).max()
    assert kept["max_difference"] == pytest.approx(drift, abs=2e-5)
    assert 1e-4 < drift < 0.05
    assert kept["label_agreement"] == (full.argmax(1) == small.argmax(1)).mean()
    assert "shrunk" not in open_bundle(tmp_path / "full").manifest


def _answers(model: Path, texts: Sequence[str]) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(["probabilities"], {"text": np.array(texts, dtype=object)})[0]
    return probabilities


def test_a_model_that_loses_too_many_labels_needs_force(pooled: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"the shrunk model keeps .*% of the full .*; the bundle was not published"):
        export_snapshot(pooled, tmp_path / "bundle", ["onnx"], KEPT, entries=20)
    assert not (tmp_path / "bundle").exists()
    export_snapshot(pooled, tmp_path / "bundle", ["onnx"], KEPT, entries=20, force=True)
    opened = open_bundle(tmp_path / "bundle")
    assert opened.manifest["shrunk"]["label_agreement"] < 0.995
    assert opened.manifest["parity"]["passed"]
    assert opened.vocabulary() == VOCABULARY[:20]


def test_without_real_text_nothing_is_shrunk(pooled: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compared with the full one on real text; name some: --data FILE"):
        export_snapshot(pooled, tmp_path / "bundle", ["onnx"], entries=ENTRIES)
    assert not (tmp_path / "bundle").exists()


def test_a_trained_model_keeps_its_labels(trained: TrainedSample, tmp_path: Path) -> None:
    texts = read_texts(Source("sample"))
    export_snapshot(load_snapshot(trained.folder), tmp_path / "bundle", ["onnx"], texts, entries=30_000)
    shrunk = open_bundle(tmp_path / "bundle").manifest["shrunk"]
    assert shrunk["label_agreement"] >= 0.995
    assert shrunk["vocabulary"]["full"] == shrunk["vocabulary"]["shrunk"]


# --- what people read ------------------------------------------------------------------------------------------------


def _run(capsys: pytest.CaptureFixture[str], *arguments: str | Path | int) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as stop:
        app([str(argument) for argument in arguments], prog_name="toolchain")
    return (stop.value.code, *capsys.readouterr())


def test_export_prints_what_shrinking_does(
    capsys: pytest.CaptureFixture[str], pooled: Snapshot, tmp_path: Path
) -> None:
    save_snapshot(pooled, tmp_path / "snapshot")
    reviews = tmp_path / "reviews.jsonl"
    reviews.write_text("".join(json.dumps({"text": text}) + "\n" for text in KEPT[:2]))
    places: list[str | Path] = ["--snapshot", tmp_path / "snapshot", "--data", reviews, "--out", tmp_path / "bundle"]
    status, _, told = _run(capsys, "export", "--format", "onnx", "--shrink", "--vocabulary", ENTRIES, *places)
    assert "entries of the vocabulary" in told
    assert "model.cpu.onnx" in told
    assert "of the labels of 2 texts as before, largest change of a probability 0." in told
    assert status == 0
    assert len(open_bundle(tmp_path / "bundle").vocabulary()) == ENTRIES


def test_a_shorter_vocabulary_without_shrinking_is_refused(
    capsys: pytest.CaptureFixture[str], snapshot_folder: Path
) -> None:
    status, _, told = _run(capsys, "export", "--snapshot", snapshot_folder, "--vocabulary", "40")
    assert status == 2
    assert told == "error: --vocabulary 40: only --shrink makes the vocabulary shorter; add it\n"


def test_card_and_inspect_tell_a_shrunk_model(capsys: pytest.CaptureFixture[str], shrunk_bundle: Path) -> None:
    card = (shrunk_bundle / "README.md").read_text(encoding="utf-8")
    architecture = "embedding 24 → 1 × GRU 32 → last + max + mean states → 3 logits"
    assert f"| {architecture} |" in card
    assert "| vocabulary | 150 entries," in card
    assert "| shrunk | from 200 entries; in the ONNX files an embedding in bytes;" in card
    assert "of the labels of 60 texts; largest change of a probability 0.0" in card
    status, told, _ = _run(capsys, "inspect", shrunk_bundle)
    assert status == 0
    told = " ".join(word for word in told.split() if word != "│")
    assert "last + max + mean states → 3 logits, 9,459 parameters" in told
    assert "from 200 entries; 100.00% of the labels of 60 texts as before" in told


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (Tokenizer(), "A-Z lower-cased, words, marks attached, at most 100 tokens"),
        (Tokenizer(lowercase=False, punctuation="dropped"), "case kept, words, marks dropped, at most 100 tokens"),
        (Tokenizer(unit="characters"), "A-Z lower-cased, every character a token, at most 100 tokens"),
    ],
)
def test_the_card_tells_the_text_definition(pooled: Snapshot, tokenizer: Tokenizer, text: str) -> None:
    specification = dataclasses.replace(pooled.specification, tokenizer=tokenizer)
    card = model_card(specification, 200, {"training": {}, "tolerance": TOLERANCE}, ["model.onnx"])
    assert f"| text | {text} |\n\n## Files" in card
    assert "shrunk" not in card
