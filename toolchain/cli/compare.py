"""`toolchain compare`: what a new model would change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show, show_excerpt, tell, warn

if TYPE_CHECKING:
    from rich.table import Table

    from toolchain.files.tables import ReadOptions
    from toolchain.judging.comparison import Comparison

_SHOWN_CHANGES = 5


@options.reads_rows
@options.shown_first("out", "text_column", "label_column", "limit", "provider", "max_changed")
def compare(
    old: Annotated[Path, typer.Argument(help="Folder with the bundle in use.")],
    new: Annotated[Path, typer.Argument(help="Folder with the bundle that would replace it.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Reviews: a CSV, JSONL or Parquet file.")],
    text_column: Annotated[str | None, options.text_column(options.INPUT)] = None,
    reading: "ReadOptions" = options.READING,
    label_column: Annotated[
        str | None,
        options.true_label_column(options.INPUT),
    ] = None,
    label_map: Annotated[str | None, options.label_map(options.INPUT)] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Compare only on the first N rows.", rich_help_panel=options.INPUT)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help="Write the comparison as an HTML page too.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    provider: Annotated[str, options.provider(options.MODEL)] = "auto",
    max_rejects: Annotated[str, options.max_rejects(options.QUALITY)] = "10%",
    max_changed: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Fail (exit status 1) if more labels than this change: 1% or 0.01.",
            rich_help_panel=options.QUALITY,
        ),
    ] = None,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the comparison")] = False,
) -> None:
    """Compare two models on the same reviews: which labels change, which is right, speed and size.

    Both models score the same reviews in turns. Fewer than 1,024 reviews tell no speed. A label column adds accuracy,
    log-loss and McNemar's test.

    Examples:
    toolchain compare bundle candidate reviews.csv --max-changed 1%
    toolchain compare bundle candidate labelled.csv -o compare.html
    """
    import dataclasses

    from toolchain.cli.progress import Progress
    from toolchain.judging.comparison import compare_models
    from toolchain.scoring.scorer import Scorer
    from toolchain.scoring.windows import Options

    allowed = None if max_changed is None else options.share("--max-changed", max_changed)
    if out is not None:
        from toolchain.files.outputs import check, placed
        from toolchain.report.comparison_page import PAGE, write_comparison  # tells at once what is not installed

        out = placed(out, PAGE)
        check(out, PAGE, overwrite, [file])
    wanted = Options(
        **{**vars(reading), "text_column": text_column},
        label_column=label_column,
        label_map=label_map,
        limit=limit,
        max_rejects=options.share("--max-rejects", max_rejects),
    )
    with Scorer(old, provider) as first, Scorer(new, provider) as second, Progress(file) as shown:
        comparison = compare_models(first, second, file, wanted, shown.update)
    columns = f"text column {comparison.text_column!r}"
    if comparison.label_column:
        columns += f", label column {comparison.label_column!r}"
    tell("; ".join([f"read {comparison.input}: {columns}", *comparison.found]))
    for warning in comparison.warnings:
        warn(warning)
    if as_json:
        print_json(dataclasses.asdict(comparison))
    else:
        print_comparison(comparison)
    if out is not None:
        write_comparison(comparison, out)
        say(f"page: {escape(out)}")
    comparison.check(wanted.max_rejects, allowed)


def print_comparison(comparison: "Comparison") -> None:
    """Two models beside each other on stdout: what differs, who is right, what each costs."""
    from rich.table import Table

    shift = comparison.shift
    show(
        escape(
            f"{comparison.changed:,} of {comparison.scored:,} labels change ({comparison.changed_share:.2%}); "
            f"probabilities move by {shift.mean:.4f} in the mean, {shift.quantiles['99%']:.4f} at the 99th percentile, "
            f"{shift.max:.4f} at most"
        ),
        soft_wrap=True,
    )
    if comparison.rejected:
        show(f"{comparison.rejected:,} of {comparison.rows:,} rows could not be scored")
    flips = Table(show_edge=False)
    flips.add_column("old answer")
    for label in comparison.flips:
        flips.add_column(escape(f"now {label}"), justify="right")
    for label, counts in comparison.flips.items():
        flips.add_row(escape(label), *(f"{count:,}" for count in counts.values()))
    show(flips)
    show(_sides_table(comparison))
    if comparison.mcnemar:
        show(comparison.mcnemar.verdict, soft_wrap=True)
    for change in comparison.most_changed[:_SHOWN_CHANGES]:
        known = "" if change.label is None else f"; its label is {change.label}"
        show(
            escape(
                f"line {change.line:,}: {change.old} {change.old_confidence:.4f} → "
                f"{change.new} {change.new_confidence:.4f}{known}"
            ),
            soft_wrap=True,
        )
        show_excerpt(change.text)


def _sides_table(comparison: "Comparison") -> "Table":
    """A line a figure, a column a model."""
    sides = (comparison.old, comparison.new)
    rows = {
        "bundle": [escape(side.bundle) for side in sides],
        "identity": [f"{side.identity[:12]}…" for side in sides],
        "reviews a second": [side.speed for side in sides],
        "size of its file": [f"{side.model_bytes / 1e6:,.2f} MB" for side in sides],
        "words it knows": [f"{side.vocabulary:,}" for side in sides],
        "unknown words": [f"{side.unknown_rate:.2%}" for side in sides],
    }
    metrics = [side.label_metrics for side in sides if side.label_metrics and side.label_metrics.labelled]
    if metrics:
        rows["accuracy"] = [f"{figures.accuracy:.2%}" for figures in metrics]
        rows["log-loss"] = [f"{figures.log_loss:.4f}" for figures in metrics]
    from rich.table import Table

    table = Table(show_edge=False)
    for column in ("", "old", "new"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in rows.items():
        table.add_row(name, *values)
    return table
