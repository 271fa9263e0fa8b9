"""The tolerance of logits follows the size of the terms that they are summed from: in every form, at every scale."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from export import parity
from export.cases import edge_cases
from export.errors import ExportError
from export.forms import FORMS, Answers, Runner, softmax
from export.rounding import (
    LOGIT_ULPS,
    ULP,
    log_probability_differences,
    logit_differences,
    logit_sizes,
)
from export.spec import Classifier, Specification
from toolchain.errors import CheckFailed
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot
from toolchain.release import release
from toolchain.release.release import export_snapshot

CLASSES = tuple(f"topic {number}" for number in range(20))
TEMPERATURE = 0.076
EXACT = [name for name, form in FORMS.items() if form.logit_ulps is not None]


def snapshot_of_twenty(scale: float) -> Snapshot:
    """A small GRU of twenty classes whose output layer is multiplied by `scale`, as a small temperature does."""
    specification = Specification(labels=CLASSES, cell="gru", embedding=24, hidden=48, max_tokens=300)
    vocabulary = ["<unk>", "<pad>", *(f"w{number}" for number in range(60))]
    torch.manual_seed(3)
    model = build_model("BasicGRU", specification, len(vocabulary), dropout=0.0)
    with torch.no_grad():
        for parameter in (model.out.weight, model.out.bias):
            parameter.mul_(scale)
    return Snapshot("BasicGRU", specification, vocabulary, model.state_dict(), {"recipe": "gru"})


@pytest.mark.parametrize(
    ("scale", "formats"),
    [(1 / TEMPERATURE, ["onnx-explain"]), (40.0, ["all", "pt2"]), (300.0, ["onnx-ids"])],
    ids=["temperature 0.076", "x 40", "x 300"],
)
def test_a_right_model_is_published_whatever_the_scale_of_its_output_layer(
    scale: float, formats: list[str], tmp_path: Path
) -> None:
    snapshot = snapshot_of_twenty(scale)
    verification = export_snapshot(snapshot, tmp_path / "bundle", formats, ["w1 w2 " * 700, "w3", "w4 w5"])
    for comparison in verification.comparisons:
        assert comparison.passed, comparison.failure()
        assert comparison.max_difference <= 1e-5
        assert comparison.logits_difference is not None
        assert 0 < comparison.logits_difference < LOGIT_ULPS / 4


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_a_logit_that_is_off_by_a_few_of_its_last_places_is_refused_in_every_form(scale: float, tmp_path: Path) -> None:
    """The same share of its terms at every scale, and the probabilities need not show it."""
    snapshot = snapshot_of_twenty(scale)
    right = snapshot.classifier()
    (sizes,) = logit_sizes(right)
    texts = [text for text in edge_cases(right.vocabulary, 50) if len(text) < 60][:40]
    expected = parity.expect(
        snapshot.answer_tokens(), right.specification, right.vocabulary, texts, None, snapshot.sizes_reference()
    )
    for units, passes in ((LOGIT_ULPS / 2, True), (3 * LOGIT_ULPS, False)):
        bias = right.weights["head.0.bias"].copy()
        bias[7] += units * ULP * sizes[7]
        off = dataclasses.replace(right, weights={**right.weights, "head.0.bias": bias})
        for name in EXACT:
            comparison = compare_form(name, off, expected, tmp_path)
            assert (comparison.logits_difference or 0) <= LOGIT_ULPS if passes else not comparison.passed, name


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("weight", ["embedding.weight", "recurrent.weight_hh_l0", "head.0.weight"])
def test_one_weight_that_is_off_by_a_hundredth_is_refused(name: str, weight: str, tmp_path: Path) -> None:
    snapshot = snapshot_of_twenty(40.0)
    right = snapshot.classifier()
    expected = parity.expect(
        *(snapshot.answer_tokens(), right.specification, right.vocabulary),
        ["w0 w1 w2 w3", "w4", "w0", "w5 w6 w7"],
        None,
        snapshot.sizes_reference(),
    )
    wrong = right.weights[weight].copy()
    wrong[2, 3] += 0.01 * np.abs(wrong).max()
    off = dataclasses.replace(right, weights={**right.weights, weight: wrong})
    assert compare_form(name, right, expected, tmp_path).passed
    assert not compare_form(name, off, expected, tmp_path).passed


def compare_form(name: str, classifier: Classifier, expected: parity.Expected, folder: Path) -> parity.Comparison:
    form = FORMS[name]
    (folder / form.file).write_bytes(form.build(classifier, {}))
    run = form.open(folder / form.file, classifier.specification, classifier.vocabulary, "cpu")
    return parity.compare(name, "cpu", run, expected, form.tolerance, form.min_agreement, form.logit_ulps)


def test_the_size_of_a_logit_is_that_of_its_terms_through_every_layer() -> None:
    specification = Specification(labels=("a", "b"), cell="rnn", embedding=1, hidden=2, head=(2,))
    weights = {name: np.zeros(shape, np.float32) for name, shape in specification.weight_shapes(2).items()}
    weights["head.0.weight"] = np.array([[1, -2], [3, 4]], np.float32)
    weights["head.0.bias"] = np.array([-1, 0.5], np.float32)
    weights["head.1.weight"] = np.array([[1, -1], [0, 2]], np.float32)
    weights["head.1.bias"] = np.array([0, -3], np.float32)
    classifier = Classifier(specification, ["<unk>", "<pad>"], weights)
    assert logit_sizes(classifier).tolist() == [[4 + 7.5, 2 * 7.5 + 3]]
    assert logit_sizes(classifier, [0.5, 10.0]).tolist() == [[11.5, 18.0], [31 + 70.5, 2 * 70.5 + 3]]


def test_log_probabilities_differ_as_the_logits_behind_them_do() -> None:
    wanted = np.array([[30.0, -20.0, 0.0], [0.0, 200.0, 0.0]])
    said = wanted + np.array([[0, 0.5, 0], [0, 0, 0.5]])
    sizes = np.array([[1.0, 2.0, 3.0]] * 2)
    far = log_probability_differences(softmax(said), wanted, sizes)
    assert far[0] == pytest.approx([0, 0.5 / (6 * ULP), 0], abs=1)
    assert far[1].tolist() == [0, 0, 0], "a probability of exp(-200) is no number in single precision"
    assert np.isnan(log_probability_differences(np.full((1, 3), np.nan), wanted[:1], sizes[:1])).all()
    assert logit_differences(said, wanted, sizes)[0].tolist() == [0, 0.5 / (2 * ULP), 0]


def test_a_rounded_probability_of_a_model_with_tiny_weights_is_no_difference() -> None:
    wanted = np.array([[1e-3, -1e-3]])
    rounded = np.nextafter(softmax(wanted).astype(np.float32), np.float32(1))
    assert log_probability_differences(rounded, wanted, np.full((1, 2), 2e-3)).max() < LOGIT_ULPS / 4


EXPECTED = parity.Expected(
    texts=["even", "sure"],
    labels=["x", "x"],
    probabilities=softmax(np.array([[0.1, 0.0], [30.0, 0.0]])),
    tokens=np.array([1, 1]),
    unknown=np.array([0, 0]),
    logits=np.array([[0.1, 0.0], [30.0, 0.0]], np.float32),
    sizes=np.ones((2, 2)),
)


def answers(changes: dict[str, Sequence[float]], **others: object) -> Runner:
    """What is expected, with some logits changed."""

    def run(texts: Sequence[str]) -> Answers:
        rows = [EXPECTED.texts.index(text) for text in texts]
        logits = EXPECTED.logits[rows] + np.array([changes.get(text, (0, 0)) for text in texts])  # type: ignore[index]
        said = {name: [values[row] for row in rows] for name, values in others.items()}  # type: ignore[index]
        return Answers(softmax(logits), logits=logits.astype(np.float32), **said)  # type: ignore[arg-type]

    return run


def test_the_text_that_is_named_is_the_worst_in_the_figure_that_failed() -> None:
    comparison = parity.compare("any", "cpu", answers({"sure": (0.01, 0.0), "even": (1e-7, 0.0)}), EXPECTED)
    assert comparison.max_difference <= 1e-5
    assert not comparison.passed
    assert comparison.worst_texts == {"probabilities": "even", "logits": "sure"}
    assert comparison.failure() == (
        "any: logits differ by 8.39e+04 units in the last place of their terms, tolerance 16, worst on 'sure'"
    )
    comparison = parity.compare("any", "cpu", answers({}, labels=["x", "y"]), EXPECTED)
    assert "labels differ, worst on 'sure'" in comparison.failure()
    run = answers({"even": (0.1, 0.0)}, labels=["x", "y"])
    failure = parity.compare("any", "cpu", run, EXPECTED).failure()
    assert "probabilities differ by 0.0249, tolerance 1e-05, worst on 'even'; logits differ" in failure


def test_the_refusal_says_which_forms_agree_and_how_to_export_those(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(FORMS["onnx-ids"], logit_ulps=-1.0)
    monkeypatch.setitem(FORMS, "onnx-ids", broken)
    with pytest.raises(CheckFailed) as refused:
        export_snapshot(snapshot_of_twenty(1.0), tmp_path / "bundle", ["onnx", "onnx-ids", "onnx-explain"])
    line = str(refused.value)
    assert line.startswith("onnx-ids: logits differ by ")
    assert line.endswith(
        "the bundle was not published. Forms that agree: onnx, onnx-cpu, onnx-explain; "
        "to export these alone: --format onnx --format onnx-explain"
    )
    assert release._way_out([]) == ""


def test_a_model_without_a_number_for_an_answer_is_refused_before_it_is_compared() -> None:
    snapshot = snapshot_of_twenty(1.0)
    nothing = np.full((2, 20), np.nan, np.float32)
    with pytest.raises(ExportError, match=r"the model itself has no number as its answer to 'w1 w2' \(2 tokens\)"):
        parity.expect(lambda tokens: nothing, snapshot.specification, snapshot.vocabulary, ["w1 w2", "w3"])
