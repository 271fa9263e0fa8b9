"""The training side's file: `txtclassification.pt`, with everything an export needs, read without unpickling."""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.bundle import MANIFEST
from export.rounding import Sizes, logit_sizes
from export.spec import Classifier, InvalidClassifier, QuantizedTable, Specification
from export.text import PADDING_ID, encode, lookup_table
from toolchain.errors import UsageError
from toolchain.models.classifiers import ImportedClassifier, Model, PooledGRU, build_model, portable_weights
from toolchain.models.token_logits import running_logits, top_states

FILE = "txtclassification.pt"
FORMAT = 1
_BATCH_TOKENS = 1 << 15
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Snapshot:
    """A trained model: its class, specification, vocabulary and weights, and how it came about (`training`).

    A shrunk one has the bytes that its embedding stands for, which graphs store in its place; no file keeps them.
    """

    model: str
    specification: Specification
    vocabulary: list[str]
    state: Mapping[str, Tensor]
    training: Mapping[str, Any]
    quantized_embedding: QuantizedTable | None = None

    @property
    def identity(self) -> str:
        """SHA-256 of the weights, name by name. Specification and vocabulary have no part in it."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state.items()):
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def without_bag(self) -> "Snapshot":
        """The same model without the bag of words beside its recurrence; itself where it has none."""
        state = {name: tensor for name, tensor in self.state.items() if not name.startswith("bag.")}
        training = {**self.training, "parameters": sum(tensor.numel() for tensor in state.values())}
        return replace(self, specification=replace(self.specification, bag=0), state=state, training=training)

    def build(self) -> Model | ImportedClassifier:
        """The PyTorch model, in evaluation mode on the CPU."""
        model = empty_model(self.model, self.specification, len(self.vocabulary))
        model.load_state_dict(dict(self.state))
        return model.eval()

    @cached_property
    def portable_names(self) -> Mapping[str, str]:
        """Those of the model (see `toolchain.models.classifiers.portable_name`)."""
        return self.build().portable_names

    def classifier(self) -> Classifier:
        """What `export` takes."""
        weights = portable_weights(self.state, self.portable_names)
        return Classifier(self.specification, self.vocabulary, weights, self.quantized_embedding)

    def reference(self) -> Callable[[Sequence[str]], NDArray[np.float32]]:
        """PyTorch's own answer, the reference of every parity proof: texts -> logits [texts, classes]."""
        answer, tokenizer = self.answer_tokens(), self.specification.tokenizer
        return lambda texts: answer([tokenizer.tokenize(text) for text in texts])

    def answer_tokens(
        self, cut: Callable[[Tensor], Tensor] = lambda lengths: lengths, device: str | torch.device = "cpu"
    ) -> Callable[[Sequence[Sequence[str]]], NDArray[np.float32]]:
        """The same for texts that are cut into tokens, worked out on `device`.

        With a `cut` from lengths [texts] to those of prefixes [texts, prefixes]: of each, [texts, prefixes, classes].
        """
        model = self.build().to(device)
        table = lookup_table(self.vocabulary)
        limit = self.specification.max_tokens

        def logits(texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
            rows = [encode(tokens[:limit], table) for tokens in texts]
            prefixes = cut(torch.zeros(len(rows), dtype=torch.long)).shape
            results = np.empty((*prefixes, len(self.specification.labels)), np.float32)
            with torch.inference_mode():
                for batch, ids, lengths in batches_of(rows):
                    results[batch] = model(ids.to(device), cut(lengths).to(device)).cpu().numpy()
            return results

        return logits

    def sizes_reference(self) -> Callable[[Sequence[str]], Sizes]:
        """Texts -> the size of the terms that each logit is summed from, [texts, classes] (see `export.rounding`)."""
        classifier = self.classifier()
        bounded = self.specification.nonlinearity == "tanh"

        def sizes(texts: Sequence[str]) -> Sizes:
            states = [1.0] if bounded else self._largest_states(texts)
            return logit_sizes(classifier, states, self._largest_bags(texts))

        return sizes

    def _largest_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The largest unit of all states of each text, [texts]."""
        model = self.build()
        results = np.zeros(len(texts), np.float32)
        with torch.inference_mode():
            for batch, ids, lengths in batches_of(self._encode(texts)):
                own = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
                results[batch] = (top_states(model, ids).abs().amax(2) * own).amax(1).numpy()
        return results

    def _largest_bags(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The largest size of the bag's term of any prefix of each text, [texts, classes]."""
        results = np.zeros((len(texts), len(self.specification.labels)))
        if not self.specification.bag:
            return results
        model = self.build()
        assert isinstance(model, PooledGRU)
        assert model.bag is not None
        with torch.inference_mode():
            for batch, ids, lengths in batches_of(self._encode(texts)):
                own = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).unsqueeze(2)
                results[batch] = (model.bag.running(ids).abs() * own).amax(1).numpy()
        return results

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of the tokens of each text that are read."""
        table = lookup_table(self.vocabulary)
        limit = self.specification.max_tokens
        return [encode(self.specification.tokenizer.tokenize(text)[:limit], table) for text in texts]

    def shares_reference(self) -> Callable[[Sequence[str]], list[NDArray[np.float32]]]:
        """PyTorch's own shares: texts -> of each the change of the logits by every token read, [tokens, classes]."""
        model = self.build()
        pooling = self.specification.pooling

        def shares(texts: Sequence[str]) -> list[NDArray[np.float32]]:
            results: dict[int, NDArray[np.float32]] = {}
            with torch.inference_mode():
                for batch, ids, lengths in batches_of(self._encode(texts)):
                    changes = running_logits(model, ids, pooling).diff(dim=1).numpy()
                    results |= {
                        index: own[:length].copy()
                        for index, own, length in zip(batch, changes, lengths.tolist(), strict=True)
                    }
            return [results[index] for index in range(len(texts))]

        return shares


def empty_model(name: str, specification: Specification, vocabulary_size: int) -> Model | ImportedClassifier:
    """A model of the class `name`, for weights to be put in."""
    if name == "ImportedClassifier":
        return ImportedClassifier(specification, vocabulary_size)
    return build_model(name, specification, vocabulary_size, dropout=0.0)


def batches_of(rows: Sequence[list[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Rows of ids, the longest first, as indices, ids [batch, time] padded on the right, and lengths [batch].

    The shortest row of a batch is at least half as long as the longest.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    while order:
        longest = len(rows[order[-1]])
        size = max(1, min(_BATCH_ROWS, _BATCH_TOKENS // max(1, longest)))
        start = max(len(order) - size, bisect_left(order, longest / 2, key=lambda index: len(rows[index])))
        batch, order = order[start:], order[:start]
        lengths = torch.tensor([len(rows[index]) for index in batch])
        width = max(1, int(lengths.max()))
        ids = torch.tensor([rows[index] + [PADDING_ID] * (width - len(rows[index])) for index in batch])
        yield batch, ids, lengths


def save_snapshot(snapshot: Snapshot, folder: Path) -> Path:
    """Write `folder/txtclassification.pt`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "model": snapshot.model,
        "specification": snapshot.specification.to_json(),
        "vocabulary": snapshot.vocabulary,
        "weights": {name: tensor.detach().cpu().clone() for name, tensor in snapshot.state.items()},
        "training": dict(snapshot.training),
    }
    return save_whole(values, folder / FILE)


def save_whole(values: Mapping[str, Any], target: Path) -> Path:
    """`torch.save` beside `target`, made durable and renamed into place: the file is whole or as it was."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot folder or its file, with `weights_only=True`.

    Raises `UsageError` where there is none, where it is the bare `state_dict` the walk-through saves under the same
    name, or where it is damaged or newer than this program.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file() and (path / MANIFEST).is_file():
        raise UsageError(f"{path}: a bundle, not a snapshot; name the folder that toolchain train wrote")
    if not file.is_file():
        raise UsageError(f"{file}: no snapshot here; make one: toolchain train --out {path}")
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of bytes that are no snapshot the unpickler raises nearly anything
        raise UsageError(
            f"{file}: not a snapshot, or damaged; name the folder that toolchain train wrote, or train anew"
        ) from error
    if isinstance(values, Mapping) and values and all(isinstance(value, Tensor) for value in values.values()):
        raise UsageError(
            f"{file}: a bare state_dict, without the vocabulary and tokenizer that belong to it. Bring them: "
            f"toolchain import --state-dict {file} --vocab vocab.txt --labels neg,pos --out imported. "
            f"Or train it anew: toolchain train --out {path}"
        )
    if not isinstance(values, Mapping) or not isinstance(values.get("format"), int):
        raise UsageError(f"{file}: not a snapshot; name the folder that toolchain train wrote")
    if values["format"] > FORMAT:
        raise UsageError(
            f"{file}: snapshot format {values['format']}, newer than this program reads ({FORMAT}); upgrade it"
        )
    try:
        snapshot = Snapshot(
            model=values["model"],
            specification=Specification.from_json(values["specification"]),
            vocabulary=values["vocabulary"],
            state=values["weights"],
            training=values["training"],
        )
        snapshot.classifier()  # checks names, shapes and numbers
    except (KeyError, TypeError, StopIteration, RuntimeError, InvalidClassifier) as error:
        raise UsageError(f"{file}: a damaged snapshot ({error}); make it anew: toolchain train --out {path}") from error
    return snapshot
