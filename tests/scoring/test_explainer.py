"""Explanations: shares that add up to the answer, proven against PyTorch, of words that stand where they are shown."""

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from export import parity
from export.bundle import EXPLAIN_VECTORS, open_bundle
from export.cases import edge_cases
from export.forms import FORMS, TOLERANCE, Answers, Explained, softmax
from export.rounding import LOGIT_ULPS
from export.spec import Cell, Pool
from export.text import TOKENIZERS, Tokenizer, TokenizerName, clean
from tests.explaining import LABELS, WORDS, explaining_bundle, small_snapshot, without_the_form
from tests.export.test_parity import sign
from tests.export.test_pooling import VOCABULARY, _classifier, _specification
from tests.export.test_text import TRAPS, texts
from toolchain.errors import UsageError
from toolchain.models.token_logits import running_logits
from toolchain.release.release import export_snapshot, verify_bundle
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.word_shares import WordShare, label_shares, strongest_words

MODELS = [("BasicGRU", 1), ("BasicRNN", 2), ("RNNCellClassifier", 1), ("RNNCellClassifier", 2), ("PooledGRU", 2)]


@pytest.fixture(scope="module")
def explaining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a pooled model with three labels. Shared and not to be changed."""
    return explaining_bundle(tmp_path_factory.mktemp("explaining") / "bundle")


@pytest.fixture(scope="module")
def explainer(explaining: Path) -> Explainer:
    return Explainer(explaining)


# --- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layers"), MODELS)
def test_the_reference_is_the_model_on_every_beginning_of_a_text(name: str, layers: int) -> None:
    snapshot = small_snapshot(name, layers)
    model = snapshot.build()
    ids = torch.randint(0, len(WORDS), (3, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        running = running_logits(model, ids, snapshot.specification.pooling)
        beginnings = [model(ids, torch.full((3,), length)) for length in range(41)]
    assert running.shape == (3, 41, 3)
    assert (running - torch.stack(beginnings, 1)).abs().max() <= 1e-5


@pytest.mark.parametrize(("name", "layers"), MODELS)
def test_the_shares_of_every_model_are_proven(name: str, layers: int, tmp_path: Path) -> None:
    verification = export_snapshot(small_snapshot(name, layers), tmp_path / "bundle", ["onnx-explain"], ["a fine w1"])
    own = verify_bundle(open_bundle(tmp_path / "bundle"), None)
    for comparison in (*verification.comparisons, *own.comparisons):
        assert comparison.form == "onnx-explain"
        assert comparison.passed, comparison.failure()
        assert comparison.shares_difference is not None
        assert 0 < comparison.shares_difference <= 2 * LOGIT_ULPS
        assert comparison.logits_difference is not None


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("pooling", [("last",), ("mean", "max"), ("last", "max", "mean")], ids="+".join)
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_the_shares_of_every_cell_pool_and_tokenizer_add_up_to_the_answer(
    cell: Cell, pooling: Sequence[Pool], tokenizer: TokenizerName, tmp_path: Path
) -> None:
    specification = dataclasses.replace(_specification(cell, 1, pooling), tokenizer=TOKENIZERS[tokenizer])
    classifier = dataclasses.replace(_classifier(_specification(cell, 1, pooling)), specification=specification)
    form, cpu = FORMS["onnx-explain"], FORMS["onnx-cpu"]
    for each in (form, cpu):
        (tmp_path / each.file).write_bytes(each.build(classifier, {}))
    run = form.open(tmp_path / form.file, specification, VOCABULARY, "cpu")
    plain = cpu.open(tmp_path / cpu.file, specification, VOCABULARY, "cpu")
    cases = edge_cases(VOCABULARY, specification.max_tokens)
    for start in range(0, len(cases), 32):
        batch = cases[start : start + 32]
        said, expected = run(batch), plain(batch)
        assert said.explained is not None
        assert said.logits is not None
        assert np.abs(softmax(said.logits) - expected.probabilities).max() <= TOLERANCE
        assert said.labels is not None
        assert expected.labels is not None
        assert list(said.labels) == list(expected.labels)
        tokens = [specification.tokenizer.tokenize(text)[: specification.max_tokens] for text in batch]
        assert [list(explained.words) for explained in said.explained] == tokens


def test_padding_is_empty_and_has_no_share(explainer: Explainer) -> None:
    names = ["words", "shares"]
    cases = np.array(["a fine film", "", "w " * 30, " \t\n"], object)
    words, shares = explainer._session.run(names, {"text": cases})
    assert words.shape == (4, 30)
    assert shares.shape == (4, 30, 3)
    is_padding = words == ""
    assert is_padding.sum(axis=1).tolist() == [27, 30, 0, 30]
    assert (shares[is_padding] == 0).all()
    words, shares = explainer._session.run(names, {"text": cases[[1, 3]]})
    assert words.shape == (2, 0)
    assert shares.shape == (2, 0, 3)


def test_a_share_does_not_know_what_follows(explainer: Explainer) -> None:
    beginning, whole = (
        explainer._session.run(["shares"], {"text": np.array([text], object)})[0]
        for text in ("a fine film but dull", "a fine film but dull in the end")
    )
    assert np.abs(whole[0, :5] - beginning[0]).max() <= 1e-6


# --- the proof -------------------------------------------------------------------------------------------------------


def _damaged(explaining: Path, tmp_path: Path, constant: str) -> Path:
    """A copy whose explaining form has another number in a constant of its loop, with a manifest that knows it."""
    copy = tmp_path / "bundle"
    shutil.copytree(explaining, copy)
    model = onnx.load(copy / "model.explain.onnx")
    loop = next(node for node in model.graph.node if node.op_type == "Scan").attribute
    body = next(attribute.g for attribute in loop if attribute.name == "body")
    tensor = next(t for t in (*model.graph.initializer, *body.initializer) if t.name == constant)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 0.5, constant))
    onnx.save(model, copy / "model.explain.onnx")
    sign(copy)
    return copy


@pytest.mark.parametrize("constant", ["head.0.bias", "start", "recurrent_bias_n_0"])
def test_damage_is_refused_with_and_without_a_snapshot(explaining: Path, tmp_path: Path, constant: str) -> None:
    copy = _damaged(explaining, tmp_path, constant)
    for snapshot in (small_snapshot(), None):
        verdicts = {c.form: c.passed for c in verify_bundle(open_bundle(copy), snapshot).comparisons}
        assert verdicts == {"onnx-cpu": True, "onnx-explain": False}


_EXPECTED = parity.Expected(
    texts=["a b"],
    labels=["x"],
    probabilities=softmax(np.array([[1.0, 0.0]])),
    tokens=np.array([2]),
    unknown=np.array([0]),
    logits=np.array([[1.0, 0.0]], np.float32),
    sizes=np.ones((1, 2)),
    explained={"a b": Explained(["a", "b"], np.array([[0.5, 0.0], [0.5, 0.0]], np.float32))},
)


@pytest.mark.parametrize(
    ("words", "shares", "reason"),
    [
        (["a", "c"], [[0.5, 0.0], [0.5, 0.0]], "the words differ in 2 answers"),
        (["a", "b"], [[0.4, 0.0], [0.6, 0.0]], "last place of their terms, tolerance 32, worst on 'a b'"),
        (["a", "b"], [[0.5, 0.0]], "shares differ by nan"),
        (["a", "b"], [[math.nan, 0.0], [0.5, 0.0]], "shares differ by nan"),
    ],
)
def test_what_differs_is_named(words: list[str], shares: list[list[float]], reason: str) -> None:
    said = Answers(
        _EXPECTED.probabilities,
        logits=_EXPECTED.logits,
        explained=[Explained(words, np.array(shares, np.float32))],
    )
    comparison = parity.compare("onnx-explain", "cpu", lambda texts: said, _EXPECTED)
    assert not comparison.passed
    assert reason in comparison.failure()


def test_a_number_that_is_none_is_not_forgotten_for_the_next() -> None:
    expected = dataclasses.replace(
        _EXPECTED,
        texts=["a", "b"],
        labels=["x", "x"],
        probabilities=np.repeat(_EXPECTED.probabilities, 2, axis=0),
        tokens=np.array([1, 1]),
        unknown=np.array([0, 0]),
        logits=None,
        sizes=None,
        explained={},
    )

    def run(cases: Sequence[str]) -> Answers:
        answers = np.repeat(_EXPECTED.probabilities, len(cases), axis=0)
        return Answers(np.where(np.array([[text == "a"] for text in cases]), np.nan, answers).astype(np.float32))

    assert not parity.compare("any", "cpu", run, expected).passed


def test_the_explained_vectors_are_a_few_readable_ones_with_and_without_a_token(explaining: Path) -> None:
    rows = open_bundle(explaining).explain_vectors()
    assert 40 < len(rows) < 120
    assert {len(row["words"]) for row in rows} >= {0, 1, 2, 3}
    assert all(len(row["words"]) == len(row["shares"]) <= 64 for row in rows)
    assert (explaining / EXPLAIN_VECTORS).stat().st_size < 100_000


# --- spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_spans_are_where_the_tokens_stand(name: TokenizerName, lowercase: bool, data: st.DataObject) -> None:
    tokenizer = dataclasses.replace(TOKENIZERS[name], lowercase=lowercase)
    text = data.draw(st.one_of(texts, st.text(), st.sampled_from(sorted(TRAPS.values()))))
    _check_spans(tokenizer, text)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_spans_of_what_is_no_text_are_those_of_what_it_is_read_as(name: TokenizerName) -> None:
    _check_spans(TOKENIZERS[name], "a\0B \ud800c\udfff <BR />\0don't\x01\x7f\x85")


def _check_spans(tokenizer: Tokenizer, text: str) -> None:
    spans = tokenizer.spans(text)
    read = [clean(text)[start:end].encode() for start, end in spans]
    assert [(t.lower() if tokenizer.lowercase else t).decode() for t in read] == tokenizer.tokenize(text)
    flat = [position for span in spans for position in span]
    assert flat == sorted(flat)
    assert all(start < end for start, end in spans)


# --- shares of one label ---------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(0, 2)
)
def test_the_shares_of_a_label_are_changes_of_its_log_odds(logits: list[list[float]], label: int) -> None:
    running = np.array(logits)
    before, shares = label_shares(running[0], np.diff(running, axis=0)[None], np.array([label]))
    exponentials = np.exp(running)
    odds = np.log(exponentials[:, label] / np.delete(exponentials, label, axis=1).sum(axis=1))
    assert before[0] == pytest.approx(odds[0], abs=1e-9)
    assert before[0] + shares[0].cumsum() == pytest.approx(odds[1:], abs=1e-9)


def test_of_two_labels_a_share_is_the_change_of_the_difference_of_the_logits() -> None:
    before, shares = label_shares(np.array([1.0, 3.0]), np.array([[[0.5, 0.25], [-1.0, 2.0]]]), np.array([1]))
    assert before.tolist() == [2.0]
    assert shares == pytest.approx(np.array([[-0.25, 3.0]]))


def test_the_strongest_words_are_summed_and_stand_on_their_sides() -> None:
    words = [WordShare(*pair) for pair in (("the", 0.3), ("dull", -2.0), ("the", 0.4), ("fine", 0.6), ("a", 0.0))]
    assert strongest_words(words, 5) == [("the", pytest.approx(0.7)), ("fine", 0.6), ("dull", -2.0)]
    assert strongest_words(words, 1) == [("the", pytest.approx(0.7)), ("dull", -2.0)]
    assert strongest_words([], 5) == []


# --- the explainer ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "A fine Film,<br />not at ALL dull!",
    "nul\0nul \0 \x01\x1b[31mred\x7f\x85 \ufeff",
    "lone \ud800 surrogate",
    "<pad> <unk> <UNK>",
    "영화 정말 좋다 😀👍🏽",
    "dull " * 3_000,
    "x" * 50_000,
]


def test_the_pieces_are_the_text_and_the_shares_are_the_answer(explainer: Explainer, explaining: Path) -> None:
    bundle = open_bundle(explaining)
    plain = FORMS["onnx-cpu"].open(explaining / "model.cpu.onnx", bundle.specification, WORDS, "cpu")
    explanations = explainer.explain(HOSTILE)
    expected = plain([clean(text) for text in HOSTILE])
    assert expected.labels is not None
    for text, explanation, label, row in zip(
        HOSTILE, explanations, expected.labels, expected.probabilities, strict=True
    ):
        assert explanation.text == text == "".join(piece for piece, _ in explanation.pieces)
        assert explanation.label == label
        assert list(explanation.probabilities) == list(LABELS)
        assert np.abs(list(explanation.probabilities.values()) - row).max() <= TOLERANCE
        assert explanation.confidence == explanation.probabilities[label]
        read = [share for _, share in explanation.pieces if share is not None]
        assert read == [share for _, share in explanation.words]
        odds = explanation.start + math.fsum(read)
        assert 1 / (1 + math.exp(-odds)) == pytest.approx(explanation.confidence, abs=TOLERANCE)
        tokens = bundle.specification.tokenizer.tokenize(text)
        assert [word for word, _ in explanation.words] == tokens[: bundle.specification.max_tokens]
        assert explanation.tokens == len(tokens)


def test_the_rest_behind_the_cut_is_shown_without_a_share(explainer: Explainer) -> None:
    text = "Fine, dull! " * 50
    (explanation,) = explainer.explain([text])
    assert explanation.tokens == 200
    assert len(explanation.words) == 100
    assert explanation.pieces[-2][0] == "!"
    assert explanation.pieces[-1] == (" " + "Fine, dull! " * 25, None)
    assert "".join(piece for piece, _ in explanation.pieces) == text


def test_an_explanation_does_not_depend_on_batch_mates(explainer: Explainer) -> None:
    cases = [*HOSTILE[:5], *(f"film {number} " * (number + 1) for number in range(70))]
    together = explainer.explain(cases)
    for case, explanation in list(zip(cases, together, strict=True))[::5]:
        (alone,) = explainer.explain([case])
        assert [w for w, _ in alone.words] == [w for w, _ in explanation.words]
        assert [s for _, s in alone.words] == pytest.approx([s for _, s in explanation.words], abs=TOLERANCE)
    assert explainer.explain([]) == []


def test_a_shrunk_model_explains_as_well(tmp_path: Path) -> None:
    real = ["a fine film but w1", "dull"]
    verification = export_snapshot(
        small_snapshot(), tmp_path / "bundle", ["onnx-explain"], real, entries=50, force=True
    )
    assert verification.passed
    model = onnx.load(tmp_path / "bundle" / "model.explain.onnx")
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in model.graph.initializer)


def test_a_bundle_without_the_form_says_what_to_do(explaining: Path, tmp_path: Path) -> None:
    bundle = without_the_form(explaining, tmp_path)
    with pytest.raises(UsageError, match=r"holds no model\.explain\.onnx.*export --format all.*--bundle bundle"):
        Explainer(bundle)
