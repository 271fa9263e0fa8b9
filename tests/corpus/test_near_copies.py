"""Near copies are found among reviews that share words and phrases but were written by different people."""

import random

import pytest

from toolchain.corpus.near_copies import near_copies

WORDS = [f"w{number}" for number in range(400)]


def written(count: int, length: int, seed: int) -> list[list[str]]:
    """Reviews that share words, and all of which have one phrase in common."""
    generator = random.Random(seed)
    phrase = ["this", "is", "one", "of", "the", "best", "films"]
    half = length // 2
    return [[*generator.choices(WORDS, k=half), *phrase, *generator.choices(WORDS, k=half)] for _ in range(count)]


def changed(tokens: list[str], every: int) -> list[str]:
    return [f"{token}!" if number % every == 0 else token for number, token in enumerate(tokens)]


def test_copies_are_found_with_their_originals_and_nothing_else() -> None:
    originals = written(500, 100, seed=0)
    others = written(200, 100, seed=1)
    reviews = [originals[7], *others, changed(originals[400], 50), originals[33][:80], originals[2] + others[0][:40]]
    assert near_copies(reviews, originals) == {0: 7, 201: 400, 202: 33, 203: 2}


def test_what_only_resembles_is_no_copy() -> None:
    originals = written(500, 100, seed=0)
    assert near_copies([changed(originals[3], 6), originals[3][:40], list(reversed(originals[3]))], originals) == {}


@pytest.mark.parametrize("length", [1, 3, 4, 5, 6])
def test_a_short_review_is_a_copy_where_it_is_the_same(length: int) -> None:
    originals = [WORDS[start : start + length] for start in range(0, 60, length)]
    assert near_copies([originals[4], [*originals[4][:-1], "other"]], originals) == {0: 4}


def test_a_review_posted_a_hundred_times_is_found() -> None:
    advert = written(1, 60, seed=5)[0]
    originals = written(50, 60, seed=6) + [advert] * 100
    assert near_copies([advert], originals) == {0: 50}


def test_reviews_without_a_token_are_nobodys_copy() -> None:
    assert near_copies([[], ["a"]], [[], ["b"]]) == {}
    assert near_copies([["a"]], []) == {}
