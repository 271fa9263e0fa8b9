"""A bare `state_dict` from the walk-through's own notebook and its vocabulary -> a snapshot like any of ours.

What cannot be carried over exactly (the notebook's Unicode text, the state it reads after the padding) is measured on
real texts by `measure_deviation`.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.forms import softmax
from export.spec import Cell, InvalidClassifier, Specification
from export.text import PADDING, PADDING_ID, UNKNOWN, Tokenizer, encode
from toolchain import __version__
from toolchain.errors import UsageError
from toolchain.models.classifiers import BasicGRU, BasicRNN
from toolchain.models.snapshot import FILE, Snapshot

MODELS: Mapping[Cell, type[BasicGRU] | type[BasicRNN]] = {"gru": BasicGRU, "rnn": BasicRNN}
SOURCE_BATCH = 64
SAMPLE_TEXTS = 1000
_CHUNK_STEPS = 512


@dataclass(frozen=True)
class Imported:
    """A snapshot, and the words of its vocabulary that no text can produce under its tokenizer."""

    snapshot: Snapshot
    unreachable: Sequence[str]


@dataclass(frozen=True)
class Deviation:
    """Our reading of `texts` texts against the notebook's. Changes are of the largest probability change of a text."""

    texts: int
    tokenized_differently: int
    mean_change: float
    max_change: float
    labels_changed: int


def import_state_dict(state_dict: Path, vocabulary: Path, labels: Sequence[str], tokenizer: Tokenizer) -> Imported:
    """The snapshot of a `BasicGRU` or `BasicRNN`; its sizes and layers are read from the tensors.

    `vocabulary` holds a word a line in the order of their ids, `labels` the classes in that of the outputs. A word that
    no text can produce keeps its row; one that no file format of ours can hold either (it is empty or holds ASCII white
    space) keeps its row under another name that no text can produce. Raises `UsageError` where a file is damaged or is
    something else, and where the three do not fit each other.
    """
    state = _read_state_dict(state_dict)
    cell = _cell(state, state_dict)
    model = MODELS[cell]
    rows, embedding = _size(state, "embed.weight", state_dict)
    _, hidden = _size(state, f"{cell}.weight_hh_l0", state_dict)
    outputs, _ = _size(state, "out.weight", state_dict)
    words = _read_vocabulary(vocabulary)
    if len(words) != rows:
        raise UsageError(
            f"{vocabulary}: {len(words):,} words for the {rows:,} rows of embed.weight in {state_dict}; "
            "write it again from the TEXT.vocab.itos that this model was trained with"
        )
    if len(labels) != outputs or not all(labels):
        raise UsageError(
            f"--labels {','.join(labels)}: {len(labels)} names for the {outputs} outputs of {state_dict}; expected one "
            "each, in the order of LABEL.vocab.itos[1:]"
        )
    specification = Specification(
        labels=tuple(labels),
        cell=cell,
        embedding=embedding,
        hidden=hidden,
        layers=sum(name.startswith(f"{cell}.weight_hh_l") and not name.endswith("_reverse") for name in state),
        tokenizer=tokenizer,
    )
    _check_tensors(state, specification, model, state_dict)
    unreachable = [
        index for index, word in enumerate(words) if index > PADDING_ID and tokenizer.tokenize(word) != [word]
    ]
    snapshot = Snapshot(
        model=model.__name__,
        specification=specification,
        vocabulary=_renamed(words, unreachable),
        state={name: tensor.detach().float() for name, tensor in state.items()},
        training={
            "recipe": "imported",
            "imported": {"file": state_dict.name, "sha256": hashlib.sha256(state_dict.read_bytes()).hexdigest()},
            "vocabulary": len(words),
            "parameters": sum(tensor.numel() for tensor in state.values()),
            "versions": {
                "toolchain": __version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
        },
    )
    try:
        snapshot.classifier()  # checks the numbers
    except InvalidClassifier as error:
        raise UsageError(f"{state_dict} with {vocabulary}: {error}") from error
    return Imported(snapshot, [words[index] for index in unreachable])


def check_place(state_dict: Path, out: Path) -> None:
    """Raise `UsageError` where the snapshot in `out` would overwrite the imported file: both have the same name."""
    if (out / FILE).exists() and (out / FILE).samefile(state_dict):
        raise UsageError(f"--out {out}: the snapshot would overwrite {state_dict}; name another folder")


def measure_deviation(snapshot: Snapshot, texts: Sequence[str]) -> Deviation:
    """How far our reading of `texts` (the first `SAMPLE_TEXTS` of them) is from the notebook's.

    The notebook's: tokens of Python's `str.lower().split()`, batches of 64 in the order of `texts`, and the state after
    the `<pad>` steps to the longest of the batch. Ours: the snapshot's tokenizer, and the state after the last token.
    Raises `UsageError` where there is no text.
    """
    if not texts:
        raise UsageError("--sample: holds no text to measure on")
    texts = texts[:SAMPLE_TEXTS]
    tokenize = snapshot.specification.tokenizer.tokenize
    ours = softmax(snapshot.reference()(texts))
    theirs = softmax(_notebook_logits(snapshot, texts))
    change = np.abs(ours - theirs).max(axis=1)
    return Deviation(
        texts=len(texts),
        tokenized_differently=sum(tokenize(text) != text.lower().split() for text in texts),
        mean_change=float(change.mean()),
        max_change=float(change.max()),
        labels_changed=int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()),
    )


def _notebook_logits(snapshot: Snapshot, texts: Sequence[str]) -> NDArray[np.float32]:
    """[texts, classes]. A long batch goes through the recurrence in chunks: its states need not fit in memory."""
    model = snapshot.build()
    assert isinstance(model, BasicGRU | BasicRNN)
    recurrent = model.gru if isinstance(model, BasicGRU) else model.rnn
    table = {word: index for index, word in enumerate(snapshot.vocabulary)}
    logits = []
    with torch.inference_mode():
        for start in range(0, len(texts), SOURCE_BATCH):
            rows = [encode(text.lower().split(), table) for text in texts[start : start + SOURCE_BATCH]]
            width = max(1, *map(len, rows))
            ids = torch.tensor([row + [PADDING_ID] * (width - len(row)) for row in rows])
            state = None
            for chunk in torch.split(ids, _CHUNK_STEPS, dim=1):
                _, state = recurrent(model.embed(chunk), state)
            assert state is not None
            logits.append(model.out(state[-1]).numpy())
    return np.concatenate(logits)


def _read_state_dict(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected what torch.save(model.state_dict(), FILE) writes")
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader fail in any way at all
        raise UsageError(
            f"{file}: damaged, or more than tensors; save it again: torch.save(model.state_dict(), FILE)"
        ) from error
    if isinstance(values, Mapping) and "weights" in values and "specification" in values:
        raise UsageError(f"{file}: already a snapshot; export it: toolchain export --snapshot {file.parent}")
    if not isinstance(values, Mapping) or not values or not all(_is_weight(value) for value in values.values()):
        raise UsageError(f"{file}: not a state_dict; save it again: torch.save(model.state_dict(), FILE)")
    return dict(values)


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def _cell(state: Mapping[str, Tensor], file: Path) -> Cell:
    cells = [cell for cell in MODELS if any(name.startswith(f"{cell}.") for name in state)]
    if len(cells) != 1:
        raise UsageError(
            f"{file}: holds {', '.join(list(state)[:4])} …; expected a BasicGRU (embed, gru, out) or a BasicRNN "
            "(embed, rnn, out)"
        )
    return cells[0]


def _size(state: Mapping[str, Tensor], name: str, file: Path) -> tuple[int, int]:
    """Rows and columns of a matrix."""
    if name not in state or state[name].dim() != 2:
        raise UsageError(f"{file}: holds no matrix {name}; expected the state_dict of a BasicGRU or a BasicRNN")
    rows, columns = state[name].shape
    return rows, columns


def _check_tensors(
    state: Mapping[str, Tensor], specification: Specification, model: type[BasicGRU] | type[BasicRNN], file: Path
) -> None:
    """Raise `UsageError` unless `state` is what `model` has with the specification's sizes, name for name."""
    ours = {portable: own for own, portable in model.portable_names.items()}
    expected = {}
    for name, shape in specification.weight_shapes(state["embed.weight"].shape[0]).items():
        prefix = next(prefix for prefix in ours if name.startswith(prefix))
        expected[ours[prefix] + name.removeprefix(prefix)] = shape
    for what, names in (("lacks", expected.keys() - state.keys()), ("also holds", state.keys() - expected.keys())):
        if names:
            raise UsageError(
                f"{file}: {what} {', '.join(sorted(names))}; expected a BasicGRU or BasicRNN "
                "as documented (one direction, with biases, one Linear)"
            )
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise UsageError(
                f"{file}: {name} has shape {list(state[name].shape)}, expected {list(shape)} with "
                f"{specification.hidden} hidden units"
            )


def _read_vocabulary(file: Path) -> list[str]:
    """The words by id. Only U+000A ends one: they may hold the line ends of Unicode, such as U+0085 or U+2028."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f'{file}: not UTF-8 at byte {error.start}; write it with encoding="utf-8"') from error
    words = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if words[:2] != [UNKNOWN, PADDING]:
        raise UsageError(
            f"{file}: starts with {' '.join(map(repr, words[:2]))}; expected {UNKNOWN} and {PADDING}, "
            "each on a line, as TEXT.vocab.itos has them"
        )
    line_of: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        if line_of.setdefault(word, number) != number:
            raise UsageError(
                f"{file}: lines {line_of[word]} and {number} both hold {word!r}; "
                "expected every word of TEXT.vocab.itos once"
            )
    return words


def _renamed(words: Sequence[str], unreachable: Sequence[int]) -> list[str]:
    """The words, with upper-case stand-ins for those unreachable ones that are empty or hold white space."""
    renamed = list(words)
    for index in unreachable:
        if not words[index] or Tokenizer(lowercase=False).tokenize(words[index]) != [words[index]]:
            renamed[index] = f"<UNREACHABLE-{index}>"
    return renamed
