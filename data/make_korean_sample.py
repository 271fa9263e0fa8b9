"""Reviews in Korean, made from a small grammar: the label lies in the order of the words and in the negation.

Adjectives, particles and endings stand about as often in good reviews as in bad ones, so that no character gives the
label away. Some adjectives never have some endings but in the held-out reviews: whoever takes words for tokens has not
seen a single adjective of those reviews, whoever takes characters has seen them all.

Usage: python make_korean_sample.py OUTPUT_FOLDER     writes train.csv (800 reviews) and test.csv (200 held-out ones)
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

# What is judged, with its subject particle: 이 behind a consonant, 가 behind a vowel.
SUBJECTS = ("연기가", "음악이", "이야기가", "화면이", "결말이", "대사가")

# Stems of adjectives in -하다, which take every ending below.
GOOD = ("훌륭", "신선", "탄탄", "유쾌")
BAD = ("지루", "어색", "산만", "진부")

# The n-th ending of each kind stands behind the n-th stem in held-out reviews alone.
AFFIRMING = ("했다.", "했어요.", "하더라.")
NEGATING = ("하지 않았다.", "하진 않네요.")
TURNING = ("할 줄 알았는데", "하기는커녕 오히려", "하다고 들었지만")  # not this, but what follows

# Sentences without an opinion.
NEUTRAL = (
    "주말에 동생과 극장에서 봤다.",
    "상영 시간은 두 시간이다.",
    "한국어 자막이 있었다.",
    "친구가 DVD를 빌려줬다.",
    "맨 뒷줄에 앉았다.",
)


def adjective(rng: Random, stems: Sequence[str], endings: Sequence[str], held_out: bool) -> str:
    """One of `stems` with one of `endings`, of the held-out pairs or of the others."""
    number = rng.randrange(len(endings))
    others = [stem for stem in stems if stem != stems[number]]
    return (stems[number] if held_out else rng.choice(others)) + endings[number]


def make_review(rng: Random, label: str, held_out: bool) -> str:
    """One opinion, with a neutral sentence before it, behind it, or none."""
    meant, opposite = (GOOD, BAD) if label == "pos" else (BAD, GOOD)
    kind = rng.choice(("affirmed", "negated", "turned", "turned"))
    words = [rng.choice(SUBJECTS)]
    if kind == "negated":
        words.append(adjective(rng, opposite, NEGATING, held_out))
    if kind == "turned":
        words.append(adjective(rng, opposite, TURNING, held_out))
    if kind != "negated":
        words.append(adjective(rng, meant, AFFIRMING, held_out))
    sentences = [" ".join(words)]
    if place := rng.randrange(3):
        sentences.insert(place - 1, rng.choice(NEUTRAL))
    return " ".join(sentences)


def write_reviews(path: Path, count: int, held_out: bool) -> None:
    """A CSV file with the columns `review` and `label`: `count` reviews, neg and pos in turn."""
    rng = Random(int(held_out))
    labels = [("neg", "pos")[number % 2] for number in range(count)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["review", "label"])
        writer.writerows([make_review(rng, label, held_out), label] for label in labels)


def main() -> None:
    """Write both files into the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_korean_sample.py OUTPUT_FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_reviews(folder / "train.csv", 800, held_out=False)
    write_reviews(folder / "test.csv", 200, held_out=True)


if __name__ == "__main__":
    main()
