"""From a snapshot to a published bundle, and the proof that a bundle still says what PyTorch says."""

import dataclasses
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from export import bundle as bundles
from export import parity
from export.bundle import Bundle
from export.cases import edge_cases, vocabulary_cases
from export.forms import FORMATS, FORMS, TOLERANCE, Form, runs_at_once, too_large
from export.shrinking import Agreement, agreement, shrink
from export.spec import Specification
from export.text import clean
from toolchain import __version__
from toolchain.errors import CheckFailed, UsageError
from toolchain.measures.drift import Reference
from toolchain.models.classifiers import portable_name
from toolchain.models.snapshot import Snapshot
from toolchain.release.model_card import model_card
from toolchain.release.verification import Verification, describe, form_provider, verify_vectors

PRECISIONS: dict[str, tuple[str, ...]] = {"fp32": (), "int8": ("onnx-int8",)}
WORDS_A_VECTOR = 8  # few enough that a wrong number anywhere still shows at the text's end
RUNTIMES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shrinkage:
    """A shrunk bundle beside the full one: pairs of the full one's figure and its own, and its answers."""

    entries: tuple[int, int]
    sizes: Mapping[str, tuple[int, int]]
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        """Plain values, sizes in bytes."""
        return {
            "vocabulary": _pair(self.entries),
            "bytes": {file: _pair(sizes) for file, sizes in self.sizes.items()},
            **dataclasses.asdict(self.agreement),
        }

    def __str__(self) -> str:
        sizes = (f"{file} {full / 1e6:.2f} MB → {own / 1e6:.2f} MB" for file, (full, own) in self.sizes.items())
        parts = [f"entries of the vocabulary {self.entries[0]:,} → {self.entries[1]:,}", *sizes]
        return (
            f"shrunk: {', '.join(parts)}; {self.agreement.label_agreement:.2%} of the labels of "
            f"{self.agreement.texts:,} texts as before, largest change of a probability "
            f"{self.agreement.max_difference:.4f}"
        )


def export_snapshot(
    snapshot: Snapshot,
    out: Path,
    formats: Sequence[str],
    texts: Sequence[str] = (),
    precision: str = "fp32",
    force: bool = False,
    entries: int | None = None,
) -> Verification:
    """Export `snapshot` in `formats` (names in `FORMATS`) to the bundle `out`, proven before it is published.

    `texts` are real ones, for the proof beside the edge cases and the vocabulary. Raises `CheckFailed` where a form
    differs from PyTorch; whatever was at `out` then stays as it was. The precision `int8` adds `model.int8.onnx`, which
    has to keep the labels of nearly all `texts`; `force` publishes it although it does not.

    With `entries` the bundle is shrunk to so many entries of the vocabulary (see `export.shrinking`). Its forms are
    proven against PyTorch with the shrunk weights, and beside that it has to keep the full model's labels of nearly all
    `texts`, or `force`.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    forms = [*_forms(formats), *(FORMS[name] for name in PRECISIONS[precision])]
    if entries is not None and not texts:
        raise UsageError("a shrunk model is compared with the full one on real text; name some: --data FILE")
    full = snapshot
    if entries is not None:
        snapshot = _shrunk(full, entries)
    classifier = snapshot.classifier()
    specification, vocabulary = snapshot.specification, snapshot.vocabulary
    if any(form.file.endswith(".onnx") for form in forms) and (
        reason := too_large(specification, vocabulary, classifier.quantized_embedding is not None)
    ):
        raise UsageError(
            f"{reason}; export another form: --format torchscript, or fewer words: --shrink --vocabulary N"
        )
    versions = installed_versions()
    metadata = {"recipe": snapshot.training.get("recipe"), "versions": versions}
    with bundles.publishing(out) as room:
        (room / bundles.VOCABULARY).write_bytes("".join(f"{word}\n" for word in vocabulary).encode())
        for form in forms:
            (room / form.file).write_bytes(form.build(classifier, metadata))
        needs = _share_tables(room, forms) if classifier.quantized_embedding else {}
        edges, several = edge_cases(vocabulary, specification.max_tokens), vocabulary_cases(vocabulary, WORDS_A_VECTOR)
        expected = _expect(snapshot, forms, [*edges, *several, *_words_and_texts(vocabulary, texts)])
        of_vectors = len(edges) + len(several)
        explain = any(form.explains for form in forms)
        _write_vectors(room, snapshot, expected.take(range(of_vectors)), explain)
        proof = expected.take([*range(len(edges)), *range(of_vectors, len(expected.texts))])
        comparisons = _compare(forms, room, snapshot, proof, len(texts), "cpu")
        verification = Verification(_reference_model(snapshot), comparisons)
        refused = [c.failure() for c in comparisons if not c.passed and not (force and FORMS[c.form].min_agreement)]
        training = dict(snapshot.training)
        shrunk = {"shrunk": training.pop("shrunk")} if "shrunk" in training else {}
        if entries is not None:
            shrinkage = _shrinkage(full, snapshot, room, forms, metadata, texts)
            logger.info(str(shrinkage))
            shrunk = {"shrunk": shrinkage.to_json()}
            if not force and (failure := shrinkage.agreement.failure()):
                refused.append(failure)
        if refused:
            raise CheckFailed("; ".join(refused) + "; the bundle was not published" + _way_out(comparisons))
        reference = _reference(training.pop("reference", None), specification, bool(shrunk))
        about = {
            "training": training,
            "versions": versions,
            "tolerance": TOLERANCE,
            "parity": verification.to_json(),
            **reference,
            **shrunk,
        }
        card = model_card(specification, len(vocabulary), about, [form.file for form in forms])
        (room / bundles.CARD).write_text(card, encoding="utf-8")
        bundles.write_manifest(room, specification, about, needs)
    return verification


def verify_bundle(
    bundle: Bundle,
    snapshot: Snapshot | None,
    texts: Sequence[str] = (),
    provider: str = "cpu",
) -> Verification:
    """Every form in `bundle` against PyTorch, or without a snapshot against the bundle's own vectors.

    PyTorch has the weights of the snapshot, shrunk where the bundle is.

    Raises `UsageError` where the snapshot is not the bundle's (labels, tokenizer, sizes or vocabulary differ): then
    there is nothing to compare.
    """
    if snapshot is None:
        if texts:
            raise UsageError("--data needs PyTorch to compare with; name the snapshot: --snapshot FOLDER")
        return verify_vectors(bundle, provider)
    bundle.check()
    forms = [form for form in FORMS.values() if form.file in bundle.files]
    against = "PyTorch"
    if "shrunk" in bundle.manifest:
        snapshot = _shrunk(snapshot, len(bundle.vocabulary()))
        against = "PyTorch with the snapshot's weights, shrunk as the bundle's are"
    if difference := _difference(bundle, snapshot):
        raise CheckFailed(f"{bundle.folder}: {difference} differ from the snapshot's; export the bundle from it anew")
    edges = edge_cases(snapshot.vocabulary, snapshot.specification.max_tokens)
    expected = _expect(snapshot, forms, [*edges, *_words_and_texts(snapshot.vocabulary, texts)])
    comparisons = _compare(forms, bundle.folder, snapshot, expected, len(texts), provider)
    return Verification(against, comparisons)


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


def _way_out(comparisons: Sequence[parity.Comparison]) -> str:
    """Which forms agree, and the options that export them alone; empty where none does."""
    agreeing = [comparison.form for comparison in comparisons if comparison.passed]
    options: list[str] = []
    covered: set[str] = set()
    for name, forms in FORMATS.items():
        if set(forms) <= set(agreeing) and not set(forms) <= covered:
            options.append(f"--format {name}")
            covered |= set(forms)
    if not options or len(agreeing) == len(comparisons):
        return ""
    precisions = [f"--precision {name}" for name, forms in PRECISIONS.items() if forms and set(forms) <= set(agreeing)]
    return f". Forms that agree: {', '.join(agreeing)}; to export these alone: {' '.join(options + precisions)}"


def _share_tables(room: Path, forms: Sequence[Form]) -> dict[str, list[str]]:
    """Let a form of a shrunk bundle read its tables from the file that holds them already -> which file needs which.

    A shrunk bundle is to be small. In any other one each file stands for itself.
    """
    from export.explain_graph import with_tables_of

    files = {form.file for form in forms}
    needs: dict[str, list[str]] = {}
    for file, holder in ((form.file, form.tables_in) for form in forms if form.tables_in in files):
        whole = (room / file).read_bytes()
        shared = with_tables_of(whole, holder, (room / holder).read_bytes())
        if len(shared) < len(whole):
            (room / file).write_bytes(shared)
            needs[file] = [holder]
    return needs


def _reference_model(snapshot: Snapshot) -> str:
    """What an export of `snapshot` is compared with."""
    if not (restored := snapshot.training.get("restored")):
        return "PyTorch"
    return f"PyTorch, rebuilt from the weights in {restored['file']} of the bundle {restored['bundle']}"


def _shrunk(snapshot: Snapshot, entries: int) -> Snapshot:
    """The snapshot with the vocabulary and the embedding of the shrunk classifier."""
    classifier = shrink(snapshot.classifier(), entries)
    names = snapshot.portable_names
    state = {own: torch.from_numpy(classifier.weights[portable_name(own, names)]) for own in snapshot.state}
    return dataclasses.replace(
        snapshot,
        vocabulary=list(classifier.vocabulary),
        state=state,
        quantized_embedding=classifier.quantized_embedding,
    )


def _shrinkage(
    full: Snapshot,
    shrunk: Snapshot,
    room: Path,
    forms: Sequence[Form],
    metadata: Mapping[str, Any],
    texts: Sequence[str],
) -> Shrinkage:
    """The shrunk forms in `room` and the answers of the shrunk snapshot to `texts`, beside the full one's.

    Without sizes where the full one is too large to be built.
    """
    classifier = full.classifier()
    built = [] if too_large(full.specification, full.vocabulary) else forms
    sizes = {form.file: (len(form.build(classifier, metadata)), (room / form.file).stat().st_size) for form in built}
    entries = (len(full.vocabulary), len(shrunk.vocabulary))
    return Shrinkage(entries, sizes, agreement(full.reference()(texts), shrunk.reference()(texts)))


def _reference(values: Mapping[str, Any] | None, specification: Specification, shrunk: bool) -> dict[str, Any]:
    """What the manifest says of the text the model was made with; nothing where the snapshot does not know.

    With a shrunk vocabulary other words are unknown, and the texts are no longer there to count them in.
    """
    if values is None:
        return {}
    try:
        reference = Reference.from_json(values, len(specification.labels))
    except ValueError as error:
        raise UsageError(f"the snapshot has damaged reference statistics ({error}); train it anew") from error
    return {"reference": (reference.without_unknown() if shrunk else reference).to_json()}


def _pair(figures: tuple[int, int]) -> dict[str, int]:
    return {"full": figures[0], "shrunk": figures[1]}


def _expect(snapshot: Snapshot, forms: Sequence[Form], cases: Sequence[str]) -> parity.Expected:
    """What PyTorch says of `cases`, with what the forms say beside the probabilities."""
    shares = snapshot.shares_reference() if any(form.explains for form in forms) else None
    sizes = snapshot.sizes_reference()
    return parity.expect(snapshot.answer_tokens(), snapshot.specification, snapshot.vocabulary, cases, shares, sizes)


def _words_and_texts(vocabulary: Sequence[str], texts: Sequence[str]) -> list[str]:
    """What a form is held against beside the edge cases: every word of the vocabulary alone, and real `texts`.

    The answer to a word that is alone comes from its row of the table and one step from the zero state. So a row that
    is wrong, or another word's, shows: no other word is behind it that could hide it.
    """
    # A graph is given nothing but clean texts; U+0000 would end a string there.
    return [*vocabulary_cases(vocabulary, 1), *(clean(text) for text in texts)]


def _compare(
    forms: Sequence[Form],
    folder: Path,
    snapshot: Snapshot,
    expected: parity.Expected,
    real_texts: int,
    provider: str,
) -> list[parity.Comparison]:
    """Every form in `folder` beside what is `expected`, of which the last are so many `real_texts`."""
    count = len(expected.texts)
    real = expected.take(range(count - real_texts, count)) if real_texts else expected
    comparisons = []
    for form in forms:
        used = form_provider(form, folder, provider)
        run = form.open(folder / form.file, snapshot.specification, snapshot.vocabulary, used)
        wanted = real if form.min_agreement else expected
        comparisons.append(
            parity.compare(
                form.name,
                used,
                run,
                wanted,
                form.tolerance,
                form.min_agreement,
                form.logit_ulps,
                runs_at_once(form, used),
            )
        )
        logger.info(describe(comparisons[-1]))
    return comparisons


def _write_vectors(room: Path, snapshot: Snapshot, expected: parity.Expected, explain: bool) -> None:
    """The files of conformance vectors, without the texts whose label the tolerance leaves open."""
    expected = expected.decided(2 * TOLERANCE)
    _write_lines(room / bundles.VECTORS, parity.vectors(expected))
    _write_lines(room / bundles.IDS_VECTORS, parity.ids_vectors(expected, snapshot.specification, snapshot.vocabulary))
    if explain:
        _write_lines(room / bundles.EXPLAIN_VECTORS, parity.explain_vectors(expected))


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


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
