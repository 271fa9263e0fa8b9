"""The first section of a report: its key figures, the file that was scored, and the model that scored it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.bundle import Bundle, sha256
from toolchain.release.model_card import architecture, text_definition
from toolchain.report.html_page import Note, Table, Tiles
from toolchain.report.scored_rows import Survey


def overview(survey: Survey, bundle: Bundle, run: Mapping[str, Any] | None) -> list[Note | Tiles | Table]:
    """The key figures, what there is to doubt, and what was scored with what model; `run` is the run's object in a
    summary file."""
    figures = [("Rows", f"{survey.rows:,}"), ("Mean confidence", percent(survey.confidence_sum / survey.rows))]
    if survey.layout.text is not None:
        figures.append(("Unknown words", percent(survey.unknown / max(1, survey.tokens))))
    if survey.labelled:
        figures.append(("Accuracy", percent(accuracy(survey))))
    parts: list[Note | Tiles | Table] = [Tiles(figures)]
    if survey.doubt is not None:
        parts.append(Note(survey.doubt, warning=True))
    if survey.unreadable:
        reasons = "; ".join(f"line {line}: {reason}" for line, reason in survey.reasons)
        parts.append(Note(f"{survey.unreadable:,} rows could not be read and count nowhere. {reasons}", warning=True))
    if survey.label_warning:
        parts.append(Note(survey.label_warning, warning=True))
    if run is not None and run.get("scored") != survey.rows:
        parts.append(
            Note(f"The summary speaks of {run.get('scored')} scored rows: is it that of this file?", warning=True)
        )
    if survey.drift is not None:
        parts += [Note(warning, warning=True) for warning in survey.drift.warnings]
    return [*parts, _file_table(survey, run), _model_table(survey, bundle, run)]


def _file_table(survey: Survey, run: Mapping[str, Any] | None) -> Table:
    path, layout = Path(survey.source), survey.layout
    rows: list[tuple[str, str]] = [
        ("file", survey.source),
        ("size", f"{path.stat().st_size:,} bytes"),
        ("SHA-256", sha256(path)),
        ("answers", f"{layout.prediction}, {layout.confidence}"),
        ("text", layout.text or "not in the file"),
        ("labels", layout.label or "not in the file"),
    ]
    if survey.made_by is not None:
        rows.append(("made from", _input(survey.made_by.input)))
    if run is not None:
        rows += [
            ("rejected", f"{run.get('rejected', 0):,} of {run.get('rows', 0):,} rows"),
            ("seconds", f"{run.get('seconds', 0.0):,.1f}"),
        ]
    return Table("What was scored", (), rows, numbers=False)


def _input(about: Mapping[str, Any]) -> str:
    """The input, as the record of its output has it."""
    parts = [str(about.get("name"))]
    if "bytes" in about:
        parts.append(f"{about['bytes']:,} bytes")
    if about.get("sha256"):
        parts.append(f"SHA-256 of {about['sha256_of']} {about['sha256'][:12]}…")
    return ", ".join(parts)


def _model_table(survey: Survey, bundle: Bundle, run: Mapping[str, Any] | None) -> Table:
    training = bundle.manifest.get("training", {})
    test = training.get("test_accuracy")
    rows: list[tuple[str, str]] = [
        ("bundle", f"{bundle.folder}, SHA-256 {bundle.identity[:12]}…"),
        ("recipe", f"{training.get('recipe', 'imported')}, trained on {training.get('data', 'data not recorded')}"),
        ("layers", architecture(bundle.specification)),
        ("text", text_definition(bundle.specification)),
        ("test accuracy", f"{test:.2f} %" if isinstance(test, float) else "not measured"),
    ]
    if (made_by := survey.made_by) is None:
        if run is not None:
            rows.append(("scored by", f"{run.get('model')} on {run.get('provider')}"))
    else:
        versions = ", ".join(f"{name} {number}" for name, number in made_by.versions.items())
        rows += [
            ("scored by", f"{made_by.model} on {made_by.provider}, {made_by.finished}"),
            ("versions", versions),
            ("options", ", ".join(f"{name} {value}" for name, value in made_by.options.items())),
        ]
    return Table("With what model", (), rows, numbers=False)


def accuracy(survey: Survey) -> float:
    """The share of the rows with a known label that got it."""
    return int(survey.counts.confusion.trace()) / survey.labelled


def percent(share: float) -> str:
    """A share as it is read."""
    return f"{100 * share:.1f} %"
