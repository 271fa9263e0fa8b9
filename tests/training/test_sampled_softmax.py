"""The cross-entropy over a sample of the words, and its gradient."""

import pytest
import torch
from torch import Tensor

from toolchain.training import sampled_softmax
from toolchain.training.sampled_softmax import sampled_cross_entropy

COUNT, WIDTH, VOCABULARY = 37, 6, 30


def written_out(states: Tensor, answers: Tensor, words: Tensor, correction: Tensor, sample: Tensor) -> Tensor:
    """The same, an answer at a time: its score against those of the sample's other words."""
    scores = states.to(words.dtype) @ words.t() + correction
    losses = []
    for row, answer in zip(scores, answers, strict=True):
        among = torch.unique(torch.cat([sample, answer.unsqueeze(0)]))
        losses.append(row[among].logsumexp(0) - row[answer])
    return torch.stack(losses).mean()


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    answers = torch.randint(2, VOCABULARY, (COUNT,))
    sample = torch.tensor([2, 3, 5, 8, 13, 21, 28])
    states, words = torch.randn(COUNT, WIDTH, dtype=dtype), torch.randn(VOCABULARY, WIDTH, dtype=dtype)
    correction = torch.randn(VOCABULARY, dtype=dtype)
    return states.requires_grad_(), answers, words.requires_grad_(), correction.requires_grad_(), sample


@pytest.mark.parametrize("rows", [1, 10, 2048])
def test_the_loss_and_its_gradients_are_those_of_the_formula(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled_softmax, "_ROWS", rows)
    states, answers, words, correction, sample = example()
    assert torch.isin(answers, sample).any()
    assert not torch.isin(answers, sample).all()
    results = []
    for loss in (sampled_cross_entropy, written_out):
        value = loss(states, answers, words, correction, sample)
        results.append([value, *torch.autograd.grad(3 * value, [states, words, correction])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_an_answer_beyond_the_last_word_of_the_sample_is_no_error() -> None:
    states, _, words, correction, sample = example()
    answers = torch.full((COUNT,), VOCABULARY - 1)
    ours, theirs = (f(states, answers, words, correction, sample) for f in (sampled_cross_entropy, written_out))
    torch.testing.assert_close(ours, theirs)


def test_scores_too_large_for_their_exponentials_are_no_trouble() -> None:
    states, answers, words, correction, sample = (part.detach() for part in example(torch.float32))
    ours = sampled_cross_entropy(states * 1e4, answers, words, correction, sample)
    torch.testing.assert_close(ours, written_out(states * 1e4, answers, words, correction, sample))


def test_states_in_bf16_change_the_loss_by_their_rounding_alone() -> None:
    states, answers, words, correction, sample = example(torch.float32)
    low = states.detach().bfloat16().requires_grad_()
    rough = sampled_cross_entropy(low, answers, words, correction, sample)
    exact = sampled_cross_entropy(states, answers, words, correction, sample)
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    (by_states,) = torch.autograd.grad(rough, [low])
    assert by_states.dtype == torch.bfloat16
