"""`Explainer`: what every token of a text did to its label, from the bundle's `model.explain.onnx`, without torch."""

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from export.bundle import Bundle, open_bundle
from export.selfcheck import open_for_scoring
from export.sessions import run_text
from export.text import Tokenizer, clean
from toolchain.errors import UsageError, quoted
from toolchain.scoring import processes
from toolchain.scoring.default import BOX, find_bundle
from toolchain.scoring.marks import legend, marked
from toolchain.scoring.planning import CPU_LIMITS, plan_batches
from toolchain.scoring.texts import require_content
from toolchain.scoring.word_shares import WordShare, explain_model, label_shares, strongest_words

if TYPE_CHECKING:
    import onnxruntime

_NAMED = 3
"""How many words for the label a `repr` names, and how many against it."""


class Piece(NamedTuple):
    """A run of the original text. `share` is that of the token it is; None for what the model does not read: white
    space, marks that the tokenizer drops, and everything behind the cut at `max_tokens`."""

    text: str
    share: float | None


@dataclass(frozen=True, repr=False)
class Explanation:
    """One text, its label, and what each of its tokens added to the label's log-odds, ln(p / (1 - p)).

    A positive share speaks for the label, a negative one against it. `start`, the log-odds before the first token, and
    all shares together are the log-odds of `confidence`. `words` are the tokens that were read, in order, as the model
    sees them (lower-cased). The texts of `pieces` put together are `text`, character by character.
    """

    text: str
    label: str
    confidence: float
    probabilities: Mapping[str, float]
    tokens: int
    unknown: int
    start: float
    words: tuple[WordShare, ...]
    pieces: tuple[Piece, ...]

    def strongest(self, count: int) -> list[WordShare]:
        """At most `count` words for the label, the strongest first, then at most `count` against it.

        The shares of a word that occurs more than once are added up.
        """
        return strongest_words(self.words, count)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        pieces = [piece._asdict() for piece in self.pieces]
        return {**vars(self), "words": [word._asdict() for word in self.words], "pieces": pieces}

    def __repr__(self) -> str:
        strongest = "; ".join(f"{quoted(word)} {share:+.2f}" for word, share in self.strongest(_NAMED))
        return f"<Explanation {self.label} {self.confidence:.4f} of {quoted(self.text)!r}: {strongest or 'no word'}>"

    def _repr_html_(self) -> str:
        """For a notebook: the answer, the text with its words coloured, and what the colours mean."""
        answer = ", ".join(f"{label} {probability:.4f}" for label, probability in self.probabilities.items())
        largest = max((abs(share) for _, share in self.words), default=0.0)
        return (
            f"<div><p><b>{html.escape(self.label)}</b> ({html.escape(answer)})</p>"
            '<p style="white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate">'
            f"{marked(self.pieces, largest)}</p>"
            f"<p><small>{legend(self.label)}; the strongest has {largest:.2f}</small></p></div>"
        )


class Explainer:
    """Explains texts with a bundle that holds `model.explain.onnx`; without a bundle it takes that of `find_bundle`.

    In a child that was forked it opens its session anew; a pickle opens the bundle where it is read. `model` is the
    form's file; its operators run on `threads` (0: one a core). Raises `UsageError` where the bundle has no such form,
    and `export.bundle.InvalidBundle` where it is missing or damaged.
    """

    def __init__(self, bundle: str | os.PathLike[str] | Bundle | None = None, threads: int = 0) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(find_bundle(bundle))
        self.labels = self.bundle.specification.labels
        self.model = explain_model(self.bundle).name
        self._threads = threads
        self._opened: onnxruntime.InferenceSession | None = self._open()
        processes.register(self)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """One explanation a text, in order. Beside what it returns it holds one batch of texts and arrays.

        Raises `UsageError` that names the text which is no string, or blank.
        """
        require_content(texts)
        explanations: dict[int, Explanation] = {}
        for batch in plan_batches(texts, self.bundle.specification.tokenizer, CPU_LIMITS):
            explanations |= zip(batch, self._explain_batch([texts[index] for index in batch]), strict=True)
        return [explanations[index] for index in range(len(texts))]

    def __repr__(self) -> str:
        return f"<Explainer {self.bundle.folder}/{self.model}: {', '.join(self.labels)}>"

    def forget_session(self) -> None:
        """In a child that was forked: the session is the parent's; the next text opens another."""
        if self._opened:
            processes.leave_alone(self._opened)
        self._opened = None

    @property
    def _session(self) -> "onnxruntime.InferenceSession":
        self._opened = self._opened or self._open()
        return self._opened

    def _open(self) -> "onnxruntime.InferenceSession":
        return open_for_scoring(self.bundle, self.model, threads=self._threads)

    def __reduce__(self) -> tuple[Any, ...]:
        folder = self.bundle.folder
        return _reopened, (folder.absolute(), folder == BOX, self.bundle.identity, self._threads)

    def _explain_batch(self, texts: Sequence[str]) -> Iterator[Explanation]:
        names = ["probabilities", "tokens", "unknown", "words", "shares", "start"]
        answers = run_text(self._session, names, [clean(text) for text in texts])
        probabilities, tokens, unknown, words, shares, start = answers
        best = probabilities.argmax(axis=1)
        before, own = label_shares(start, shares, best)
        for row, text in enumerate(texts):
            read = [word for word in words[row] if word]
            own_shares = own[row, : len(read)].tolist()
            yield Explanation(
                text=text,
                label=self.labels[best[row]],
                confidence=float(probabilities[row, best[row]]),
                probabilities=dict(zip(self.labels, probabilities[row].tolist(), strict=True)),
                tokens=int(tokens[row]),
                unknown=int(unknown[row]),
                start=float(before[row]),
                words=tuple(map(WordShare, read, own_shares)),
                pieces=tuple(_pieces(text, self.bundle.specification.tokenizer, own_shares)),
            )


def _reopened(folder: Path, from_box: bool, identity: str, threads: int) -> Explainer:
    """An explainer out of a pickle. Raises `UsageError` where another bundle has taken the place of its own."""
    bundle = open_bundle(BOX if from_box else folder)
    if bundle.identity != identity:
        raise UsageError(f"{bundle.folder}: not the bundle that this Explainer was pickled with; pickle it anew")
    return Explainer(bundle, threads)


def _pieces(text: str, tokenizer: Tokenizer, shares: Sequence[float]) -> Iterator[Piece]:
    """The text cut at its tokens; the first `len(shares)` of them were read."""
    at = 0
    for (start, end), share in zip(tokenizer.spans(text), shares, strict=False):
        if start > at:
            yield Piece(text[at:start], None)
        yield Piece(text[start:end], share)
        at = end
    if at < len(text):
        yield Piece(text[at:], None)
