"""How far two right answers may be apart: a tolerance that follows the size of the terms that a logit is summed from.

A logit is a sum, z = b + w_1 s_1 + ... + w_n s_n, over the pooled states s. Two correct implementations round it
differently, and by how much depends on its terms and not on z, in which they may cancel:

- Summing n products in single precision, in any order, is off by at most about n u (|b| + |w_1 s_1| + ... + |w_n s_n|),
  where u = 2**-24 is half a unit in the last place of 1 (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
  section 3.1). Errors of either sign cancel, so that it is of the order of sqrt(n) u instead of n u.
- The states are themselves rounded. A state of a GRU or of a tanh is a number in [-1, 1] that the last steps computed
  anew: it is off by some d, a few units in the last place of 1, however long the text, and moves z by at most
  d (|w_1| + ... + |w_n|).

Both are multiples of one size, m = |b| + |w_1| + ... + |w_n|, with |s_i| <= 1 taken as 1. Linear layers in between pass
it on: with a ReLU, |relu(x)| <= |x|, so that m of a layer takes the place of the 1 in the next. A ReLU recurrence has
no such bound; there the largest state of the text, where it is above 1, takes the place of the 1.

The term of a bag of words, t = s (v_1 + ... + v_n), is summed in double precision, so that its n summands leave nothing
behind in single precision: n 2**-53 s (|v_1| + ... + |v_n|) for at most `max_tokens` of them. It is then rounded once,
by at most u |t|, and added like any other term: m becomes m + |t|. A share is the difference of two logits of prefixes
of the text, and so |t| is that of the prefix where it is largest.

The tolerance is `LOGIT_ULPS` units in the last place of m. Measured on a CPU over edge cases of up to 20,000 tokens,
with trained and untrained models, with output weights times 1 and 40, the largest difference is 2.8 units (`make demo`
prints them); the rest is room for other processors. For the documented model (m = 15) the tolerance is 3e-5: a logit
that is off by it moves a probability by less than `export.forms.TOLERANCE`, which stays the bound of every probability.

Scaling the output layer, such as by a small temperature, scales m and leaves the verdict as it is. One wrong weight,
word or bias moves logits by a share of a term and not by a share of its last place.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.spec import Classifier

ULP = 2.0**-23
"""The unit in the last place of 1 in single precision."""

LOGIT_ULPS = 16.0
"""How many units in the last place of its terms a logit may be off. A share, the difference of two, twice that."""

LEAST_LOG_PROBABILITY = -80.0
"""Below it a probability is nearly too small for single precision, and its logarithm says nothing of a logit."""

Sizes = NDArray[np.float64]


def logit_sizes(
    classifier: Classifier,
    largest_states: Sequence[float] | NDArray[np.floating] = (1.0,),
    largest_bags: float | NDArray[np.floating] = 0.0,
) -> Sizes:
    """The size of the terms of each logit, [texts, classes], for texts with these largest states, [texts] or [1].

    `largest_bags` [texts, classes] are the largest sizes of the bag's term, of any prefix of a text.
    """
    states = np.maximum(np.asarray(largest_states, np.float64), 1.0)
    sizes = np.tile(states[:, None], classifier.weights["head.0.weight"].shape[1])
    for index in range(len(classifier.specification.head) + 1):
        weight, bias = (np.abs(classifier.weights[f"head.{index}.{part}"]) for part in ("weight", "bias"))
        sizes = sizes @ weight.T.astype(np.float64) + bias
    return sizes + largest_bags


def logit_differences(said: NDArray[np.floating], wanted: NDArray[np.floating], sizes: Sizes) -> Sizes:
    """How far logits are apart, in units in the last place of the terms: three arrays [texts, classes] -> one."""
    return np.abs(said.astype(np.float64) - wanted) / (ULP * sizes)


def log_probability_differences(
    probabilities: NDArray[np.floating], wanted: NDArray[np.floating], sizes: Sizes
) -> Sizes:
    """The same of the `probabilities` of a form that gives no logits, beside the logits that are `wanted`.

    The logarithm of a probability is its logit less one number that all logits make, log(exp(z_1) + ...), and so off by
    no more than its own logit and the worst of the others together: its size is the sum of these two. The probability
    is itself rounded, by a few units in its last place, which move its logarithm by as many units in the last place of
    1: without that 1 a model with small weights, such as a GRU that hardly counts, could not be told right.
    """
    wanted = wanted.astype(np.float64)
    expected = wanted - np.logaddexp.reduce(wanted, axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        said = np.log(probabilities.astype(np.float64))
    far = logit_differences(said, expected, sizes + sizes.max(axis=1, keepdims=True) + 1.0)
    return np.where(expected < LEAST_LOG_PROBABILITY, 0.0, far)
