"""How long a whole training takes on this machine, from a few batches of each of its passes.

    python benchmarks/phases.py --data PATH/aclImdb --unlabelled PATH [--recipe auto] [--every 20]

It runs `fit`, in which every pass that trains (word vectors, language model, epochs) takes each `--every`th of its
batches. What these take is multiplied. Making the batches, reading the data, the passes that answer (validation,
calibration, test) and all that a training does outside of its passes is measured whole. Where other work shares the
cores, read the processor minutes of one thread (`OMP_NUM_THREADS=1`).
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolchain.corpus.reviews import Source
from toolchain.measures.processor import processor
from toolchain.models.recipes import RECIPES
from toolchain.training.automatic import plan
from toolchain.training.loops import Settings, fit

ANSWERING = ("validation", "calibration", "test")
"""How the titles of passes end whose answers are held beside those of the linear part, review by review."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the aclImdb folder")
    parser.add_argument("--unlabelled", help="a folder of texts")
    parser.add_argument("--recipe", choices=RECIPES, default="auto")
    parser.add_argument("--every", type=int, default=20)
    arguments = parser.parse_args()
    passes: dict[str, tuple[str, NDArray[np.float64]]] = {}
    left_out = np.zeros(2)

    def some(batches: Any, title: str) -> Iterable[Any]:
        """Each so-manieth of the batches; once they are through, the pass is in the table."""
        nonlocal left_out
        every = 1 if title.endswith(ANSWERING) else arguments.every
        began, inside, taken = clocks(), np.zeros(2), 0
        for number, batch in enumerate(batches):
            if number % every == min(len(batches), every) // 2:
                before = clocks()
                yield batch
                inside += clocks() - before
                taken += 1
        more = inside * (len(batches) / taken - 1)
        left_out = left_out + more
        passes[title] = f"{taken} of {len(batches)}", clocks() - began + more

    began = clocks()
    planned = plan(Source(arguments.data, unlabelled=arguments.unlabelled), arguments.recipe)
    recipe = planned.recipe
    settings = Settings(recipe.epochs, recipe.batch_size, recipe.learning_rate, layers=1, seed=0, device="cpu")
    with tempfile.TemporaryDirectory() as room:
        fit(planned.corpus, recipe, settings, Path(room), progress=some, start=planned.start)
    whole = clocks() - began + left_out
    passes["all else"] = "", whole - sum(seconds for _, seconds in passes.values())
    passes["the training"] = "", whole
    print(f"{processor()}, {torch.get_num_threads()} threads\n")
    print("| pass | batches measured | minutes | processor minutes |\n|---|---|---|---|")
    for title, (batches, seconds) in passes.items():
        print(f"| {title} | {batches} | {' | '.join(f'{each:.1f}' for each in seconds / 60)} |")


def clocks() -> NDArray[np.float64]:
    """Seconds, and seconds of processor time."""
    return np.array([time.perf_counter(), time.process_time()])


if __name__ == "__main__":
    main()
