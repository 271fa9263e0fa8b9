"""The cross-entropy of a softmax over an answer and a sample of the other words, with its gradient, in little memory.

Written out with PyTorch's operations, every score of every answer goes through memory a dozen times. Here some
answers are taken at a time, and their gradients are worked out while their scores are in the cache.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = 2_048
"""Answers whose scores are in the cache together."""


def sampled_cross_entropy(states: Tensor, answers: Tensor, words: Tensor, correction: Tensor, sample: Tensor) -> Tensor:
    """states [answers, width], answers [answers] -> the mean cross-entropy in nats of telling them from the sample.

    A word's score is its row of `words` [vocabulary, width] by the state, plus its `correction` [vocabulary]. `sample`
    holds word numbers, sorted, none twice; an answer that is in it counts once. The products are taken in the precision
    of the states. There is no second derivative.
    """
    loss: Tensor = _Loss.apply(states, answers, words, correction, sample)  # type: ignore[no-untyped-call]
    return loss


class _Loss(torch.autograd.Function):
    """Its backward pass is worked out in the forward pass: all that it waits for is a factor."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, answers: Tensor, words: Tensor, correction: Tensor, sample: Tensor) -> Tensor:
        others, other_correction = words[sample].to(states.dtype), correction[sample]
        by_states, by_words, by_correction = map(torch.zeros_like, (states, words, correction))
        by_others, by_other_correction = torch.zeros_like(others, dtype=words.dtype), torch.zeros_like(other_correction)
        places = torch.searchsorted(sample, answers).clamp(max=len(sample) - 1)
        sampled = sample[places] == answers
        total = words.new_zeros(())
        for start in range(0, len(answers), _ROWS):
            some = slice(start, start + _ROWS)
            low_state, answer, twice = states[some], answers[some], sampled[some].nonzero().squeeze(1)
            state, word = low_state.to(words.dtype), words[answer]
            scores = torch.mm(low_state, others.t()).to(words.dtype).add_(other_correction)
            scores[twice, places[some][twice]] = -torch.inf
            score = (word * state).sum(1) + correction[answer]
            highest = torch.maximum(scores.amax(1), score)
            certain, shares = (score - highest).exp_(), scores.sub_(highest.unsqueeze(1)).exp_()
            sums = shares.sum(1) + certain
            total += (sums.log() + highest - score).sum()

            shares.div_(sums.unsqueeze(1))
            missing = certain.div_(sums).sub_(1)
            low_shares = shares.to(states.dtype)
            by_states[some] = torch.mm(low_shares, others) + missing.unsqueeze(1) * word
            by_others += torch.mm(low_shares.t(), low_state)
            by_other_correction += shares.sum(0)
            by_words.index_add_(0, answer, missing.unsqueeze(1) * state)
            by_correction.index_add_(0, answer, missing)
        by_words.index_add_(0, sample, by_others)
        by_correction.index_add_(0, sample, by_other_correction)
        ctx.save_for_backward(by_states, by_words, by_correction)
        return total / len(answers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        by_states, by_words, by_correction = ctx.saved_tensors
        factor = gradient / len(by_states)
        return by_states * factor.to(by_states.dtype), None, by_words * factor, by_correction * factor, None
