"""Texts are run beside others with as many tokens, within limits, whatever their bytes."""

from collections import Counter

import pytest

from export.text import TOKENIZERS, TokenizerName
from toolchain.scoring.planning import BatchLimits, plan_batches

LIMITS = BatchLimits(texts=4, padded_tokens=100)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_batches_hold_every_text_once_and_rise_in_tokens(name: TokenizerName) -> None:
    tokenizer = TOKENIZERS[name]
    texts = [f"{'it, ' * (7 * number % 23)}{'x' * (number % 5 * 40)}" for number in range(50)]
    batches = plan_batches(texts, tokenizer, LIMITS)
    assert Counter(index for batch in batches for index in batch) == Counter(range(50))
    tokens = [len(tokenizer.tokenize(texts[index])) for batch in batches for index in batch]
    assert tokens == sorted(tokens)
    for batch in batches:
        longest = max(len(tokenizer.tokenize(texts[index])) for index in batch)
        assert len(batch) <= 4
        assert len(batch) == 1 or len(batch) * longest <= 100


def test_a_text_with_long_words_is_run_beside_texts_with_as_many_words() -> None:
    short, long = "a b c d e f", "incomprehensibilities notwithstanding"
    batches = plan_batches([short, long, "no way", short], TOKENIZERS["attached"], BatchLimits(2, 100))
    assert batches == [[1, 2], [0, 3]]


def test_a_giant_is_alone_whether_of_many_tokens_or_of_one() -> None:
    texts = ["a", "b " * 300, "c", "d" * 64 * 300, "e"]
    assert plan_batches(texts, TOKENIZERS["isolated"], LIMITS) == [[0, 2, 4], [1], [3]]


def test_no_texts_are_no_batches_and_one_is_one() -> None:
    assert plan_batches([], TOKENIZERS["isolated"], LIMITS) == []
    assert plan_batches(["a b"], TOKENIZERS["isolated"], LIMITS) == [[0]]
