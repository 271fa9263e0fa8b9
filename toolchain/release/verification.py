"""The proof that whoever receives a bundle can repeat: its digests, and its vectors in every form that runs here.

It needs ONNX Runtime alone. The forms of PyTorch are checked where torch is, and otherwise named as not checked.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from export import parity
from export.bundle import Bundle
from export.forms import FORMS, Form, runs_at_once
from export.sessions import RuntimeUnavailable, choose_provider, reason, runtime_version
from toolchain.errors import CheckFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unchecked:
    """A form that nothing here can run, and why."""

    form: str
    reason: str


@dataclass(frozen=True, repr=False)
class Verification:
    """The comparisons of one `verify`, what they were compared with, and the forms that could not be run."""

    against: str
    comparisons: Sequence[parity.Comparison]
    unchecked: Sequence[Unchecked] = ()

    @property
    def passed(self) -> bool:
        """Whether every form that was run agrees."""
        return all(comparison.passed for comparison in self.comparisons)

    def __repr__(self) -> str:
        verdicts = [f"{each.form} {'agrees' if each.passed else 'DIFFERS'}" for each in self.comparisons]
        verdicts += [f"{each.form} not checked" for each in self.unchecked]
        return f"<Verification against {self.against}: {', '.join(verdicts)}>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {
            "against": self.against,
            "passed": self.passed,
            "forms": [comparison.to_json() for comparison in self.comparisons],
            "not_checked": [asdict(each) for each in self.unchecked],
        }


class VerificationFailed(CheckFailed):
    """Forms that do not say what they should; `verification` has all of them."""

    def __init__(self, verification: Verification) -> None:
        super().__init__("; ".join(each.failure() for each in verification.comparisons if not each.passed))
        self.verification = verification


def verify_vectors(bundle: Bundle, provider: str = "cpu") -> Verification:
    """Every form in `bundle` against the vectors that it carries, after its digests.

    Raises `CheckFailed` where a form fails while it runs, or where none could be run.
    """
    bundle.check()
    expected = parity.from_vectors(bundle.vectors(), bundle.ids_vectors(), bundle.explain_vectors())
    comparisons: list[parity.Comparison] = []
    unchecked: list[Unchecked] = []
    for form in (form for form in FORMS.values() if form.file in bundle.files):
        if form.needs_torch and find_spec("torch") is None:
            unchecked.append(Unchecked(form.name, "torch is not installed; install it: pip install 'toolchain[train]'"))
            continue
        used = form_provider(form, bundle.folder, provider)
        try:
            run = form.open(bundle.folder / form.file, bundle.specification, bundle.vocabulary(), used)
        except RuntimeUnavailable as error:
            if used != "cpu":  # it was asked for
                raise
            unchecked.append(Unchecked(form.name, f"ONNX Runtime {runtime_version()}: {error}"))
            continue
        try:
            at_once = runs_at_once(form, used)
            comparisons.append(
                parity.compare(form.name, used, run, expected, form.tolerance, 0.0, form.logit_ulps, at_once)
            )
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            file = bundle.folder / form.file
            raise CheckFailed(f"{file}: fails on the bundle's vectors: {reason(error)}") from error
        logger.info(describe(comparisons[-1]))
    if not comparisons:
        reasons = "; ".join(f"{each.form}: {each.reason}" for each in unchecked)
        raise CheckFailed(f"{bundle.folder}: no form could be checked ({reasons or 'it holds none'})")
    return Verification("the bundle's vectors", comparisons, unchecked)


def describe(comparison: parity.Comparison) -> str:
    """One form beside what was expected of it, in a line."""
    verdict = "agrees" if comparison.passed else "DIFFERS"
    far = comparison.logits_difference
    logits = "" if far is None else f"logits {far:.2f} units in the last place, "
    return (
        f"{comparison.form} on {comparison.provider}: {verdict}, max |Δ| {comparison.max_difference:.1e}, "
        f"{logits}labels {comparison.label_agreement:.2%}, over {comparison.cases:,} texts"
    )


def form_provider(form: Form, folder: Path, provider: str) -> str:
    """The provider on which `form` in `folder` is run where `provider` was asked for."""
    return choose_provider(folder / form.file, provider) if form.uses_provider else "cpu"
