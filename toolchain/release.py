"""From a snapshot to a published bundle, and the proof that a bundle still says what PyTorch says."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from export import bundle as bundles
from export import parity
from export.bundle import Bundle
from export.cases import edge_cases, vocabulary_cases
from export.forms import FORMATS, FORMS, TOLERANCE, Form
from export.sessions import choose_provider
from export.spec import Classifier, Specification
from toolchain import __version__
from toolchain.card import model_card
from toolchain.errors import CheckFailed, UsageError
from toolchain.snapshot import Snapshot

PRECISIONS: dict[str, tuple[str, ...]] = {"fp32": (), "int8": ("onnx-int8",)}
WORDS_A_VECTOR = 8  # few enough that a wrong number anywhere still shows at the text's end
RUNTIMES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")


@dataclass(frozen=True)
class Verification:
    """The comparisons of one `verify`, and what they were compared with."""

    against: str
    comparisons: Sequence[parity.Comparison]

    @property
    def passed(self) -> bool:
        """Whether every form agrees."""
        return all(comparison.passed for comparison in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {
            "against": self.against,
            "passed": self.passed,
            "forms": [comparison.to_json() for comparison in self.comparisons],
        }


Report = Callable[[parity.Comparison], None]


def export_snapshot(
    snapshot: Snapshot,
    out: Path,
    formats: Sequence[str],
    texts: Sequence[str] = (),
    on_comparison: Report = lambda comparison: None,
    precision: str = "fp32",
    force: bool = False,
) -> Verification:
    """Export `snapshot` in `formats` (names in `FORMATS`) to the bundle `out`, proven before it is published.

    `texts` are real ones, for the proof beside the edge cases and the vocabulary. Raises `CheckFailed` where a form
    differs from PyTorch; whatever was at `out` then stays as it was. The precision `int8` adds `model.int8.onnx`, which
    has to keep the labels of nearly all `texts`; `force` publishes it although it does not.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    forms = [*_forms(formats), *(FORMS[name] for name in PRECISIONS[precision])]
    classifier = snapshot.classifier()
    specification, vocabulary = snapshot.specification, snapshot.vocabulary
    versions = installed_versions()
    metadata = {"recipe": snapshot.training.get("recipe"), "versions": versions}
    with bundles.publishing(out) as room:
        (room / bundles.VOCABULARY).write_bytes("".join(f"{word}\n" for word in vocabulary).encode())
        for form in forms:
            (room / form.file).write_bytes(form.build(classifier, metadata))
        rows = _vectors(snapshot)
        with (room / bundles.VECTORS).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        comparisons = _compare(forms, room, classifier, snapshot, texts, "cpu", on_comparison)
        verification = Verification("PyTorch", comparisons)
        refused = [c for c in comparisons if not c.passed and not (force and FORMS[c.form].min_agreement)]
        if refused:
            raise CheckFailed(_failures(refused) + "; the bundle was not published")
        about = {
            "training": dict(snapshot.training),
            "versions": versions,
            "tolerance": TOLERANCE,
            "parity": verification.to_json(),
        }
        card = model_card(specification, len(vocabulary), about, [form.file for form in forms])
        (room / bundles.CARD).write_text(card, encoding="utf-8")
        bundles.write_manifest(room, specification, about)
    return verification


def verify_bundle(
    bundle: Bundle,
    snapshot: Snapshot | None,
    texts: Sequence[str] = (),
    provider: str = "cpu",
    on_comparison: Report = lambda comparison: None,
) -> Verification:
    """Every form in `bundle` against PyTorch, or without a snapshot against the bundle's own vectors.

    Raises `UsageError` where the snapshot is not the bundle's (labels, tokenizer, sizes or vocabulary differ): then
    there is nothing to compare.
    """
    bundle.check()
    forms = [form for form in FORMS.values() if form.file in bundle.files]
    if snapshot is None:
        if texts:
            raise UsageError("real text can be compared with PyTorch only; name the snapshot: --snapshot FOLDER")
        expected = parity.from_vectors(bundle.vectors())
        comparisons = []
        for form in forms:
            used = _provider(form, bundle.folder, provider)
            run = form.open(bundle.folder / form.file, bundle.specification, bundle.vocabulary(), used)
            comparisons.append(parity.compare(form.name, used, run, expected, form.tolerance))
            on_comparison(comparisons[-1])
        return Verification("the bundle's vectors", comparisons)
    if difference := _difference(bundle, snapshot):
        raise CheckFailed(f"{bundle.folder}: {difference} differ from the snapshot's; export the bundle from it anew")
    classifier = snapshot.classifier()
    comparisons = _compare(forms, bundle.folder, classifier, snapshot, texts, provider, on_comparison)
    return Verification("PyTorch", comparisons)


def installed_versions() -> dict[str, str]:
    """The versions that made a bundle."""
    versions = {"toolchain": __version__, "python": platform.python_version()}
    for package in RUNTIMES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _forms(formats: Sequence[str]) -> list[Form]:
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"--format {unknown[0]}: expected one of {', '.join(FORMATS)}")
    return [FORMS[name] for name in dict.fromkeys(name for wanted in formats for name in FORMATS[wanted])]


def _compare(
    forms: Sequence[Form],
    folder: Path,
    classifier: Classifier,
    snapshot: Snapshot,
    texts: Sequence[str],
    provider: str,
    on_comparison: Report,
) -> list[parity.Comparison]:
    """Every form in `folder` against PyTorch: edge cases, every word of the vocabulary alone, and the real `texts`."""
    specification, vocabulary = classifier.specification, classifier.vocabulary
    cases = [*edge_cases(vocabulary, specification.max_tokens), *vocabulary_cases(vocabulary, 1), *texts]
    expected = parity.expect(snapshot.reference(), specification, vocabulary, cases)
    real = expected.tail(len(texts)) if texts else expected
    comparisons = []
    for form in forms:
        used = _provider(form, folder, provider)
        run = form.open(folder / form.file, specification, vocabulary, used)
        wanted = real if form.min_agreement else expected
        comparisons.append(parity.compare(form.name, used, run, wanted, form.tolerance, form.min_agreement))
        on_comparison(comparisons[-1])
    return comparisons


def _provider(form: Form, folder: Path, provider: str) -> str:
    return choose_provider(folder / form.file, provider) if form.uses_provider else "cpu"


def _vectors(snapshot: Snapshot) -> list[Mapping[str, Any]]:
    specification, vocabulary = snapshot.specification, snapshot.vocabulary
    texts = [*edge_cases(vocabulary, specification.max_tokens), *vocabulary_cases(vocabulary, WORDS_A_VECTOR)]
    return parity.vectors(parity.expect(snapshot.reference(), specification, vocabulary, texts))


def _difference(bundle: Bundle, snapshot: Snapshot) -> str:
    """What of the bundle's description is not the snapshot's."""
    ours, theirs = bundle.specification, snapshot.specification
    parts = {
        "labels": ours.labels != theirs.labels or tuple(bundle.manifest.get("labels", ())) != theirs.labels,
        "tokenizer": ours.tokenizer != theirs.tokenizer,
        "sizes": _sizes(ours) != _sizes(theirs),
        "vocabulary": bundle.vocabulary() != list(snapshot.vocabulary),
    }
    return ", ".join(name for name, differs in parts.items() if differs)


def _sizes(specification: Specification) -> Mapping[str, Any]:
    values = specification.to_json()
    return {name: value for name, value in values.items() if name not in ("labels", "tokenizer")}


def _failures(comparisons: Sequence[parity.Comparison]) -> str:
    return "; ".join(comparison.failure() for comparison in comparisons if not comparison.passed)
