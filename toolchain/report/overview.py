"""How a report begins and how it ends: its key figures and what there is to doubt; the file that was scored, and the
model that scored it."""

import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from export.bundle import Bundle, sha256
from toolchain.release.model_card import architecture, text_definition
from toolchain.report.html_page import Facts, Tiles, Warnings
from toolchain.report.scored_rows import Survey
from toolchain.report.shown import percent

_NAMED = 6


def overview(survey: Survey, run: Mapping[str, Any] | None) -> list[Tiles | Warnings]:
    """The key figures, and what there is to doubt; `run` is the run's object in a summary file."""
    figures = [("Rows", f"{survey.rows:,}"), ("Mean confidence", percent(survey.confidence_sum / survey.rows))]
    if survey.labelled:
        figures.insert(1, ("Accuracy", percent(accuracy(survey))))
    if survey.layout.text is not None:
        figures.append(("Unknown words", percent(survey.unknown / max(1, survey.tokens))))
    doubts = _doubts(survey, run)
    return [Tiles(figures), *([Warnings(doubts)] if doubts else [])]


def origin(survey: Survey, bundle: Bundle, run: Mapping[str, Any] | None) -> list[Facts]:
    """What was scored, and with what model."""
    return [_file(survey, run), _model(survey, bundle, run)]


def subtitle(survey: Survey) -> str:
    """The file's size, its labels, and when it was scored, as far as that is known."""
    labels = f"labels: {', '.join(survey.labels)}" if len(survey.labels) <= _NAMED else f"{len(survey.labels)} labels"
    rows = f"{survey.rows:,} row{'' if survey.rows == 1 else 's'}; {labels}"
    return f"{rows}; scored on {_moment(survey.made_by.finished)}" if survey.made_by is not None else rows


def accuracy(survey: Survey) -> float:
    """The share of the rows with a known label that got it."""
    return int(survey.counts.confusion.trace()) / survey.labelled


def _doubts(survey: Survey, run: Mapping[str, Any] | None) -> list[str]:
    doubts = [survey.doubt] if survey.doubt is not None else []
    if survey.unreadable:
        reasons = "; ".join(f"line {line}: {reason}" for line, reason in survey.reasons)
        doubts.append(f"{survey.unreadable:,} rows could not be read and count nowhere. {reasons}")
    if survey.label_warning:
        doubts.append(survey.label_warning)
    if run is not None and run.get("scored") != survey.rows:
        doubts.append(f"The summary speaks of {run.get('scored')} scored rows: is it that of this file?")
    return [*doubts, *(survey.drift.warnings if survey.drift is not None else ())]


def _file(survey: Survey, run: Mapping[str, Any] | None) -> Facts:
    path, layout = Path(survey.source), survey.layout
    facts = [("File", f"{survey.source}, {path.stat().st_size:,} bytes")]
    if survey.made_by is not None:
        facts.append(("Made from", _input(survey.made_by.input)))
    facts += [
        ("Text column", layout.text or "not in the file"),
        ("Label column", layout.label or "not in the file"),
        ("Answer columns", f"{layout.prediction}, {layout.confidence}"),
    ]
    if run is not None:
        facts += [
            ("Rejected", f"{run.get('rejected', 0):,} of {run.get('rows', 0):,} rows"),
            ("Time", f"{run.get('seconds', 0.0):,.1f} seconds"),
        ]
    if survey.made_by is not None:
        options = survey.made_by.options
        facts.append(("Options", "\n".join(map(_option, options, options.values())) or "none"))
    return Facts("The scored file", [*facts, ("SHA-256", sha256(path))])


def _input(about: Mapping[str, Any]) -> str:
    """The input, as the record of its output has it."""
    parts = [str(about.get("name"))]
    if "bytes" in about:
        parts.append(f"{about['bytes']:,} bytes")
    if about.get("sha256"):
        parts.append(f"SHA-256 of {about['sha256_of']} {about['sha256'][:12]}…")
    return ", ".join(parts)


def _model(survey: Survey, bundle: Bundle, run: Mapping[str, Any] | None) -> Facts:
    training = bundle.manifest.get("training", {})
    test = training.get("test_accuracy")
    facts = [
        ("Bundle", str(bundle.folder)),
        ("Recipe", f"{training.get('recipe', 'imported')}, trained on {training.get('data', 'data not recorded')}"),
        ("Network", architecture(bundle.specification)),
        ("Reads", text_definition(bundle.specification)),
        ("Test accuracy", f"{test:.2f}\u00a0%" if isinstance(test, float) else "not measured"),
    ]
    if (made_by := survey.made_by) is not None:
        versions = ", ".join(f"{name} {number}" for name, number in made_by.versions.items())
        facts += [
            ("Scored by", f"{made_by.model} on {made_by.provider}, {_moment(made_by.finished)}"),
            ("Versions", versions),
        ]
    elif run is not None:
        facts.append(("Scored by", f"{run.get('model')} on {run.get('provider')}"))
    return Facts("The model", [*facts, ("SHA-256", bundle.identity)])


def _option(name: str, value: Any) -> str:
    """As it is typed."""
    return name if value is True else f"{name} {shlex.quote(str(value))}"


def _moment(finished: str) -> str:
    """As in 25 November 2026, 14:05 UTC; what is no time stands there as it is."""
    try:
        moment = datetime.strptime(finished, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return finished
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
