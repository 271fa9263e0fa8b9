"""A bundle that is being served, and its answers as plain values."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.bundle import MANIFEST, open_bundle
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.word_shares import EXPLAIN


class NoExplanations(Exception):
    """The bundle that is served has no form that explains."""


def read_identity(folder: Path) -> str | None:
    """`Bundle.identity` of the bundle in a folder; None where there is none."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


class Model:
    """The bundle in `folder`, ready to answer: `Scorer` and `Explainer` have just given its vectors' answers.

    A symbolic link is followed once, so that all files come from one bundle. Raises what `Scorer` raises.
    """

    def __init__(self, folder: Path, provider: str = "auto", precision: str = "fp32", threads: int = 1) -> None:
        real = folder.resolve()
        self.identity = read_identity(real)  # before the rest is read: an exchange in between is then noticed later
        self.bundle = open_bundle(folder if self.identity is None else real)  # an error calls it as it was called
        self.scorer = Scorer(self.bundle, provider, precision=precision, threads=threads)
        self._explainer = Explainer(self.bundle, threads=1) if EXPLAIN in self.bundle.files else None

    @property
    def explains(self) -> bool:
        """Whether the bundle has the form that explanations need."""
        return self._explainer is not None

    def score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What `/score` answers of each text."""
        return [
            {
                "label": prediction.label,
                "confidence": prediction.confidence,
                "probabilities": dict(zip(self.scorer.labels, prediction.probabilities, strict=True)),
                "tokens": prediction.tokens,
                "unknown": prediction.unknown,
            }
            for prediction in self.scorer.score(texts)
        ]

    def explain(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What `/explain` answers of each text. Raises `NoExplanations`."""
        if self._explainer is None:
            raise NoExplanations
        return [explanation.to_json() for explanation in self._explainer.explain(texts)]
