"""`toolchain report`: a scored file as one HTML page, from its survey, the model's bundle and the run's summary."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.text import is_blank
from toolchain.errors import UsageError
from toolchain.files.outputs import Product, check
from toolchain.files.tables import ReadOptions
from toolchain.measures.drift import CONFIDENCE, LABELS, MIN_TEXTS, TOKENS, UNKNOWN, Shift, bundle_reference
from toolchain.measures.metrics import ClassMetrics, class_metrics
from toolchain.measures.thresholds import Curves
from toolchain.report import charts
from toolchain.report.html_page import (
    Bars,
    Chart,
    Facts,
    Matrix,
    Note,
    Page,
    Part,
    Rows,
    Section,
    Table,
    Text,
    Texts,
    Tiles,
    histogram,
    is_page,
    write_page,
)
from toolchain.report.kept import SAMPLED_ROWS, ScoredRow
from toolchain.report.overview import accuracy, origin, overview, subtitle
from toolchain.report.scored_by import doubt, find_scorer
from toolchain.report.scored_rows import (
    CONFIDENCE_BINS,
    KEPT_TEXT,
    Progress,
    Survey,
    survey_file,
)
from toolchain.report.shown import percent
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.provenance import is_changed
from toolchain.scoring.word_shares import EXPLAIN

PAGE = Product("report.html", is_page)

_UNKNOWN_WORDS = 30
_BARS = 30
_MATRIX = 40
_TAIL = 0.99

Piece = tuple[str, float | None]

_QUANTITIES = {
    TOKENS: "Length of the texts in tokens",
    UNKNOWN: "Share of unknown words in a text",
    CONFIDENCE: "Confidence of the answers",
    LABELS: "Labels of the answers",
}
_FORMS: Mapping[str, Callable[[float], str]] = {
    TOKENS: "{:,.0f}".format,
    UNKNOWN: partial(percent, digits=2),
    CONFIDENCE: "{:.4f}".format,
}


def write_report(
    source: str,
    out: str,
    bundle: Path | None = None,
    summary: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: Progress = lambda done, total: None,
    label_map: str | None = None,
    reading: ReadOptions | None = None,
    overwrite: bool = False,
) -> Survey:
    """Write the report on a file that `toolchain score` has written; give what was counted.

    `bundle` is the one that scored it; it is found by the file's record where none is named. `summary` is what
    `score --summary` wrote of the run. Raises `UsageError` where the file, its columns, the summary or the bundle do
    not fit, and where `out` is not a page of ours and is not to be overwritten.
    """
    check(out, PAGE, overwrite, [source, *([] if summary is None else [summary])])
    run = None if summary is None else read_run(summary, source)
    scored_with, made_by = find_scorer(source, bundle, summary, run)
    survey = survey_file(source, scored_with, text_column, label_column, progress, label_map, reading)
    survey.made_by = made_by
    if made_by is None:
        survey.doubt = doubt(survey, scored_with)
    elif is_changed(source):
        survey.doubt = "The file has changed since it was scored."
    write_page(report_page(survey, scored_with, run), out)
    return survey


def report_page(survey: Survey, bundle: Bundle, run: Mapping[str, Any] | None) -> Page:
    """The page; `run` is the run's object in a summary file."""
    explainer = Explainer(bundle) if EXPLAIN in bundle.files and survey.layout.text is not None else None
    sections = [
        Section("Overview", overview(survey, run)),
        Section("Answers", _answers(survey)),
        *([Section("Against the labels", _agreement(survey))] if survey.labelled else []),
    ]
    if survey.labelled:
        sections.append(
            Section("Most confident mistakes", _shown(survey, survey.mistakes.rows(), "Wrong answers", explainer))
        )
    sections += [
        Section("Least sure answers", _shown(survey, survey.unsure.rows(), "The least sure answers", explainer)),
        *([Section("Texts", _texts(survey))] if survey.layout.text is not None else []),
        Section("Drift", _drift(survey, bundle)),
        Section("Rows", _rows(survey)),
        Section("File and model", origin(survey, bundle, run)),
    ]
    return Page(f"Report on {Path(survey.source).name}", subtitle(survey), sections)


def read_run(path: Path, source: str) -> Mapping[str, Any]:
    """The object of the run that wrote `source`, from a summary file. Raises `UsageError` where there is none."""
    try:
        runs = json.loads(path.read_bytes())
        outputs = {str(run["output"]): run for run in runs}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path}: not a summary; expected a file of toolchain score --summary") from None
    for output, run in outputs.items():
        if Path(output).name == Path(source).name:
            return dict(run)
    raise UsageError(f"{path}: has no run that wrote {Path(source).name}; its outputs: {', '.join(outputs) or 'none'}")


def _answers(survey: Survey) -> list[Part]:
    counts = sorted(zip(survey.labels, survey.answers.tolist(), strict=True), key=lambda item: -item[1])
    most, share = counts[0][0], counts[0][1] / survey.rows
    drawn = counts[:_BARS]
    first = next(place for place, count in enumerate(survey.confidences.tolist()) if count)
    sure = survey.confidences[int(0.9 * CONFIDENCE_BINS) :].sum() / survey.rows
    return [
        Bars(
            "Answers by label",
            f"{percent(share)} of the answers are {most}." + _only(_BARS, len(counts), "labels"),
            [label for label, _ in drawn],
            {"answers": [count for _, count in drawn]},
            "rows",
        ),
        histogram(
            "Confidence of the answers",
            f"{percent(float(sure))} of the answers have a confidence of 0.9 or more.",
            [place / CONFIDENCE_BINS for place in range(first, CONFIDENCE_BINS + 1)],
            survey.confidences[first:].tolist(),
            "confidence",
        ),
    ]


def _texts(survey: Survey) -> list[Part]:
    lengths = sorted(survey.lengths.items())
    median, tail = _quantile(lengths, 0.5), _quantile(lengths, _TAIL)
    width = max(1, -(-tail // 30))
    edges = list(range(0, tail + width + 1, width))
    counts = [0] * (len(edges) - 1)
    for length, count in lengths:
        if length < edges[-1]:
            counts[length // width] += count
    longer = survey.rows - sum(counts)
    words = survey.unknown_words.most_common(_UNKNOWN_WORDS)
    at_least = " (at least: rare words were forgotten on the way)" if survey.unknown_words.forgetful else ""
    return [
        histogram(
            "Length of the texts",
            f"Half of the texts have {median:,} tokens or fewer, the longest has {lengths[-1][0]:,}."
            + (f" {longer:,} are longer than is drawn." if longer else ""),
            edges,
            counts,
            "tokens",
        ),
        Facts(
            f"The most frequent words that the model does not know{at_least}, with their share of all words",
            [(word, f"{count:,} ({percent(count / survey.tokens, 3)})") for word, count in words],
            wide=True,
        )
        if words
        else Note("The model knows every word of these texts."),
    ]


def _drift(survey: Survey, bundle: Bundle) -> list[Part]:
    if survey.layout.text is None:
        return [Note("The file has no text, so that it cannot be compared with what the model was trained on.")]
    if bundle_reference(bundle) is None:
        return [Note("The bundle keeps no statistics of its own text to compare with; train and export it anew.")]
    if (drift := survey.drift) is None:
        return [Note(f"Fewer than {MIN_TEXTS} texts are not compared with what the model was trained on.")]
    own = drift.reference_unknown_rate
    table = Table(
        "Distance from the model's own text (population stability index)",
        ("what is compared", "index", "large from", "verdict"),
        [
            (_QUANTITIES[name], f"{shift.index:.3f}", f"{shift.limit:.3f}", "large" if shift.large else "usual")
            for name, shift in drift.shifts.items()
        ],
        wide=True,
    )
    return [
        Note(
            f"Compared with {drift.reference_texts:,} {drift.reference_part} texts of the model's training. "
            f"{percent(drift.unknown_rate)} of the words are unknown"
            + ("." if own is None else f"; there it was {percent(own)}.")
        ),
        table,
        *(_shift_chart(name, shift, drift.reference_part) for name, shift in drift.shifts.items()),
    ]


def _shift_chart(name: str, shift: Shift, part: str) -> Bars:
    """The shares of the bins that hold texts, here and in the reference."""
    names = list(map(str, shift.bins)) if name == LABELS else _bin_names(shift.bins, _FORMS[name])
    here, there = sum(shift.counts), sum(shift.reference_counts)
    rows = list(zip(names, shift.counts, shift.reference_counts, strict=True))
    filled = [(bin_name, count / here, own / there) for bin_name, count, own in rows if count or own]
    drawn, shares, own_shares = zip(*filled[:_BARS], strict=True)
    return Bars(
        _QUANTITIES[name],
        f"Population stability index {shift.index:.3f}: {'a' if shift.large else 'no'} large shift."
        + _only(_BARS, len(filled), "bins"),
        drawn,
        {"this file": shares, f"{part} texts": own_shares},
        "share of the texts",
        shares=True,
    )


def _bin_names(edges: Sequence[Any], form: Callable[[float], str]) -> list[str]:
    """The bins up to and with each edge, and that beyond the last."""
    shown = [form(edge) for edge in edges]
    return [f"to {edge}" for edge in shown] + [f"over {shown[-1]}" if shown else "all"]


def _agreement(survey: Survey) -> list[Part]:
    confusion = survey.counts.confusion
    figures = class_metrics(confusion, survey.labels)
    by_label = {label: survey.thresholds.curves(at) for at, label in enumerate(survey.labels)}
    drawn = {label: found for label, found in by_label.items() if found is not None} if survey.complete else {}
    reliability = survey.reliability
    parts: list[Part] = [
        Tiles(
            [
                ("Rows with a label", f"{survey.labelled:,}"),
                ("Accuracy", percent(accuracy(survey))),
                ("Calibration error", f"{reliability.expected_calibration_error:.4f}"),
            ]
        )
    ]
    if survey.counts.unlabelled:
        parts.append(Note(f"{survey.counts.unlabelled:,} rows have no label, or one that the model does not know."))
    parts += [_class_table(figures, drawn), _confusion(survey), _reliability_chart(survey)]
    if not survey.complete:
        parts.append(Note("ROC and precision-recall need the probability of every class: score --probabilities."))
    if drawn:
        parts += _curve_charts(drawn, survey.labels)
    return parts


def _class_table(figures: Mapping[str, ClassMetrics], drawn: Mapping[str, Curves]) -> Table:
    rows = []
    for label, of in figures.items():
        shares = [None if share is None else f"{share:.4f}" for share in (of.precision, of.recall, of.f1)]
        areas = [f"{drawn[label].area:.4f}", f"{drawn[label].average_precision:.4f}"] if label in drawn else [None] * 2
        rows.append((label, of.support, *shares, *areas))
    columns = ("label", "rows", "precision", "recall", "F1", "area under ROC", "average precision")
    return Table("Every label", columns, rows, wide=True)


def _confusion(survey: Survey) -> Matrix | Table:
    """The matrix; of more classes than can be seen, the confusions that happened most."""
    labels, confusion = survey.labels, survey.counts.confusion.tolist()
    if len(labels) <= _MATRIX:
        wrong = survey.labelled - int(survey.counts.confusion.trace())
        return Matrix(
            "Labels and answers",
            f"{wrong:,} of {survey.labelled:,} answers are wrong. A line has the rows of a label, a column those of an "
            "answer.",
            "label",
            labels,
            confusion,
        )
    pairs = [
        (true, answer, count)
        for true, row in zip(labels, confusion, strict=True)
        for answer, count in zip(labels, row, strict=True)
        if true != answer and count
    ]
    pairs.sort(key=lambda pair: -pair[2])
    return Table("The most frequent confusions", ("label", "prediction", "rows"), pairs[:_MATRIX])


def _curve_charts(drawn: Mapping[str, Curves], labels: Sequence[str]) -> list[Chart]:
    """ROC and precision-recall, one class against the rest; of two classes the ROC curves are each other's mirror."""
    roc = {label: found for label, found in drawn.items() if len(labels) > 2 or label == labels[-1]}
    return [
        _curve_chart(
            "ROC: true positives and false ones",
            "area under the curve",
            {label: found.roc for label, found in roc.items()},
            {label: found.area for label, found in roc.items()},
            ("false positive rate", "true positive rate"),
            diagonal=True,
        ),
        _curve_chart(
            "Precision and recall",
            "average precision",
            {label: found.precision_recall for label, found in drawn.items()},
            {label: found.average_precision for label, found in drawn.items()},
            ("recall", "precision"),
            diagonal=False,
        ),
    ]


def _curve_chart(
    title: str,
    figure: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    figures: Mapping[str, float],
    axes: tuple[str, str],
    diagonal: bool,
) -> Chart:
    """A curve for each label, and the `figure` that sums it up."""
    named = figure[0].upper() + figure[1:]
    listed = ", ".join(f"{label} {value:.4f}" for label, value in figures.items())
    return Chart(
        title,
        f"{named}: {listed}." + _only(charts.SERIES, len(points), "curves"),
        charts.curves(points, axes, diagonal),
        Table(named, ("label", figure), [(label, f"{value:.4f}") for label, value in figures.items()]),
        list(points)[: charts.SERIES] if len(points) > 1 else (),
    )


def _reliability_chart(survey: Survey) -> Chart:
    bins = survey.reliability.to_json()
    error = survey.reliability.expected_calibration_error
    points = [(one["confidence"], one["accuracy"]) for one in bins]
    return Chart(
        "Reliability: accuracy by confidence",
        "Each point has the answers of one range of confidence, with their number; on the dashed line accuracy and "
        f"confidence are the same. Expected calibration error {error:.4f}.",
        charts.curves(
            {"this file": points},
            ("confidence", "accuracy"),
            diagonal=True,
            low=math.floor(10 * min(0.9, bins[0]["confidence"])) / 10,
            counts=[int(one["count"]) for one in bins],
        ),
        Table(
            "Reliability",
            ("confidence", "rows", "mean confidence", "accuracy"),
            [
                (
                    f"{one['from']:.3f} to {one['to']:.3f}",
                    int(one["count"]),
                    f"{one['confidence']:.4f}",
                    f"{one['accuracy']:.4f}",
                )
                for one in bins
            ],
        ),
    )


def _shown(survey: Survey, rows: Sequence[ScoredRow], caption: str, explainer: Explainer | None) -> list[Part]:
    """The rows with their texts, the words coloured where they can be explained."""
    if not rows:
        return [Note("There is none.")]
    if survey.layout.text is None:
        names = [name for name, _ in _facts(survey, rows[0])]
        return [Table(caption, names, [[value for _, value in _facts(survey, row)] for row in rows])]
    pieces = _explained(survey, rows, explainer) if explainer is not None else {}
    return [Texts(caption, [Text(_facts(survey, row), pieces.get(row.line, [(row.text or "", None)])) for row in rows])]


def _explained(survey: Survey, rows: Sequence[ScoredRow], explainer: Explainer) -> dict[int, Sequence[Piece]]:
    """By line, the texts that were kept whole, cut at their tokens; none that gets another answer than the file has."""
    texts = {row.line: row.text for row in rows if row.text is not None}
    whole = {line: text for line, text in texts.items() if len(text) <= KEPT_TEXT and not is_blank(text)}
    answers = {row.line: survey.labels[row.best] for row in rows}
    explanations = zip(whole, explainer.explain(list(whole.values())), strict=True)
    return {line: found.pieces for line, found in explanations if found.label == answers[line]}


def _facts(survey: Survey, row: ScoredRow) -> list[tuple[str, str]]:
    facts = [("line", f"{row.line:,}")]
    if row.truth >= 0:
        facts.append(("label", survey.labels[row.truth]))
    return [*facts, ("answer", survey.labels[row.best]), ("confidence", f"{row.confidence:.4f}")]


def _rows(survey: Survey) -> list[Part]:
    rows, columns = survey.sample.rows(), survey.columns
    parts: list[Part] = []
    if len(rows) < survey.rows:
        parts.append(Note(f"{SAMPLED_ROWS:,} of the {survey.rows:,} rows, drawn by chance, the same ones every time."))
    if more := survey.columns_left_out:
        parts.append(Note(f"{more:,} more columns of the file are left out."))
    choices = [place for place, (_, few) in enumerate(columns) if few]
    return [*parts, Rows("Scored rows", [name for name, _ in columns], list(zip(*rows, strict=True)), choices)]


def _quantile(counts: Sequence[tuple[int, int]], share: float) -> int:
    """The smallest value that `share` of the counted ones do not exceed; `counts` are (value, how many), ascending."""
    wanted = share * sum(count for _, count in counts)
    for value, count in counts:
        wanted -= count
        if wanted <= 0:
            return value
    return counts[-1][0]


def _only(limit: int, count: int, what: str) -> str:
    return f" The first {limit} of {count} {what} are drawn." if count > limit else ""
