"""A language-model start: before it classifies, the GRU learns from all text at hand which word comes next.

Method: Dai and Le 2015 (arXiv:1511.01432). The softmax runs over each review's next words and a sample of the
vocabulary instead of all of it, corrected for how likely a word is drawn: Jean et al. 2015 (arXiv:1412.2007).
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW

from export.text import PADDING_ID, encode, lookup_table
from toolchain.models.classifiers import PooledGRU
from toolchain.models.recurrence import word_states
from toolchain.training.optimization import decaying, one_cycle
from toolchain.training.sampled_softmax import sampled_cross_entropy

BATCH_SIZE = 64
MAX_TOKENS = 300
NEGATIVES = 768
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01
WARM_UP = 0.1
DROPOUT = 0.1
FLATTENING = 0.75
"""Power of a word's frequency with which it is drawn, as in skip-gram."""
CLIP_NORM = 1.0
_POOL = 50
"""Batches that are sorted by length together."""

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def pretrain(
    model: PooledGRU,
    sentences: Sequence[Sequence[str]],
    vocabulary: Sequence[str],
    seed: int,
    epochs: int,
    precision: torch.dtype = torch.float32,
    progress: Progress = lambda batches, title: batches,
    learning_rate: float = LEARNING_RATE,
) -> float:
    """Train the embedding and the GRU of `model` in place to predict the next of the first `MAX_TOKENS` tokens.

    Gives the last pass's mean loss a batch, as `NextWord` has it. In `torch.bfloat16` the products are taken in it
    (autocast). Texts of a single token teach nothing; at least one has to be longer.
    """
    device = model.embed.weight.device
    table = lookup_table(vocabulary)
    texts = [torch.tensor(encode(sentence[: MAX_TOKENS + 1], table)) for sentence in sentences if len(sentence) > 1]
    counts = torch.bincount(torch.cat(texts), minlength=len(vocabulary))
    predictor = NextWord(model, counts).to(device)
    optimizer = AdamW(decaying(predictor, WEIGHT_DECAY), lr=learning_rate, fused=True)
    steps = epochs * -(-len(texts) // BATCH_SIZE)
    schedule = one_cycle(optimizer, steps, WARM_UP)
    shuffler = random.Random(seed)
    predictor.train()
    for epoch in range(1, epochs + 1):
        losses: list[float] = []
        for batch in progress(_bucketed(texts, shuffler), f"language model, pass {epoch} of {epochs}"):
            ids = pad_sequence([texts[index] for index in batch], batch_first=True, padding_value=PADDING_ID).to(device)
            optimizer.zero_grad()
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = predictor(ids)
            loss.backward()
            nn.utils.clip_grad_norm_(predictor.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


class NextWord(nn.Module):
    """The embedding and the GRU of a classifier, and an output layer over the vocabulary that is thrown away later.

    `counts` [vocabulary] says how often each word stands in the text. The output layer scores a word by its vector's
    product with the state, projected to the vector's size, and starts from the embedding and the frequencies.
    """

    draws: Tensor
    log_expected: Tensor

    def __init__(self, model: PooledGRU, counts: Tensor) -> None:
        super().__init__()
        self.embed, self.gru = model.embed, model.gru
        self.project = nn.Linear(model.gru.hidden_size, model.embed.embedding_dim)
        self.words = nn.Parameter(model.embed.weight.detach() / 2)
        frequencies = (counts + 1).double()
        self.bias = nn.Parameter((frequencies / frequencies.sum()).log().float())
        draws = frequencies**FLATTENING
        draws[PADDING_ID] = 0
        draws /= draws.sum()
        self.register_buffer("draws", draws.float())
        often = -torch.expm1(NEGATIVES * torch.log1p(-draws.clamp(max=1 - 1e-9)))
        self.register_buffer("log_expected", often.clamp(min=1e-30).log().float())

    def forward(self, ids: Tensor) -> Tensor:
        """ids [batch, time], padded on the right -> the mean cross-entropy of the next words, sampled, in nats."""
        channels = self._dropout(len(ids), self.embed.embedding_dim)
        states = word_states(self.gru, self.embed, ids[:, :-1], channels).transpose(0, 1)  # a step's lie together
        states = states * self._dropout(*states.shape[1:])
        answers = ids[:, 1:].t()
        follows = answers != PADDING_ID
        sample = torch.unique(torch.multinomial(self.draws, NEGATIVES, replacement=True))
        # The logarithm of how often a sample holds a word corrects for its being drawn.
        return sampled_cross_entropy(
            self.project(states)[follows], answers[follows], self.words, self.bias - self.log_expected, sample
        )

    def _dropout(self, reviews: int, channels: int) -> Tensor:
        """By what the channels [reviews, channels] are multiplied: some of a review are dropped for all its steps."""
        return F.dropout(self.bias.new_ones(reviews, channels), DROPOUT, self.training)


def _bucketed(texts: Sequence[Tensor], shuffler: random.Random) -> list[list[int]]:
    """Indices of texts of similar length, a batch at a time, in random order."""
    order = list(range(len(texts)))
    shuffler.shuffle(order)
    pool = BATCH_SIZE * _POOL
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool], key=lambda index: len(texts[index]))
        batches += [near[first : first + BATCH_SIZE] for first in range(0, len(near), BATCH_SIZE)]
    shuffler.shuffle(batches)
    return batches
