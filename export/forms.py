"""The forms a classifier is exported to: how each is built, and how each is run for the parity proof.

A form needs its library only when it is built (onnx, torch) or run (onnxruntime, torch).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.rounding import LOGIT_ULPS
from export.sessions import cores, open_session, run_text
from export.spec import Classifier, Specification
from export.text import PADDING_ID, encode, lookup_table


@dataclass(frozen=True)
class Explained:
    """The tokens of one text that were read, and the change of the logits that each causes, [tokens, classes]."""

    words: Sequence[str]
    shares: NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What a form says of N texts: `probabilities` [N, classes]; None for what it does not give.

    `summed` [N, classes] is the size of the numbers that `logits` were summed from where the form does not sum them.
    """

    probabilities: NDArray[np.float32]
    labels: Sequence[str] | None = None
    tokens: NDArray[np.int64] | None = None
    unknown: NDArray[np.int64] | None = None
    logits: NDArray[np.float32] | None = None
    summed: NDArray[np.float64] | None = None
    explained: Sequence[Explained] | None = None


TOLERANCE = 1e-5
QUANTIZED_TOLERANCE = 0.05
QUANTIZED_AGREEMENT = 0.998

ONNX_BYTES = 2**31 - 1
"""The size of the largest ONNX file: protobuf writes no more."""

_SPARE_BYTES = 1 << 20  # for the nodes and the metadata
_BYTES_A_WORD = 12  # its length, its id and their tags, beside its letters

Runner = Callable[[Sequence[str]], Answers]


@dataclass(frozen=True)
class Form:
    """One exported form. `open` takes the file, the bundle's specification and vocabulary, and an ONNX provider.

    `tolerance` bounds how far a probability may be from PyTorch's, `logit_ulps` how far a logit may, in units in the
    last place of the terms that it is summed from (None: any). `min_agreement` is the share of real texts that must
    keep their label; what `explains` gives the share of every token as well; what `needs_torch` is run by PyTorch.
    `tables_in` is the file of a bundle that it reads its tables from where a shrunk bundle holds that file.
    """

    name: str
    file: str
    build: Callable[[Classifier, Mapping[str, Any]], bytes]
    open: Callable[[Path, Specification, Sequence[str], str], Runner]
    uses_provider: bool
    tolerance: float = TOLERANCE
    logit_ulps: float | None = LOGIT_ULPS
    min_agreement: float = 0.0
    explains: bool = False
    needs_torch: bool = False
    tables_in: str = ""


def runs_at_once(form: Form, provider: str) -> int:
    """How many threads may call a form's runner at a time, so that every core has work and none waits for another.

    ONNX Runtime's operators run on one thread each; PyTorch has threads of its own.
    """
    return cores() if provider == "cpu" and not form.needs_torch else 1


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Row-wise softmax in double precision: [..., classes] -> [..., classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float32] = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def too_large(specification: Specification, vocabulary: Sequence[str], quantized: bool = False) -> str:
    """Why no ONNX file can hold such a classifier, in one line; empty where one can.

    A `quantized` embedding takes a byte a number, every other weight four.
    """
    table = len(vocabulary) * specification.embedding
    weights = 4 * specification.parameters(len(vocabulary)) - (3 * table if quantized else 0)
    words = sum(len(word.encode()) + _BYTES_A_WORD for word in vocabulary)
    size = weights + words + _SPARE_BYTES
    if size <= ONNX_BYTES:
        return ""
    return (
        f"{len(vocabulary):,} words and their weights take {size / 1e9:.2f} GB, and an ONNX file holds "
        f"{ONNX_BYTES / 1e9:.2f} GB at most"
    )


def _build_onnx(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.onnx_graph import text_model

    return bytes(text_model(classifier, metadata).SerializeToString())


def _build_cpu(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.cpu_graph import classify_folded
    from export.onnx_graph import text_model

    return bytes(text_model(classifier, metadata, classify_folded).SerializeToString())


def _build_int8(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.cpu_graph import classify_quantized
    from export.onnx_graph import text_model

    return bytes(text_model(classifier, metadata, classify_quantized).SerializeToString())


def _build_explain(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.explain_graph import explain_model

    return bytes(explain_model(classifier, metadata).SerializeToString())


def _build_ids(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.onnx_graph import ids_model

    return bytes(ids_model(classifier, metadata).SerializeToString())


def _build_torchscript(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.torchscript import torchscript_bytes

    return torchscript_bytes(classifier, metadata)


def _build_pt2(classifier: Classifier, metadata: Mapping[str, Any]) -> bytes:
    from export.pt2 import pt2_bytes

    return pt2_bytes(classifier, metadata)


def _open_onnx(file: Path, specification: Specification, vocabulary: Sequence[str], provider: str) -> Runner:
    session = open_session(file, provider, threads=1)

    def run(texts: Sequence[str]) -> Answers:
        names = ["probabilities", "label", "tokens", "unknown"]
        return Answers(*run_text(session, names, texts))

    return run


def _open_explain(file: Path, specification: Specification, vocabulary: Sequence[str], provider: str) -> Runner:
    """The logits are those that the shares add up to, so that every comparison holds the sum to its meaning."""
    session = open_session(file, provider, threads=1)

    def run(texts: Sequence[str]) -> Answers:
        names = ["probabilities", "label", "tokens", "unknown", "words", "shares", "start"]
        probabilities, labels, tokens, unknown, words, shares, start = run_text(session, names, texts)
        rows = [[word for word in row if word] for row in words.tolist()]
        return Answers(
            probabilities,
            labels,
            tokens,
            unknown,
            logits=(start + shares.sum(axis=1, dtype=np.float64)).astype(np.float32),
            summed=np.abs(shares).sum(axis=1, dtype=np.float64),
            explained=[Explained(row, own[: len(row)]) for row, own in zip(rows, shares, strict=True)],
        )

    return run


def _open_ids(file: Path, specification: Specification, vocabulary: Sequence[str], provider: str) -> Runner:
    session = open_session(file, provider, threads=1)

    def logits(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = session.run(["logits"], {"ids": ids, "lengths": lengths})[0]
        return answer

    return _runner_of_ids(specification, vocabulary, logits)


def _runner_of_ids(
    specification: Specification,
    vocabulary: Sequence[str],
    logits: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]],
) -> Runner:
    """A runner of texts from `logits` of ids [N, T], padded with 1, and lengths [N]."""
    table = lookup_table(vocabulary)

    def run(texts: Sequence[str]) -> Answers:
        rows = [encode(specification.tokenizer.tokenize(text), table) for text in texts]
        ids = np.full((len(rows), max(map(len, rows))), PADDING_ID, np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
        answer = logits(ids, np.array([len(row) for row in rows], np.int64))
        return Answers(softmax(answer), logits=answer)

    return run


def _open_torchscript(file: Path, specification: Specification, vocabulary: Sequence[str], provider: str) -> Runner:
    import torch

    module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(texts: Sequence[str]) -> Answers:
        with torch.inference_mode():
            labels, probabilities = module(list(texts))
        return Answers(probabilities.numpy(), labels)

    return run


def _open_pt2(file: Path, specification: Specification, vocabulary: Sequence[str], provider: str) -> Runner:
    import torch

    program = torch.export.load(file).module()

    def logits(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answer: NDArray[np.float32] = program(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        return answer

    return _runner_of_ids(specification, vocabulary, logits)


FORMATS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnx-cpu"),
    "onnx-cpu": ("onnx-cpu",),
    "torchscript": ("torchscript",),
    "onnx-ids": ("onnx-ids",),
    "onnx-explain": ("onnx-explain",),
    "pt2": ("pt2",),
    "all": ("onnx", "onnx-cpu", "onnx-explain", "onnx-ids", "torchscript"),
}
"""What `--format` names, as the forms it writes."""

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("onnx", "model.onnx", _build_onnx, _open_onnx, uses_provider=True),
        Form("onnx-cpu", "model.cpu.onnx", _build_cpu, _open_onnx, uses_provider=False),
        Form(
            "onnx-int8",
            "model.int8.onnx",
            _build_int8,
            _open_onnx,
            uses_provider=False,
            tolerance=QUANTIZED_TOLERANCE,
            logit_ulps=None,
            min_agreement=QUANTIZED_AGREEMENT,
        ),
        Form(
            "onnx-explain",
            "model.explain.onnx",
            _build_explain,
            _open_explain,
            uses_provider=False,
            explains=True,
            tables_in="model.cpu.onnx",
        ),
        Form("onnx-ids", "model.ids.onnx", _build_ids, _open_ids, uses_provider=True),
        Form("torchscript", "model.ts", _build_torchscript, _open_torchscript, uses_provider=False, needs_torch=True),
        Form("pt2", "model.pt2", _build_pt2, _open_pt2, uses_provider=False, needs_torch=True),
    )
}
