"""How fast a bundle scores on this machine, route beside route in one run, and how near that is to the arithmetic."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.bundle import Bundle
from export.sessions import cores, open_session, run_text
from export.spec import GATES, Specification
from toolchain.scoring.scorer import GENERAL, INT8, Scorer

BATCH = 64
_PRODUCTS = 64


@dataclass(frozen=True)
class Route:
    """One way to score the same texts. `seconds` are the median of `rounds` passes."""

    name: str
    seconds: float
    rows_per_second: float
    tokens_per_second: float
    share_of_limit: float


@dataclass(frozen=True)
class Measurement:
    """All routes over the same rows; the limit is the recurrent arithmetic alone at the measured product rate."""

    rows: int
    tokens: int
    cores: int
    rounds: int
    gflop_per_second: float
    flop_per_token: int
    limit_tokens_per_second: float
    routes: Sequence[Route]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(
    bundle: Bundle,
    texts: Sequence[str],
    rounds: int = 3,
    others: Sequence[tuple[str, Callable[[], object]]] = (),
    progress: Callable[[str], None] = lambda name: None,
) -> Measurement:
    """Time every route over `texts`, in turns, so that a slow minute of the machine hits all of them.

    `others` are further routes over the same texts, by name. Needs onnx, for the product whose rate is the limit.
    """
    product = _Product()
    scorers = {"toolchain fp32": Scorer(bundle, "cpu")}
    if INT8 in bundle.files:
        scorers["toolchain int8"] = Scorer(bundle, "cpu", precision="int8")
    session = open_session(bundle.file(GENERAL), "cpu")
    by_length = sorted(texts, key=len)
    routes: dict[str, Callable[[], object]] = dict(others)
    routes["onnxruntime, as they come"] = lambda: _plain(session, texts)
    routes["onnxruntime, sorted"] = lambda: _plain(session, by_length)
    for name, scorer in scorers.items():
        routes[name] = lambda scorer=scorer: scorer.submit(texts).result()  # type: ignore[misc]
    tokens = int(scorers["toolchain fp32"].submit(texts).result().tokens.sum())
    rates: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    for number in range(rounds):
        rates.append(product.rate())
        for name, run in routes.items():
            progress(f"round {number + 1} of {rounds}: {name}")
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    for scorer in scorers.values():
        scorer.close()
    flop = flop_per_token(bundle.specification)
    limit = statistics.median(rates) / flop
    return Measurement(
        rows=len(texts),
        tokens=tokens,
        cores=cores(),
        rounds=rounds,
        gflop_per_second=statistics.median(rates) / 1e9,
        flop_per_token=flop,
        limit_tokens_per_second=limit,
        routes=[
            Route(name, took, len(texts) / took, tokens / took, tokens / took / limit)
            for name, took in ((name, statistics.median(each)) for name, each in seconds.items())
        ],
    )


def flop_per_token(specification: Specification) -> int:
    """Multiplications and additions a token costs once the first layer's input projection is folded away."""
    square = 2 * GATES[specification.cell] * specification.hidden**2
    return square * (2 * specification.layers - 1)


def _plain(session: Any, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), BATCH):
        run_text(session, ["label", "probabilities"], texts[start : start + BATCH])


class _Product:
    """A chain of [64, 256] x [256, 256] products in single precision, on every core at once."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper

        from export.onnx_graph import GraphBuilder

        graph = GraphBuilder()
        graph.constant("matrix", np.eye(256, dtype=np.float32))
        name = "rows"
        for index in range(_PRODUCTS):
            name = graph.node("MatMul", [name, "matrix"], f"product_{index}")
        rows = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [BATCH, 256]) for each in ("rows", name)]
        proto = helper.make_graph(graph.nodes, "products", rows[:1], rows[1:], graph.initializers)
        model = helper.make_model(proto, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        self._session = open_session(model.SerializeToString(), "cpu", threads=1)

    def rate(self, runs: int = 100) -> float:
        """Floating-point operations a second."""
        rows = {"rows": np.ones((BATCH, 256), np.float32)}
        with ThreadPoolExecutor(cores()) as workers:
            start = time.perf_counter()
            for done in [workers.submit(self._session.run, None, rows) for _ in range(runs * cores())]:
                done.result()
            took = time.perf_counter() - start
        return 2 * BATCH * 256 * 256 * _PRODUCTS * runs * cores() / took
