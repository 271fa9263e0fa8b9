"""The parity proof: every exported form against a reference, over edge cases, the whole vocabulary and real text."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.forms import TOLERANCE, Answers, Explained, Runner, softmax
from export.rounding import LOGIT_ULPS, ULP, Sizes, log_probability_differences, logit_differences
from export.spec import Specification
from export.text import encode, lookup_table

ALONE = 200
_BATCH_TEXTS = 1024  # reached by the words of the vocabulary: a run costs as much as hundreds of them
_BATCH_TOKENS = 1 << 16
_SHOWN = 80
_EXPLAINED_AMONG = 300
_EXPLAINED_WORDS = 64

Reference = Callable[[Sequence[Sequence[str]]], NDArray[np.float32]]
"""Texts, each as its tokens -> logits [texts, classes]."""

SizesReference = Callable[[Sequence[str]], Sizes]
"""Texts -> the size of the terms that each logit is summed from, [texts, classes] (see `export.rounding`)."""

SharesReference = Callable[[Sequence[str]], Sequence[NDArray[np.float32]]]
"""Texts -> of each the change of the logits that its tokens cause, [tokens read, classes]."""


@dataclass(frozen=True)
class Expected:
    """What every form has to say of `texts`: `logits` and `probabilities` [N, classes], token counts [N].

    `sizes` [N, classes] are those of the terms that the logits are summed from, known where the logits are.
    `explained` are the texts whose shares are known.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    probabilities: NDArray[np.float32]
    tokens: NDArray[np.int64]
    unknown: NDArray[np.int64]
    logits: NDArray[np.float32] | None = None
    sizes: Sizes | None = None
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
            None if self.sizes is None else self.sizes[index],
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
    two best probabilities differ by more than the tolerance. `logits_difference` and `shares_difference` are in units
    in the last place of the terms that a logit is summed from (see `export.rounding`), and None where there is nothing
    to compare; `logits_tolerance` bounds the first, and twice that the second, because a share is the difference of two
    logits. `word_errors` counts the answers with other words. `worst_texts` holds, of each of these figures, the text
    that is worst in it.
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
    logits_tolerance: float | None
    min_agreement: float
    worst_texts: Mapping[str, str]
    shares_difference: float | None = None
    word_errors: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything the form says is within the tolerance. A difference that is not a number is not."""
        return not self._reasons()

    def failure(self) -> str:
        """What failed, how far, at what tolerance, and on which text most; empty where nothing did."""
        reasons = [
            f"{reason}, worst on {self.worst_texts[figure]!r}" if figure in self.worst_texts else reason
            for figure, reason in self._reasons().items()
        ]
        return f"{self.form}: {'; '.join(reasons)}" if reasons else ""

    def _reasons(self) -> Mapping[str, str]:
        """Figure -> why it fails."""
        reasons = {}
        if not self.max_difference <= self.tolerance:
            reasons["probabilities"] = (
                f"probabilities differ by {self.max_difference:.3g}, tolerance {self.tolerance:g}"
            )
        for figure, difference, times in (("logits", self.logits_difference, 1), ("shares", self.shares_difference, 2)):
            if difference is None or self.logits_tolerance is None:
                continue
            if not difference <= times * self.logits_tolerance:
                reasons[figure] = (
                    f"{figure} differ by {difference:.3g} units in the last place of their terms, "
                    f"tolerance {times * self.logits_tolerance:g}"
                )
        if self.label_errors:
            reasons["labels"] = f"{self.label_errors} labels differ"
        if self.label_agreement < self.min_agreement:
            reasons["agreement"] = f"{self.label_agreement:.2%} of the labels agree, expected {self.min_agreement:.1%}"
        if self.count_errors:
            reasons["counts"] = f"{self.count_errors} token counts differ"
        if self.word_errors:
            reasons["words"] = f"the words differ in {self.word_errors} answers"
        return reasons

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {**asdict(self), "passed": self.passed}


def expect(
    reference: Reference,
    specification: Specification,
    vocabulary: Sequence[str],
    texts: Sequence[str],
    shares_reference: SharesReference | None = None,
    sizes_reference: SizesReference | None = None,
) -> Expected:
    """What the reference and the Python tokenizer say of `texts`; logits are compared where their sizes are known.

    Raises `ExportError` where the reference itself gives no number.
    """
    table = lookup_table(vocabulary)
    tokens = [specification.tokenizer.tokenize(text) for text in texts]
    ids = [encode(row, table) for row in tokens]
    logits = reference(tokens)
    if not np.isfinite(logits).all():
        (broken,) = np.nonzero(~np.isfinite(logits).all(axis=1))
        raise ExportError(
            f"the model itself has no number as its answer to {texts[broken[0]][:_SHOWN]!r} "
            f"({len(tokens[broken[0]]):,} tokens): its states grow beyond single precision; "
            "train it anew, with fewer tokens a text"
        )
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
        sizes=sizes_reference(texts) if sizes_reference else None,
        explained=explained,
    )


def compare(
    form: str,
    provider: str,
    run: Runner,
    expected: Expected,
    tolerance: float = TOLERANCE,
    min_agreement: float = 0.0,
    logit_ulps: float | None = LOGIT_ULPS,
    at_once: int = 1,
) -> Comparison:
    """Run every text in batches of mixed lengths and up to `ALONE` of them one by one, and compare all that is said.

    `tolerance` bounds the probabilities, `logit_ulps` the logits, which without it are not compared. So many batches
    run `at_once`, each in a thread.
    """
    count = len(expected.texts)
    order = np.random.default_rng(0).permutation(count)
    alone = sorted(order[:ALONE].tolist())
    batches = [*_mixed_batches(expected, order), *([index] for index in alone)]
    worst = _Worst(expected, tolerance, logit_ulps)
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="parity")
    try:
        answers = pool.map(lambda batch: run([expected.texts[index] for index in batch]), batches)
        for batch, said in zip(batches, answers, strict=True):
            worst.add(batch, said)
    finally:
        pool.shutdown(cancel_futures=True)
    return Comparison(
        form=form,
        provider=provider,
        cases=count,
        alone=len(alone),
        max_difference=worst.figure("probabilities") or 0.0,
        logits_difference=worst.figure("logits"),
        label_agreement=1 - worst.other_labels / max(1, worst.labels),
        label_errors=worst.label_errors,
        count_errors=worst.count_errors,
        tolerance=tolerance,
        logits_tolerance=logit_ulps,
        min_agreement=min_agreement,
        worst_texts={figure: expected.texts[index][:_SHOWN] for figure, (_, index) in worst.figures.items()},
        shares_difference=worst.figure("shares"),
        word_errors=worst.word_errors,
    )


class _Worst:
    """The running worst of a comparison: figure -> its largest value so far, and the index of the text that has it."""

    def __init__(self, expected: Expected, tolerance: float, logit_ulps: float | None) -> None:
        self.expected = expected
        self.tolerance = tolerance
        self.logit_ulps = logit_ulps
        self.figures: dict[str, tuple[float, int]] = {}
        self.labels = self.other_labels = self.label_errors = self.count_errors = self.word_errors = 0

    def figure(self, name: str) -> float | None:
        """The largest value so far; None where there was nothing to compare."""
        return self.figures[name][0] if name in self.figures else None

    def add(self, batch: Sequence[int], answers: Answers) -> None:
        """Compare what was answered to the texts of these indices."""
        rows = np.array(batch)
        wanted = self.expected.probabilities[rows]
        if answers.probabilities.shape != wanted.shape:
            self._note("probabilities", float("nan"), batch[0])
            return
        self._note_rows("probabilities", np.abs(answers.probabilities - wanted).max(axis=1), batch)
        self._add_logits(batch, rows, answers)
        self._add_labels(batch, wanted, answers)
        for counted, count in ((answers.tokens, self.expected.tokens), (answers.unknown, self.expected.unknown)):
            if counted is not None and (wrong := np.flatnonzero(counted != count[rows])).size:
                self.count_errors += wrong.size
                self._note_rows("counts", np.abs(counted - count[rows]), batch)
        if answers.explained is not None:
            for index, said in zip(batch, answers.explained, strict=True):
                if (known := self.expected.explained.get(self.expected.texts[index])) is not None:
                    self._add_explained(index, said, known)

    def _add_logits(self, batch: Sequence[int], rows: NDArray[np.intp], answers: Answers) -> None:
        if self.logit_ulps is None or self.expected.logits is None or self.expected.sizes is None:
            return
        logits, sizes = self.expected.logits[rows], self.expected.sizes[rows]
        if answers.logits is None:
            far = log_probability_differences(answers.probabilities, logits, sizes)
        else:
            if answers.summed is not None:  # half a unit of each is lost when it becomes single precision
                sizes = sizes + answers.summed / (2 * self.logit_ulps)
            far = logit_differences(answers.logits, logits, sizes)
        self._note_rows("logits", far.max(axis=1), batch)

    def _add_labels(self, batch: Sequence[int], wanted: NDArray[np.float32], answers: Answers) -> None:
        if answers.labels is None:
            return
        best = np.sort(wanted, axis=1)
        margin = best[:, -1] - best[:, -2]
        other = np.array([self.expected.labels[i] != label for i, label in zip(batch, answers.labels, strict=True)])
        self.labels += len(batch)
        self.other_labels += int(other.sum())
        if (wrong := other & (margin > self.tolerance)).any():
            self.label_errors += int(wrong.sum())
            self._note_rows("labels", np.where(wrong, margin, 0.0), batch)

    def _add_explained(self, index: int, said: Explained, wanted: Explained) -> None:
        if list(said.words) != list(wanted.words):
            self.word_errors += 1
            self._note("words", 1, index)
        elif said.shares.shape != wanted.shares.shape:
            self._note("shares", float("nan"), index)
        elif wanted.words and self.expected.sizes is not None:
            far = logit_differences(said.shares, wanted.shares, self.expected.sizes[index])
            self._note("shares", float(far.max()), index)

    def _note_rows(self, name: str, values: NDArray[np.floating[Any]], batch: Sequence[int]) -> None:
        """The worst of a batch: one value a text. `argmax` finds what is not a number first."""
        row = int(values.argmax())
        self._note(name, float(values[row]), batch[row])

    def _note(self, name: str, value: float, index: int) -> None:
        if name not in self.figures or _exceeds(value, self.figures[name][0]):
            self.figures[name] = (value, index)


def _exceeds(difference: float, so_far: float) -> bool:
    """Whether it is the larger one. What is not a number exceeds every number, and nothing exceeds it."""
    return not math.isnan(so_far) and not difference <= so_far


def _mixed_batches(expected: Expected, order: NDArray[np.intp]) -> list[list[int]]:
    """Batches of texts in this order, a random one, that differ in tokens, but by no more than twice: beyond that
    padding would be all there is to compute. A text without a token goes with those that have as many as it has
    characters, so that blank rows stand beside short and long ones."""
    lengths = expected.tokens.copy()
    for blank in np.flatnonzero(lengths == 0).tolist():
        lengths[blank] = max(1, len(expected.texts[blank]))
    octaves = np.frexp(lengths[order])[1]  # the bits of a length
    batches: list[list[int]] = []
    for bits in np.unique(octaves).tolist():
        octave = order[octaves == bits].tolist()
        size = max(1, min(_BATCH_TEXTS, _BATCH_TOKENS >> bits))
        batches += [octave[start : start + size] for start in range(0, len(octave), size)]
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
    with 1 on the right, and `lengths` holds how many they are. A runtime conforms when no logit is farther off than its
    number in `tolerances`. The softmax of `logits` are the `probabilities` of the text.
    """
    if expected.logits is None or expected.sizes is None:
        raise ValueError("vectors of ids need the reference's logits and their sizes")
    table = lookup_table(vocabulary)
    return [
        {
            "ids": encode(specification.tokenizer.tokenize(text), table),
            "logits": [float(value) for value in logits],
            "tolerances": _tolerances(sizes),
        }
        for text, logits, sizes in zip(expected.texts, expected.logits, expected.sizes, strict=True)
    ]


def _tolerances(sizes: Sizes) -> list[float]:
    """How far each logit of a text may be off, to four digits."""
    return [float(f"{LOGIT_ULPS * ULP * size:.4g}") for size in sizes]


def explain_vectors(expected: Expected) -> list[Mapping[str, Any]]:
    """Some texts of `expected`, each short enough to read, as the rows of `vectors.explain.jsonl`.

    `words` are the tokens of `text` up to the cut, `shares` what each adds to the logits, a number a class in the order
    of the manifest's `labels`. A runtime conforms when the words are equal and no share is farther off than twice the
    number in the text's `tolerances`: it is the difference of two logits.
    """
    if expected.sizes is None:
        raise ValueError("vectors of shares need the sizes of the reference's logits")
    read = ((index, text, expected.explained[text]) for index, text in enumerate(expected.texts))
    short = [(index, text, known) for index, text, known in read if len(known.words) <= _EXPLAINED_WORDS]
    return [
        {
            "text": text,
            "words": list(known.words),
            "shares": [[float(value) for value in row] for row in known.shares],
            "tolerances": _tolerances(expected.sizes[index]),
        }
        for index, text, known in short[:_EXPLAINED_AMONG:4]
    ]


def from_vectors(
    rows: Sequence[Mapping[str, Any]],
    ids_rows: Sequence[Mapping[str, Any]] = (),
    explain_rows: Sequence[Mapping[str, Any]] = (),
) -> Expected:
    """The inverse of `vectors`, of `ids_vectors` for the logits and of `explain_vectors` for the shares.

    Older bundles have no `ids_rows`, or none with `tolerances`: there a logit `x` may be off by `TOLERANCE` times the
    larger of 1 and |x|, as it was when they were made.
    """
    logits = np.array([row["logits"] for row in ids_rows], np.float32) if ids_rows else None
    if ids_rows and "tolerances" in ids_rows[0]:
        tolerances = np.array([row["tolerances"] for row in ids_rows], np.float64)
    else:
        known = [row["logits" if ids_rows else "probabilities"] for row in ids_rows or rows]
        tolerances = TOLERANCE * np.maximum(1.0, np.abs(np.array(known, np.float64)))
    return Expected(
        texts=[row["text"] for row in rows],
        labels=[row["label"] for row in rows],
        probabilities=np.array([row["probabilities"] for row in rows], np.float32),
        tokens=np.array([row["tokens"] for row in rows], np.int64),
        unknown=np.array([row["unknown"] for row in rows], np.int64),
        logits=logits,
        sizes=tolerances / (LOGIT_ULPS * ULP),
        explained={row["text"]: _explained(row, len(rows[0]["probabilities"])) for row in explain_rows},
    )


def _explained(row: Mapping[str, Any], classes: int) -> Explained:
    return Explained(row["words"], np.array(row["shares"], np.float32).reshape(-1, classes))
