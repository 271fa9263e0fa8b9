"""`model.cpu.onnx`: the same classifier laid out for ONNX Runtime's CPU provider, with the input projection folded.

`embedding @ W_ih + b` is one row per word and does not change, so it is a table, one per gate. The tables stand in the
graph as `Gemm` over initializers: ONNX Runtime's constant folding computes them while the session loads, and the file
stays as small as the weights. A step of the recurrence is then a row of each table and one product per gate.

`model.int8.onnx` is the same with the recurrent products in integers. States lie in [-1, 1], so their scale is a
constant and a row never depends on its batch mates. Weights are quantized per column, to 7 bits: processors without
VNNI add pairs of products in 16 bits, which 8-bit weights would overflow.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graph import (
    GraphBuilder,
    classify_state,
    mean_of_sum,
    own_steps,
    quantized_embedding,
    side_by_side,
    with_bag,
)
from export.spec import BELOW_STATES, Classifier, InvalidClassifier, Pool
from export.text import PADDING_ID

# The pre-activation that closes a gate for good: the sigmoid of it is exactly 0 in single precision.
_CLOSED = -1e4

_Array = NDArray[np.float32]

STATE_SCALE = 1 / 127
STATE_ZERO = 128
WEIGHT_LIMIT = 64
"""The largest absolute quantized weight: two products with an unsigned byte stay below 2**15."""


def classify_folded(graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str) -> str:
    """`ids` int64[N, T], padded with 1, T >= 1 -> the name of the logits, float[N, classes].

    Padding leaves every state and pool as it is. There is always a step of it, and so the largest state of a text
    without a token is the zero state. `lengths` is needed for the mean alone.
    """
    return _classify(graph, classifier, ids, lengths, Step(graph, classifier))


def classify_quantized(graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str) -> str:
    """The same with integer products. Raises `InvalidClassifier` where the states have no bound."""
    if classifier.specification.nonlinearity == "relu":
        raise InvalidClassifier(
            "integer products need states in [-1, 1], and those of a ReLU have no bound; leave out int8"
        )
    return _classify(graph, classifier, ids, lengths, _QuantizedStep(graph, classifier))


def _classify(graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str, step: "Step") -> str:
    loop, carried = recurrence(graph, classifier, ids, lengths, step)
    graph.nodes.append(loop.node(step.body))
    last = {name: value.last for name, value in carried.items()}
    state = pooled(graph, classifier.specification.pooling, last, lengths)
    return with_bag(graph, classifier, classify_state(graph, classifier, state), ids, lengths)


class Carried(NamedTuple):
    """The names of a value that a loop carries: `now` in a step, after it; `last` behind the loop."""

    now: str
    last: str


class Loop:
    """A `Scan` under construction: what it reads a step at a time, carries from one step to the next, and collects."""

    def __init__(self) -> None:
        self._sequences: list[str] = []
        self._items: list[onnx.ValueInfoProto] = []
        self._starts: list[str] = []
        self._before: list[onnx.ValueInfoProto] = []
        self._after: list[onnx.ValueInfoProto] = []
        self._collected: list[onnx.ValueInfoProto] = []

    def read(self, sequence: str, name: str, dtype: int, shape: Sequence[str | int]) -> None:
        """In each step `name` is the next item of `sequence` along its first axis."""
        self._sequences.append(sequence)
        self._items.append(helper.make_tensor_value_info(name, dtype, shape))

    def carry(self, start: str, name: str, now: str, width: int, dtype: int = TensorProto.FLOAT) -> Carried:
        """In each step `name` [N, width] is what `now` was in the one before, and `start` in the first."""
        self._starts.append(start)
        self._before.append(helper.make_tensor_value_info(name, dtype, ["N", width]))
        self._after.append(helper.make_tensor_value_info(now, dtype, ["N", width]))
        return Carried(now, f"last_{name}")

    def collect(self, name: str, width: int) -> str:
        """What `name` [N, width] is in each step -> the name of all of them behind the loop, float[T, N, width]."""
        self._collected.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]))
        return f"every_{name}"

    def node(self, body: GraphBuilder) -> onnx.NodeProto:
        """The finished `Scan` over the step `body`."""
        inputs, outputs = self._before + self._items, self._after + self._collected
        step = helper.make_graph(body.nodes, "step", inputs, outputs, body.initializers)
        given = [f"last_{info.name}" for info in self._before] + [f"every_{info.name}" for info in self._collected]
        sources = self._starts + self._sequences
        return helper.make_node("Scan", sources, given, name="recurrence", body=step, num_scan_inputs=len(self._items))


def recurrence(
    graph: GraphBuilder, classifier: Classifier, ids: str, lengths: str, step: "Step"
) -> tuple[Loop, dict[str, Carried]]:
    """The loop of `step` over `ids` [N, T], and what it carries: the top layer's state as `last`, and where they are
    pooled the largest state so far as `max` and the sum of all so far, in double precision, as `sum`."""
    specification = classifier.specification
    hidden = specification.hidden
    by_time = graph.node("Transpose", [ids], "ids_by_time", perm=[1, 0])
    loop = Loop()
    loop.read(by_time, "ids_now", TensorProto.INT64, ["N"])
    shape = _state_shape(graph, ids, hidden)
    zero = _filled(graph, shape, "zero", 0)
    carried: dict[str, Carried] = {}
    for layer in range(specification.layers):
        below = carried["last"].now if layer else None
        now = (step.gru if specification.cell == "gru" else step.rnn)(layer, f"state_{layer}", below)
        carried["last"] = loop.carry(zero, f"state_{layer}", now, hidden)
    top = carried["last"].now
    if "max" in specification.pooling:
        carried["max"] = loop.carry(_filled(graph, shape, "below", BELOW_STATES), "max", step.max(top), hidden)
    if "mean" in specification.pooling:
        loop.read(_own_columns(graph, by_time, lengths), "own_now", TensorProto.FLOAT, ["N", 1])
        zero_sum = graph.node("Cast", [zero], "zero_sum", to=TensorProto.DOUBLE)
        carried["sum"] = loop.carry(zero_sum, "sum", step.sum(top), hidden, TensorProto.DOUBLE)
    return loop, carried


def pooled(graph: GraphBuilder, pooling: Sequence[Pool], carried: Mapping[str, str], lengths: str) -> str:
    """The pools side by side, float[N, hidden * pools], of the names that `recurrence` carries; `lengths` divides."""
    pools = dict(carried)
    if "mean" in pooling:
        pools["mean"] = mean_of_sum(graph, pools["sum"], lengths)
    return side_by_side(graph, [pools[pool] for pool in pooling])


class Step:
    """One time step of every layer, as the body of a `Scan`; the folded tables stand in the outer graph.

    Formulas: https://pytorch.org/docs/stable/generated/torch.nn.GRU.html and torch.nn.RNN.html.
    """

    def __init__(self, graph: GraphBuilder, classifier: Classifier) -> None:
        self.graph = graph
        self.classifier = classifier
        self.body = GraphBuilder()
        padding_id = self.body.constant("padding_id", PADDING_ID, np.int64)
        self.is_padding = self.body.node("Equal", ["ids_now", padding_id], "is_padding_now")
        is_padding_row = np.zeros((len(classifier.vocabulary), 1), bool)
        is_padding_row[PADDING_ID] = True
        self.embedding = _embedding_table(graph, classifier)
        graph.constant("is_padding_row", is_padding_row)
        graph.constant("closed", _CLOSED, np.float32)

    def gru(self, layer: int, state: str, below: str | None) -> str:
        """The update gate is negated, u = 1 - z, so that the step is h + u * (n - h).

        Where u is exactly 0 the state passes bit for bit: a padding row that closes u needs no mask.
        """
        node, body = self.body.node, self.body
        (in_r, in_z, in_n), (rec_r, rec_z, rec_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = self._weights(layer, gates=3)
        input_r = self._input(f"r_{layer}", below, in_r, b_r + c_r)
        input_u = self._input(f"u_{layer}", below, -in_z, -(b_z + c_z), closes=True)
        input_n = self._input(f"n_{layer}", below, in_n, b_n)
        bias_n = body.constant(f"recurrent_bias_n_{layer}", c_n)
        sum_r = self._product(f"recurrent_r_{layer}", state, rec_r, input_r)
        sum_u = self._product(f"recurrent_u_{layer}", state, -rec_z, input_u)
        product_n = self._product(f"recurrent_n_{layer}", state, rec_n, bias_n)
        reset = node("Mul", [node("Sigmoid", [sum_r], f"r_{layer}"), product_n], f"reset_{layer}")
        new = node("Tanh", [node("Add", [reset, input_n], f"sum_n_{layer}")], f"n_{layer}")
        change = node("Sub", [new, state], f"change_{layer}")
        part = node("Mul", [node("Sigmoid", [sum_u], f"u_{layer}"), change], f"part_{layer}")
        return node("Add", [state, part], f"next_{layer}")

    def rnn(self, layer: int, state: str, below: str | None) -> str:
        """tanh or ReLU of (input + recurrent product). There is no gate to close, so padding is masked."""
        node, body = self.body.node, self.body
        (weight,), (recurrent,), (bias,), (recurrent_bias,) = self._weights(layer, gates=1)
        projected = self._input(f"h_{layer}", below, weight, bias + recurrent_bias)
        activation = self.classifier.specification.nonlinearity.title()
        new = node(activation, [self._product(f"recurrent_h_{layer}", state, recurrent, projected)], f"new_{layer}")
        column = body.constant(f"column_{layer}", [1], np.int64)
        mask = node("Unsqueeze", [self.is_padding, column], f"mask_{layer}")
        return node("Where", [mask, state, new], f"next_{layer}")

    def max(self, state: str) -> str:
        """The largest state so far. Padding repeats the last state and so changes nothing."""
        return self.body.node("Max", ["max", state], "next_max")

    def sum(self, state: str) -> str:
        """The sum of a row's own states so far, in double precision: `own_now` is 1, and 0 at padding."""
        own = self.body.node("Mul", [state, "own_now"], "own_state")
        summand = self.body.node("Cast", [own], "summand", to=TensorProto.DOUBLE)
        return self.body.node("Add", ["sum", summand], "next_sum")

    def _input(self, name: str, below: str | None, weight: _Array, bias: _Array, closes: bool = False) -> str:
        """`input @ weight.T + bias` for the tokens of a step, [N, hidden]; where it `closes`, padding gets `_CLOSED`.

        In the first layer that is a row of the folded table; above, a product with the state of the layer below.
        """
        graph, body = self.graph, self.body
        if below is None:
            factors = [graph.constant(f"input_{name}", weight), graph.constant(f"input_bias_{name}", bias)]
            table = graph.node("Gemm", [self.embedding, *factors], f"table_{name}", transB=1)
            if closes:
                table = graph.node("Where", ["is_padding_row", "closed", table], f"closing_table_{name}")
            return body.node("Gather", [table, "ids_now"], f"projected_{name}")
        if closes:
            biases = body.constant(f"input_biases_{name}", np.stack([bias, np.full_like(bias, _CLOSED)]))
            row = body.node("Cast", [self.is_padding], f"bias_row_{name}", to=TensorProto.INT64)
            added = body.node("Gather", [biases, row], f"input_bias_{name}")
        else:
            added = body.constant(f"input_bias_{name}", bias)
        return self._product(f"input_{name}", below, weight, added)

    def _product(self, name: str, state: str, weight: _Array, added: str) -> str:
        """`state @ weight.T + added`, [N, hidden]; `added` is [N, hidden] or [hidden]."""
        matrix = self.body.constant(name, np.ascontiguousarray(weight.T))
        return self.body.node("Gemm", [state, matrix, added], f"product_{name}")

    def _weights(self, layer: int, gates: int) -> list[list[_Array]]:
        """W_ih, W_hh, b_ih, b_hh of a layer, each cut into its gates in PyTorch's order r, z, n."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [np.split(self.classifier.weights[f"recurrent.{name}_l{layer}"], gates) for name in names]


class _QuantizedStep(Step):
    """The same step with integer products: state in unsigned bytes, weights in signed ones with a scale a column."""

    def __init__(self, graph: GraphBuilder, classifier: Classifier) -> None:
        super().__init__(graph, classifier)
        self._bytes: dict[str, str] = {}
        self._scale = self.body.constant("state_scale", STATE_SCALE, np.float32)
        self._zero = self.body.constant("state_zero", STATE_ZERO, np.uint8)

    def _product(self, name: str, state: str, weight: _Array, added: str) -> str:
        if state not in self._bytes:
            quantize = [state, self._scale, self._zero]
            self._bytes[state] = self.body.node("QuantizeLinear", quantize, f"bytes_{state}")
        quantized, scales = quantize_columns(weight.T)
        inputs = [
            self._bytes[state],
            self.body.constant(name, quantized),
            self._scale,
            self.body.constant(f"scales_{name}", scales),
            self._zero,
        ]
        product = self.body.node("MatMulIntegerToFloat", inputs, f"integer_{name}", domain="com.microsoft")
        return self.body.node("Add", [product, added], f"product_{name}")


def quantize_columns(matrix: _Array) -> tuple[NDArray[np.int8], _Array]:
    """[in, out] -> integers in [-WEIGHT_LIMIT, WEIGHT_LIMIT] and the scale of each column, [out]."""
    scales = (np.abs(matrix).max(axis=0) / WEIGHT_LIMIT).astype(np.float32)
    scales[scales == 0] = 1.0
    return np.rint(matrix / scales).astype(np.int8), scales


def _embedding_table(graph: GraphBuilder, classifier: Classifier) -> str:
    """The name of the table, float[vocabulary, embedding]; a quantized one is unfolded while the session loads."""
    if classifier.quantized_embedding is None:
        return graph.constant("embedding.weight", classifier.weights["embedding.weight"])
    integers, scales = quantized_embedding(graph, classifier.quantized_embedding)
    unscaled = graph.node("Cast", [integers], "embedding.unscaled", to=TensorProto.FLOAT)
    return graph.node("Mul", [unscaled, scales], "embedding.weight")


def _state_shape(graph: GraphBuilder, ids: str, hidden: int) -> str:
    rows = graph.node("Shape", [ids], "row_count", start=0, end=1)
    return graph.node("Concat", [rows, graph.constant("hidden_size", [hidden], np.int64)], "state_shape", axis=0)


def _filled(graph: GraphBuilder, shape: str, name: str, value: float) -> str:
    tensor = numpy_helper.from_array(np.full(1, value, np.float32), f"{name}_value")
    return graph.node("ConstantOfShape", [shape], f"{name}_state", value=tensor)


def _own_columns(graph: GraphBuilder, by_time: str, lengths: str) -> str:
    """1 for a row's own tokens and 0 for its padding: ids [T, N], lengths [N] -> float[T, N, 1]."""
    own = graph.node("Cast", [own_steps(graph, by_time, lengths)], "own", to=TensorProto.FLOAT)
    return graph.node("Unsqueeze", [own, graph.constant("own_axis", [2], np.int64)], "own_columns")
