"""`model.explain.onnx`: the classifier, and the share of every token in its answer, in one pass and without a gradient.

Let z[t] be the logits that the classifier gives to the first t tokens of a text alone: its linear layers over the state
after token t, or over the pools of the states after tokens 1 to t. The share of token t is z[t] - z[t - 1], a number a
class, and so z[0], the logits of a text without a token, and all shares together are the logits of the text.

A recurrent state after t tokens knows nothing of what follows, so every z[t] comes out of the same walk over the text
that the answer takes. The graph is that of `model.cpu.onnx` with the linear layers inside the loop. Beside it,
running sums give what every token changes in the term of a bag of words.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.cpu_graph import Step, pooled, recurrence
from export.onnx_graph import (
    GraphBuilder,
    add_bag,
    bag_rows,
    classify_state,
    over_root,
    text_model,
    token_numbers,
)
from export.sessions import TABLE_BYTES
from export.spec import Classifier


def explain_model(classifier: Classifier, metadata: Mapping[str, Any]) -> onnx.ModelProto:
    """The interface of `model.onnx`, and beside it `words` string[N, T], `shares` float[N, T, classes], `start`
    float[classes].

    `words` are the tokens that the answer is made of, after the cut at `max_tokens`, padded with the empty string;
    `shares` are 0 there. `start` is z[0]. softmax(start + sum of a text's shares) are its `probabilities`.
    """
    classes = len(classifier.specification.labels)
    outputs = [
        helper.make_tensor_value_info("words", TensorProto.STRING, ["N", "read"]),
        helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["N", "read", classes]),
        helper.make_tensor_value_info("start", TensorProto.FLOAT, [classes]),
    ]
    return text_model(classifier, metadata, classify_running, outputs)


def with_tables_of(model: bytes, holder: str, held: bytes) -> bytes:
    """The graph `model` without the tables that the file `holder` holds byte for byte: it reads them there.

    `holder` is the name of a file in the same folder, and `held` what it holds: another graph of the same classifier.
    A runtime finds it by the path that it opens the graph from. The tables stand at any offset: ONNX Runtime reads
    them unaligned as well (1.15 to 1.32 and onnxruntime-web on x86-64: the same bits). It maps them into memory, and
    `explain_model` folds all that are read here, so that an open session does not depend on the file. Tables of a loop
    stay, because onnxruntime-web (1.30) does not find them elsewhere, and so does what is smaller than `TABLE_BYTES`.
    """
    proto = onnx.load_model_from_string(model)
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) < TABLE_BYTES or (offset := held.find(tensor.raw_data)) < 0:
            continue
        place = {"location": holder, "offset": offset, "length": len(tensor.raw_data)}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
    return bytes(proto.SerializeToString())


def classify_running(graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str) -> str:
    """`ids` int64[N, T], padded with 1, the last column whole -> the name of the logits, float[N, classes].

    Adds the outputs `words`, `shares` and `start`; `words` are cut from those of `export.onnx_graph.tokenize`.
    """
    specification = classifier.specification
    step = Step(graph, classifier)
    loop, carried = recurrence(graph, classifier, ids, lengths, step)
    now = {name: value.now for name, value in carried.items()}
    numbers = token_numbers(graph, ids)
    counts = _tokens_so_far(graph, numbers, lengths)
    loop.read(counts, "tokens_now", TensorProto.INT64, ["N"])
    logits = classify_state(step.body, classifier, pooled(step.body, specification.pooling, now, "tokens_now"))
    classes = len(specification.labels)
    running = loop.carry(_start_rows(graph, classifier, ids), "running", logits, classes)
    every_share = loop.collect(_share(step, "running", logits), classes)
    graph.nodes.append(loop.node(step.body))
    by_row, answer = graph.node("Transpose", [every_share], "shares_of_all_steps", perm=[1, 0, 2]), running.last
    if specification.bag:
        rows = bag_rows(graph, classifier, ids, lengths, numbers, folded=True)
        by_row = graph.node("Add", [by_row, _bag_shares(graph, rows, counts)], "shares_with_bag")
        answer = add_bag(graph, answer, rows, lengths)
    first, time = graph.constant("first_column", [0], np.int64), graph.constant("columns", [1], np.int64)
    graph.node("Slice", [by_row, first, graph.constant("last_column", [-1], np.int64), time], "shares")
    limit = graph.constant("most_words", [specification.max_tokens], np.int64)
    graph.node("Slice", ["all_words", first, limit, time], "words")
    return answer


def start_logits(classifier: Classifier) -> NDArray[np.float32]:
    """The logits of a text without a token, [classes]: the linear layers over zeros."""
    values = np.zeros(classifier.weights["head.0.weight"].shape[1], np.float32)
    for index in range(len(classifier.specification.head) + 1):
        values = np.maximum(values, 0) if index else values
        values = classifier.weights[f"head.{index}.weight"] @ values + classifier.weights[f"head.{index}.bias"]
    return values


def _share(step: Step, before: str, after: str) -> str:
    """The change of the logits in a step, float[N, classes]; exactly 0 at padding."""
    body = step.body
    mask = body.node("Unsqueeze", [step.is_padding, body.constant("share_axis", [1], np.int64)], "padding_rows")
    change = body.node("Sub", [after, before], "change_of_logits")
    return body.node("Where", [mask, body.constant("no_share", 0, np.float32), change], "share")


def _tokens_so_far(graph: GraphBuilder, numbers: str, lengths: str) -> str:
    """How many of its own tokens a row has come to in each step, int64[T, N]: the step's number, or its length."""
    by_time = graph.node("Unsqueeze", [numbers, graph.constant("each_row", [1], np.int64)], "step_numbers")
    return graph.node("Min", [by_time, lengths], "tokens_so_far")


def _bag_shares(graph: GraphBuilder, rows: str, counts: str) -> str:
    """The change of the bag's term by each token: rows [N, T, classes], counts [T, N] -> float[N, T, classes]."""
    sums = graph.node("CumSum", [rows, graph.constant("bag_time_axis", 1, np.int64)], "bag_sums")
    by_row = graph.node("Transpose", [counts], "tokens_so_far_by_row", perm=[1, 0])
    by_row = graph.node("Unsqueeze", [by_row, graph.constant("bag_class_axis", [2], np.int64)], "bag_counts_so_far")
    terms = over_root(graph, sums, by_row, "running_bag")
    column = graph.constant("bag_first_column", [0, 1, 0, 0, 0, 0], np.int64)
    behind = graph.node("Pad", [terms, column, graph.constant("no_bag", 0, np.float64)], "running_bag_behind_start")
    first, end, axis = (
        graph.constant(f"bag_share_{n}", [v], np.int64) for n, v in (("from", 0), ("to", -1), ("axis", 1))
    )
    before = graph.node("Slice", [behind, first, end, axis], "running_bag_before")
    change = graph.node("Sub", [terms, before], "change_of_bag")
    return graph.node("Cast", [change], "bag_shares", to=TensorProto.FLOAT)


def _start_rows(graph: GraphBuilder, classifier: Classifier, ids: str) -> str:
    """z[0] for each row of `ids`, float[N, classes]."""
    start = graph.constant("start", start_logits(classifier))
    rows = graph.node("Shape", [ids], "rows_to_start", end=1)
    shape = graph.node("Concat", [rows, graph.constant("each_class", [1], np.int64)], "start_shape", axis=0)
    return graph.node("Expand", [start, shape], "start_rows")
