"""What is said about training data before it is used, and what is left unsaid about data that are in order."""

from collections import Counter

import pytest

from toolchain.corpus.checks import (
    check_amounts,
    check_conflicts,
    check_lengths,
    check_letters,
    check_vocabulary,
)


@pytest.mark.parametrize(
    "counts", [{"neg": 100, "pos": 100}, {"neg": 30, "pos": 270}, {"a": 70, "b": 200, "c": 260, "d": 300, "e": 900}]
)
def test_enough_reviews_of_every_label_need_no_word(counts: dict[str, int]) -> None:
    assert check_amounts(counts) == []


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"neg": 90, "pos": 90}, ["180 training reviews are few"]),
        ({"neg": 1000, "pos": 50}, ["the label 'pos' has 50 of 1,050 training reviews: it will hardly"]),
        ({"a": 19, "b": 200, "c": 0}, ["the label 'c', the rarest of 2 rare ones, has 0 of 219 training reviews: it"]),
        ({"a": 5, "b": 20}, ["25 training reviews are few", "the label 'a' has 5 of 25"]),
        # an even share of five labels is 20 %: a fifth of it is 40 of 1,000
        ({"a": 39, "b": 261, "c": 200, "d": 200, "e": 300}, ["the label 'a' has 39"]),
    ],
)
def test_few_reviews_and_rare_labels_are_said(counts: dict[str, int], said: list[str]) -> None:
    findings = check_amounts(counts)
    assert len(findings) == len(said)
    for finding, expected in zip(findings, said, strict=True):
        assert finding.startswith(expected)


def test_texts_of_a_word_or_two_are_said() -> None:
    assert check_lengths([["a"], ["a", "b"], ["a", "b", "c"]]) == [
        "half of the training reviews have 2 tokens or fewer: is --text-column the right column?"
    ]
    assert check_lengths([["a"], ["a", "b", "c"], ["a", "b", "c"]]) == []


def test_a_vocabulary_that_knows_too_little_is_said() -> None:
    assert check_vocabulary([["a", "b"], ["a", "c"]], ["<unk>", "<pad>", "a"])[0].startswith("50% of the tokens")
    assert check_vocabulary([["a", "a"], ["a", "c"]], ["<unk>", "<pad>", "a"]) == []


def test_one_text_with_two_labels_is_said_with_its_places() -> None:
    texts = [["fine"], ["dull"], ["fine"], ["dull"], ["fine"], ["fine", "dull"]]
    origins = [f"r.csv:{line}" for line in range(2, 8)]
    assert check_conflicts(texts, ["pos", "neg", "neg", "neg", "pos", "neg"], origins) == [
        "1 text stands in the data with different labels, such as r.csv:2 (pos) and r.csv:4 (neg): "
        "correct or remove them"
    ]
    findings = check_conflicts(texts, ["pos", "neg", "neg", "pos", "pos", "neg"], origins)
    assert findings[0].startswith("2 texts stand")
    assert check_conflicts(texts, ["pos", "neg", "pos", "neg", "pos", "neg"], origins) == []


@pytest.mark.parametrize(
    "text",
    [
        "这部电影非常好看我很喜欢 演员都很出色",
        "この映画はとても面白かったです また見たい",
        "영화가 정말 재미있었어요 배우들도 훌륭했습니다",
    ],
)
def test_words_that_no_space_separates_are_said(text: str) -> None:
    findings = check_letters(Counter(text.split()))
    assert len(findings) == 1
    assert "--tokenizer characters" in findings[0]
    assert check_letters(Counter(text.replace(" ", ""))) == []  # cut into characters, all is well


@pytest.mark.parametrize("text", ["a long winding film", "这 部 电影 非常 好看 我 很 喜欢", "the film 기생충 is fine"])
def test_words_that_are_set_apart_need_no_word(text: str) -> None:
    assert check_letters(Counter(text.split())) == []
