"""Checkpoints as notebooks write them: other names, prefixes and wrappings, the third documented system, ReLU."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.forms import FORMATS
from export.spec import Nonlinearity, Specification
from export.text import TOKENIZERS
from toolchain.errors import UsageError
from toolchain.models.importing import Imported, import_state_dict
from toolchain.models.snapshot import load_snapshot, save_snapshot
from toolchain.models.state_dicts import read_state_dict
from toolchain.release.release import export_snapshot, verify_bundle
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.scorer import Scorer

WORDS = ["<unk>", "<pad>", *(f"w{number}" for number in range(28))]
TEXTS = ["w1 w2 w3 w4", "w5", "w6 w7 w8 w9 w10 w11 w12", "w1 nobody w2"]


class RecurrentNotebook(nn.Module):
    """`embed`, a recurrent layer under a name of its own, `out`; the state after the last token."""

    def __init__(self, name: str, layer: nn.RNNBase) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), layer.input_size)
        self.add_module(name, layer)
        self.layer_name = name
        self.out = nn.Linear(layer.hidden_size, 2)

    def forward(self, ids: Tensor) -> Tensor:
        states, _ = getattr(self, self.layer_name)(self.embed(ids))
        logits: Tensor = self.out(states[:, -1])
        return logits


class RNNCell_Encoder(nn.Module):
    """The third documented system's, as it stands there."""

    def __init__(self, input_dim: int, hidden_size: int, nonlinearity: str) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.rnn = nn.RNNCell(input_dim, hidden_size, nonlinearity=nonlinearity)

    def forward(self, inputs: Tensor) -> Tensor:
        ht = torch.zeros(inputs.shape[1], self.hidden_size)
        for word in inputs:
            ht = self.rnn(word, ht)
        return ht


class Net(nn.Module):
    """The same system's classifier."""

    def __init__(self, nonlinearity: str = "tanh") -> None:
        super().__init__()
        self.em = nn.Embedding(len(WORDS), 10)
        self.rnn = RNNCell_Encoder(10, 12, nonlinearity)
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.rnn(self.em(ids).transpose(0, 1))
        logits: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return logits


def notebook(name: str = "gru", layer: nn.RNNBase | None = None) -> RecurrentNotebook:
    torch.manual_seed(1)
    return RecurrentNotebook(name, layer or nn.GRU(10, 12, batch_first=True)).eval()


def read(folder: Path, values: Any, nonlinearity: Nonlinearity = "tanh") -> Imported:
    torch.save(values, folder / "checkpoint.pt")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return import_state_dict(
        folder / "checkpoint.pt", folder / "vocab.txt", ["neg", "pos"], TOKENIZERS["attached"], nonlinearity
    )


def answers(model: nn.Module) -> np.ndarray:
    """The notebook's logits of each of `TEXTS` alone."""
    table = {word: index for index, word in enumerate(WORDS)}
    with torch.inference_mode():
        rows = [model(torch.tensor([[table.get(word, 0) for word in text.split()]])) for text in TEXTS]
    return torch.cat(rows).numpy()


def assert_same(imported: Imported, model: nn.Module) -> None:
    assert imported.snapshot.reference()(TEXTS) == pytest.approx(answers(model), abs=1e-5)


WRAPPINGS: Mapping[str, Callable[[Mapping[str, Tensor]], Any]] = {
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "torch.compile": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "both and Lightning": lambda state: {f"module._orig_mod.model.{name}": t for name, t in state.items()},
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3, "loss": 0.5},
    "state_dict": lambda state: {"state_dict": {f"model.{n}": t for n, t in state.items()}, "epoch": 3},
    "model beside an optimizer": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
    },
    "another name": lambda state: {"net_1": {"weights": state}},
    "an average beside it": lambda state: {"ema": {n: t + 1 for n, t in state.items()}, "model_state_dict": state},
    "an integer buffer": lambda state: {**state, "steps": torch.tensor(3), "positions": torch.arange(5)},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_whatever_is_around_the_tensors_they_are_the_same_model(
    wrap: Callable[[Mapping[str, Tensor]], Any], tmp_path: Path
) -> None:
    model = notebook()
    imported = read(tmp_path, wrap(model.state_dict()))
    assert_same(imported, model)
    assert imported.found.left_out in ((), ("steps", "positions"))


@pytest.mark.parametrize(
    ("name", "layer", "cell", "layers"),
    [
        ("rnn", nn.GRU(10, 12, batch_first=True), "gru", 1),
        ("encoder", nn.GRU(10, 12, num_layers=2, batch_first=True), "gru", 2),
        ("gru", nn.RNN(10, 12, batch_first=True), "rnn", 1),
    ],
    ids=["a GRU called rnn", "two layers called encoder", "an RNN called gru"],
)
def test_the_shapes_tell_the_cell_whatever_it_is_called(
    name: str, layer: nn.RNNBase, cell: str, layers: int, tmp_path: Path
) -> None:
    model = notebook(name, layer)
    imported = read(tmp_path, model.state_dict())
    specification = imported.snapshot.specification
    assert (specification.cell, specification.layers, imported.found.called) == (cell, layers, ("embed", name, "out"))
    assert_same(imported, model)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_third_documented_system_is_read(nonlinearity: Nonlinearity, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = Net(nonlinearity).eval()
    assert list(model.state_dict())[:2] == ["em.weight", "rnn.rnn.weight_ih"]
    imported = read(tmp_path, model.state_dict(), nonlinearity)
    specification = imported.snapshot.specification
    assert (specification.cell, specification.head, specification.max_tokens) == ("rnn", (8,), 200)
    assert imported.found.called == ("em", "rnn.rnn", "fc1", "fc2")
    assert_same(imported, model)


def test_cells_in_a_list_are_layers(tmp_path: Path) -> None:
    state = notebook("rnn", nn.RNN(10, 12, num_layers=2, batch_first=True)).state_dict()
    cells = {name.replace("rnn.", "cells.1.").replace("_l1", ""): state[name] for name in state if "_l1" in name}
    renamed = {name.replace("rnn.", "cells.0.").replace("_l0", ""): t for name, t in state.items() if "_l1" not in name}
    imported = read(tmp_path, {**renamed, **cells})
    assert imported.snapshot.specification.layers == 2
    assert imported.snapshot.reference()(TEXTS) == pytest.approx(
        read(tmp_path, state).snapshot.reference()(TEXTS), abs=1e-6
    )


def relu_snapshot(folder: Path) -> tuple[Imported, RecurrentNotebook]:
    model = notebook("rnn", nn.RNN(10, 12, num_layers=2, batch_first=True, nonlinearity="relu"))
    return read(folder, model.state_dict(), "relu"), model


def test_relu_is_relu_in_every_form(tmp_path: Path) -> None:
    imported, model = relu_snapshot(tmp_path)
    assert_same(imported, model)
    save_snapshot(imported.snapshot, tmp_path / "snapshot")
    snapshot = load_snapshot(tmp_path / "snapshot")
    assert snapshot.specification.nonlinearity == "relu"
    verification = export_snapshot(snapshot, tmp_path / "bundle", ["all", "pt2"], TEXTS)
    assert {comparison.form for comparison in verification.comparisons} == {*FORMATS["all"], "pt2"}
    for comparison in verification.comparisons:
        assert comparison.passed, comparison.failure()
        assert comparison.logits_difference is not None
    with Scorer(tmp_path / "bundle") as scorer:
        assert verify_bundle(scorer.bundle, None).passed
        predictions = scorer.score(TEXTS)
    wanted = torch.tensor(answers(model)).softmax(1).numpy()
    assert np.array([p.probabilities for p in predictions]) == pytest.approx(wanted, abs=1e-6)
    explanation = Explainer(tmp_path / "bundle").explain(TEXTS[:1])[0]
    assert explanation.probabilities["pos"] == pytest.approx(wanted[0, 1], abs=1e-6)
    tanh = read(tmp_path, model.state_dict()).snapshot.reference()(TEXTS)
    assert np.abs(tanh - answers(model)).max() > 0.001


def test_integer_products_of_a_relu_are_refused_in_one_line(tmp_path: Path) -> None:
    imported, _ = relu_snapshot(tmp_path)
    with pytest.raises(
        Exception, match=r"^integer products need states in \[-1, 1\], and those of a ReLU have no bound"
    ):
        export_snapshot(imported.snapshot, tmp_path / "bundle", ["onnx"], TEXTS, precision="int8")
    assert not (tmp_path / "bundle").exists()


def test_a_gru_has_no_nonlinearity(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--nonlinearity relu: .* is a GRU, which has none; leave it out"):
        read(tmp_path, notebook().state_dict(), "relu")


def test_a_specification_from_before_there_was_a_nonlinearity_reads_as_tanh() -> None:
    specification = Specification(labels=("a", "b"), cell="rnn", embedding=2, hidden=3)
    values = specification.to_json()
    assert "nonlinearity" not in values
    assert Specification.from_json(values) == specification
    relu = Specification(labels=("a", "b"), cell="rnn", embedding=2, hidden=3, nonlinearity="relu")
    assert Specification.from_json(relu.to_json()) == relu


def test_two_models_without_a_known_name_are_refused_with_theirs(tmp_path: Path) -> None:
    state = notebook().state_dict()
    torch.save({"teacher": state, "student": state}, tmp_path / "two.pt")
    with pytest.raises(UsageError, match=r"holds 2 models, teacher, student; save one of them"):
        read_state_dict(tmp_path / "two.pt")


def test_no_line_grows_with_the_file(tmp_path: Path) -> None:
    state = notebook().state_dict()
    many = {**state, **{f"attention.head_{number}.scale": torch.ones(3) for number in range(500)}}
    with pytest.raises(UsageError) as refused:
        read(tmp_path, many)
    assert "also holds attention.head_0.scale" in str(refused.value)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))
