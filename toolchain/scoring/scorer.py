"""`Scorer`: a bundle as a function from texts to labels, without torch. Batches by length, over worker threads."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, open_bundle
from export.selfcheck import open_for_scoring
from export.sessions import RuntimeUnavailable, choose_provider, cores, reason, run_text
from toolchain.errors import UsageError
from toolchain.measures.drift import bundle_reference
from toolchain.scoring import processes
from toolchain.scoring.default import BOX, find_bundle
from toolchain.scoring.explainer import Explainer, Explanation
from toolchain.scoring.frames import Frame, with_answers
from toolchain.scoring.planning import ACCELERATOR_LIMITS, CPU_LIMITS, plan_batches
from toolchain.scoring.texts import require_content, require_strings
from toolchain.scoring.word_shares import WordShare, explain_model, label_shares, strongest_words

if TYPE_CHECKING:
    import onnxruntime

_TURN = 0.25
"""Seconds after which whoever waits for scores may see to something else."""

GENERAL = "model.onnx"
CPU = "model.cpu.onnx"
INT8 = "model.int8.onnx"


class Prediction(NamedTuple):
    """What the model says of one text. `probabilities` follow `Scorer.labels`; `confidence` is the label's own."""

    label: str
    confidence: float
    probabilities: tuple[float, ...]
    tokens: int
    unknown: int


@dataclass(frozen=True)
class Scores:
    """What the model says of N texts: `best` [N] indexes the labels, `probabilities` [N, classes], counts [N].

    `strongest` are each text's strongest words for the label and against it, where the scorer explains.
    """

    best: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    tokens: NDArray[np.int64]
    unknown: NDArray[np.int64]
    strongest: Sequence[Sequence[WordShare]] = ()


class Scorer:
    """Scores texts with a bundle. Thread-safe; use it as a context manager or `close` it to end its threads.

    On the CPU provider, as many threads as cores (or `threads`) share one session whose operators run on one thread
    each: that is faster than one batch at a time over all cores. Without a bundle it takes that of `find_bundle`. With
    `explain` every score names as many of the text's strongest words for its label, and as many against it; that takes
    the bundle's `model.explain.onnx`, on the CPU.

    A batch on which another provider than `cpu` fails (its memory is full) raises
    `export.sessions.RuntimeUnavailable`; nothing is scored anew on the CPU without a word.

    In a child that was forked it opens its session anew when it is first used, which an accelerator does not allow:
    there it raises `UsageError`. A pickle holds the bundle's folder and identity, and opens them where it is read.

    Raises `export.bundle.InvalidBundle` on a bundle that is missing or damaged, `export.sessions.RuntimeUnavailable`
    where the provider cannot be had, `export.selfcheck.WrongAnswers` where the runtime does not reproduce the bundle's
    vectors, and `UsageError` where the bundle lacks the form that is asked for.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        provider: str = "auto",
        provider_options: Mapping[str, str] | None = None,
        precision: str = "fp32",
        explain: int = 0,
        threads: int | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(find_bundle(bundle))
        self._asked = (provider, provider_options, precision, explain, threads)
        self.identity = self.bundle.identity
        self.labels = self.bundle.specification.labels
        self.reference = bundle_reference(self.bundle)
        self.explained_words = explain
        self._explainer: Explainer | None = None
        if explain and provider == "auto":
            provider = "cpu"
        text_model = GENERAL if GENERAL in self.bundle.files else CPU
        self.provider = choose_provider(self.bundle.file(text_model), provider)
        on_cpu = self.provider == "cpu"
        self.model = self._choose_explaining(on_cpu, precision) if explain else self._choose_model(on_cpu, precision)
        self._limits = CPU_LIMITS if on_cpu else ACCELERATOR_LIMITS
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._opened: _Opened | None = self._open()
        processes.register(self)

    @property
    def name(self) -> str:
        """The model's file; of the model in the box, what it is."""
        folder = self.bundle.folder
        if folder != BOX:
            return f"{folder}/{self.model}"
        training = self.bundle.manifest["training"]
        return f"in the box ({training['recipe']} trained on {training['data']}), {self.model}"

    def score(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction a text, in order.

        Raises `UsageError` that names the text which is no string, or blank: white space and U+0000 alone say nothing.
        A text of which the tokenizer keeps nothing (`...` where marks are dropped) has `tokens` 0 and the answer of the
        zero state.
        """
        scores = self.submit(require_content(texts)).result()
        return [
            Prediction(self.labels[best], row[best], tuple(row), tokens, unknown)
            for best, row, tokens, unknown in zip(
                scores.best.tolist(),
                scores.probabilities.tolist(),
                scores.tokens.tolist(),
                scores.unknown.tolist(),
                strict=True,
            )
        ]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text. Raises `UsageError` as `score` does."""
        return [prediction.label for prediction in self.score(texts)]

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The probabilities [N, classes], in the order of `classes_`. Raises `UsageError` as `score` does."""
        return self.submit(require_content(texts)).result().probabilities

    @property
    def classes_(self) -> list[str]:
        """The labels, by the name that scikit-learn's classifiers have for them."""
        return list(self.labels)

    def score_frame(self, frame: Frame, column: str) -> Frame:
        """A pandas or polars frame with `prediction` and `confidence` behind its columns, as `with_answers` has it."""
        return with_answers(lambda texts: [(own.label, own.confidence) for own in self.score(texts)], frame, column)

    def explain(self, text: str) -> Explanation:
        """What each word of a text did to its label; a notebook shows it with its words coloured.

        It takes the bundle's `model.explain.onnx`, on the CPU. Raises `UsageError` where the bundle has none, and as
        `score` does.
        """
        self._explainer = self._explainer or Explainer(self.bundle)
        return self._explainer.explain([text])[0]

    def __repr__(self) -> str:
        return f"<Scorer {self.name} on {self.provider}: {', '.join(self.labels)}>"

    def submit(self, texts: Sequence[str]) -> "PendingScores":
        """Start scoring and give a handle; several may be under way at once, and their batches keep every core busy.

        The batches depend on `texts` alone, so the same texts always give the same bits on one machine. A text that
        stands there more than once is run once, and a file of nothing but different texts is run as it is. A blank text
        gets the answer of the zero state: whoever rejects it has done so. Raises `UsageError` that names the text which
        is no string.
        """
        numbers: dict[str, int] = {}
        rows = [numbers.setdefault(text, len(numbers)) for text in require_strings(texts)]
        different = list(numbers)
        batches = plan_batches(different, self.bundle.specification.tokenizer, self._limits)
        with self._opening:
            self._opened = opened = self._opened or self._open()
        # The longest texts go first, so that no thread is left alone with one at the end.
        pending = [
            (batch, opened.workers.submit(self._run, opened.session, [different[i] for i in batch]))
            for batch in reversed(batches)
        ]
        return PendingScores(rows, len(different), len(self.labels), pending)

    def close(self) -> None:
        """End the worker threads; batches that have not begun are dropped."""
        if self._opened:
            self._opened.workers.shutdown(cancel_futures=True)

    def forget_session(self) -> None:
        """In a child that was forked: the session and its threads are the parent's; the next text opens others."""
        if self._opened:
            processes.leave_alone(self._opened)
        self._opened = None
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.bundle.folder.absolute(), self.bundle.folder == BOX, self.identity, self._asked)

    def _open(self) -> "_Opened":
        _, provider_options, _, _, threads = self._asked
        on_cpu = self.provider == "cpu"
        if not on_cpu and os.getpid() != self._process:
            raise UsageError(
                f"this Scorer was opened on {self.provider} before a fork, and {self.provider} does not survive one; "
                "open it in the child"
            )
        per_operator = 1 if on_cpu else 0
        return _Opened(
            open_for_scoring(self.bundle, self.model, self.provider, per_operator, provider_options),
            ThreadPoolExecutor((threads or cores()) if on_cpu else 1, thread_name_prefix="scorer"),
        )

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _choose_model(self, on_cpu: bool, precision: str) -> str:
        if precision == "int8":
            if not on_cpu:
                raise UsageError(f"--precision int8 is for the cpu provider, not {self.provider}")
            if INT8 not in self.bundle.files:
                folder = self.bundle.folder
                whose, weights = ("the model in the box", "box") if folder == BOX else (folder, folder)
                raise UsageError(
                    f"{whose}: has no int8 form; leave --precision out, or export one: toolchain export "
                    f"--snapshot {weights} --precision int8 --out FOLDER"
                )
            return INT8
        if precision != "fp32":
            raise UsageError(f"--precision {precision}: expected fp32 or int8")
        if not on_cpu and GENERAL not in self.bundle.files:
            raise UsageError(
                f"{self.bundle.folder}: holds no {GENERAL}, which {self.provider} needs; use --provider cpu"
            )
        return CPU if on_cpu and CPU in self.bundle.files else GENERAL

    def _choose_explaining(self, on_cpu: bool, precision: str) -> str:
        if not on_cpu:
            raise UsageError(f"--explain is for the cpu provider, not {self.provider}")
        if precision != "fp32":
            raise UsageError(f"--explain goes with --precision fp32, not {precision}")
        return explain_model(self.bundle).name

    def _run(self, session: "onnxruntime.InferenceSession", texts: list[str]) -> Scores:
        names = ["probabilities", "tokens", "unknown", *(["words", "shares", "start"] if self.explained_words else [])]
        try:
            probabilities, tokens, unknown, *more = run_text(session, names, texts)
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            if self.provider == "cpu":
                raise
            raise RuntimeUnavailable(
                f"the provider {self.provider!r} failed on a batch of {len(texts)} texts; use --provider cpu. "
                f"ONNX Runtime says: {reason(error)}"
            ) from error
        best = probabilities.argmax(axis=1)
        strongest = self._strongest(best, *more) if self.explained_words else ()
        return Scores(best, probabilities, tokens, unknown, strongest)

    def _strongest(
        self,
        best: NDArray[np.int64],
        words: NDArray[np.object_],
        shares: NDArray[np.float32],
        start: NDArray[np.float32],
    ) -> list[list[WordShare]]:
        _, own = label_shares(start, shares, best)
        return [
            strongest_words(map(WordShare, filter(None, row), row_shares), self.explained_words)
            for row, row_shares in zip(words.tolist(), own.tolist(), strict=True)
        ]


class _Opened(NamedTuple):
    """What belongs to one process."""

    session: "onnxruntime.InferenceSession"
    workers: ThreadPoolExecutor


def _reopened(folder: Path, from_box: bool, identity: str, asked: tuple[Any, ...]) -> Scorer:
    """A scorer out of a pickle. Raises `UsageError` where another bundle has taken the place of its own."""
    scorer = Scorer(BOX if from_box else folder, *asked)
    if scorer.identity != identity:
        scorer.close()
        raise UsageError(f"{scorer.bundle.folder}: not the bundle that this Scorer was pickled with; pickle it anew")
    return scorer


@dataclass(frozen=True)
class PendingScores:
    """Scores under way: of `count` different texts in `batches`, and which of them each of the texts is, in `rows`."""

    rows: Sequence[int]
    count: int
    classes: int
    batches: Sequence[tuple[list[int], Future[Scores]]]
    process: int = field(default_factory=os.getpid)

    def done(self) -> int:
        """How many of the texts have their answer."""
        return sum(len(batch) for batch, future in self.batches if future.done())

    def waiting(self) -> Iterator[None]:
        """One turn every `_TURN` seconds and after every batch, until all are done."""
        for _, future in self.batches:
            while not future.done():
                wait([future], _TURN)
                yield

    def cancel(self) -> None:
        """Drop the batches that have not begun. Then there is no `result`."""
        for _, future in self.batches:
            future.cancel()

    def result(self) -> Scores:
        """Wait for every batch and put the texts' order back, every text with the answer that it has.

        Raises `UsageError` in a child that was forked meanwhile: there nobody works on them.
        """
        if os.getpid() != self.process:
            raise UsageError(
                "these scores are under way in the process that this one was forked from; submit them here"
            )
        probabilities = np.empty((self.count, self.classes), np.float32)
        tokens = np.empty(self.count, np.int64)
        unknown = np.empty(self.count, np.int64)
        strongest: dict[int, Sequence[WordShare]] = {}
        for batch, future in self.batches:
            scores = future.result()
            probabilities[batch], tokens[batch], unknown[batch] = scores.probabilities, scores.tokens, scores.unknown
            strongest |= zip(batch, scores.strongest, strict=False)
        rows = np.array(self.rows, np.intp)
        probabilities = probabilities[rows]
        in_order = [strongest[row] for row in self.rows] if strongest else ()
        return Scores(probabilities.argmax(axis=1), probabilities, tokens[rows], unknown[rows], in_order)
