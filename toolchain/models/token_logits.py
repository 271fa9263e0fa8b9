"""What a PyTorch model answers after every token of a text: the reference of `model.explain.onnx`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from export.spec import Pool
from toolchain.models.classifiers import BasicRNN, ImportedClassifier, Model, PooledGRU, RNNCellClassifier


def running_logits(model: Model | ImportedClassifier, ids: Tensor, pooling: Sequence[Pool]) -> Tensor:
    """ids [batch, time] -> the logits of the first 0, 1, 2 … time tokens, [batch, time + 1, classes].

    What stands behind a token has no part in its logits, so rows may be padded on the right.
    """
    states = top_states(model, ids)
    counts = torch.arange(1, states.shape[1] + 1).view(1, -1, 1)
    pools = []
    for pool in pooling:
        if pool == "last":
            pools.append(states)
        elif pool == "max":
            pools.append(states.cummax(1).values)
        else:
            pools.append((states.double().cumsum(1) / counts).float())
    pooled = torch.cat(pools, 2)
    logits = _classify(model, torch.nn.functional.pad(pooled, (0, 0, 1, 0)))
    if isinstance(model, PooledGRU) and model.bag is not None:
        logits[:, 1:] += model.bag.running(ids).float()
    return logits


def top_states(model: Model | ImportedClassifier, ids: Tensor) -> Tensor:
    """The top layer's state after each token: [batch, time] -> [batch, time, hidden]."""
    if isinstance(model, RNNCellClassifier):
        return model.states(ids)
    if isinstance(model, ImportedClassifier):
        recurrent: torch.nn.RNNBase = model.recurrent
    else:
        recurrent = model.rnn if isinstance(model, BasicRNN) else model.gru
    top: Tensor = recurrent(model.embed(ids))[0]
    return top


def _classify(model: Model | ImportedClassifier, pooled: Tensor) -> Tensor:
    """[..., hidden * pools] -> logits [..., classes]."""
    if isinstance(model, ImportedClassifier):
        return model.classify(pooled)
    logits: Tensor = model.out(torch.relu(model.fc(pooled)) if isinstance(model, RNNCellClassifier) else pooled)
    return logits
