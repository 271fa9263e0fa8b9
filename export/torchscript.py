"""The classifier as one TorchScript module: texts in, labels and probabilities out, libtorch alone to run it."""

import io
import json
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Dict, List, Tuple  # noqa: UP035 - TorchScript reads these, not the built-in generics

import torch
from torch import Tensor, nn

from export.spec import BELOW_STATES, PAIR_FACTOR, Classifier
from export.text import LINE_BREAK, MARKS, PADDING_ID, SPACES, UNKNOWN_ID, lookup_table


class BagOfWords(nn.Module):
    """The term that words and pairs of words add to the logits (see `export.spec.Specification`)."""

    def __init__(self, vocabulary_size: int, pairs: int, classes: int) -> None:
        super().__init__()
        self.pair_factor = PAIR_FACTOR
        self.padding_id = PADDING_ID
        self.words = nn.Embedding(vocabulary_size, classes)
        self.pairs = nn.Embedding(pairs, classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [texts, time] and lengths [texts] -> [texts, classes]."""
        before = nn.functional.pad(ids, [1, 0], value=float(self.padding_id))[:, :-1]
        pairs = (before * self.pair_factor + ids) % self.pairs.num_embeddings
        terms = self.words(ids).double() + self.pairs(pairs).double()
        own = (torch.arange(ids.size(1)) < lengths.unsqueeze(1)).unsqueeze(2)
        term: Tensor = (terms * own).sum(1) / lengths.clamp(min=1).double().sqrt().unsqueeze(1)
        return term.float()


class TextClassifier(nn.Module):
    """`forward(texts) -> (labels, probabilities [texts, classes])`, and `tokenize(text)`; written to be scripted.

    Strings are UTF-8 bytes in TorchScript and its `lower` is ASCII alone. Its `split` without an argument also cuts
    inside UTF-8 sequences, so white space becomes U+0020 first. The white-space characters are an attribute because a
    module with the literals "\\v" or "\\f" in its code is saved and then cannot be loaded.
    """

    vocabulary: Dict[str, int]  # noqa: UP006
    labels: List[str]  # noqa: UP006
    spaces: List[str]  # noqa: UP006
    marks: List[str]  # noqa: UP006
    pooling: List[str]  # noqa: UP006

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        specification = classifier.specification
        self.vocabulary = lookup_table(classifier.vocabulary)
        self.labels = list(specification.labels)
        self.spaces = [space for space in SPACES if space != " "]
        self.marks = [mark for mark in MARKS if mark != "'"]
        self.line_break = LINE_BREAK
        self.lowercase = specification.tokenizer.lowercase
        self.punctuation: str = specification.tokenizer.punctuation
        self.unit: str = specification.tokenizer.unit
        self.max_tokens = specification.max_tokens
        self.unknown_id = UNKNOWN_ID
        self.padding_id = PADDING_ID
        self.pooling = list(specification.pooling)
        self.below_states = BELOW_STATES
        self.embedding = nn.Embedding(len(classifier.vocabulary), specification.embedding)
        sizes = (specification.embedding, specification.hidden, specification.layers)
        self.recurrent: nn.RNNBase
        if specification.cell == "gru":
            self.recurrent = nn.GRU(*sizes, batch_first=True)
        else:
            self.recurrent = nn.RNN(*sizes, batch_first=True, nonlinearity=specification.nonlinearity)
        widths = [specification.hidden * len(self.pooling), *specification.head, len(specification.labels)]
        self.head = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        pairs, classes = specification.bag, len(self.labels)
        self.bag = BagOfWords(len(classifier.vocabulary), pairs, classes) if pairs else None
        self.load_state_dict({name: torch.tensor(value) for name, value in classifier.weights.items()})
        self.requires_grad_(False)

    def forward(self, texts: List[str]) -> Tuple[List[str], Tensor]:  # noqa: UP006
        """N texts, one or more -> their labels, and the probabilities [N, classes]."""
        rows: List[List[int]] = []  # noqa: UP006
        width = 1
        for text in texts:
            ids: List[int] = []  # noqa: UP006
            for token in self.tokenize(text):
                if len(ids) < self.max_tokens:
                    ids.append(self.vocabulary.get(token, self.unknown_id))
            rows.append(ids)
            width = max(width, len(ids))
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        for row in rows:
            for _ in range(width - len(row)):
                row.append(self.padding_id)
        padded = torch.tensor(rows, dtype=torch.long).view(len(texts), width)
        probabilities = torch.softmax(self.logits(padded, lengths), 1)
        labels: List[str] = []  # noqa: UP006
        for best in probabilities.argmax(1):
            labels.append(self.labels[int(best)])
        return labels, probabilities

    def logits(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [texts, time], padded on the right, and lengths [texts] -> logits [texts, classes]."""
        states, _ = self.recurrent(self.embedding(ids))
        state = self.pool(states, lengths)
        for index, linear in enumerate(self.head):
            if index > 0:
                state = torch.relu(state)
            state = linear(state)
        if self.bag is not None:
            state = state + self.bag(ids, lengths)
        return state

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """The pools of each row's own states: [texts, time, hidden] -> [texts, hidden * pools]."""
        own = (torch.arange(states.size(1)) < lengths.unsqueeze(1)).unsqueeze(2)
        pools: List[Tensor] = []  # noqa: UP006
        for pool in self.pooling:
            if pool == "last":
                pools.append(states[torch.arange(lengths.size(0)), (lengths - 1).clamp(min=0)])
            elif pool == "max":
                pools.append(states.masked_fill(~own, self.below_states).amax(1))
            else:
                pools.append((states * own).sum(1) / lengths.clamp(min=1).unsqueeze(1))
        return torch.cat(pools, 1) * (lengths > 0).unsqueeze(1)

    @torch.jit.export
    def tokenize(self, text: str) -> List[str]:  # noqa: UP006
        """The tokens of a text, as `export.text.Tokenizer.tokenize` gives them."""
        if self.lowercase:
            text = text.lower()
        for space in self.spaces:
            text = text.replace(space, " ")
        tokens: List[str] = []  # noqa: UP006
        if self.unit == "characters":
            for byte in list(text.replace(" ", "")):  # a list, because indexing a string copies the whole of it
                if ord(byte) & 0xC0 == 0x80:  # a UTF-8 sequence goes on
                    tokens[-1] += byte
                else:
                    tokens.append(byte)
            return tokens
        if self.punctuation == "attached":
            for token in text.split(" "):
                if len(token) > 0:
                    tokens.append(token)
            return tokens
        dropped = self.punctuation == "dropped"
        for index, piece in enumerate(text.split(self.line_break)):
            if index > 0 and not dropped:
                tokens.append(self.line_break)
            for mark in self.marks:
                piece = piece.replace(mark, " " if dropped else " " + mark + " ")
            if dropped:
                piece = piece.replace("'", " ")
            for token in piece.split(" "):
                if len(token) > 0:
                    self.append_word(tokens, token)
        return tokens

    def append_word(self, tokens: List[str], word: str) -> None:  # noqa: UP006
        """Cut off every apostrophe that does not stand between two word characters."""
        if "'" not in word:
            tokens.append(word)
            return
        inside = False  # whether the last token is a word that an apostrophe and another part may extend
        for index, part in enumerate(word.split("'")):
            if index > 0 and not (inside and len(part) > 0):
                tokens.append("'")
                inside = False
            if len(part) > 0:
                if index > 0 and inside:
                    tokens[-1] = tokens[-1] + "'" + part
                else:
                    tokens.append(part)
                inside = True


def torchscript_bytes(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    """The scripted module for `torch.jit.load`, with `metadata` and the specification in `specification.json`."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # deprecated since torch 2.11, and still what libtorch loads
        module = torch.jit.script(TextClassifier(classifier).eval())
        buffer = io.BytesIO()
        extra = {"specification.json": json.dumps({**classifier.specification.to_json(), **metadata})}
        torch.jit.save(module, buffer, _extra_files=extra)
    return buffer.getvalue()
