"""The confusion of a model's answers and the figures of every class, as `evaluate` and `score` print them."""

from collections.abc import Mapping

from rich.table import Table

from toolchain.cli.terminal import escape
from toolchain.measures.metrics import ClassMetrics


def class_table(classes: Mapping[str, ClassMetrics], confusion: Mapping[str, Mapping[str, int]]) -> Table:
    """A line a true label: how often it was predicted as which, and its figures."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    table = Table(show_edge=False)
    table.add_column("true label")
    for heading in (*(f"as {label}" for label in classes), "support", "precision", "recall", "F1"):
        table.add_column(escape(heading), justify="right")
    for label, figures in classes.items():
        counts = [f"{count:,}" for count in (*confusion[label].values(), figures.support)]
        table.add_row(escape(label), *counts, *map(share, (figures.precision, figures.recall, figures.f1)))
    return table
