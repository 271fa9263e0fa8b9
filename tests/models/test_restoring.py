"""A trained model out of a bundle's graphs: the weights that went in, and the answers that the bundle gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import VOCABULARY, Bundle, InvalidBundle, open_bundle, write_manifest
from export.forms import FORMS, softmax
from export.graph_weights import read_classifier
from export.shrinking import shrink
from export.spec import Classifier
from tests.conftest import MakeSnapshot
from toolchain.errors import UsageError
from toolchain.models.restoring import load_trained, restore_snapshot
from toolchain.models.snapshot import Snapshot
from toolchain.scoring.default import BOX

TEXTS = ["The plot is dull.", "A lively, honest film!", "", "lively " * 400, "unheard-of words <br /> here"]
LAYERS = {"gru": 2, "rnn": 2, "rnn-cell": 2, "auto": 1}


def write_bundle(folder: Path, classifier: Classifier, forms: list[str]) -> Bundle:
    """A bundle of these forms without its proof."""
    folder.mkdir()
    (folder / VOCABULARY).write_text("".join(f"{word}\n" for word in classifier.vocabulary), encoding="utf-8")
    for name in forms:
        (folder / FORMS[name].file).write_bytes(FORMS[name].build(classifier, {}))
    write_manifest(folder, classifier.specification, {"training": {"recipe": "mine"}})
    return open_bundle(folder)


@pytest.mark.parametrize("recipe", LAYERS)
@pytest.mark.parametrize("form", ["onnx", "onnx-ids"])
def test_the_standard_graphs_give_every_weight_back(
    recipe: str, form: str, make_snapshot: MakeSnapshot, tmp_path: Path
) -> None:
    snapshot = make_snapshot(recipe, LAYERS[recipe])
    restored = restore_snapshot(write_bundle(tmp_path / "bundle", snapshot.classifier(), [form]))
    assert (restored.model, restored.specification) == (snapshot.model, snapshot.specification)
    assert restored.vocabulary == snapshot.vocabulary
    assert restored.state.keys() == snapshot.state.keys()
    for name, tensor in snapshot.state.items():
        assert torch.equal(restored.state[name], tensor), name


@pytest.mark.parametrize("recipe", LAYERS)
def test_the_folded_graph_gives_the_same_function_and_then_the_same_file(
    recipe: str, make_snapshot: MakeSnapshot, tmp_path: Path
) -> None:
    snapshot = make_snapshot(recipe, LAYERS[recipe])
    bundle = write_bundle(tmp_path / "bundle", snapshot.classifier(), ["onnx-cpu"])
    restored = restore_snapshot(bundle)
    np.testing.assert_allclose(restored.reference()(TEXTS), snapshot.reference()(TEXTS), atol=1e-5)
    built = FORMS["onnx-cpu"].build(restored.classifier(), {})
    assert built == (bundle.folder / FORMS["onnx-cpu"].file).read_bytes()


def test_an_embedding_in_bytes_stays_one(make_snapshot: MakeSnapshot, tmp_path: Path) -> None:
    classifier = shrink(make_snapshot("auto").classifier(), 100)
    restored = read_classifier(write_bundle(tmp_path / "bundle", classifier, ["onnx-cpu"]))
    assert restored.quantized_embedding is not None
    assert classifier.quantized_embedding is not None
    assert np.array_equal(restored.quantized_embedding.integers, classifier.quantized_embedding.integers)
    assert np.array_equal(restored.quantized_embedding.scales, classifier.quantized_embedding.scales)


def test_the_model_in_the_box_is_one_to_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "box").mkdir()  # the word means the one that comes with the program
    monkeypatch.chdir(tmp_path)
    restored = load_trained("box")
    assert restored.specification.labels == ("neg", "pos")
    rows = [row for row in open_bundle(BOX).vectors() if row["tokens"] < 50][::50]
    answers = softmax(restored.reference()([row["text"] for row in rows]))
    np.testing.assert_allclose(answers, [row["probabilities"] for row in rows], atol=1e-5)


def test_a_snapshot_and_a_bundle_are_found_where_they_are(
    snapshot: Snapshot, snapshot_folder: Path, bundle: Path
) -> None:
    of_snapshot, of_bundle = load_trained(str(snapshot_folder)), load_trained(str(bundle))
    assert of_snapshot.identity == of_bundle.identity == snapshot.identity
    assert of_bundle.training["recipe"] == "gru"


def test_what_is_no_trained_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: no snapshot here; make one: .* or name a bundle, or box"):
        load_trained(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no snapshot here"):
        load_trained(str(tmp_path))


def test_a_bundle_without_a_graph_that_holds_the_weights_says_what_to_do(
    make_snapshot: MakeSnapshot, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", make_snapshot("gru").classifier(), ["onnx-int8"])
    with pytest.raises(InvalidBundle, match=r"weights cannot be read.*--format onnx"):
        restore_snapshot(bundle)


@pytest.mark.parametrize("damage", ["cut", "not onnx", "other sizes"])
def test_a_damaged_graph_is_refused(damage: str, make_snapshot: MakeSnapshot, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, make_snapshot("gru").classifier(), ["onnx"])
    file = folder / "model.onnx"
    if damage == "other sizes":
        other = make_snapshot("gru", documented_sizes=True).classifier()
        file.write_bytes(FORMS["onnx"].build(other, {}))
    else:
        file.write_bytes(file.read_bytes()[:5000] if damage == "cut" else b"not onnx")
    specification = open_bundle(folder).specification
    (folder / "manifest.json").unlink()
    write_manifest(folder, specification, {"training": {}})
    with pytest.raises(InvalidBundle, match=r"model\.onnx: not a"):
        restore_snapshot(open_bundle(folder))
