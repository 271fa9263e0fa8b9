"""What a file costs whose reviews repeat: one of nothing but different reviews, and one in which a share stood before.

    python benchmarks/repeats.py --data PATH/aclImdb [--bundle bundle] [--rows 4096] [--share 0.2] [--rounds 3]

Both have as many rows and are scored in turns, a window at a time. Times are processor time, the least of the rounds;
the last line is what it takes to find the repeats where there are none.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

from export.bundle import open_bundle
from toolchain.corpus.reviews import Source, read_texts
from toolchain.scoring.default import find_bundle
from toolchain.scoring.job import WINDOW_ROWS
from toolchain.scoring.scorer import Scorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    different = list(dict.fromkeys(read_texts(Source(arguments.data))))[: arguments.rows]
    generator = random.Random(0)
    kept = different[: round(len(different) * (1 - arguments.share))]
    repeating = [*kept, *generator.choices(kept, k=len(different) - len(kept))]
    generator.shuffle(repeating)
    with Scorer(open_bundle(find_bundle(arguments.bundle)), "cpu") as scorer:

        def score(texts: list[str]) -> None:
            for start in range(0, len(texts), WINDOW_ROWS):
                scorer.submit(texts[start : start + WINDOW_ROWS]).result()

        score(different[:64])
        rounds = [(spent(lambda: score(different)), spent(lambda: score(repeating))) for _ in range(arguments.rounds)]
    plain, less = (min(each) for each in zip(*rounds, strict=True))
    unseen = ([f"{text} "[:-1] for text in different] for _ in range(arguments.rounds))  # a string keeps its hash
    finding = min(spent(lambda texts=texts: dict.fromkeys(texts)) for texts in unseen)  # type: ignore[misc]
    print(f"{len(different):,} different reviews: {plain:.2f} s")
    print(f"as many, {arguments.share:.0%} of them repeats: {less:.2f} s, {less / plain:.0%}")
    print(f"finding none: {finding * 1000:.1f} ms, {finding / plain:.2%}")


def spent(run: Callable[[], object]) -> float:
    """Seconds of processor time, of all threads."""
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
