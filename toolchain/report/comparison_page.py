"""`toolchain compare -o`: a comparison of two models as one HTML page."""

from pathlib import Path

from toolchain.files.outputs import Product
from toolchain.judging.comparison import SHIFT_BINS, Change, Comparison, McNemar
from toolchain.report.html_page import (
    Chart,
    Note,
    Page,
    Section,
    Table,
    Text,
    Texts,
    Tiles,
    histogram,
    is_page,
    write_page,
)

PAGE = Product("compare.html", is_page)


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write the page, whole or not at all."""
    write_page(comparison_page(comparison), path)


def comparison_page(comparison: Comparison) -> Page:
    """What changes, which model is right more often where labels are known, what each costs, and what to look at."""
    weak = [Note(warning, warning=True) for warning in comparison.warnings]
    sections = [Section("What changes", [_figures(comparison), *weak, _flips(comparison), _shift(comparison)])]
    if comparison.mcnemar is not None:
        sections.append(Section("Against the labels", _agreement(comparison, comparison.mcnemar)))
    sections += [
        Section("What each costs", [_costs(comparison)]),
        Section("Most changed reviews", [_most_changed(comparison)]),
    ]
    subtitle = (
        f"{comparison.scored:,} reviews of {comparison.input}, column {comparison.text_column}, on "
        f"{comparison.provider}; {comparison.rejected:,} of {comparison.rows:,} rows could not be scored"
    )
    return Page(f"{comparison.new.bundle} in place of {comparison.old.bundle}", subtitle, sections)


def _figures(comparison: Comparison) -> Tiles:
    tiles = [
        ("Labels changed", f"{comparison.changed_share:.2%}"),
        ("Mean shift of probability", f"{comparison.shift.mean:.4f}"),
        ("Size, new by old", f"{comparison.new.model_bytes / comparison.old.model_bytes:.2f}"),
    ]
    old_speed, new_speed = comparison.old.rows_per_second, comparison.new.rows_per_second
    if old_speed and new_speed:
        tiles.append(("Speed, new by old", f"{new_speed / old_speed:.2f}"))
    old, new = comparison.old.label_metrics, comparison.new.label_metrics
    if old and new and old.accuracy is not None and new.accuracy is not None:
        tiles.insert(1, ("Accuracy", f"{old.accuracy:.2%} → {new.accuracy:.2%}"))
    return Tiles(tiles)


def _flips(comparison: Comparison) -> Table:
    return Table(
        "Old answers (lines) and new ones",
        ("old \\ new", *comparison.flips),
        [(old, *counts.values()) for old, counts in comparison.flips.items()],
    )


def _shift(comparison: Comparison) -> Chart:
    shift = comparison.shift
    figures = ", ".join(f"{name} {value:.4f}" for name, value in shift.quantiles.items())
    return histogram(
        "Shift of probability",
        f"Probability that moves between the classes of a review: {figures}, at most {shift.max:.4f}.",
        [number / SHIFT_BINS for number in range(SHIFT_BINS + 1)],
        shift.histogram,
        "total variation distance of both answers",
    )


def _agreement(comparison: Comparison, test: McNemar) -> list[Note | Table]:
    sides = {"old": comparison.old.label_metrics, "new": comparison.new.label_metrics}
    figures = {name: metrics for name, metrics in sides.items() if metrics is not None}
    rows = {
        "accuracy": [f"{metrics.accuracy:.2%}" for metrics in figures.values()],
        "log-loss": [f"{metrics.log_loss:.4f}" for metrics in figures.values()],
        **{
            f"recall of {label}": [_share(metrics.classes[label].recall) for metrics in figures.values()]
            for label in comparison.flips
        },
        **{
            f"precision of {label}": [_share(metrics.classes[label].precision) for metrics in figures.values()]
            for label in comparison.flips
        },
    }
    labelled = next(iter(figures.values())).labelled
    return [
        Note(test.verdict),
        Table(
            f"{labelled:,} labelled reviews, column {comparison.label_column}",
            ("", *figures),
            [(name, *values) for name, values in rows.items()],
        ),
    ]


def _costs(comparison: Comparison) -> Table:
    sides = (comparison.old, comparison.new)
    return Table(
        "Measured in the same run, in turns",
        ("", "old", "new"),
        [
            ("bundle", *(side.bundle for side in sides)),
            ("file", *(side.model for side in sides)),
            ("reviews a second", *(side.speed for side in sides)),
            ("size of the file, MB", *(f"{side.model_bytes / 1e6:,.2f}" for side in sides)),
            ("size of the bundle, MB", *(f"{side.bundle_bytes / 1e6:,.2f}" for side in sides)),
            ("words in the vocabulary", *(side.vocabulary for side in sides)),
            ("unknown words", *(f"{side.unknown_rate:.2%}" for side in sides)),
        ],
    )


def _most_changed(comparison: Comparison) -> Note | Texts:
    if not comparison.most_changed:
        return Note("Both models give every review the same probabilities.")
    texts = [Text(_facts(change), [(change.text, None)]) for change in comparison.most_changed]
    return Texts(f"The {len(texts)} reviews whose probabilities moved farthest", texts)


def _facts(change: Change) -> list[tuple[str, str]]:
    return [
        ("line", f"{change.line:,}"),
        ("old", f"{change.old} {change.old_confidence:.4f}"),
        ("new", f"{change.new} {change.new_confidence:.4f}"),
        *([("label", change.label)] if change.label is not None else []),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
