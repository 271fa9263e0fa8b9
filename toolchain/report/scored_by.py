"""Which bundle scored a file: its record says so, or the summary of the run. Where neither does, some rows are scored
anew."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.bundle import Bundle, open_bundle
from export.errors import ExportError
from toolchain.errors import UsageError
from toolchain.report.kept import ScoredRow
from toolchain.report.scored_rows import KEPT_TEXT, Survey
from toolchain.scoring.default import find_bundle
from toolchain.scoring.provenance import Provenance, read_provenance
from toolchain.scoring.scorer import INT8, Scorer

_LIMITS = {"fp32": 1e-3, "int8": 2e-2}
"""How far a probability may be from the file's: processors and providers differ by less, models by more."""


def find_scorer(
    source: str, named: Path | None, summary: Path | None, run: Mapping[str, Any] | None
) -> tuple[Bundle, Provenance | None]:
    """The bundle that scored the file `source`, and what is known of how: that which is `named`, else the one of the
    record, else that of `find_bundle`. `run` is the run's object in the `summary`.

    Raises `UsageError` where the bundle is not the one of the record, or cannot be found, or the summary is of another
    run.
    """
    made, of_run = read_provenance(source), Provenance.from_json((run or {}).get("made_by"))
    if made and of_run and replace(made, finished="", versions={}) != replace(of_run, finished="", versions={}):
        raise UsageError(
            f"{summary}: is of another run than the one that wrote {source} (bundle {of_run.bundle[:12]}…, not "
            f"{made.bundle[:12]}…, or another input or options); name the right one, or leave --summary out"
        )
    if (known := made or of_run) is None:
        return open_bundle(find_bundle(named)), None
    if named is None:
        return known.find_bundle(source), known
    bundle = open_bundle(find_bundle(named))
    known.check_bundle(bundle, source)
    return bundle, known


def doubt(survey: Survey, bundle: Bundle) -> str | None:
    """Score some rows of a file anew of which nothing says what scored it: what there is to doubt, None where the
    answers are those of the file. The least sure ones and the mistakes tell models apart best.

    Raises `UsageError` where most of the answers are others.
    """
    rows = {row.line: row for row in (*survey.unsure.rows(), *survey.mistakes.rows())}
    whole = [row for row in rows.values() if row.text and len(row.text) <= KEPT_TEXT]
    asked = f"Nothing says which model scored this file, and {bundle.folder} is a guess"
    if not whole:
        return f"{asked}: it has no text to score anew."
    try:
        differing = min((_differing(whole, bundle, precision) for precision in _precisions(bundle)), key=len)
    except (UsageError, ExportError) as error:
        return f"{asked}: no row could be scored anew ({error})."
    if 2 * len(differing) > len(whole):
        row, probability = differing[0]
        raise UsageError(
            f"{survey.source}: not of this model: {bundle.folder} gives {len(differing)} of {len(whole)} rows another "
            f"answer, such as line {row.line} {survey.labels[row.best]} with {probability:.4f}, where the file has "
            f"{row.confidence:.4f}; name the bundle that scored it: --bundle"
        )
    if differing:
        return f"{asked}: it gives {len(differing)} of {len(whole)} rows another answer. Were they changed since?"
    return None


def _precisions(bundle: Bundle) -> list[str]:
    return ["fp32", "int8"] if INT8 in bundle.files else ["fp32"]


def _differing(rows: list[ScoredRow], bundle: Bundle, precision: str) -> list[tuple[ScoredRow, float]]:
    """The rows whose answer is another one, with the probability that it has now."""
    with Scorer(bundle, "cpu", precision=precision) as scorer:
        probabilities = scorer.submit([row.text or "" for row in rows]).result().probabilities
    now = [(row, float(own[row.best])) for row, own in zip(rows, probabilities, strict=True)]
    return [(row, probability) for row, probability in now if abs(probability - row.confidence) > _LIMITS[precision]]
