"""The parity proof: every exported form against a reference, over edge cases, the whole vocabulary and real text."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.forms import TOLERANCE, Answers, Explained, Runner, softmax
from export.spec import Specification
from export.text import encode, lookup_table

ALONE = 200
_POOL = 512
_BATCH_TEXTS = 64
_BATCH_BYTES = 1 << 18
_SHOWN = 80
_EXPLAINED_AMONG = 300
_EXPLAINED_WORDS = 64

Reference = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> logits [texts, classes]."""

SharesReference = Callable[[Sequence[str]], Sequence[NDArray[np.float32]]]
"""Texts -> of each the change of the logits that its tokens cause, [tokens read, classes]."""


@dataclass(frozen=True)
class Expected:
    """What every form has to say of `texts`: `logits` and `probabilities` [N, classes], token counts [N].

    `explained` are the texts whose shares are known.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    probabilities: NDArray[np.float32]
    tokens: NDArray[np.int64]
    unknown: NDArray[np.int64]
    logits: NDArray[np.float32] | None = None
    explained: Mapping[str, Explained] = field(default_factory=dict)

    def take(self, rows: Sequence[int]) -> "Expected":
        """The texts of these indices, in this order."""
        index = np.array(rows, np.intp)
        return Expected(
            [self.texts[row] for row in rows],
            [self.labels[row] for row in rows],
            self.probabilities[index],
            self.tokens[index],
            self.unknown[index],
            None if self.logits is None else self.logits[index],
            self.explained,
        )

    def decided(self, margin: float) -> "Expected":
        """The texts whose best probability is more than `margin` above the second."""
        best = np.sort(self.probabilities, axis=1)
        return self.take(np.flatnonzero(best[:, -1] - best[:, -2] > margin).tolist())


@dataclass(frozen=True)
class Comparison:
    """One form against what was expected. `differences` are the largest of any class of any text, 0 for none.

    `label_agreement` is the share of texts with the expected label; `label_errors` counts the disagreements where the
    two best probabilities differ by more than the tolerance. `logits_difference` is relative where a logit exceeds 1.
    `shares_difference`, for a form that explains, is relative where the shares of a text move a logit by more than 1 on
    the way: a share is the difference of two logits, and as exact as they are. `word_errors` counts the answers with
    other words.
    """

    form: str
    provider: str
    cases: int
    alone: int
    max_difference: float
    logits_difference: float | None
    label_agreement: float
    label_errors: int
    count_errors: int
    tolerance: float
    min_agreement: float
    worst_text: str
    shares_difference: float | None = None
    word_errors: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything the form says is within the tolerance. A difference that is not a number is not."""
        return (
            self.max_difference <= self.tolerance
            and (self.logits_difference is None or self.logits_difference <= self.tolerance)
            and (self.shares_difference is None or self.shares_difference <= self.tolerance)
            and self.label_errors == 0
            and self.count_errors == 0
            and self.word_errors == 0
            and self.label_agreement >= self.min_agreement
        )

    def failure(self) -> str:
        """What failed, how far, at what tolerance; empty where nothing did."""
        reasons = []
        if not self.max_difference <= self.tolerance:
            reasons.append(f"probabilities differ by {self.max_difference:.3g}, tolerance {self.tolerance:g}")
        if self.logits_difference is not None and not self.logits_difference <= self.tolerance:
            reasons.append(f"logits differ by {self.logits_difference:.3g}, tolerance {self.tolerance:g}")
        if self.shares_difference is not None and not self.shares_difference <= self.tolerance:
            reasons.append(f"shares differ by {self.shares_difference:.3g}, tolerance {self.tolerance:g}")
        if self.label_errors:
            reasons.append(f"{self.label_errors} labels differ")
        if self.label_agreement < self.min_agreement:
            reasons.append(f"{self.label_agreement:.2%} of the labels agree, expected {self.min_agreement:.1%}")
        if self.count_errors:
            reasons.append(f"{self.count_errors} token counts differ")
        if self.word_errors:
            reasons.append(f"the words differ in {self.word_errors} answers")
        return f"{self.form}: {'; '.join(reasons)}; worst on {self.worst_text!r}" if reasons else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {**asdict(self), "passed": self.passed}


def expect(
    reference: Reference,
    specification: Specification,
    vocabulary: Sequence[str],
    texts: Sequence[str],
    shares_reference: SharesReference | None = None,
) -> Expected:
    """What the reference and the Python tokenizer say of `texts`."""
    table = lookup_table(vocabulary)
    tokens = [specification.tokenizer.tokenize(text) for text in texts]
    ids = [encode(row, table) for row in tokens]
    logits = reference(texts)
    read = [row[: specification.max_tokens] for row in tokens]
    shares = shares_reference(texts) if shares_reference else []
    explained = dict(zip(texts, map(Explained, read, shares), strict=False))
    return Expected(
        texts=texts,
        labels=[specification.labels[best] for best in logits.argmax(axis=1)],
        probabilities=softmax(logits),
        tokens=np.array([len(row) for row in ids], np.int64),
        unknown=np.array([row.count(0) for row in ids], np.int64),
        logits=logits,
        explained=explained,
    )


def compare(
    form: str,
    provider: str,
    run: Runner,
    expected: Expected,
    tolerance: float = TOLERANCE,
    min_agreement: float = 0.0,
) -> Comparison:
    """Run every text in batches of mixed lengths and up to `ALONE` of them one by one, and compare all that is said."""
    count = len(expected.texts)
    order = list(range(count))
    random.Random(0).shuffle(order)
    alone = sorted(order[:ALONE])
    batches = [*_mixed_batches(expected.texts, order), *([index] for index in alone)]
    worst = _Worst()
    for batch in batches:
        worst.add(batch, run([expected.texts[index] for index in batch]), expected, tolerance)
    return Comparison(
        form=form,
        provider=provider,
        cases=count,
        alone=len(alone),
        max_difference=worst.difference,
        logits_difference=worst.logits,
        label_agreement=1 - worst.other_labels / max(1, worst.labels),
        label_errors=worst.label_errors,
        count_errors=worst.count_errors,
        tolerance=tolerance,
        min_agreement=min_agreement,
        worst_text=expected.texts[worst.index][:_SHOWN] if count else "",
        shares_difference=worst.shares,
        word_errors=worst.word_errors,
    )


class _Worst:
    """The running worst of a comparison."""

    def __init__(self) -> None:
        self.difference = 0.0
        self.logits: float | None = None
        self.shares: float | None = None
        self.index = 0
        self.labels = self.other_labels = self.label_errors = self.count_errors = self.word_errors = 0

    def add(self, batch: Sequence[int], answers: Answers, expected: Expected, tolerance: float) -> None:
        rows = np.array(batch)
        wanted = expected.probabilities[rows]
        if answers.probabilities.shape != wanted.shape:
            self.difference = float("nan")
            return
        differences = np.abs(answers.probabilities - wanted).max(axis=1)
        largest = float(differences.max())
        if _exceeds(largest, self.difference):
            self.difference, self.index = largest, batch[int(differences.argmax())]
        if answers.logits is not None and expected.logits is not None:
            scale = np.maximum(1.0, np.abs(expected.logits[rows]))
            relative = float((np.abs(answers.logits - expected.logits[rows]) / scale).max())
            if self.logits is None or _exceeds(relative, self.logits):
                self.logits = relative
        if answers.labels is not None:
            best = np.sort(wanted, axis=1)
            sure = best[:, -1] - best[:, -2] > tolerance
            other = np.array([expected.labels[i] != label for i, label in zip(batch, answers.labels, strict=True)])
            self.labels += len(batch)
            self.other_labels += int(other.sum())
            self.label_errors += int((other & sure).sum())
        for counted, count in ((answers.tokens, expected.tokens), (answers.unknown, expected.unknown)):
            if counted is not None and (wrong := np.flatnonzero(counted != count[rows])).size:
                self.count_errors += wrong.size
                if self.difference <= tolerance:
                    self.index = batch[int(wrong[0])]
        if answers.explained is not None:
            for index, said in zip(batch, answers.explained, strict=True):
                if (known := expected.explained.get(expected.texts[index])) is not None:
                    self._add_explained(index, said, known, tolerance)

    def _add_explained(self, index: int, said: Explained, wanted: Explained, tolerance: float) -> None:
        difference = 0.0
        if list(said.words) != list(wanted.words):
            self.word_errors += 1
            self.index = index
        elif said.shares.shape != wanted.shares.shape:
            difference = float("nan")
        elif wanted.words:
            scale = max(1.0, float(np.abs(np.cumsum(wanted.shares, axis=0, dtype=np.float64)).max()))
            difference = float(np.abs(said.shares - wanted.shares).max()) / scale
        if self.shares is None or _exceeds(difference, self.shares):
            self.shares = difference
            self.index = index if not difference <= tolerance else self.index


def _exceeds(difference: float, so_far: float) -> bool:
    """Whether it is the larger one. What is not a number exceeds every number, and nothing exceeds it."""
    return not math.isnan(so_far) and not difference <= so_far


def _mixed_batches(texts: Sequence[str], order: Sequence[int]) -> list[list[int]]:
    """Batches whose texts differ in length, but not so much that padding is all there is to compute."""
    batches: list[list[int]] = []
    for start in range(0, len(order), _POOL):
        pool = sorted(order[start : start + _POOL], key=lambda index: len(texts[index]))
        batch: list[int] = []
        for index in pool:
            if batch and (len(batch) == _BATCH_TEXTS or (len(batch) + 1) * len(texts[index]) > _BATCH_BYTES):
                batches.append(batch)
                batch = []
            batch.append(index)
        batches.append(batch)
    return batches


def vectors(expected: Expected) -> list[Mapping[str, Any]]:
    """`expected` as the rows of `vectors.jsonl`: one JSON object a line, in UTF-8 and with a line feed at its end.

    `text` has no U+0000 and no lone surrogate; `probabilities` are in the order of the manifest's `labels`, and `label`
    is the most probable; `tokens` are counted before the cut at `max_tokens`, `unknown` are those of them that the
    vocabulary lacks. A runtime conforms when `label`, `tokens` and `unknown` are equal and no probability is farther
    off than the manifest's `tolerance`.
    """
    return [
        {
            "text": text,
            "label": expected.labels[index],
            "probabilities": [float(value) for value in expected.probabilities[index]],
            "tokens": int(expected.tokens[index]),
            "unknown": int(expected.unknown[index]),
        }
        for index, text in enumerate(expected.texts)
    ]


def ids_vectors(expected: Expected, specification: Specification, vocabulary: Sequence[str]) -> list[Mapping[str, Any]]:
    """`expected` as the rows of `vectors.ids.jsonl`, for the forms that take ids: line by line the texts of `vectors`.

    `ids` are all the tokens of the text, neither cut nor padded, and may be none; as a row of a batch they are padded
    with 1 on the right, and `lengths` holds how many they are. A runtime conforms when no logit `x` is farther off than
    `tolerance` times the larger of 1 and |x|. The softmax of `logits` are the `probabilities` of the text.
    """
    if expected.logits is None:
        raise ValueError("vectors of ids need the reference's logits")
    table = lookup_table(vocabulary)
    return [
        {"ids": encode(specification.tokenizer.tokenize(text), table), "logits": [float(value) for value in logits]}
        for text, logits in zip(expected.texts, expected.logits, strict=True)
    ]


def explain_vectors(expected: Expected) -> list[Mapping[str, Any]]:
    """Some texts of `expected`, each short enough to read, as the rows of `vectors.explain.jsonl`.

    `words` are the tokens of `text` up to the cut, `shares` what each adds to the logits, a number a class in the order
    of the manifest's `labels`. A runtime conforms when the words are equal and no share is farther off than `tolerance`
    times the larger of 1 and the largest absolute sum of shares, of a class, from the text's start.
    """
    short = [text for text in expected.texts if len(expected.explained[text].words) <= _EXPLAINED_WORDS]
    return [
        {"text": text, "words": list(known.words), "shares": [[float(value) for value in row] for row in known.shares]}
        for text, known in ((text, expected.explained[text]) for text in short[:_EXPLAINED_AMONG:4])
    ]


def from_vectors(
    rows: Sequence[Mapping[str, Any]],
    ids_rows: Sequence[Mapping[str, Any]] = (),
    explain_rows: Sequence[Mapping[str, Any]] = (),
) -> Expected:
    """The inverse of `vectors`, of `ids_vectors` for the logits and of `explain_vectors` for the shares.

    Older bundles have no `ids_rows`.
    """
    return Expected(
        texts=[row["text"] for row in rows],
        labels=[row["label"] for row in rows],
        probabilities=np.array([row["probabilities"] for row in rows], np.float32),
        tokens=np.array([row["tokens"] for row in rows], np.int64),
        unknown=np.array([row["unknown"] for row in rows], np.int64),
        logits=np.array([row["logits"] for row in ids_rows], np.float32) if ids_rows else None,
        explained={row["text"]: _explained(row, len(rows[0]["probabilities"])) for row in explain_rows},
    )


def _explained(row: Mapping[str, Any], classes: int) -> Explained:
    return Explained(row["words"], np.array(row["shares"], np.float32).reshape(-1, classes))
