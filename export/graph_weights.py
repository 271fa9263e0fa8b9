"""A bundle's weights, read out of its graphs: the inverse of `export.onnx_graph` and `export.cpu_graph`.

The standard graphs hold every weight as it was. In a folded one the two biases of a gate stand as their sum, which is
given back as the first of the two beside a zero: the same function, and the same graph again when it is exported.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.bundle import Bundle, InvalidBundle
from export.onnx_graph import INTEGERS, SCALES
from export.spec import Classifier, InvalidClassifier, QuantizedTable, Specification

FILES = ("model.onnx", "model.ids.onnx", "model.cpu.onnx")
"""The forms that hold all weights in full, the exact ones first."""

_Constants = Mapping[str, NDArray[Any]]


def read_classifier(bundle: Bundle) -> Classifier:
    """The bundle's specification, vocabulary and weights, from the first of `FILES` that it holds.

    A calibrated model's last layer has its temperature in it, as the graph has. An embedding in bytes stays one. Raises
    `InvalidBundle` where the bundle holds none of the files, or where one is damaged or not this program's.
    """
    file = weights_file(bundle)
    constants = _constants(bundle, file)
    specification = bundle.specification
    try:
        quantized = None
        if INTEGERS in constants:
            quantized = QuantizedTable(constants[INTEGERS], constants[SCALES])
        weights = {"embedding.weight": quantized.numbers() if quantized else constants["embedding.weight"]}
        standard = f"{specification.cell}_0.W" in constants
        for layer in range(specification.layers):
            weights |= (_standard_layer if standard else _folded_layer)(constants, specification, layer)
        for index in range(len(specification.head) + 1):
            weights |= {name: constants[name] for name in (f"head.{index}.weight", f"head.{index}.bias")}
        if specification.bag:
            weights |= {name: constants[name] for name in ("bag.words.weight", "bag.pairs.weight")}
        return Classifier(specification, bundle.vocabulary(), weights, quantized)
    except (KeyError, IndexError, ValueError, InvalidClassifier) as error:
        raise InvalidBundle(f"{bundle.folder / file}: not a graph of this program ({error})") from error


def weights_file(bundle: Bundle) -> str:
    """The file that `read_classifier` reads. Raises `InvalidBundle` where the bundle holds none."""
    for name in FILES:
        if name in bundle.files:
            return name
    raise InvalidBundle(
        f"{bundle.folder}: its weights cannot be read: it holds none of {', '.join(FILES)}; export it with "
        "--format onnx, or name the snapshot"
    )


def _constants(bundle: Bundle, file: str) -> _Constants:
    """The initializers of the graph and of the step of its loop, by name."""
    path = bundle.file(file)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        steps = [attribute.g for node in model.graph.node for attribute in node.attribute if attribute.HasField("g")]
        tensors = [tensor for graph in (model.graph, *steps) for tensor in graph.initializer]
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}
    except Exception as error:  # protobuf has its own classes, and none in common with what NumPy makes of wrong sizes
        raise InvalidBundle(f"{path}: not an ONNX file, or one with weights elsewhere ({error})") from error


def _standard_layer(constants: _Constants, specification: Specification, layer: int) -> dict[str, NDArray[Any]]:
    """The weights of a `GRU` or `RNN` node: ONNX has the gates as z, r, h, PyTorch as r, z, n."""
    name = f"{specification.cell}_{layer}"
    biases = np.split(constants[f"{name}.B"][0], 2)
    parts = [constants[f"{name}.W"][0], constants[f"{name}.R"][0], *biases]
    if specification.cell == "gru":
        parts = [np.concatenate([np.split(part, 3)[gate] for gate in (1, 0, 2)]) for part in parts]
    return _named(layer, parts)


def _folded_layer(constants: _Constants, specification: Specification, layer: int) -> dict[str, NDArray[Any]]:
    """The weights of a layer of `export.cpu_graph.Step`, whose update gate u is the negated z."""

    def projection(gate: str) -> NDArray[Any]:
        weight = constants[f"input_{gate}_{layer}"]
        return weight.T if layer else weight

    def recurrent(gate: str) -> NDArray[Any]:
        return constants[f"recurrent_{gate}_{layer}"].T

    def bias(gate: str) -> NDArray[Any]:
        return constants[f"input_bias_{gate}_{layer}"]

    if specification.cell == "rnn":
        return _named(layer, [projection("h"), recurrent("h"), bias("h"), np.zeros_like(bias("h"))])
    bias_u = constants[f"input_biases_u_{layer}"][0] if layer else bias("u")
    bias_n = constants[f"recurrent_bias_n_{layer}"]
    return _named(
        layer,
        [
            np.concatenate([projection("r"), -projection("u"), projection("n")]),
            np.concatenate([recurrent("r"), -recurrent("u"), recurrent("n")]),
            np.concatenate([bias("r"), -bias_u, bias("n")]),
            np.concatenate([np.zeros_like(bias_n), np.zeros_like(bias_n), bias_n]),
        ],
    )


def _named(layer: int, parts: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {f"recurrent.{name}_l{layer}": part for name, part in zip(names, parts, strict=True)}
