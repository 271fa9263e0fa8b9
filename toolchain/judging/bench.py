"""How fast a bundle scores on this machine, route beside route in one run, and how near that is to the arithmetic."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from export.bundle import Bundle
from export.selfcheck import open_for_scoring
from export.sessions import cores, run_text
from export.spec import GATES, Specification
from toolchain.judging.products import Products
from toolchain.scoring.scorer import CPU, GENERAL, INT8, Scorer

BATCH = 64


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

    Plain ONNX Runtime runs `model.onnx`, or `model.cpu.onnx` in a bundle that has no other. `others` are further routes
    over the same texts, by name.
    """
    products = Products()
    scorers = {"toolchain fp32": Scorer(bundle, "cpu")}
    if INT8 in bundle.files:
        scorers["toolchain int8"] = Scorer(bundle, "cpu", precision="int8")
    session = open_for_scoring(bundle, GENERAL if GENERAL in bundle.files else CPU)
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
        rates.append(products.rate())
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


def different_texts(texts: Sequence[str], rows: int) -> list[str]:
    """`rows` texts, no two alike, because a text that stands there twice is scored once.

    Where there are not as many, they come again with the number of their turn behind them.
    """
    different = list(dict.fromkeys(texts))
    turns = (divmod(row, len(different)) for row in range(rows))
    return [f"{different[index]} {turn}" if turn else different[index] for turn, index in turns]


def flop_per_token(specification: Specification) -> int:
    """Multiplications and additions a token costs once the first layer's input projection is folded away."""
    square = 2 * GATES[specification.cell] * specification.hidden**2
    return square * (2 * specification.layers - 1)


def _plain(session: Any, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), BATCH):
        run_text(session, ["label", "probabilities"], texts[start : start + BATCH])
