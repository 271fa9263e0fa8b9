"""`Explainer`: what every token of a text did to its label, from the bundle's `model.explain.onnx`, without torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from export.bundle import Bundle, open_bundle
from export.selfcheck import open_for_scoring
from export.sessions import run_text
from export.text import Tokenizer, clean
from toolchain.errors import UsageError
from toolchain.files.records import MAX_ROW_BYTES
from toolchain.scoring.scorer import CPU_LIMITS, find_bundle, plan_batches
from toolchain.scoring.word_shares import WordShare, explain_model, label_shares, strongest_words


class Piece(NamedTuple):
    """A run of the original text. `share` is that of the token it is; None for what the model does not read: white
    space, marks that the tokenizer drops, and everything behind the cut at `max_tokens`."""

    text: str
    share: float | None


@dataclass(frozen=True)
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


def read_text(stream: BinaryIO) -> str:
    """The whole of a stream as one text. Raises `UsageError` where it is not UTF-8, or too long for a review."""
    data = stream.read(MAX_ROW_BYTES + 1)
    if len(data) > MAX_ROW_BYTES:
        raise UsageError(f"standard input: longer than {MAX_ROW_BYTES:,} bytes; explain one review at a time")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input: byte {error.start + 1:,} is not UTF-8; convert it first") from error


class Explainer:
    """Explains texts with a bundle that holds `model.explain.onnx`; without a bundle it takes that of `find_bundle`.

    `model` is the form's file. Raises `UsageError` where the bundle has no such form, and
    `export.bundle.InvalidBundle` where it is missing or damaged.
    """

    def __init__(self, bundle: str | Path | Bundle | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle or find_bundle()))
        self.labels = self.bundle.specification.labels
        self.model = explain_model(self.bundle).name
        self._session = open_for_scoring(self.bundle, self.model)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """One explanation a text, in order. Beside what it returns it holds one batch of texts and arrays."""
        explanations: dict[int, Explanation] = {}
        for batch in plan_batches([len(clean(text).encode()) for text in texts], CPU_LIMITS):
            explanations |= zip(batch, self._explain_batch([texts[index] for index in batch]), strict=True)
        return [explanations[index] for index in range(len(texts))]

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
