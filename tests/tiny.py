"""A data set and a pooled GRU so small that a training takes a second: for promises that do not depend on the size."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from toolchain.models.recipes import AUTO
from toolchain.training.loops import Settings

SIGNS = {"neg": ("dull", "awful", "weak", "clumsy"), "pos": ("fine", "lovely", "superb", "witty")}
FILLERS = tuple(f"w{number}" for number in range(30))
TINY = replace(AUTO, embedding=8, hidden=8, min_freq=1)
SMALL = ("--recipe", "auto", "--start", "none", "--embedding", "8", "--hidden", "8")
"""Options for nearly the same, with a linear part."""


def review(label: str, generator: random.Random) -> str:
    """Words that say nothing, and among them three that give the label away; none do for a label of another name."""
    words = generator.choices(FILLERS, k=generator.randint(5, 8)) + generator.choices(SIGNS.get(label, FILLERS), k=3)
    return " ".join(generator.sample(words, len(words)))


def write_reviews(path: Path, count: int, wrong: Sequence[int] = ()) -> Path:
    """`path` as CSV with as many reviews of either label, ten a film; those numbered `wrong` have the other label."""
    generator = random.Random(0)
    lines = ["text,label,film\n"]
    for number in range(count):
        text = review(("neg", "pos")[number % 2], generator)
        label = ("neg", "pos")[(number + (number in wrong)) % 2]
        lines.append(f"{text},{label},film {number // 10}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def settings(epochs: int = 3, **others: object) -> Settings:
    """Settings under which `TINY` learns to read the signs within an epoch or two."""
    plain = Settings(epochs=epochs, batch_size=16, learning_rate=0.03, layers=1, seed=0, device="cpu", precision="fp32")
    return replace(plain, **others)  # type: ignore[arg-type]
