"""The classifier as ONNX graphs, written node by node from the weights: text in (`model.onnx`), ids in.

Only operators that ship inside ONNX Runtime are used: ONNX opset 17, ai.onnx.ml 3 and `com.microsoft.Tokenizer`.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.spec import BELOW_STATES, PAIR_FACTOR, Classifier, Pool, QuantizedTable, Specification
from export.text import ISOLATED, LINE_BREAK, MARK_CLASS, PADDING_ID, SPACE_CLASS, UNKNOWN_ID, Tokenizer

OPSETS = {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1}
IR_VERSION = 8

INTEGERS = "embedding.integers"
SCALES = "embedding.scales"


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
    classifier: Classifier,
    metadata: Mapping[str, Any],
    classify: Classify | None = None,
    more_outputs: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """`text` string[N] -> `label` string[N], `probabilities` float[N, classes], `tokens` int64[N], `unknown` int64[N].

    `tokens` counts before the cut at `max_tokens`; `unknown` counts those not in the vocabulary. N >= 1. `classify`
    adds the part from ids [N, T] and lengths [N] to logits, by default `classify_standard`, and `more_outputs`.
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
    # Up to ONNX Runtime 1.16 ReduceSum refuses an axis of length 0, which a batch of blank texts has.
    counted = _one_more_column(graph, ids, "counted_ids")
    tokens = _count(graph, graph.node("Not", [_equals(graph, counted, PADDING_ID, "is_padding")], "is_token"), "tokens")
    _count(graph, _equals(graph, counted, UNKNOWN_ID, "is_unknown"), "unknown")
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
            *more_outputs,
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
    """The ONNX rendering of a tokenizer: `text` string[N] -> `all_words` string[N, T], padded with the empty string.

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
        "characters": {"tokenexp": rf"[^{SPACE_CLASS}]"},  # the operator's own mode, separators [""], keeps the spaces
    }
    # onnx has no shape inference for this operator, and LabelEncoder's crashes on an input of unknown type (onnx 1.23).
    graph.value_infos.append(helper.make_tensor_value_info("all_words", TensorProto.STRING, ["N", "T"]))
    cut = cuts[tokenizer.punctuation if tokenizer.unit == "words" else tokenizer.unit]
    settings: dict[str, Any] = {"mark": 0, "pad_value": "", "mincharnum": 1, **cut}
    return graph.node("Tokenizer", [text], "all_words", domain="com.microsoft", **settings)


def classify_standard(graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str) -> str:
    """`ids` int64[N, T] with T >= 1, `lengths` int64[N] -> the name of the logits, float[N, classes].

    Over the standard recurrent operators, which every provider has.
    """
    by_time = graph.node("Transpose", [ids], "ids_by_time", perm=[1, 0])
    steps = _embedded(graph, classifier, by_time)
    # A blank row takes the step of its padding, and has_token drops it below: the RNN operator of ONNX Runtime reads
    # outside its memory where a length is 0 (run: 1.18.1 to 1.22.1; 1.32 does not).
    steps_per_row = graph.node("Max", [lengths, graph.constant("one_step_or_more", 1, np.int64)], "steps_per_row")
    steps_per_row = graph.node("Cast", [steps_per_row], "sequence_lens", to=TensorProto.INT32)
    specification = classifier.specification
    for layer in range(specification.layers - 1):
        name = _recurrent_layer(graph, classifier, layer, steps, steps_per_row, {"all"})
        steps = _one_direction(graph, name, f"{name}_all", axis=1)
    outputs = {"last" if pool == "last" else "all" for pool in specification.pooling}
    name = _recurrent_layer(graph, classifier, specification.layers - 1, steps, steps_per_row, outputs)
    pools: dict[Pool, str] = {}
    if "last" in outputs:
        pools["last"] = _one_direction(graph, name, f"{name}_last", axis=0)
    if "all" in outputs:
        axes = graph.constant("own_axes", [1, 3], np.int64)
        own = graph.node("Unsqueeze", [own_steps(graph, by_time, lengths), axes], "own_columns")
    if "max" in specification.pooling:
        pools["max"] = _max_state(graph, f"{name}_all", own)
    if "mean" in specification.pooling:
        pools["mean"] = _mean_state(graph, f"{name}_all", own, lengths)
    state = side_by_side(graph, [pools[pool] for pool in specification.pooling])
    has_token = graph.node("Cast", [lengths], "lengths_float", to=TensorProto.FLOAT)
    has_token = graph.node("Sign", [has_token], "has_token")
    has_token = graph.node("Unsqueeze", [has_token, graph.constant("column", [1], np.int64)], "has_token_column")
    logits = classify_state(graph, classifier, graph.node("Mul", [state, has_token], "state"))
    return with_bag(graph, classifier, logits, ids, lengths)


def quantized_embedding(graph: GraphBuilder, table: QuantizedTable) -> tuple[str, str]:
    """The names of its integers, int8[vocabulary, embedding], and scales, float[vocabulary, 1]."""
    return graph.constant(INTEGERS, table.integers), graph.constant(SCALES, table.scales)


def _embedded(graph: GraphBuilder, classifier: Classifier, ids: str) -> str:
    """ids [T, N] -> the name of their embeddings, float[T, N, embedding].

    Of a quantized table only the rows that are looked up become floats.
    """
    if classifier.quantized_embedding is None:
        table = graph.constant("embedding.weight", classifier.weights["embedding.weight"])
        return graph.node("Gather", [table, ids], "embedded")
    integers, scales = quantized_embedding(graph, classifier.quantized_embedding)
    rows = graph.node("Gather", [integers, ids], "embedded_integers")
    rows = graph.node("Cast", [rows], "embedded_unscaled", to=TensorProto.FLOAT)
    return graph.node("Mul", [rows, graph.node("Gather", [scales, ids], "embedded_scales")], "embedded")


def side_by_side(graph: GraphBuilder, pools: Sequence[str]) -> str:
    """The pools, [N, hidden] each -> the name of [N, hidden * pools]."""
    return graph.node("Concat", pools, "pools", axis=1) if len(pools) > 1 else pools[0]


def classify_state(graph: GraphBuilder, classifier: Classifier, state: str) -> str:
    """The linear layers: the pooled state [N, hidden * pools] -> the name of the logits, float[N, classes]."""
    specification = classifier.specification
    for index in range(len(specification.head) + 1):
        weight = graph.constant(f"head.{index}.weight", classifier.weights[f"head.{index}.weight"])
        bias = graph.constant(f"head.{index}.bias", classifier.weights[f"head.{index}.bias"])
        state = graph.node("Gemm", [state, weight, bias], f"head_{index}", transB=1)
        if index < len(specification.head):
            state = graph.node("Relu", [state], f"head_{index}_relu")
    return state


def with_bag(graph: GraphBuilder, classifier: Classifier, logits: str, ids: str, lengths: str) -> str:
    """The logits [N, classes] and the term of the bag, where the classifier has one (see `Specification`)."""
    if not classifier.specification.bag:
        return logits
    rows = bag_rows(graph, classifier, ids, lengths, token_numbers(graph, ids))
    return add_bag(graph, logits, rows, lengths)


def bag_rows(
    graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str, numbers: str, folded: bool = False
) -> str:
    """What each token adds to the sum of the bag: ids [N, T], lengths [N], numbers [T] -> double[N, T, classes].

    Zero behind a text's own tokens. The sum of thousands is in double precision the same in any order. Where it is
    `folded`, the tables become doubles while the session loads, else the rows that are looked up.
    """
    axis = graph.constant("bag_axis", [1], np.int64)
    edges = [graph.constant(f"bag_{name}", [value], np.int64) for name, value in (("from", 0), ("to", -1))]
    column = graph.constant("bag_column", [0, 1, 0, 0], np.int64)
    behind = graph.node("Pad", [ids, column, graph.constant("bag_start", PADDING_ID, np.int64)], "ids_behind_padding")
    before = graph.node("Slice", [behind, *edges, axis], "ids_before")
    product = graph.node("Mul", [before, graph.constant("pair_factor", PAIR_FACTOR, np.int64)], "ids_before_product")
    pairs = graph.node("Add", [product, ids], "pair_numbers")
    pairs = graph.node("Mod", [pairs, graph.constant("bag", classifier.specification.bag, np.int64)], "pair_rows")
    terms = []
    for name, index in (("words", ids), ("pairs", pairs)):
        table = graph.constant(f"bag.{name}.weight", classifier.weights[f"bag.{name}.weight"])
        if folded:
            table = graph.node("Cast", [table], f"{name}_double", to=TensorProto.DOUBLE)
            terms.append(graph.node("Gather", [table, index], f"{name}_of_bag"))
        else:
            term = graph.node("Gather", [table, index], f"{name}_of_bag")
            terms.append(graph.node("Cast", [term], f"{name}_of_bag_double", to=TensorProto.DOUBLE))
    behind = graph.node("Greater", [numbers, graph.node("Unsqueeze", [lengths, axis], "bag_lengths")], "behind_text")
    behind = graph.node("Unsqueeze", [behind, graph.constant("bag_classes", [2], np.int64)], "behind_text_columns")
    nothing = graph.constant("bag_nothing", 0, np.float64)
    return graph.node("Where", [behind, nothing, graph.node("Add", terms, "bag_terms")], "bag_rows")


def add_bag(graph: GraphBuilder, logits: str, rows: str, lengths: str) -> str:
    """The logits [N, classes] and the sum of `rows` [N, T, classes] over the root of the lengths [N]."""
    axis = graph.constant("bag_time", [1], np.int64)
    total = graph.node("ReduceSum", [rows, axis], "bag_total", keepdims=0)
    counts = graph.node("Unsqueeze", [lengths, axis], "bag_counts")
    term = graph.node("Cast", [over_root(graph, total, counts, "bag_term_double")], "bag_term", to=TensorProto.FLOAT)
    return graph.node("Add", [logits, term], "logits_with_bag")


def over_root(graph: GraphBuilder, total: str, counts: str, output: str) -> str:
    """`total` / sqrt(`counts`), in double precision; a count of 0 is taken as 1."""
    one = graph.constant(f"{output}.one", 1, np.int64)
    divisor = graph.node(
        "Cast", [graph.node("Max", [counts, one], f"{output}.count")], f"{output}.double", to=TensorProto.DOUBLE
    )
    return graph.node("Div", [total, graph.node("Sqrt", [divisor], f"{output}.root")], output)


def token_numbers(graph: GraphBuilder, ids: str) -> str:
    """1, 2 … T: ids [N, T] -> the name of int64[T]."""
    count = graph.node("Squeeze", [graph.node("Shape", [ids], "ids_columns", start=1)], "ids_count")
    first = graph.constant("first_number", 1, np.int64)
    return graph.node("Range", [first, graph.node("Add", [count, first], "end_of_numbers"), first], "token_numbers")


def _recurrent_layer(
    graph: GraphBuilder, classifier: Classifier, layer: int, steps: str, lengths: str, outputs: Collection[str]
) -> str:
    """One standard `GRU` or `RNN` node over [T, N, features] -> its name.

    Of the node's outputs, named after it, it has those in `outputs`: `_all` [T, 1, N, hidden], the states of each time
    step, and `_last` [1, N, hidden], those after each row's last token. The 1 is the direction.

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
    activation = classifier.specification.nonlinearity.title()
    attributes: dict[str, Any] = {"linear_before_reset": 1} if cell == "gru" else {"activations": [activation]}
    given = [f"{name}_all" if "all" in outputs else "", *([f"{name}_last"] if "last" in outputs else [])]
    graph.nodes.append(
        helper.make_node(
            cell.upper(), inputs, given, name=name, hidden_size=classifier.specification.hidden, **attributes
        )
    )
    return name


def _one_direction(graph: GraphBuilder, name: str, output: str, axis: int) -> str:
    """An output of the recurrent node `name` without its axis of directions."""
    return graph.node("Squeeze", [output, graph.constant(f"{name}_direction", [axis], np.int64)], f"{name}_states")


def own_steps(graph: GraphBuilder, by_time: str, lengths: str) -> str:
    """Which time steps are a row's own tokens: ids [T, N], lengths [N] -> the name of bool[T, N]."""
    count = graph.node("Squeeze", [graph.node("Shape", [by_time], "time_shape", end=1)], "time_steps")
    first, step = graph.constant("first_step", 0, np.int64), graph.constant("one_step", 1, np.int64)
    times = graph.node("Range", [first, count, step], "times")
    times = graph.node("Unsqueeze", [times, graph.constant("rows", [1], np.int64)], "times_by_row")
    return graph.node("Less", [times, lengths], "own_steps")


def mean_of_sum(graph: GraphBuilder, total: str, lengths: str) -> str:
    """The sum of each row's own states, double[N, hidden], and lengths [N] -> the name of their mean, float[N, hidden].

    Zero for a row without a token. The sum is in double precision because one of thousands of equal states is wrong
    from the fifth digit on in single precision.
    """
    divisor = graph.node("Max", [lengths, graph.constant("one_token", 1, np.int64)], "divisor")
    divisor = graph.node("Cast", [divisor], "divisor_double", to=TensorProto.DOUBLE)
    divisor = graph.node("Unsqueeze", [divisor, graph.constant("divisor_axis", [1], np.int64)], "divisor_column")
    mean = graph.node("Div", [total, divisor], "mean_double")
    return graph.node("Cast", [mean], "mean", to=TensorProto.FLOAT)


def _max_state(graph: GraphBuilder, states: str, own: str) -> str:
    """[T, 1, N, hidden] -> [N, hidden], `BELOW_STATES` for a row without a token."""
    candidates = graph.node("Where", [own, states, graph.constant("below", BELOW_STATES, np.float32)], "max_of")
    return graph.node("ReduceMax", [candidates], "max", axes=[0, 1], keepdims=0)


def _mean_state(graph: GraphBuilder, states: str, own: str, lengths: str) -> str:
    """[T, 1, N, hidden] -> [N, hidden], zero for a row without a token."""
    summands = graph.node("Where", [own, states, graph.constant("no_state", 0, np.float32)], "mean_of")
    summands = graph.node("Cast", [summands], "mean_of_double", to=TensorProto.DOUBLE)
    total = graph.node("ReduceSum", [summands, graph.constant("sum_axes", [0, 1], np.int64)], "total", keepdims=0)
    return mean_of_sum(graph, total, lengths)


def _cut(graph: GraphBuilder, ids: str, lengths: str, max_tokens: int) -> tuple[str, str]:
    """The first `max_tokens` columns of `ids`, and one of padding behind them, so that there is always a time step."""
    limit = graph.constant("max_tokens", max_tokens, np.int64)
    start, end, axis = (graph.constant(n, [v], np.int64) for n, v in (("zero", 0), ("end", max_tokens), ("time", 1)))
    kept = graph.node("Slice", [ids, start, end, axis], "kept_ids")
    return _one_more_column(graph, kept, "padded_ids"), graph.node("Min", [lengths, limit], "kept_tokens")


def _one_more_column(graph: GraphBuilder, ids: str, output: str) -> str:
    """`ids` [N, T] with a column of padding behind them, [N, T + 1]."""
    columns = graph.constant(f"{output}.columns", [0, 0, 0, 1], np.int64)
    return graph.node("Pad", [ids, columns, graph.constant(f"{output}.padding", PADDING_ID, np.int64)], output)


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
