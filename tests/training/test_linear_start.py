"""The linear classifier that a bag of words starts from: what it gives is what the bag adds, and it learns."""

import numpy as np
import pytest
import torch

from export.forms import softmax
from export.text import UNKNOWN_ID
from toolchain.models.classifiers import BagOfWords
from toolchain.training import linear_start
from toolchain.training.linear_start import MOST_NUMBERS, PAIRS, Choice, features, fit_linear, pairs_for

WORDS = 12


def texts(count: int, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    """Ids of fillers with `2 3` or `3 2` among them: the order alone is the label."""
    random = np.random.default_rng(seed)
    rows, labels = [], []
    for number in range(count):
        fillers = random.integers(4, WORDS, size=random.integers(2, 7)).tolist()
        place = int(random.integers(0, len(fillers) + 1))
        label = number % 2
        rows.append(fillers[:place] + ([3, 2] if label else [2, 3]) + fillers[place:])
        labels.append(label)
    return rows, labels


def accuracy(rows: list[list[int]], labels: list[int], *, on: tuple[list[list[int]], list[int]], classes: int) -> float:
    fitted = fit_linear(rows, labels, WORDS, 256, classes, seed=0)
    return float((fitted.logits(on[0]).argmax(axis=1) == on[1]).mean())


def test_what_is_fitted_is_what_the_bag_adds_to_the_logits() -> None:
    rows, labels = texts(60)
    rows[5], rows[7] = [], [4]
    fitted = fit_linear(rows, labels, WORDS, 64, 2, seed=0)
    bag = BagOfWords(WORDS, 64, 2)
    with torch.no_grad():
        bag.words.weight.copy_(torch.from_numpy(fitted.words))
        bag.pairs.weight.copy_(torch.from_numpy(fitted.pairs))
        for row, logits in zip(rows, fitted.logits(rows), strict=True):
            padded = torch.tensor([[*row, 1, 1, 1]])
            term = bag(padded, torch.tensor([len(row)]))[0].numpy()
            assert term + fitted.bias == pytest.approx(logits, abs=1e-5)
    assert np.abs(fitted.words).max() > 0.01


def test_the_order_of_words_is_learnt() -> None:
    assert accuracy(*texts(200), on=texts(100, seed=1), classes=2) == 1.0


def test_a_word_that_stands_everywhere_and_often_does_not_drown_the_telling_ones() -> None:
    """Forty texts of a filler 3 to 40 times: by chance it tells them apart as well as the words that really do."""

    def drowned(count: int, seed: int) -> tuple[list[list[int]], list[int]]:
        random = np.random.default_rng(seed)
        labels = [number % 2 for number in range(count)]
        return [[4] * int(random.integers(3, 41)) + [5 + label] for label in labels], labels

    assert accuracy(*drowned(40, 0), on=drowned(200, 1), classes=2) == 1.0
    held = features([[4] * 9 + [5], [4] * 9 + [6]], 8, 4).sign()
    scale = linear_start._scale(held, np.array([True, False]), 8)
    assert scale[4] < scale[5]
    assert scale[8:].max() < scale[5]


def test_a_weight_is_for_a_word_as_often_as_it_stands_in_a_text() -> None:
    """Words of one label stand alone, those of the other nine times: both speak for theirs about as loudly."""
    rows = [[4 + 2 * (number % 3)] * 9 if number % 2 else [5 + 2 * (number % 3)] for number in range(60)]
    fitted = fit_linear(rows, [number % 2 for number in range(60)], WORDS, 256, 2, seed=0)
    one, other = np.abs(fitted.logits([[4] * 9, [5]])[:, 1] - fitted.bias[1])
    assert 0.5 < one / other < 1.5


def test_a_rare_label_is_given_as_often_as_it_occurs() -> None:
    """Held-out texts say that a penalty holds the answers back; where the words tell little the shares stay those."""
    random = np.random.default_rng(0)
    labels = (random.random(600) < 0.15).astype(int)
    rows = [[4 + label if random.random() < 0.7 else 5 - label, *random.integers(6, 12, 3)] for label in labels]
    fitted = fit_linear(rows, labels.tolist(), WORDS, 256, 2, seed=0)
    assert softmax(fitted.logits(rows))[:, 1].mean() == pytest.approx(labels.mean(), abs=0.03)
    assert fitted.choice.factor != 1.0
    assert fitted.choice.shift.any()


def test_a_choice_that_was_made_is_kept() -> None:
    choice = Choice(3.0, 2.0, np.array([0.5, -0.5]))
    plain = Choice(3.0, 1.0, np.zeros(2))
    changed, unchanged = (fit_linear(*texts(60), WORDS, 64, 2, seed=0, choice=one) for one in (choice, plain))
    assert changed.choice is choice
    assert np.allclose(changed.logits([[2, 3]]), 2 * unchanged.logits([[2, 3]]) + choice.shift, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_handful_of_texts_is_fitted(count: int) -> None:
    rows, labels = texts(count)
    assert np.isfinite(fit_linear(rows, labels, WORDS, 64, 2, seed=0).logits(rows)).all()


def test_three_labels_are_learnt_each_against_the_rest() -> None:
    rows, labels = texts(200)
    rows += [row[::-1] + [1 + WORDS - 2] * 3 for row in rows[:100]]
    labels += [2] * 100
    assert accuracy(rows, labels, on=(rows, labels), classes=3) > 0.95


def test_many_labels_are_learnt_beside_some_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in so many texts of other labels stands for all of them."""
    monkeypatch.setattr(linear_start, "OTHERS", 12 * 20)
    random = np.random.default_rng(0)
    labels = random.integers(0, 12, size=600).tolist()
    rows = [[4 + label, *random.integers(16, 20, size=3).tolist()] for label in labels]
    fitted = fit_linear(rows, labels, 20, 64, 12, seed=0)
    assert (fitted.logits(rows).argmax(axis=1) == labels).mean() > 0.95
    rare = ([[16]] * 600, [0] * 570 + [1] * 30, 20, 64, 2)
    some = fit_linear(*rare, seed=0).logits([[16]])
    monkeypatch.undo()
    everyone = fit_linear(*rare, seed=0).logits([[16]])
    assert some == pytest.approx(everyone, abs=0.2)


def test_words_that_no_text_holds_weigh_nothing() -> None:
    rows, labels = texts(60)
    fitted = fit_linear(rows, labels, WORDS + 5, 64, 2, seed=0)
    assert not fitted.words[WORDS:].any()
    assert not fitted.words[:2].any(), "no text has an unknown word here, and none has padding"


def test_what_unknown_words_seem_to_say_of_the_texts_is_not_learnt() -> None:
    """The last texts of one label hold words that the vocabulary does not: that is no property of the label."""
    rows, labels = texts(60)
    blind = [
        [*row, UNKNOWN_ID, UNKNOWN_ID] if number > 50 and label else row
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    fitted = fit_linear(blind, labels, WORDS, 2**18, 2, seed=0)
    assert fitted.words[4:].any()
    assert not fitted.words[UNKNOWN_ID].any()
    assert np.allclose(fitted.logits([[UNKNOWN_ID] * 4]), fitted.bias)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (fit_linear(*texts(60), WORDS, 64, 2, seed=3) for _ in range(2))
    assert np.array_equal(first.words, second.words)
    assert np.array_equal(first.pairs, second.pairs)
    assert np.array_equal(first.bias, second.bias)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0]])
def test_where_all_texts_have_one_label_it_is_the_answer(labels: list[int]) -> None:
    for classes in (2, 3):
        fitted = fit_linear([[4, 5], [6], []], labels, WORDS, 64, classes, seed=0)
        assert fitted.logits([[7]]).argmax() == labels[0]


def test_blank_texts_alone_tell_the_labels_chances() -> None:
    fitted = fit_linear([[]] * 30, [0] * 20 + [1] * 10, WORDS, 64, 2, seed=0)
    assert fitted.logits([[]]).argmax() == 0
    assert not fitted.words.any()


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text"):
        fit_linear([], [], WORDS, 64, 2, seed=0)


@pytest.mark.parametrize("classes", [2, 3, 4, 100])
def test_the_table_of_pairs_stays_small_with_many_labels(classes: int) -> None:
    pairs = pairs_for(classes)
    assert pairs & (pairs - 1) == 0
    assert pairs <= PAIRS
    assert pairs * classes <= MOST_NUMBERS
    assert pairs == PAIRS or 2 * pairs * classes > MOST_NUMBERS
