"""What a step of training computes, as PyTorch has it and as `toolchain` has it, side by side on random numbers.

    python benchmarks/recurrence.py [--batch 64] [--tokens 270] [--rounds 7]

Two things, each forward and backward, by turns in one process: the GRU of `auto` (128 in, 256 out), and the softmax
of its language model (a vector of 128 against 768 sampled words of 30,002, a vector a token). In float32, and
with the products in bf16. The table gives the median of the rounds, and by how much our gradients and PyTorch's bf16
differ from PyTorch's float32: the largest difference as a share of the largest gradient.
"""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as `toolchain.training.machine` sets it

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from toolchain.models.recipes import RECIPES
from toolchain.models.recurrence import gru_states
from toolchain.training.sampled_softmax import sampled_cross_entropy

RECIPE = RECIPES["auto"]
WORDS, SAMPLE = 30_002, 768

Pass = Callable[[], list[Tensor]]
"""Once forward and backward -> the gradients."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="reviews")
    parser.add_argument("--tokens", type=int, default=270, help="of each review")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    table = Table(title=f"{arguments.batch} x {arguments.tokens} tokens, {torch.get_num_threads()} threads")
    for title in ("", "precision", "PyTorch, ms", "ours, ms", "times faster", "PyTorch's difference", "our difference"):
        table.add_column(title, justify="right" if title else "left")
    for name, passes in (
        ("GRU", recurrences(arguments.batch, arguments.tokens)),
        ("sampled softmax", losses(arguments.batch * arguments.tokens)),
    ):
        exact = passes["float32"][0]()
        seconds = measured(passes, arguments.rounds)
        for precision, sides in passes.items():
            theirs, ours = (seconds[precision, side] for side in range(2))
            differences = [f"{difference(side(), exact):.1e}" for side in sides]
            milliseconds = f"{1e3 * theirs:.0f}", f"{1e3 * ours:.0f}"
            table.add_row(name, precision, *milliseconds, f"{theirs / ours:.2f}", *differences)
    Console().print(table)


def measured(passes: dict[str, tuple[Pass, Pass]], rounds: int) -> dict[tuple[str, int], float]:
    """Median seconds of a pass, by precision and side. The first round warms up."""
    seconds: dict[tuple[str, int], list[float]] = {(name, side): [] for name in passes for side in range(2)}
    for number in range(rounds + 1):
        for name, side in seconds:
            start = time.perf_counter()
            passes[name][side]()
            if number:
                seconds[name, side].append(time.perf_counter() - start)
    return {key: median(each) for key, each in seconds.items()}


def difference(ours: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference of two lists of gradients, as a share of the tensor's largest gradient."""
    pairs = zip(ours, exact, strict=True)
    return max(float((our - theirs).abs().max() / theirs.abs().max()) for our, theirs in pairs)


def recurrences(batch: int, tokens: int) -> dict[str, tuple[Pass, Pass]]:
    """The GRU, by precision: PyTorch's and ours."""
    gru = nn.GRU(RECIPE.embedding, RECIPE.hidden, batch_first=True)
    steps = torch.randn(tokens, batch, RECIPE.embedding).mul_(0.5).transpose(0, 1).requires_grad_()
    by_states = torch.randn(tokens, batch, RECIPE.hidden).transpose(0, 1)

    def passing(states: Callable[[], Tensor], low: bool) -> Pass:
        def once() -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                result = states()
            return list(torch.autograd.grad(result.float(), [steps, *gru.parameters()], by_states))

        return once

    sides = (lambda: gru(steps)[0], lambda: gru_states(gru, steps))
    return {
        name: (passing(sides[0], low), passing(sides[1], low)) for name, low in (("float32", False), ("bf16", True))
    }


def losses(answers: int) -> dict[str, tuple[Pass, Pass]]:
    """The loss of a language model, by precision: in PyTorch's operations and ours."""
    frequencies = 1 / torch.arange(1, WORDS + 1, dtype=torch.float64)
    sample = torch.unique(torch.multinomial(frequencies**0.75, SAMPLE, replacement=True))
    right = torch.multinomial(frequencies, answers, replacement=True)
    states = torch.randn(answers, RECIPE.embedding).requires_grad_()
    words = torch.randn(WORDS, RECIPE.embedding).mul_(0.3).requires_grad_()
    correction = torch.randn(WORDS).requires_grad_()

    def in_operations(vectors: Tensor) -> Tensor:
        others = F.linear(vectors, words[sample].to(vectors.dtype)).float() + correction[sample]
        others = others.masked_fill(sample == right.unsqueeze(1), -torch.inf)
        scores = (vectors.float() * words[right]).sum(1) + correction[right]
        return (torch.logaddexp(scores, others.logsumexp(1)) - scores).mean()

    def ours(vectors: Tensor) -> Tensor:
        return sampled_cross_entropy(vectors, right, words, correction, sample)

    def passing(loss: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Pass:
        return lambda: list(torch.autograd.grad(loss(states.to(dtype)), [states, words, correction]))

    return {
        name: (passing(in_operations, dtype), passing(ours, dtype))
        for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))
    }


if __name__ == "__main__":
    main()
