"""The documented training as its source has it, defects included: what `training.py` and `defects.py` compare with."""

import random
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torchtext import data, datasets

BATCH_SIZE = 64
SPLIT_RATIO = 0.8
MIN_FREQ = 5


class DocumentedGRU(nn.Module):
    """`BasicGRU` before its repair: it answers from the state after the padding, and its dropout has no effect."""

    def __init__(
        self, n_layers: int, hidden_dim: int, n_vocab: int, embed_dim: int, n_classes: int, dropout_p: float
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_vocab, embed_dim)
        self.dropout = nn.Dropout(dropout_p)
        self.gru = nn.GRU(embed_dim, hidden_dim, num_layers=n_layers, batch_first=True)
        self.out = nn.Linear(hidden_dim, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Ids [batch, time], padded on the right -> logits [batch, classes]."""
        x, _ = self.gru(self.embed(x))
        h_t = x[:, -1, :]
        self.dropout(h_t)
        logits: Tensor = self.out(h_t)
        return logits


def documented_train(model: nn.Module, optimizer: Optimizer, iterator: Iterable[Any]) -> None:
    """One pass over the batches. Labels come as 1 and 2, because torchtext's label vocabulary begins with `<unk>`."""
    model.train()
    for batch in iterator:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch.text), batch.label - 1)
        loss.backward()
        optimizer.step()


def documented_training_set(folder: str, seed: int) -> tuple[data.Dataset, int]:
    """The training part, 80 % of IMDB's training reviews, and the size of the vocabulary."""
    text = data.Field(sequential=True, batch_first=True, lower=True)
    label = data.Field(sequential=False, batch_first=True)
    train, _ = datasets.IMDB.splits(text, label, path=folder)
    text.build_vocab(train, min_freq=MIN_FREQ)
    label.build_vocab(train)
    part, _ = train.split(split_ratio=SPLIT_RATIO, random_state=random.Random(seed).getstate())
    return part, len(text.vocab)


def documented_batches(part: data.Dataset, seed: int, batch_size: int = BATCH_SIZE) -> data.BucketIterator:
    """Batches of random reviews, each padded to its longest: in training `BucketIterator` does not bucket by itself."""
    random.seed(seed)  # the iterator's shuffler starts from Python's random state
    device = torch.device("cpu")
    return data.BucketIterator(part, batch_size, sort_key=lambda example: len(example.text), train=True, device=device)
