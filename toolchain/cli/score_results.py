"""What `toolchain score` prints of a run, and of a dry run."""

from toolchain.cli.terminal import escape, say, show, warn
from toolchain.measures.metrics import LabelMetrics
from toolchain.scoring.job import Preview, Summary


def print_summary(summary: Summary) -> None:
    """What a completed run of `score` did, on stderr."""
    labels = ", ".join(f"{label} {count:,}" for label, count in summary.labels.items())
    rate = (summary.rows - summary.resumed) / max(summary.seconds, 1e-9)
    say(
        f"{summary.rows:,} rows: {summary.scored:,} scored, {summary.rejected:,} rejected in {summary.seconds:.1f} s "
        f"({rate:,.0f} rows/s)" + (f", {summary.resumed:,} of them from an interrupted run" if summary.resumed else "")
    )
    read = "; ".join([f"text column {summary.text_column!r}", *summary.found])
    say(escape(f"read: {read}"))
    say(escape(f"labels: {labels or 'none'}; {summary.unknown / max(1, summary.tokens):.1%} unknown words"))
    say(escape(f"output: {'standard output' if summary.output == '-' else summary.output}"))
    if summary.rejects:
        say(escape(f"rejects: {summary.rejects}"))
    if summary.abstained is not None:
        say(f"abstained: {summary.abstained:,} of {summary.scored:,} rows, below --min-confidence")
    if summary.label_metrics:
        _print_label_metrics(summary.label_metrics, summary.input)
    if summary.drift:
        for warning in summary.drift.warnings:
            warn(warning)


def _print_label_metrics(metrics: LabelMetrics, source: str) -> None:
    from toolchain.cli.class_table import class_table

    if metrics.accuracy is not None:
        say(
            f"against {escape(repr(metrics.column))}: accuracy {metrics.accuracy:.2%}, "
            f"log-loss {metrics.log_loss:.4f} on {metrics.labelled:,} labelled rows; {metrics.unlabelled:,} unlabelled"
        )
        say(class_table(metrics.classes, metrics.confusion))
        if warning := metrics.warning(source):  # where no label is known at all, that is the run's error
            warn(warning)


def print_preview(preview: Preview, model: str) -> None:
    """A dry run's findings on stdout."""
    from rich.table import Table

    lines = {
        "input": preview.input,
        "format": preview.format,
        "columns": ", ".join(preview.columns) or "none",
        **({"found out": "; ".join(preview.found)} if preview.found else {}),
        "text column": preview.text_column,
        **({"label column": preview.label_column} if preview.label_column else {}),
        "output": "standard output" if preview.output == "-" else preview.output,
        "output columns": ", ".join(preview.output_columns),
        "model": f"{model}/{preview.model} on {preview.provider}",
        "first window": f"{preview.records:,} rows, {preview.rejected:,} of them would be rejected",
    }
    for name, value in lines.items():
        show(f"{name:15s} {escape(value)}", soft_wrap=True)
    table = Table(show_edge=False)
    for column in ("line", "prediction", "confidence", "text"):
        table.add_column(column, justify="right" if column in ("line", "confidence") else "left")
    for row in preview.rows:
        if row.confidence is None:
            table.add_row(f"{row.line:,}", "rejected", "", escape(row.reason or ""))
        else:
            table.add_row(
                f"{row.line:,}", escape(row.prediction or ""), f"{row.confidence:.6f}", escape(row.text or "")
            )
    show(table)
