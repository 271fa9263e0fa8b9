"""A notebook's `state_dict` and vocabulary -> a snapshot like any of ours, and what can be known of how they fit.

The tensors tell the architecture. They tell neither how the notebook cut its texts nor where it read its answer, nor a
tanh from a ReLU: `measure_fits` and `measure_deviation` say what real texts tell about that.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from export.forms import softmax
from export.spec import InvalidClassifier, Nonlinearity, Specification
from export.text import PADDING_ID, TOKENIZERS, Tokenizer, TokenizerName, encode, lookup_table
from toolchain import __version__
from toolchain.errors import UsageError, quoted
from toolchain.models.classifiers import ImportedClassifier
from toolchain.models.snapshot import FILE, Snapshot
from toolchain.models.state_dicts import FoundClassifier, find_classifier, read_state_dict
from toolchain.models.vocabularies import read_vocabulary

SOURCE_BATCH = 64
SAMPLE_TEXTS = 1000
UNKNOWN_LIMIT = 0.05
"""Above this share of unknown tokens a text is not what the model was trained on."""

DOCUMENTED_CUT = 200
"""`fix_length` of the documented system with a cell and two linear layers."""

_CHUNK_STEPS = 512


@dataclass(frozen=True)
class Imported:
    """A snapshot, what was found in the file, and the words of its vocabulary that no text gives its tokenizer."""

    snapshot: Snapshot
    found: FoundClassifier
    unreachable: Sequence[str]


@dataclass(frozen=True)
class Fit:
    """How a vocabulary fits a tokenizer, on the sample's texts.

    `unknown` is the share of the texts' tokens that the vocabulary lacks; `unreachable` the share of the training text
    that the tokenizer could not have given: the words it never gives, by their frequency, which is about one in their
    rank (Zipf). A vocabulary was made by the tokenizer under which both are small. `accuracy`, in percent, is known
    where the sample has labels.
    """

    tokenizer: TokenizerName
    unknown: float
    unreachable: float
    accuracy: float | None = None


@dataclass(frozen=True)
class Deviation:
    """Our reading of `texts` texts against a notebook that reads its answer after the padding, if this one does.

    Changes are of the largest probability change of a text.
    """

    texts: int
    tokenized_differently: int
    mean_change: float
    max_change: float
    labels_changed: int


def import_state_dict(
    state_dict: Path,
    vocabulary: Path,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    nonlinearity: Nonlinearity = "tanh",
) -> Imported:
    """The snapshot of a GRU or a plain RNN with one or more linear layers; its sizes are read from the tensors.

    `vocabulary` is that of `read_vocabulary`, `labels` the classes in the order of the outputs. A word that no text can
    produce keeps its row; one that no file format of ours can hold either (it is empty or holds ASCII white space)
    keeps its row under another name that no text can produce. Raises `UsageError` where a file is damaged or is
    something else, and where the three do not fit each other.
    """
    found = find_classifier(read_state_dict(state_dict), state_dict)
    words = read_vocabulary(vocabulary)
    if len(words) != found.words:
        raise UsageError(
            f"{vocabulary}: {len(words):,} words for the {found.words:,} rows of {found.called[0]} in {state_dict}; "
            "write it again from the TEXT.vocab.itos that this model was trained with"
        )
    if len(labels) != found.outputs or not all(labels):
        raise UsageError(
            f"--labels {quoted(','.join(labels))}: {len(labels)} names for the {found.outputs} outputs of {state_dict}"
            "; expected one each, in the order of LABEL.vocab.itos[1:]"
        )
    if nonlinearity == "relu" and found.cell == "gru":
        raise UsageError(f"--nonlinearity relu: {state_dict} is a GRU, which has none; leave it out")
    try:
        specification = Specification(
            labels=tuple(labels),
            cell=found.cell,
            embedding=found.embedding,
            hidden=found.hidden,
            layers=found.layers,
            head=found.head,
            tokenizer=tokenizer,
            nonlinearity=nonlinearity,
            max_tokens=DOCUMENTED_CUT if found.head else Specification.max_tokens,
        )
        unreachable = [
            index for index, word in enumerate(words) if index > PADDING_ID and tokenizer.tokenize(word) != [word]
        ]
        snapshot = Snapshot(
            model=ImportedClassifier.__name__,
            specification=specification,
            vocabulary=_renamed(words, unreachable),
            state=found.state,
            training=_training(state_dict, found),
        )
        snapshot.classifier()  # checks the numbers
    except InvalidClassifier as error:
        raise UsageError(f"{state_dict} with {vocabulary}: {error}") from error
    return Imported(snapshot, found, [words[index] for index in unreachable])


def check_place(state_dict: Path, out: Path) -> None:
    """Raise `UsageError` where the snapshot in `out` would overwrite the imported file: both have the same name."""
    if (out / FILE).exists() and (out / FILE).samefile(state_dict):
        raise UsageError(f"--out {out}: the snapshot would overwrite {state_dict}; name another folder")


def measure_fits(
    snapshot: Snapshot, texts: Sequence[str], labels: Sequence[str | None] = ()
) -> Mapping[TokenizerName, Fit]:
    """How the vocabulary fits each of our tokenizers, on the first `SAMPLE_TEXTS` of `texts`, and with which accuracy.

    `labels` are those of the texts, None where a text has none; only those of the model count. Raises `UsageError`
    where there is no text.
    """
    texts, labels = _sample(texts), labels[:SAMPLE_TEXTS]
    known = [row for row, label in enumerate(labels) if label in snapshot.specification.labels]
    answer = snapshot.answer_tokens()
    return {
        name: _fit(snapshot, name, [tokenizer.tokenize(text) for text in texts], labels, known, answer)
        for name, tokenizer in TOKENIZERS.items()
    }


def best_fit(fits: Mapping[TokenizerName, Fit]) -> Fit:
    """The tokenizer that the vocabulary was most likely made with."""
    return min(fits.values(), key=lambda fit: fit.unknown + fit.unreachable)


def accuracy_by_nonlinearity(
    snapshot: Snapshot, texts: Sequence[str], labels: Sequence[str | None]
) -> Mapping[Nonlinearity, float]:
    """The accuracy, in percent, of the tensors of an RNN with either nonlinearity; nothing where no label is known."""
    specification = snapshot.specification
    rows = zip(texts[:SAMPLE_TEXTS], labels, strict=False)
    known = [(text, label) for text, label in rows if label in specification.labels]
    if not known:
        return {}
    accuracies = {}
    for nonlinearity in get_args(Nonlinearity):
        other = replace(snapshot, specification=replace(specification, nonlinearity=nonlinearity))
        logits = other.reference()([text for text, _ in known])
        accuracies[nonlinearity] = _accuracy(logits, [str(label) for _, label in known], specification)
    return accuracies


def measure_deviation(snapshot: Snapshot, texts: Sequence[str]) -> Deviation:
    """How far our reading of `texts` (the first `SAMPLE_TEXTS` of them) is from that of a notebook like the documented.

    Such a notebook takes batches of 64 in the order of `texts`, and the state after the `<pad>` steps to the longest of
    the batch; where ours is `attached`, it cuts with Python's `str.lower().split()`. Ours: the snapshot's tokenizer,
    and the state after the last token. Raises `UsageError` where there is no text.
    """
    texts = _sample(texts)
    tokenizer = snapshot.specification.tokenizer
    own = [tokenizer.tokenize(text) for text in texts]
    notebook = [text.lower().split() for text in texts] if tokenizer == TOKENIZERS["attached"] else own
    ours = softmax(snapshot.answer_tokens()(own))
    theirs = softmax(_notebook_logits(snapshot, notebook))
    change = np.abs(ours - theirs).max(axis=1)
    return Deviation(
        texts=len(texts),
        tokenized_differently=sum(mine != other for mine, other in zip(own, notebook, strict=True)),
        mean_change=float(change.mean()),
        max_change=float(change.max()),
        labels_changed=int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()),
    )


def _sample(texts: Sequence[str]) -> Sequence[str]:
    if not texts:
        raise UsageError("--sample: holds no text to measure on")
    return texts[:SAMPLE_TEXTS]


def _fit(
    snapshot: Snapshot,
    name: TokenizerName,
    rows: Sequence[Sequence[str]],
    labels: Sequence[str | None],
    known: Sequence[int],
    answer: Callable[[Sequence[Sequence[str]]], NDArray[np.float32]],
) -> Fit:
    words = lookup_table(snapshot.vocabulary)
    count = sum(map(len, rows))
    unknown = sum(word not in words for row in rows for word in row)
    tokenizer = TOKENIZERS[name]
    frequency = {word: 1 / (index - PADDING_ID) for word, index in words.items()}
    lost = sum(share for word, share in frequency.items() if tokenizer.tokenize(word) != [word])
    accuracy = None
    if known:
        logits = answer([rows[row] for row in known])
        accuracy = _accuracy(logits, [str(labels[row]) for row in known], snapshot.specification)
    return Fit(name, unknown / max(1, count), lost / max(sum(frequency.values()), 1e-9), accuracy)


def _accuracy(logits: NDArray[np.float32], labels: Sequence[str], specification: Specification) -> float:
    best = [specification.labels[number] for number in logits.argmax(axis=1).tolist()]
    right: int = sum(mine == true for mine, true in zip(best, labels, strict=True))
    return 100 * right / len(labels)


def _notebook_logits(snapshot: Snapshot, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """[texts, classes]. A long batch goes through the recurrence in chunks: its states need not fit in memory."""
    model = snapshot.build()
    assert isinstance(model, ImportedClassifier)
    table = {word: index for index, word in enumerate(snapshot.vocabulary)}
    logits = []
    with torch.inference_mode():
        for start in range(0, len(texts), SOURCE_BATCH):
            rows = [encode(tokens, table) for tokens in texts[start : start + SOURCE_BATCH]]
            width = max(1, *map(len, rows))
            ids = torch.tensor([row + [PADDING_ID] * (width - len(row)) for row in rows])
            state = None
            for chunk in torch.split(ids, _CHUNK_STEPS, dim=1):
                _, state = model.recurrent(model.embed(chunk), state)
            assert state is not None
            logits.append(model.classify(state[-1]).numpy())
    return np.concatenate(logits)


def _training(state_dict: Path, found: FoundClassifier) -> dict[str, object]:
    return {
        "recipe": "imported",
        "imported": {"file": state_dict.name, "sha256": hashlib.sha256(state_dict.read_bytes()).hexdigest()},
        "vocabulary": found.words,
        "parameters": sum(tensor.numel() for tensor in found.state.values()),
        "versions": {
            "toolchain": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _renamed(words: Sequence[str], unreachable: Sequence[int]) -> list[str]:
    """The words, with upper-case stand-ins for those unreachable ones that are empty or hold white space."""
    renamed = list(words)
    for index in unreachable:
        if not words[index] or Tokenizer(lowercase=False).tokenize(words[index]) != [words[index]]:
            renamed[index] = f"<UNREACHABLE-{index}>"
    return renamed
