"""The classifier as a `torch.export` program: ids and lengths in, logits out, for any number of rows and time steps."""

import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from export.spec import Classifier
from export.text import PADDING_ID
from export.torchscript import TextClassifier

_OPERATORS = {
    ("gru", "tanh"): torch.ops.aten.gru.input,
    ("rnn", "tanh"): torch.ops.aten.rnn_tanh.input,
    ("rnn", "relu"): torch.ops.aten.rnn_relu.input,
}


class IdsClassifier(nn.Module):
    """`forward(ids [rows, time], lengths [rows]) -> logits [rows, classes]`, the interface of `model.ids.onnx`."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = TextClassifier(classifier)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """A column of padding is added, so that there is always a time step."""
        padded = nn.functional.pad(ids, (0, 1), value=PADDING_ID)
        return self.classifier.logits(padded, lengths.clamp(max=self.classifier.max_tokens))


def pt2_bytes(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    """The program for `torch.export.load`, with `metadata` and the specification in `specification.json`."""
    rows, time = Dim("rows", min=1), Dim("time", min=0)
    example = (torch.full((3, 7), PADDING_ID), torch.tensor([7, 3, 0]))
    specification = classifier.specification
    with _any_time(_OPERATORS[specification.cell, specification.nonlinearity]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"The tensor attributes .*_flat_weights", UserWarning)  # PyTorch's own list
        program = torch.export.export(
            IdsClassifier(classifier).eval(), example, dynamic_shapes={"ids": {0: rows, 1: time}, "lengths": {0: rows}}
        )
    buffer = io.BytesIO()
    extra = {"specification.json": json.dumps({**specification.to_json(), **metadata})}
    torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()


@contextmanager
def _any_time(operator: Any) -> Iterator[None]:
    """While a program is traced, take the shapes of a recurrent operator's outputs from `_traced`.

    PyTorch's own rule walks through the time steps and so fixes their number to the example's
    (https://github.com/pytorch/pytorch/issues/126339). The program keeps the operator itself, and runs it as it is.
    """
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    own = operator.py_kernels.pop(key)
    operator.py_impl(key)(_traced)
    try:
        yield
    finally:
        del operator.py_kernels[key]
        operator.py_impl(key)(own)


def _traced(steps: Tensor, state: Tensor, weights: Sequence[Tensor], *settings: Any) -> tuple[Tensor, Tensor]:
    """Shapes alone: steps [rows, time, features], state [layers, rows, hidden] -> all states, last states."""
    return steps.new_empty(steps.shape[0], steps.shape[1], state.shape[2]), state.new_empty(state.shape)
