"""A session that does not give the bundle's own probabilities is refused before it scores anything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.bundle import MANIFEST, VECTORS, Bundle, InvalidBundle, open_bundle, sha256
from export.selfcheck import WrongAnswers, open_for_scoring
from export.sessions import open_session, run_text, runtime_version
from toolchain.scoring.default import BOX
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.scorer import Scorer


def with_other_vectors(bundle: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Bundle:
    """A copy whose vectors were changed, and whose manifest agrees: what a wrong runtime looks like from outside."""
    shutil.copytree(bundle, folder)
    rows = [json.loads(line) for line in (folder / VECTORS).read_bytes().splitlines()]
    for row in rows:
        change(row)
    (folder / VECTORS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][VECTORS] = {"bytes": (folder / VECTORS).stat().st_size, "sha256": sha256(folder / VECTORS)}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return open_bundle(folder)


def moved(row: dict[str, Any]) -> None:
    row["probabilities"] = [row["probabilities"][0] + 2e-5, row["probabilities"][1] - 2e-5]


def only_blank_moved(row: dict[str, Any]) -> None:
    if not row["tokens"]:
        moved(row)


@pytest.mark.parametrize("change", [moved, only_blank_moved])
def test_other_answers_than_the_recorded_ones_are_refused(
    bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    other = with_other_vectors(bundle, tmp_path / "bundle", change)
    opened: tuple[Callable[[], object], ...] = (
        lambda: Scorer(other, "cpu"),
        lambda: Scorer(other, explain=3),
        lambda: Explainer(other),
    )
    for opening, file in zip(opened, ("model.cpu.onnx", "model.explain.onnx", "model.explain.onnx"), strict=True):
        with pytest.raises(WrongAnswers) as refusal:
            opening()
        (line,) = str(refusal.value).splitlines()
        assert line.startswith(f"{tmp_path / 'bundle' / file}: ONNX Runtime {runtime_version()} answers ")
        assert "checked texts wrongly (by up to 2e-05, tolerance 1e-05)" in line
        assert line.endswith("pip install --upgrade onnxruntime (or onnxruntime-gpu)")


def test_a_provider_that_was_told_to_compute_with_fewer_digits_has_a_wider_tolerance(
    bundle: Path, tmp_path: Path
) -> None:
    other = with_other_vectors(bundle, tmp_path / "bundle", moved)
    assert open_for_scoring(other, "model.onnx", "cpu", options={"arena_extend_strategy": "kSameAsRequested"})
    with pytest.raises(WrongAnswers, match="tolerance 1e-05"):  # the number of a device is no leave to be less exact
        open_for_scoring(other, "model.onnx", "cpu", options={"device_id": "0"})


def test_a_run_that_fails_is_refused_with_what_the_runtime_says(bundle: Path, tmp_path: Path) -> None:
    def ill_formed(row: dict[str, Any]) -> None:
        row["text"] += "\ud800"  # no UTF-8 holds half a surrogate pair

    other = with_other_vectors(bundle, tmp_path / "bundle", ill_formed)
    with pytest.raises(WrongAnswers, match=r"model\.onnx: ONNX Runtime .* fails on .*; this form is not used"):
        open_for_scoring(other, "model.onnx")


def test_a_provider_that_answers_wrongly_is_refused_by_its_name(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime is right here, and the vectors are wrong."""
    other = with_other_vectors(bundle, tmp_path / "bundle", lambda row: row.update(probabilities=[0.5, 0.5]))
    opened = open_session(bundle / "model.onnx")
    monkeypatch.setattr("export.selfcheck.open_session", lambda *_: opened)
    with pytest.raises(WrongAnswers) as refusal:
        open_for_scoring(other, "model.onnx", "coreml")
    (line,) = str(refusal.value).splitlines()
    assert f"ONNX Runtime {runtime_version()} on the provider 'coreml' answers " in line
    assert line.endswith("tolerance 0.05); use --provider cpu")


def test_every_form_of_a_right_runtime_is_taken(bundle: Path) -> None:
    opened = open_bundle(bundle)
    for name in ("model.onnx", "model.cpu.onnx", "model.explain.onnx"):
        assert open_for_scoring(opened, name).get_outputs()
    assert open_for_scoring(open_bundle(BOX), "model.cpu.onnx").get_outputs()


def test_a_bundle_without_its_vectors_is_damaged(onnx_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(onnx_bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / VECTORS).unlink()
    with pytest.raises(InvalidBundle, match=r"vectors\.jsonl: the manifest lists it"):
        Scorer(tmp_path / "bundle")


def test_memory_patterns_are_off_where_they_give_wrong_answers(
    onnx_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    seen = {}
    for version in ("1.14.0", "1.18.1", "1.19.0", "1.19.2", "1.20.0", "1.31.1", "2.0.0.dev20270101"):
        monkeypatch.setattr(onnxruntime, "__version__", version)
        session = open_session(onnx_bundle / "model.cpu.onnx")
        seen[version] = session.get_session_options().enable_mem_pattern
    assert seen == {
        "1.14.0": False,
        "1.18.1": False,
        "1.19.0": False,
        "1.19.2": True,
        "1.20.0": True,
        "1.31.1": True,
        "2.0.0.dev20270101": True,
    }


@pytest.mark.parametrize("file", ["model.onnx", "model.cpu.onnx", "model.explain.onnx"])
def test_a_batch_of_blank_texts_sums_no_axis_of_length_0(bundle: Path, file: str) -> None:
    """Up to 1.16 ONNX Runtime refuses that; the counts come from ids with a column of padding behind them."""
    import onnx

    nodes = {output: node for node in onnx.load(bundle / file).graph.node for output in node.output}
    for name in ("tokens", "unknown"):
        above = nodes[name]
        assert above.op_type == "ReduceSum"
        while above.op_type != "Pad":
            above = nodes[above.input[0]]
    answers = run_text(open_session(bundle / file), ["tokens", "unknown"], ["", " ", "\n"])
    assert [answer.tolist() for answer in answers] == [[0, 0, 0], [0, 0, 0]]


def test_no_recurrent_operator_is_given_a_length_of_0(bundle: Path) -> None:
    """Up to 1.22 the RNN operator of ONNX Runtime then reads outside its memory, and a process may end there."""
    import onnx

    model = onnx.load(bundle / "model.onnx")
    model.graph.output.append(onnx.helper.make_tensor_value_info("sequence_lens", onnx.TensorProto.INT32, ["N"]))
    lengths, tokens = run_text(open_session(model.SerializeToString()), ["sequence_lens", "tokens"], ["", "a b", " "])
    assert lengths.tolist() == [1, 2, 1]
    assert tokens.tolist() == [0, 2, 0]
