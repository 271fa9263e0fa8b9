"""The classifier as ONNX graphs, written node by node from the weights: text in (`model.onnx`), ids in.

Only operators that ship inside ONNX Runtime are used: ONNX opset 17, ai.onnx.ml 3 and `com.microsoft.Tokenizer`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.spec import Classifier, Specification
from export.text import ISOLATED, LINE_BREAK, MARK_CLASS, PADDING_ID, SPACE_CLASS, UNKNOWN_ID, Tokenizer

OPSETS = {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1}
IR_VERSION = 8


class GraphBuilder:
    """Nodes and initializers under construction; every method returns the name of what it added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value_infos: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: NDArray[Any] | Sequence[Any] | float, dtype: Any = None) -> str:
        """A named initializer."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output


Classify = Callable[[GraphBuilder, Classifier, str, str], str]


def text_model(
    classifier: Classifier, metadata: Mapping[str, Any], classify: Classify | None = None
) -> onnx.ModelProto:
    """`text` string[N] -> `label` string[N], `probabilities` float[N, classes], `tokens` int64[N], `unknown` int64[N].

    `tokens` counts before the cut at `max_tokens`; `unknown` counts those not in the vocabulary. N >= 1. `classify`
    adds the part from ids [N, T] and lengths [N] to logits; by default `classify_standard`.
    """
    graph = GraphBuilder()
    words = tokenize(graph, classifier.specification.tokenizer)
    ids = graph.node(
        "LabelEncoder",
        [words],
        "all_ids",
        domain="ai.onnx.ml",
        keys_strings=["", *classifier.vocabulary[2:]],
        values_int64s=[PADDING_ID, *range(2, len(classifier.vocabulary))],
        default_int64=UNKNOWN_ID,
    )
    tokens = _count(graph, graph.node("Not", [_equals(graph, ids, PADDING_ID, "is_padding")], "is_token"), "tokens")
    _count(graph, _equals(graph, ids, UNKNOWN_ID, "is_unknown"), "unknown")
    classify = classify or classify_standard
    logits = classify(graph, classifier, *_cut(graph, ids, tokens, classifier.specification.max_tokens))
    graph.node("Softmax", [logits], "probabilities", axis=1)
    best = graph.node("ArgMax", [logits], "best", axis=1, keepdims=0)
    labels = graph.constant("labels", np.array(classifier.specification.labels, dtype=object))
    graph.node("Gather", [labels, best], "label")
    classes = len(classifier.specification.labels)
    return _model(
        graph,
        "text_classifier",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["N"])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("unknown", TensorProto.INT64, ["N"]),
        ],
        classifier.specification,
        metadata,
    )


def ids_model(classifier: Classifier, metadata: Mapping[str, Any]) -> onnx.ModelProto:
    """`ids` int64[N, T], `lengths` int64[N] -> `logits` float[N, classes], for runtimes without string operators.

    `ids` are padded with 1 on the right; `lengths` counts the tokens of each row, at most T, and may be 0.
    """
    graph = GraphBuilder()
    logits = classify_standard(graph, classifier, *_cut(graph, "ids", "lengths", classifier.specification.max_tokens))
    graph.node("Identity", [logits], "logits")
    return _model(
        graph,
        "ids_classifier",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "T"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(classifier.specification.labels)])],
        classifier.specification,
        metadata,
    )


def tokenize(graph: GraphBuilder, tokenizer: Tokenizer) -> str:
    """The ONNX rendering of a tokenizer: `text` string[N] -> `words` string[N, T], padded with the empty string.

    The locale is "C": it exists everywhere and lowers A-Z alone. Any other name is missing on some system.
    """
    text = "text"
    if tokenizer.lowercase:
        text = graph.node(
            "StringNormalizer",
            [text],
            "lowercased",
            case_change_action="LOWER",
            is_case_sensitive=1,
            locale="C",
        )
    cuts: dict[str, dict[str, Any]] = {
        "attached": {"tokenexp": rf"[^{SPACE_CLASS}]+"},
        "isolated": {"tokenexp": ISOLATED},
        "dropped": {"separators": [LINE_BREAK, rf"[{SPACE_CLASS}{MARK_CLASS}]"]},
    }
    # onnx has no shape inference for this operator, and LabelEncoder's crashes on an input of unknown type (onnx 1.23).
    graph.value_infos.append(helper.make_tensor_value_info("words", TensorProto.STRING, ["N", "T"]))
    cut = cuts[tokenizer.punctuation]
    return graph.node("Tokenizer", [text], "words", domain="com.microsoft", mark=0, pad_value="", mincharnum=1, **cut)


def classify_standard(graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str) -> str:
    """`ids` int64[N, T] with T >= 1, `lengths` int64[N] -> the name of the logits, float[N, classes].

    Over the standard recurrent operators, which every provider has.
    """
    by_time = graph.node("Transpose", [ids], "ids_by_time", perm=[1, 0])
    table = graph.constant("embedding.weight", classifier.weights["embedding.weight"])
    steps = graph.node("Gather", [table, by_time], "embedded")
    steps_per_row = graph.node("Cast", [lengths], "sequence_lens", to=TensorProto.INT32)
    specification = classifier.specification
    for layer in range(specification.layers):
        last = layer == specification.layers - 1
        steps = _recurrent_layer(graph, classifier, layer, steps, steps_per_row, last)
    has_token = graph.node("Cast", [lengths], "lengths_float", to=TensorProto.FLOAT)
    has_token = graph.node("Sign", [has_token], "has_token")
    has_token = graph.node("Unsqueeze", [has_token, graph.constant("column", [1], np.int64)], "has_token_column")
    return classify_state(graph, classifier, graph.node("Mul", [steps, has_token], "state"))


def classify_state(graph: GraphBuilder, classifier: Classifier, state: str) -> str:
    """The linear layers: the final state [N, hidden] -> the name of the logits, float[N, classes]."""
    specification = classifier.specification
    for index in range(len(specification.head) + 1):
        weight = graph.constant(f"head.{index}.weight", classifier.weights[f"head.{index}.weight"])
        bias = graph.constant(f"head.{index}.bias", classifier.weights[f"head.{index}.bias"])
        state = graph.node("Gemm", [state, weight, bias], f"head_{index}", transB=1)
        if index < len(specification.head):
            state = graph.node("Relu", [state], f"head_{index}_relu")
    return state


def _recurrent_layer(
    graph: GraphBuilder, classifier: Classifier, layer: int, steps: str, lengths: str, last: bool
) -> str:
    """One standard `GRU` or `RNN` node over [T, N, features]: every state, or with `last` the final ones, [N, hidden].

    PyTorch stacks the gates of a GRU as r, z, n and ONNX as z, r, h; PyTorch applies r after the recurrent product,
    which ONNX calls linear_before_reset (https://onnx.ai/onnx/operators/onnx__GRU.html).
    """
    cell = classifier.specification.cell
    weights = [
        classifier.weights[f"recurrent.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    if cell == "gru":
        weights = [np.concatenate([np.split(weight, 3)[gate] for gate in (1, 0, 2)]) for weight in weights]
    name = f"{cell}_{layer}"
    inputs = [
        steps,
        graph.constant(f"{name}.W", weights[0][None]),
        graph.constant(f"{name}.R", weights[1][None]),
        graph.constant(f"{name}.B", np.concatenate(weights[2:])[None]),
        lengths,
    ]
    attributes = {"linear_before_reset": 1} if cell == "gru" else {}
    outputs = ["", f"{name}_last"] if last else [f"{name}_all"]
    graph.nodes.append(
        helper.make_node(
            cell.upper(), inputs, outputs, name=name, hidden_size=classifier.specification.hidden, **attributes
        )
    )
    axis = graph.constant(f"{name}_direction", [0 if last else 1], np.int64)
    return graph.node("Squeeze", [outputs[-1], axis], f"{name}_states")


def _cut(graph: GraphBuilder, ids: str, lengths: str, max_tokens: int) -> tuple[str, str]:
    """The first `max_tokens` columns of `ids`, and one of padding behind them, so that there is always a time step."""
    limit = graph.constant("max_tokens", max_tokens, np.int64)
    start, end, axis = (graph.constant(n, [v], np.int64) for n, v in (("zero", 0), ("end", max_tokens), ("time", 1)))
    kept = graph.node("Slice", [ids, start, end, axis], "kept_ids")
    padded = graph.node(
        "Pad",
        [kept, graph.constant("one_column", [0, 0, 0, 1], np.int64), graph.constant("padding", PADDING_ID, np.int64)],
        "padded_ids",
    )
    return padded, graph.node("Min", [lengths, limit], "kept_tokens")


def _equals(graph: GraphBuilder, ids: str, value: int, output: str) -> str:
    return graph.node("Equal", [ids, graph.constant(f"{output}.value", value, np.int64)], output)


def _count(graph: GraphBuilder, mask: str, output: str) -> str:
    """How many of each row's entries are true: bool[N, T] -> int64[N]."""
    numbers = graph.node("Cast", [mask], f"{output}.mask", to=TensorProto.INT64)
    return graph.node("ReduceSum", [numbers, graph.constant(f"{output}.axis", [1], np.int64)], output, keepdims=0)


def _model(
    graph: GraphBuilder,
    name: str,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    specification: Specification,
    metadata: Mapping[str, Any],
) -> onnx.ModelProto:
    """The checked model; `metadata` and the specification become `metadata_props`, as JSON."""
    proto = helper.make_graph(graph.nodes, name, inputs, outputs, graph.initializers, value_info=graph.value_infos)
    model = helper.make_model(
        proto,
        producer_name="toolchain",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
    )
    properties = {
        "labels": list(specification.labels),
        "tokenizer": specification.to_json()["tokenizer"],
        "specification": specification.to_json(),
        **metadata,
    }
    helper.set_model_props(model, {key: json.dumps(value, ensure_ascii=False) for key, value in properties.items()})
    onnx.checker.check_model(model, full_check=True)
    return model
