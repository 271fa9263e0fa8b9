"""Logits added up: what is found is the smallest of what is written down, and what was thought before holds for few."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from toolchain.training.likelihood import likeliest

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.choice(3, 400, p=[0.7, 0.2, 0.1])
PART = (np.eye(3)[LABELS] + GENERATOR.normal(size=(400, 3))).astype(np.float32)


def cost(weight: float, shift: NDArray[np.float64], doubt: float) -> float:
    logits = torch.tensor(weight * PART + shift)
    loss = float(torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)))
    return loss + ((weight - 1) ** 2 + float(shift @ shift)) / (2 * doubt**2 * len(LABELS))


def test_no_other_weight_or_shift_is_likelier() -> None:
    found = likeliest([PART], LABELS, [1.0], 0.7, shifted=True)
    (weight,), shift = found.weights, found.shift
    assert found.loss == pytest.approx(cost(weight, shift, 0.7))
    for step in (0.05, -0.05):
        assert cost(weight + step, shift, 0.7) > found.loss
        assert all(cost(weight, shift + step * np.eye(3)[label], 0.7) > found.loss for label in range(3))


def test_the_shift_gives_the_labels_their_shares() -> None:
    found = likeliest([PART], LABELS, [1.0], 100.0, shifted=True)
    answers = torch.softmax(torch.tensor(found.weights[0] * PART + found.shift), 1).mean(0).numpy()
    assert answers == pytest.approx(np.bincount(LABELS) / len(LABELS), abs=1e-3)
    assert not likeliest([PART], LABELS, [1.0], 100.0).shift.any()


def test_little_doubt_leaves_what_was_thought_and_no_weight_is_too_heavy() -> None:
    assert likeliest([PART], LABELS, [1.0], 1e-3, shifted=True).weights[0] == pytest.approx(1.0, abs=1e-3)
    right = np.eye(3)[LABELS]
    assert likeliest([right], LABELS, [1.0], 100.0, heaviest=2.0).weights == [2.0]
    assert likeliest([-right], LABELS, [1.0], 100.0).weights == [0.0]
