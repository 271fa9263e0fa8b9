"""Logits added up so that what was seen is likeliest: a convex problem of few unknowns."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Likeliest(NamedTuple):
    """What each part is multiplied with, what is added to the sum [classes], and the mean cross-entropy in nats, with
    the cost of the distance from what was thought before."""

    weights: list[float]
    shift: NDArray[np.float64]
    loss: float


def likeliest(
    parts: Sequence[NDArray[np.floating]],
    labels: NDArray[np.int64],
    before: Sequence[float],
    doubt: float,
    heaviest: float | None = None,
    shifted: bool = False,
) -> Likeliest:
    """The likeliest sum of these parts, logits [reviews, classes] each, given the labels [reviews].

    Before these speak, the weights are thought to be `before` and the shift 0, with the standard deviation `doubt`. So
    it is the smallest sum of cross-entropy and squared distance from that. No weight is below 0 or above `heaviest`;
    the shift stays 0 where the sum is not to be `shifted`.
    """
    from scipy.optimize import minimize

    stacked = np.stack(parts).astype(np.float64)
    count, reviews, classes = stacked.shape
    rows = np.arange(reviews)
    origin = np.concatenate([before, np.zeros(classes)])
    pull = 1 / (doubt**2 * reviews)

    def loss(unknowns: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = np.tensordot(unknowns[:count], stacked, 1) + unknowns[count:]
        shares = np.exp(logits - logits.max(1, keepdims=True))
        total = shares.sum(1, keepdims=True)
        value = np.log(total[:, 0]) + logits.max(1) - logits[rows, labels]
        away = unknowns - origin
        errors = shares / total
        errors[rows, labels] -= 1
        slope = np.concatenate([np.einsum("prc,rc->p", stacked, errors), errors.sum(0)]) / reviews + pull * away
        return float(value.mean() + pull * (away @ away) / 2), slope

    bounds = [(0.0, heaviest)] * count + [(None, None) if shifted else (0.0, 0.0)] * classes
    found = minimize(loss, origin, jac=True, bounds=bounds, method="L-BFGS-B")
    return Likeliest(found.x[:count].tolist(), found.x[count:], float(found.fun))
