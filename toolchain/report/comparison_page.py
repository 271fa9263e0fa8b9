"""`toolchain compare -o`: a comparison of two models as one HTML page."""

from pathlib import Path

from toolchain.files.outputs import Product
from toolchain.judging.comparison import SHIFT_BINS, Change, Comparison, McNemar
from toolchain.report.html_page import (
    Chart,
    Matrix,
    Note,
    Page,
    Section,
    Table,
    Text,
    Texts,
    Tiles,
    Warnings,
    histogram,
    is_page,
    write_page,
)
from toolchain.report.shown import percent

PAGE = Product("compare.html", is_page)


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write the page, whole or not at all."""
    write_page(comparison_page(comparison), path)


def comparison_page(comparison: Comparison) -> Page:
    """What changes, which model is right more often where labels are known, what each costs, and what to look at."""
    weak = [Warnings(comparison.warnings)] if comparison.warnings else []
    sections = [Section("What changes", [_figures(comparison), *weak, _flips(comparison), _shift(comparison)])]
    if comparison.mcnemar is not None:
        sections.append(Section("Against the labels", _agreement(comparison, comparison.mcnemar)))
    sections += [
        Section("Most changed reviews", [_most_changed(comparison)]),
        Section("What each costs", [_costs(comparison)]),
    ]
    rejected = f"; {comparison.rejected:,} more could not be scored" if comparison.rejected else ""
    subtitle = (
        f"{comparison.scored:,} reviews of {comparison.input} (text column: {comparison.text_column}), scored with "
        f"both on {comparison.provider}{rejected}"
    )
    return Page(f"{comparison.new.bundle} in place of {comparison.old.bundle}", subtitle, sections)


def _figures(comparison: Comparison) -> Tiles:
    tiles = [
        ("Labels changed", percent(comparison.changed_share, 2)),
        ("Mean shift of probability", f"{comparison.shift.mean:.4f}"),
        ("Size, new by old", f"{comparison.new.model_bytes / comparison.old.model_bytes:.2f}"),
    ]
    old_speed, new_speed = comparison.old.rows_per_second, comparison.new.rows_per_second
    if old_speed and new_speed:
        tiles.append(("Speed, new by old", f"{new_speed / old_speed:.2f}"))
    old, new = comparison.old.label_metrics, comparison.new.label_metrics
    if old and new and old.accuracy is not None and new.accuracy is not None:
        tiles[1:1] = [("Accuracy, old", percent(old.accuracy, 2)), ("Accuracy, new", percent(new.accuracy, 2))]
    return Tiles(tiles)


def _flips(comparison: Comparison) -> Matrix:
    names = list(comparison.flips)
    return Matrix(
        "Old answers and new ones",
        "A line has the reviews of an old answer, a column those of a new one.",
        "old answer",
        names,
        [[counts[name] for name in names] for counts in comparison.flips.values()],
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
        "accuracy": [_share(metrics.accuracy) for metrics in figures.values()],
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
            f"{labelled:,} labelled reviews (label column: {comparison.label_column})",
            ("figure", *figures),
            [(name, *values) for name, values in rows.items()],
        ),
    ]


def _costs(comparison: Comparison) -> Table:
    sides = (comparison.old, comparison.new)
    return Table(
        "Measured in the same run, in turns",
        ("what is measured", "old", "new"),
        [
            ("bundle", *(side.bundle for side in sides)),
            ("file", *(side.model for side in sides)),
            ("reviews a second", *(side.speed for side in sides)),
            ("size of the file, MB", *(f"{side.model_bytes / 1e6:,.2f}" for side in sides)),
            ("size of the bundle, MB", *(f"{side.bundle_bytes / 1e6:,.2f}" for side in sides)),
            ("words in the vocabulary", *(side.vocabulary for side in sides)),
            ("unknown words", *(percent(side.unknown_rate, 2) for side in sides)),
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
    return "–" if value is None else percent(value, 2)
