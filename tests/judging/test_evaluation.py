"""What `evaluate` says of a model: every class, calibration with known answers, the worst mistakes; and the figures."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.forms import softmax
from export.spec import Specification
from toolchain.cli.app import app
from toolchain.corpus.reviews import Reviews
from toolchain.errors import UsageError
from toolchain.judging.evaluation import evaluate_reviews
from toolchain.measures.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature, reliability
from toolchain.measures.labels import Truth
from toolchain.measures.metrics import count_labels, label_metrics
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot, save_snapshot
from toolchain.release.release import export_snapshot
from toolchain.training.figures import reliability_diagram, training_curves

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toolchain evaluate` in this process -> exit status, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            app(["evaluate", *map(str, arguments)], prog_name="toolchain")
        return stop.value.code, *capsys.readouterr()

    return run


# --- calibration -----------------------------------------------------------------------------------------------------


def confident(confidence: float, rows: int) -> NDArray[np.float64]:
    """`rows` answers 0 of a model with two classes."""
    return np.tile([confidence, 1 - confidence], (rows, 1))


def test_the_calibration_error_of_a_case_made_by_hand() -> None:
    """Ten answers with 0.9, seven of them right, and thirty with 0.6, eighteen right: (10 × 0.2 + 30 × 0) / 40."""
    answers = np.concatenate([confident(0.9, 10), confident(0.6, 30)])
    labels = [0] * 7 + [1] * 3 + [0] * 18 + [1] * 12
    bins = reliability(answers, labels, bins=10)
    assert bins.count.tolist() == [0, 0, 0, 0, 0, 30, 0, 0, 10, 0]
    assert bins.confidence[[5, 8]] == pytest.approx([0.6, 0.9])
    assert bins.accuracy[[5, 8]] == pytest.approx([0.6, 0.7])
    assert bins.expected_calibration_error == pytest.approx(0.05)


def test_the_answers_at_the_ends_of_the_scale_have_bins() -> None:
    assert reliability(np.array([[1.0, 0.0], [0.5, 0.5]]), [0, 0], bins=4).count.tolist() == [0, 1, 0, 1]
    assert reliability(np.array([[1.0, 0.0]]), [0]).expected_calibration_error == 0
    assert reliability(np.array([[1.0, 0.0]]), [1]).expected_calibration_error == 1


def labels_drawn_from(probabilities: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Labels that have exactly these probabilities, so that the logits behind them are calibrated."""
    draws = np.random.default_rng(seed).random((len(probabilities), 1))
    labels: NDArray[np.int64] = (probabilities.cumsum(axis=1) < draws).sum(axis=1)
    return labels.clip(max=probabilities.shape[1] - 1)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_factor_by_which_logits_were_scaled_is_recovered(factor: float, classes: int) -> None:
    logits = np.random.default_rng(1).normal(0, 2, (20_000, classes))
    labels = labels_drawn_from(softmax(logits), seed=2)
    temperature = fit_temperature(logits * factor, labels)
    assert temperature == pytest.approx(factor, rel=0.05)
    assert fit_temperature(logits * factor + 1000, labels) == pytest.approx(temperature)
    if factor > 1:
        before, after = (reliability(softmax(logits * factor / t), labels) for t in (1, temperature))
        assert after.expected_calibration_error < before.expected_calibration_error / 3


def test_no_other_temperature_has_a_smaller_loss() -> None:
    generator = np.random.default_rng(3)
    logits, labels = generator.normal(0, 3, (500, 3)), generator.integers(0, 3, 500)
    labels[:300] = logits[:300].argmax(axis=1)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        own = scaled[np.arange(500), labels]
        return float((np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)) + scaled.max(1) - own).mean())

    best = fit_temperature(logits, labels)
    assert loss(best) <= min(loss(best * factor) for factor in (0.9, 0.999, 1.001, 1.1))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_a_temperature_stays_finite_where_the_loss_has_no_minimum(size: float) -> None:
    logits = np.array([[size, -size], [-size, size]])
    assert fit_temperature(logits, [0, 1]) == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature(logits, [1, 0]) == pytest.approx(MAX_TEMPERATURE)
    assert fit_temperature(np.full((3, 2), size), [0, 1, 0]) == 1


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="labels for answers"):
        fit_temperature(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="labels for answers"):
        reliability(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), [0])


# --- the evaluation --------------------------------------------------------------------------------------------------

THREE = ("a", "b", "c")
ANSWERS = np.array(
    [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.98, 0.01, 0.01], [0.1, 0.3, 0.6], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]],
    np.float32,
)
REVIEWS = Reviews(["one", "two", "three", "four", "five", "six"], ["a", "b", "c", "c", "b", "a"])


def test_an_evaluation_counts_what_score_counts() -> None:
    evaluation = evaluate_reviews(REVIEWS, THREE, lambda texts: ANSWERS, mistakes=2)
    truth = Truth(np.array([THREE.index(label) for label in REVIEWS.labels]))
    metrics = label_metrics(count_labels(truth, ANSWERS.argmax(axis=1), ANSWERS), THREE, "label")
    assert evaluation.classes == metrics.classes
    assert evaluation.confusion == metrics.confusion
    assert evaluation.loss == metrics.log_loss
    assert metrics.accuracy is not None
    assert evaluation.accuracy == pytest.approx(100 * metrics.accuracy) == 50
    assert evaluation.confusion["c"] == {"a": 1, "b": 0, "c": 1}
    assert evaluation.classes["a"].precision == pytest.approx(1 / 3)
    assert evaluation.loss == pytest.approx(-np.log([0.8, 0.7, 0.01, 0.6, 0.4, 0.3]).mean(), rel=1e-5)


def test_the_worst_mistake_is_the_one_that_leaves_the_truth_the_least() -> None:
    every = evaluate_reviews(REVIEWS, THREE, lambda texts: ANSWERS, mistakes=99).mistakes
    assert [(m.row, m.label, m.prediction, m.text) for m in every] == [
        (3, "c", "a", "three"),
        (6, "a", "c", "six"),
        (5, "b", "a", "five"),
    ]
    assert every[0].confidence == pytest.approx(0.98)
    assert every[0].probability == pytest.approx(0.01)
    assert evaluate_reviews(REVIEWS, THREE, lambda texts: ANSWERS, mistakes=1).mistakes == every[:1]
    assert evaluate_reviews(REVIEWS, THREE, lambda texts: ANSWERS).mistakes == []


def test_nothing_to_evaluate_is_said() -> None:
    with pytest.raises(UsageError, match="no labelled review"):
        evaluate_reviews(Reviews([], []), THREE, lambda texts: ANSWERS[:0])


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_every_class_and_the_worst_mistakes(
    run: Run, onnx_bundle: Path, sample_csv: Path, tmp_path: Path
) -> None:
    status, stdout, stderr = run("--data", sample_csv, "--bundle", onnx_bundle, "--mistakes", "3")
    assert status == 0, stderr
    lines = stdout.splitlines()
    assert " reviews, loss " in lines[0]
    assert "expected calibration error 0." in lines[1]
    assert all(heading in lines[2] for heading in ("true label", "as neg", "as pos", "support", "precision", "F1"))
    assert sum(line.startswith("row ") and ", answered " in line for line in lines) == 3
    assert "row " not in run("--data", sample_csv, "--bundle", onnx_bundle, "--mistakes", "0")[1]


def test_a_text_cannot_dress_up_the_terminal(run: Run, onnx_bundle: Path, tmp_path: Path) -> None:
    """Markup stays as written, control characters are left out, and a long text is cut."""
    text = "[bold red]dull[/] \x1b[31m\x9b2J " + "word " * 400
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for label in ("neg", "pos")))
    stdout = run("--data", source, "--bundle", onnx_bundle)[1]
    assert "[bold red]dull[/]" in stdout
    assert not {"\x1b", "\x9b"} & set(stdout)
    assert "word …" in stdout
    assert len(stdout) < 1500


@pytest.mark.parametrize("side", ["--snapshot", "--bundle"])
def test_json_holds_all_of_it_for_any_labels(run: Run, tmp_path: Path, side: str) -> None:
    specification = Specification(labels=("1 [star]", "2", "3"), cell="rnn", embedding=8, hidden=8)
    vocabulary = ["<unk>", "<pad>", "film", "dull", *map(str, range(30))]
    torch.manual_seed(0)
    model = build_model("BasicRNN", specification, len(vocabulary), dropout=0.0)
    snapshot = Snapshot("BasicRNN", specification, vocabulary, model.state_dict(), {})
    if side == "--bundle":
        export_snapshot(snapshot, tmp_path / "model", ["onnx"])
    else:
        save_snapshot(snapshot, tmp_path / "model")
    source = tmp_path / "in.csv"
    rows = [f"film number {number} is dull,{('1 [star]', '2', '3')[number % 3]}" for number in range(30)]
    source.write_text("text,label\n" + "\n".join(rows) + "\n")
    arguments = ("--data", source, side, tmp_path / "model", "--mistakes", "2")
    found = json.loads(run(*arguments, "--json")[1])
    assert found["reviews"] == 30
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 30
    right = sum(found["confusion"][label][label] for label in found["confusion"])
    assert found["accuracy"] == pytest.approx(100 * right / 30)
    assert found["classes"]["1 [star]"]["support"] == 10
    assert sum(entry["count"] for entry in found["reliability"]) == 30
    assert 0 <= found["expected_calibration_error"] <= 1
    assert [mistake["text"] for mistake in found["mistakes"]] == [
        rows[mistake["row"] - 1].split(",")[0] for mistake in found["mistakes"]
    ]
    assert len(found["mistakes"]) == 2
    assert "as 1 [star]" in " ".join(run(*arguments)[1].split())


# --- figures ---------------------------------------------------------------------------------------------------------


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_reliability_diagram_is_drawn(run: Run, onnx_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,label\na dull film,neg\nan elegant film,pos\n")
    arguments = ("--data", source, "--bundle", onnx_bundle, "--reliability")
    assert run(*arguments, tmp_path / "reliability.png")[0] == 0
    assert png_size(tmp_path / "reliability.png") == (600, 650)
    for place, said in (("x.jpg", "x.jpg: expected a name that ends in .png"), ("no/x.png", "no is not a folder")):
        status, _, stderr = run(*arguments, tmp_path / place)
        assert status == 2
        assert said in stderr


def test_before_and_after_stand_beside_each_other(tmp_path: Path) -> None:
    before, after = reliability(confident(0.9, 10), [0] * 10), reliability(confident(0.6, 10), [0, 1] * 5)
    reliability_diagram(before, after, tmp_path / "both.png")
    assert png_size(tmp_path / "both.png") == (1200, 650)


def test_the_training_curves_are_drawn_from_the_first_epoch_on(tmp_path: Path) -> None:
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    history = [{"epoch": epoch, **dict.fromkeys(names, 1 / epoch)} for epoch in (1, 2, 3)]
    for epochs in (1, 3):
        training_curves(history[:epochs], tmp_path / f"{epochs}.png")
        assert png_size(tmp_path / f"{epochs}.png") == (1200, 500)
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "3.png").read_bytes()
