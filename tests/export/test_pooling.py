"""Pooled states: every form pools what PyTorch pools, over each text's own tokens and over nothing else."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export import parity
from export.cases import edge_cases
from export.cpu_graph import classify_folded, classify_quantized
from export.forms import FORMATS, FORMS, TOLERANCE
from export.onnx_graph import Classify, classify_standard, text_model
from export.rounding import logit_sizes
from export.spec import Cell, Classifier, InvalidClassifier, Pool, Specification
from export.text import LINE_BREAK, PADDING_ID, UNKNOWN_ID, Tokenizer, encode, lookup_table
from tests.export.batch_mates import answers_beside
from toolchain.models.classifiers import PooledGRU, build_model, pooled_states
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.release.release import export_snapshot

VOCABULARY = ["<unk>", "<pad>", *(f"w{index}" for index in range(100)), "!", "'", LINE_BREAK, "."]
ALL: tuple[Pool, ...] = ("last", "max", "mean")


def _specification(cell: Cell = "gru", layers: int = 1, pooling: Sequence[Pool] = ALL) -> Specification:
    return Specification(
        labels=("a", "b", "c"),
        cell=cell,
        embedding=24,
        hidden=32,
        layers=layers,
        pooling=tuple(pooling),
        max_tokens=100,
        tokenizer=Tokenizer(punctuation="isolated"),
    )


def _classifier(specification: Specification) -> Classifier:
    """Random weights, large enough for answers to differ between texts, small enough for states not to be chaotic."""
    random = np.random.default_rng(0)
    shapes = specification.weight_shapes(len(VOCABULARY))
    weights = {name: random.normal(scale=0.15, size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["embedding.weight"] *= 6
    weights["head.0.weight"] *= 3
    return Classifier(specification, VOCABULARY, weights)


def _reference(classifier: Classifier) -> Callable[[Sequence[Sequence[str]]], NDArray[np.float32]]:
    """PyTorch's recurrence over one text at a time, without padding, pooled in double precision -> logits."""
    specification = classifier.specification
    weights = {name: torch.tensor(value) for name, value in classifier.weights.items()}
    kind = {"gru": nn.GRU, "rnn": nn.RNN}[specification.cell]
    recurrent = kind(specification.embedding, specification.hidden, specification.layers, batch_first=True)
    prefix = "recurrent."
    recurrent.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    table = lookup_table(classifier.vocabulary)

    def logits(tokens: Sequence[str]) -> Tensor:
        ids = encode(tokens, table)[: specification.max_tokens]
        states = torch.zeros(1, specification.hidden)
        if ids:
            states = recurrent(weights["embedding.weight"][ids].unsqueeze(0))[0][0]
        pools = {"last": states[-1], "max": states.max(0).values, "mean": states.double().mean(0).float()}
        pooled = torch.cat([pools[pool] for pool in specification.pooling])
        return weights["head.0.weight"] @ pooled + weights["head.0.bias"]

    def reference(texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answers: NDArray[np.float32] = torch.stack([logits(tokens) for tokens in texts]).numpy()
        return answers

    return reference


def _compare(classifier: Classifier, texts: Sequence[str], forms: Sequence[str], folder: Path) -> None:
    """Every form against the reference, in batches of mixed lengths and alone."""
    specification = classifier.specification
    sizes = logit_sizes(classifier)
    expected = parity.expect(
        _reference(classifier), specification, VOCABULARY, texts, None, lambda texts: np.tile(sizes, (len(texts), 1))
    )
    for form in (FORMS[name] for name in forms):
        (folder / form.file).write_bytes(form.build(classifier, {}))
        run = form.open(folder / form.file, specification, VOCABULARY, "cpu")
        comparison = parity.compare(form.name, "cpu", run, expected, form.tolerance, 0.0, form.logit_ulps)
        assert comparison.passed, comparison.failure()


@pytest.mark.parametrize(
    ("cell", "layers", "pooling"),
    [("gru", 1, ALL), ("gru", 2, ("max", "mean")), ("rnn", 1, ("max", "mean")), ("rnn", 2, ALL)],
)
def test_every_form_pools_what_pytorch_pools(cell: Cell, layers: int, pooling: Sequence[Pool], tmp_path: Path) -> None:
    classifier = _classifier(_specification(cell, layers, pooling))
    _compare(classifier, edge_cases(VOCABULARY, classifier.specification.max_tokens), list(FORMS), tmp_path)


@pytest.mark.parametrize("pooling", [("max",), ("mean",), ("mean", "last")], ids="+".join)
def test_pools_stand_in_the_order_they_are_named(pooling: Sequence[Pool], tmp_path: Path) -> None:
    _compare(_classifier(_specification("gru", 1, pooling)), ["w1 w2 w3", "", "w4"], list(FORMS), tmp_path)


def test_the_mean_of_thousands_of_equal_states_keeps_its_digits(tmp_path: Path) -> None:
    """A sum in single precision is off by more than the tolerance here."""
    classifier = _classifier(dataclasses.replace(_specification("gru", 1, ["mean"]), max_tokens=10_000))
    weights = {**classifier.weights, "head.0.weight": 8 * np.sign(classifier.weights["head.0.weight"])}
    classifier = dataclasses.replace(classifier, weights=weights)
    _compare(classifier, ["w1 " * 9_999, "w1 w2 w3 " * 3_000, "w1"], FORMATS["all"], tmp_path)


def test_a_largest_state_may_be_negative(tmp_path: Path) -> None:
    """Neither the zeros behind a text nor those it starts from are states of its own."""
    classifier = _classifier(_specification("gru", 1, ["max"]))
    weights = dict(classifier.weights)
    weights["recurrent.bias_ih_l0"] = weights["recurrent.bias_ih_l0"].copy()
    weights["recurrent.bias_ih_l0"][-32:] = -3.0
    classifier = dataclasses.replace(classifier, weights=weights)
    _compare(classifier, ["w1", "w1 w2 w3 w4 w5 w6", "", "w7 " * 300], list(FORMS), tmp_path)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["gru", "rnn"])
@pytest.mark.parametrize("classify", [classify_standard, classify_folded, classify_quantized])
def test_padding_leaves_no_trace_in_the_pools(cell: Cell, layers: int, classify: Classify) -> None:
    """However long its batch mates: the arithmetic of a row is the same, bit for bit."""
    model = text_model(_classifier(_specification(cell, layers)), {}, classify)
    results = answers_beside(model, ["w1 w2.", "", "w3 w4 w5 w6 w7"], ("w8", "w8 " * 20, "w8 " * 90))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("classify", [classify_standard, classify_folded])
def test_a_graph_computes_the_pools_it_needs_and_no_other(classify: Classify) -> None:
    def names(*pooling: Pool) -> set[str]:
        return {node.name for node in text_model(_classifier(_specification(pooling=pooling)), {}, classify).graph.node}

    assert not {"own_steps", "mean", "pools"} & names("last")
    assert not {"mean", "pools"} & names("max")
    assert {"own_steps", "mean", "pools"} <= names("last", "mean")


def test_a_pooled_snapshot_is_trained_saved_and_exported_in_every_form(tmp_path: Path) -> None:
    specification = _specification()
    torch.manual_seed(0)
    model = build_model("PooledGRU", specification, len(VOCABULARY), dropout=0.5, input_dropout=0.3, word_dropout=0.1)
    ids, lengths = torch.randint(2, len(VOCABULARY), (4, 9)), torch.tensor([9, 5, 1, 0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(ids, lengths), torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_snapshot(Snapshot("PooledGRU", specification, VOCABULARY, model.state_dict(), {}), tmp_path / "snapshot")
    snapshot = load_snapshot(tmp_path / "snapshot")
    assert snapshot.specification.pooling == ALL
    texts = ["w1 w2!<br /><br />w3", "w4 'w5' w6."] * 3
    verification = export_snapshot(snapshot, tmp_path / "bundle", ["all", "pt2"], texts, precision="int8")
    assert {comparison.form for comparison in verification.comparisons} == set(FORMS)
    for comparison in verification.comparisons:
        assert comparison.passed, comparison.failure()
        assert comparison.form == "onnx-int8" or comparison.max_difference <= TOLERANCE


def test_pools_hold_a_rows_own_states_and_rows_without_a_token_are_zero() -> None:
    states = torch.tensor([[[-0.5], [-0.25], [0.75]], [[0.5], [0.5], [0.5]]]).requires_grad_()
    pools = pooled_states(states, torch.tensor([2, 0]), ALL)
    assert pools.tolist() == [[-0.25, -0.25, -0.375], [0.0, 0.0, 0.0]]
    pools.sum().backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
    assert states.grad.tolist() == [[[0.5], [2.5], [0.0]], [[0.0], [0.0], [0.0]]]


def _inputs_of_the_gru(model: PooledGRU, ids: Tensor) -> Tensor:
    """What reaches the recurrent layer: [batch, time, embedding]."""
    seen: list[Tensor] = []
    model.gru.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():  # with gradients the layer's weights are used, and not the layer
        model(ids, torch.full((len(ids),), ids.shape[1]))
    return seen[0]


def _model(input_dropout: float = 0.0, word_dropout: float = 0.0) -> PooledGRU:
    torch.manual_seed(0)
    model = PooledGRU(1, 8, 50, 40, 2, ALL, 0.5, input_dropout, word_dropout)
    nn.init.uniform_(model.embed.weight, 1.0, 2.0)
    return model


def test_input_dropout_drops_a_channel_for_a_whole_review() -> None:
    ids = torch.randint(2, 50, (30, 7))
    steps = _inputs_of_the_gru(_model(input_dropout=0.25).train(), ids)
    dropped = steps == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.05)
    model = _model(input_dropout=0.25).eval()
    assert torch.equal(_inputs_of_the_gru(model, ids), model.embed(ids))


def test_word_dropout_makes_words_unknown_and_leaves_padding() -> None:
    ids = torch.randint(2, 50, (30, 40))
    ids[:, 20:] = PADDING_ID
    model = _model(word_dropout=0.2).train()
    steps = _inputs_of_the_gru(model, ids)
    unknown = (steps == model.embed.weight[UNKNOWN_ID]).all(2)
    assert unknown[:, :20].float().mean().item() == pytest.approx(0.2, abs=0.05)
    assert not unknown[:, 20:].any()
    assert torch.equal(steps[~unknown], model.embed(ids)[~unknown])
    model = _model(word_dropout=0.2).eval()
    assert torch.equal(_inputs_of_the_gru(model, ids), model.embed(ids))


def test_a_specification_without_pooling_reads_the_last_state() -> None:
    specification = _specification()
    values = specification.to_json()
    assert values["pooling"] == ["last", "max", "mean"]
    assert Specification.from_json(values) == specification
    del values["pooling"]
    assert Specification.from_json(values).pooling == ("last",)


@pytest.mark.parametrize("pooling", [[], ["first"], ["max", "max"], "last"])
def test_pools_that_do_not_exist_are_refused(pooling: object) -> None:
    with pytest.raises(InvalidClassifier, match=r"pooling is .*, expected one or more of last, max, mean, each once"):
        Specification.from_json({**_specification().to_json(), "pooling": pooling})


def test_a_head_of_another_width_is_refused() -> None:
    pooled = _classifier(_specification())
    with pytest.raises(InvalidClassifier, match=r"head\.0\.weight has shape \(3, 96\), expected \(3, 32\)"):
        dataclasses.replace(pooled, specification=_specification(pooling=["last"]))
