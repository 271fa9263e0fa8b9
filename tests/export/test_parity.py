"""The parity proof passes what is right and refuses what is not, signed or unsigned."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.bundle import IDS_VECTORS, MANIFEST, VOCABULARY, InvalidBundle, open_bundle, sha256
from export.cases import edge_cases
from export.forms import FORMATS, FORMS, TOLERANCE
from export.parity import Expected, vectors
from export.sessions import open_session
from export.text import encode, lookup_table
from tests.conftest import MakeSnapshot
from toolchain.corpus.reviews import Source, read_texts
from toolchain.errors import CheckFailed
from toolchain.models.snapshot import Snapshot
from toolchain.release.release import export_snapshot, verify_bundle
from toolchain.release.verification import Verification


@pytest.mark.parametrize(
    ("recipe", "layers"), [("gru", 1), ("gru", 2), ("rnn", 1), ("rnn", 2), ("rnn-cell", 1), ("rnn-cell", 2)]
)
def test_every_form_of_every_recipe_says_what_pytorch_says(
    make_snapshot: MakeSnapshot, recipe: str, layers: int, tmp_path: Path
) -> None:
    snapshot = make_snapshot(recipe, layers, labels=("bad", 'fine, "really"', "좋다"))
    verification = export_snapshot(snapshot, tmp_path / "bundle", ["all"], read_texts(Source("sample"))[:100])
    assert {comparison.form for comparison in verification.comparisons} == set(FORMATS["all"])
    _assert_parity(verification)


def test_the_documented_sizes_are_within_the_tolerance_as_well(make_snapshot: MakeSnapshot, tmp_path: Path) -> None:
    """256 units over texts that are cut at 10,000 tokens; `make demo` does the same with every form."""
    snapshot = make_snapshot("gru", documented_sizes=True)
    assert (snapshot.specification.hidden, snapshot.specification.max_tokens) == (256, 10_000)
    _assert_parity(export_snapshot(snapshot, tmp_path / "bundle", ["onnx"], read_texts(Source("sample"))[:100]))


def _assert_parity(verification: Verification) -> None:
    for comparison in verification.comparisons:
        assert comparison.passed, comparison.failure()
        assert comparison.max_difference <= TOLERANCE
        assert (comparison.shares_difference is not None) == FORMS[comparison.form].explains
        assert comparison.cases > 300
        assert comparison.alone == 200


def test_answers_do_not_depend_on_batch_mates(bundle: Path) -> None:
    opened = open_bundle(bundle)
    run = FORMS["onnx"].open(bundle / "model.onnx", opened.specification, opened.vocabulary(), "cpu")
    texts = [vector["text"] for vector in opened.vectors()][:150]
    together = run(texts).probabilities
    alone = np.concatenate([run([text]).probabilities for text in texts])
    assert np.abs(together - alone).max() <= 1e-6


def test_a_bundle_verifies_against_its_own_vectors(bundle: Path) -> None:
    verification = verify_bundle(open_bundle(bundle), None)
    assert verification.passed
    assert verification.against == "the bundle's vectors"
    assert [comparison.form for comparison in verification.comparisons] == list(FORMATS["all"])


def test_the_vectors_hold_every_word_and_two_hundred_edge_cases(bundle: Path) -> None:
    opened = open_bundle(bundle)
    texts = {vector["text"] for vector in opened.vectors()}
    cases = edge_cases(opened.vocabulary(), opened.specification.max_tokens)
    assert len(cases) >= 200
    assert texts >= set(cases)
    assert not any("\0" in text for text in texts)
    assert {word for text in texts for word in text.split()} >= set(opened.vocabulary()[2:])


Damage = Callable[[onnx.ModelProto], None]


def _initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _one_weight(name: str) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        tensor = _initializer(model, name)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[values.size // 2] += 0.5
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return damage


def _one_label(model: onnx.ModelProto) -> None:
    _initializer(model, "labels").string_data[0] = b"other"


def _tokenizer_pattern(model: onnx.ModelProto) -> None:
    tokenizer = next(node for node in model.graph.node if node.op_type == "Tokenizer")
    pattern = next(attribute for attribute in tokenizer.attribute if attribute.name == "tokenexp")
    pattern.s = pattern.s.replace(b"\\v", b"")


def _case(model: onnx.ModelProto) -> None:
    normalizer = next(node for node in model.graph.node if node.op_type == "StringNormalizer")
    action = next(attribute for attribute in normalizer.attribute if attribute.name == "case_change_action")
    action.s = b"NONE"


DAMAGES: dict[str, Damage] = {
    "one embedding weight": _one_weight("embedding.weight"),
    "one recurrent weight": _one_weight("gru_0.R"),
    "one bias": _one_weight("head.0.bias"),
    "one label": _one_label,
    "the tokenizer's pattern": _tokenizer_pattern,
    "the tokenizer's case": _case,
}


def _damaged(onnx_bundle: Path, tmp_path: Path, damage: Damage, signed: bool) -> Path:
    copy = tmp_path / "bundle"
    shutil.copytree(onnx_bundle, copy)
    model = onnx.load(copy / "model.onnx")
    damage(model)
    onnx.save(model, copy / "model.onnx")
    if signed:
        sign(copy)
    return copy


def sign(folder: Path) -> None:
    """Make the manifest right about the files that are there."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        entry |= {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _verdicts(verification: Verification) -> dict[str, bool]:
    return {comparison.form: comparison.passed for comparison in verification.comparisons}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_signed_damage_is_refused_by_the_proof_itself(
    onnx_bundle: Path, snapshot: Snapshot, tmp_path: Path, damage: Damage
) -> None:
    copy = _damaged(onnx_bundle, tmp_path, damage, signed=True)
    for reference in (snapshot, None):
        verdicts = _verdicts(verify_bundle(open_bundle(copy), reference))
        assert verdicts == {"onnx": False, "onnx-cpu": True}


def _with_embedding(snapshot: Snapshot, change: Callable[[torch.Tensor], object]) -> Snapshot:
    (name,) = (name for name, values in snapshot.state.items() if len(values) == len(snapshot.vocabulary))
    rows = snapshot.state[name].clone()
    change(rows)
    return dataclasses.replace(snapshot, state={**snapshot.state, name: rows})


def _row_a_hundredth_off(snapshot: Snapshot) -> Snapshot:
    return _with_embedding(snapshot, lambda rows: rows[len(rows) // 2].mul_(1.01))


def _rows_swapped(snapshot: Snapshot) -> Snapshot:
    return _with_embedding(snapshot, lambda rows: rows[5:7].copy_(rows[5:7].flip(0)))


def _words_swapped(snapshot: Snapshot) -> Snapshot:
    words = list(snapshot.vocabulary)
    words[-1], words[-2] = words[-2], words[-1]
    return dataclasses.replace(snapshot, vocabulary=words)


def _word_missing(snapshot: Snapshot) -> Snapshot:
    return dataclasses.replace(snapshot, vocabulary=[*snapshot.vocabulary[:-1], "another-word"])


@pytest.mark.parametrize("wrong", [_row_a_hundredth_off, _rows_swapped, _words_swapped, _word_missing])
def test_one_wrong_row_or_word_is_refused_in_every_form(
    snapshot: Snapshot, tmp_path: Path, wrong: Callable[[Snapshot], Snapshot]
) -> None:
    """Each form says what the wrong snapshot says, and is held against the right one."""
    export_snapshot(wrong(snapshot), tmp_path / "bundle", ["all"])
    (tmp_path / "bundle" / VOCABULARY).write_text("".join(f"{word}\n" for word in snapshot.vocabulary), "utf-8")
    sign(tmp_path / "bundle")
    verdicts = _verdicts(verify_bundle(open_bundle(tmp_path / "bundle"), snapshot))
    without_words = {"onnx-ids"} if wrong in (_words_swapped, _word_missing) else set()
    assert verdicts == {form: form in without_words for form in FORMATS["all"]}


def test_unsigned_damage_is_refused_by_the_digests(onnx_bundle: Path, tmp_path: Path) -> None:
    copy = _damaged(onnx_bundle, tmp_path, DAMAGES["one bias"], signed=False)
    with pytest.raises(InvalidBundle, match=r"model\.onnx: its SHA-256 is not the one in the manifest"):
        verify_bundle(open_bundle(copy), None)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda manifest: manifest["labels"].reverse(), "labels"),
        (lambda manifest: manifest["specification"]["labels"].reverse(), "labels"),
        (lambda manifest: manifest["specification"]["tokenizer"].update(punctuation="isolated"), "tokenizer"),
        (lambda manifest: manifest["specification"].update(max_tokens=9), "sizes"),
    ],
)
def test_a_signed_description_that_is_not_the_snapshots_is_refused(
    onnx_bundle: Path, snapshot: Snapshot, tmp_path: Path, change: Callable[[dict[str, object]], None], what: str
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(onnx_bundle, copy)
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(CheckFailed, match=f"{what} differ from the snapshot's"):
        verify_bundle(open_bundle(copy), snapshot)


def test_an_export_that_fails_its_proof_is_not_published(
    snapshot: Snapshot, onnx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    shutil.copytree(onnx_bundle, target)
    before = open_bundle(target).identity
    monkeypatch.setitem(FORMS, "onnx", dataclasses.replace(FORMS["onnx"], tolerance=-1.0))
    with pytest.raises(CheckFailed, match=r"probabilities differ by .* tolerance -1, .* the bundle was not published"):
        export_snapshot(snapshot, target, ["onnx"])
    assert open_bundle(target).identity == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_torchscript_needs_nothing_of_ours(bundle: Path, tmp_path: Path) -> None:
    """The module loads in a process whose path does not reach this project."""
    site = Path(torch.__file__).parent.parent
    code = (
        f"import sys; sys.path.append({str(site)!r}); import torch\n"
        f"labels, probabilities = torch.jit.load({str(bundle / 'model.ts')!r})(['a fine film', ''])\n"
        "assert not {'toolchain', 'export'} & set(sys.modules)\n"
        "print(len(labels), tuple(probabilities.shape))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.stdout.strip() == "2 (2, 2)", run.stderr


def test_the_vectors_of_ids_are_the_vectors_as_ids(bundle: Path) -> None:
    """Line by line the same texts, and `model.ids.onnx` gives their logits in padded batches."""
    opened = open_bundle(bundle)
    specification, texts = opened.specification, [vector["text"] for vector in opened.vectors()]
    rows = opened.ids_vectors()
    table = lookup_table(opened.vocabulary())
    assert [row["ids"] for row in rows] == [encode(specification.tokenizer.tokenize(text), table) for text in texts]
    session = open_session(bundle / "model.ids.onnx")
    rows = [row for row in rows if len(row["ids"]) < 1_000]
    assert min(len(row["ids"]) for row in rows) == 0
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        lengths = np.array([len(row["ids"]) for row in batch])
        ids = np.ones((len(batch), lengths.max()), np.int64)
        for index, row in enumerate(batch):
            ids[index, : lengths[index]] = row["ids"]
        (logits,) = session.run(["logits"], {"ids": ids, "lengths": lengths})
        expected = np.array([row["logits"] for row in batch])
        assert (np.abs(logits - expected) <= np.array([row["tolerances"] for row in batch])).all()


def test_without_a_snapshot_the_logits_are_compared_with_the_vectors(bundle: Path) -> None:
    comparisons = {c.form: c for c in verify_bundle(open_bundle(bundle), None).comparisons}
    assert comparisons["onnx-ids"].logits_difference is not None


def test_a_bundle_from_before_there_were_vectors_of_ids_verifies(onnx_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(onnx_bundle, copy)
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    del manifest["files"][IDS_VECTORS]
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (copy / IDS_VECTORS).unlink()
    opened = open_bundle(copy)
    assert opened.ids_vectors() == []
    assert verify_bundle(opened, None).passed


def test_a_text_whose_label_the_tolerance_leaves_open_is_no_vector() -> None:
    probabilities = np.array([[0.5, 0.5], [0.4, 0.6], [0.5 + TOLERANCE / 2, 0.5 - TOLERANCE / 2]], np.float32)
    counts = np.arange(3)
    expected = Expected(["a tie", "clear", "nearly a tie"], ["neg", "pos", "neg"], probabilities, counts, counts)
    (row,) = vectors(expected.decided(2 * TOLERANCE))
    assert (row["text"], row["label"], row["tokens"]) == ("clear", "pos", 1)
