"""What a notebook's checkpoint holds: an embedding, a recurrent cell and linear layers, known by their shapes.

Names differ from notebook to notebook (`embed`, `em`; `gru`, `rnn`, `rnn.rnn`; `out`, `fc1`), and a checkpoint may wrap
them or put a prefix before them. The shapes tell what a tensor is: a recurrent weight has one block of rows for each
gate, one in a plain RNN, three in a GRU, four in an LSTM.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.spec import GATES, Cell
from toolchain.errors import UsageError, quoted

WRAPPERS = ("model_state_dict", "state_dict", "model", "net", "module")
"""Where a checkpoint keeps the tensors, the likeliest first."""

_RECURRENT = re.compile(r"(?:(.*)\.)?((?:weight|bias)_(?:ih|hh|hr))(?:_l(\d+))?(_reverse)?")
_CELLS: Mapping[int, Cell] = {gates: cell for cell, gates in GATES.items()}
_LSTM_GATES = 4
_SAVE = "torch.save(model.state_dict(), FILE)"
_FAMILY = "the family is GRU and plain RNN in one direction: train it anew, such as with toolchain train --recipe gru"
_DEPTH = 4

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class FoundClassifier:
    """A classifier's sizes, and its tensors under the names of `ImportedClassifier`.

    `called` is what the file calls the embedding, the recurrent module and the linear layers; `left_out` are buffers of
    whole numbers, which no weight is.
    """

    cell: Cell
    words: int
    embedding: int
    hidden: int
    layers: int
    head: tuple[int, ...]
    outputs: int
    state: State
    called: tuple[str, ...]
    left_out: tuple[str, ...]


def read_state_dict(file: Path) -> State:
    """The tensors of a file that `torch.save` wrote, bare or inside a checkpoint, read with `weights_only=True`.

    Raises `UsageError` where the file is damaged, holds what can only be read by running code, is a snapshot already,
    or holds no recurrent model.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected what {_SAVE} writes")
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader fail in any way at all
        if foreign := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UsageError(
                f"{file}: holds more than tensors ({foreign[1][:80]}), and reading that could run code; save the "
                f"tensors alone: {_SAVE}"
            ) from error
        raise UsageError(f"{file}: damaged, or not written by torch.save; save it again: {_SAVE}") from error
    if isinstance(values, Mapping) and "weights" in values and "specification" in values:
        raise UsageError(f"{file}: already a snapshot; export it: toolchain export --snapshot {file.parent}")
    found = dict(_state_dicts(values, "", _DEPTH))
    if not found:
        raise UsageError(f"{file}: not a state_dict of a recurrent model ({_content(values)}); save it again: {_SAVE}")
    if len(found) == 1:
        return next(iter(found.values()))
    for name in WRAPPERS:
        if name in found:
            return found[name]
    raise UsageError(f"{file}: holds {len(found)} models, {_listed(found)}; save one of them: {_SAVE}")


def find_classifier(state: State, file: Path) -> FoundClassifier:
    """Embedding, recurrent layers and linear layers of `state`. Raises `UsageError` that names what does not fit."""
    left_out = tuple(name for name, tensor in state.items() if not (tensor.is_floating_point() or tensor.is_complex()))
    floats = {name: tensor for name, tensor in state.items() if name not in left_out}
    if odd := [name for name, tensor in floats.items() if tensor.is_complex() or tensor.layout != torch.strided]:
        raise UsageError(f"{file}: {_listed(odd)}: no plain tensor of real numbers; save the model as it was trained")
    recurrent, cell = _find_recurrent(floats, file)
    gates, (rows, hidden) = GATES[cell], floats[recurrent["weight_hh_l0"]].shape
    input_weight = floats[recurrent["weight_ih_l0"]]
    embedding = _find_embedding(floats, recurrent, input_weight, file)
    linear = _find_linear(floats, recurrent, embedding)
    names = {
        "embed.weight": embedding,
        **{f"recurrent.{ours}": name for ours, name in recurrent.items()},
        **{f"head.{i}.{part}": f"{name}.{part}" for i, name in enumerate(linear) for part in ("weight", "bias")},
    }
    if more := floats.keys() - set(names.values()):
        raise UsageError(f"{file}: also holds {_listed(sorted(more))}; {_expected()}")
    if not linear:
        raise UsageError(f"{file}: holds no Linear behind {recurrent['weight_hh_l0']}; {_expected()}")
    layers = sum(name.startswith("weight_hh_l") for name in recurrent)
    widths = [floats[f"{name}.weight"].shape[0] for name in linear]
    words, width = floats[embedding].shape
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        shapes[f"recurrent.weight_ih_l{layer}"] = (rows, hidden if layer else width)
        shapes[f"recurrent.weight_hh_l{layer}"] = (rows, hidden)
        shapes[f"recurrent.bias_ih_l{layer}"] = shapes[f"recurrent.bias_hh_l{layer}"] = (rows,)
    for index, (before, after) in enumerate(zip([hidden, *widths], widths, strict=False)):
        shapes[f"head.{index}.weight"] = (after, before)
        shapes[f"head.{index}.bias"] = (after,)
    for ours, shape in shapes.items():
        if tuple(floats[names[ours]].shape) != shape:
            raise UsageError(
                f"{file}: {names[ours][:80]} has shape {list(floats[names[ours]].shape)}, expected {list(shape)} with "
                f"{hidden} hidden units of a {cell.upper()} ({gates} {'gates' if gates > 1 else 'gate'})"
            )
    return FoundClassifier(
        cell=cell,
        words=words,
        embedding=width,
        hidden=hidden,
        layers=layers,
        head=tuple(widths[:-1]),
        outputs=widths[-1],
        state={ours: floats[name].detach().float() for ours, name in names.items()},
        called=(embedding.removesuffix(".weight"), _module(recurrent["weight_hh_l0"]), *linear),
        left_out=left_out,
    )


def _state_dicts(values: object, path: str, depth: int) -> Iterator[tuple[str, State]]:
    """Path and tensors of every dictionary in `values` that holds a recurrent layer."""
    if not isinstance(values, Mapping) or depth == 0:
        return
    tensors = {name: tensor for name, tensor in values.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if any(_RECURRENT.fullmatch(name) for name in tensors):
        yield path, tensors
        return
    for name, value in values.items():
        yield from _state_dicts(value, f"{path}.{name}" if path else str(name), depth - 1)


def _find_recurrent(state: State, file: Path) -> tuple[dict[str, str], Cell]:
    """`weight_ih_l0` and its like -> the name in the file, and the cell."""
    matches = {name: match for name in state if (match := _RECURRENT.fullmatch(name))}
    first = next((name for name in matches if "weight_hh" in name and state[name].dim() == 2), None)
    if first is None:
        raise UsageError(f"{file}: holds no matrix weight_hh of a recurrent layer ({_listed(state)}); {_expected()}")
    rows, hidden = state[first].shape
    gates = rows // hidden if hidden and rows % hidden == 0 else 0
    if gates == _LSTM_GATES:
        raise UsageError(
            f"{file}: {first[:80]}, [{rows}, {hidden}], belongs to an LSTM, which cannot be imported: {_FAMILY}"
        )
    if gates not in _CELLS:
        raise UsageError(f"{file}: {first[:80]} has shape [{rows}, {hidden}], which is neither a GRU nor an RNN")
    if backward := [name for name, match in matches.items() if match[4]]:
        raise UsageError(
            f"{file}: {backward[0][:80]} belongs to a bidirectional layer, which cannot be imported: {_FAMILY}"
        )
    modules = list(dict.fromkeys(match[1] or "" for match in matches.values()))
    stacked = all(re.fullmatch(r"(.*\.)?\d+", module) for module in modules)
    if len(modules) > 1 and not stacked:
        raise UsageError(f"{file}: holds {len(modules)} recurrent layers, {_listed(modules)}; {_expected()}")
    names = {}
    for name, match in matches.items():
        layer = int(match[3]) if match[3] is not None else modules.index(match[1] or "")
        names[f"{match[2]}_l{layer}"] = name
    layers = sum(name.startswith("weight_hh_l") for name in names)
    wanted = [f"{part}_l{n}" for n in range(layers) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if missing := [name for name in wanted if name not in names]:
        module = modules[0] if len(modules) == 1 else "the recurrent layers"
        raise UsageError(f"{file}: {quoted(module)} lacks {_listed(missing)}; {_expected()}")
    if flat := [names[name] for name in names if name.startswith("weight_") and state[names[name]].dim() != 2]:
        raise UsageError(f"{file}: {_listed(flat)}: no matrix; {_expected()}")
    return names, _CELLS[gates]


def _find_embedding(state: State, recurrent: Mapping[str, str], input_weight: Tensor, file: Path) -> str:
    """The matrix without a bias that is as wide as the recurrent layer's input."""
    width = input_weight.shape[1]
    found = [
        name
        for name, tensor in state.items()
        if name.endswith("weight")
        and name not in recurrent.values()
        and name.removesuffix("weight") + "bias" not in state
        and tensor.dim() == 2
        and tensor.shape[1] == width
    ]
    if not found:
        raise UsageError(
            f"{file}: holds no matrix of an Embedding, [words, {width}], as {recurrent['weight_ih_l0'][:80]} reads; "
            f"{_expected()}"
        )
    return found[0]


def _find_linear(state: State, recurrent: Mapping[str, str], embedding: str) -> list[str]:
    """The names of the Linear layers, in the order in which the model was written."""
    known = {*recurrent.values(), embedding}
    return [
        name.removesuffix(".weight")
        for name, tensor in state.items()
        if name not in known
        and name.endswith(".weight")
        and tensor.dim() == 2
        and name.removesuffix("weight") + "bias" in state
    ]


def _module(name: str) -> str:
    match = _RECURRENT.fullmatch(name)
    return (match[1] if match else None) or name


def _expected() -> str:
    return "expected an Embedding, a GRU or RNN (one direction, with biases), and Linear layers with biases"


def _content(values: Any) -> str:
    if isinstance(values, Mapping):
        return f"it holds {_listed(map(str, values))}" if values else "it is empty"
    return f"it is a {type(values).__name__}"


def _listed(names: Any) -> str:
    """The first names, at most 80 characters of them."""
    return quoted(", ".join(names))
