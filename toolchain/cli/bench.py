"""`toolchain bench`: how fast a bundle scores on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show, tell
from toolchain.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from toolchain.files.tables import ReadOptions
    from toolchain.judging.bench import Measurement


@options.reads_rows
@options.shown_first("bundle", "data", "text_column", "rows", "rounds", "as_json")
def bench(
    bundle: Annotated[Path | None, options.bundle(options.MODEL)] = None,
    data: Annotated[str, options.data("Texts: a file, an aclImdb folder, sample or imdb.", options.INPUT)] = "sample",
    text_column: Annotated[str | None, options.text_column(options.INPUT)] = None,
    reading: "ReadOptions" = options.READING,
    rows: Annotated[
        int,
        typer.Option(
            min=1, help="Number of rows. Texts come again with a number behind them.", rich_help_panel=options.RUN
        ),
    ] = 5000,
    rounds: Annotated[
        int, typer.Option(min=1, help="Times that each way of scoring takes its turn.", rich_help_panel=options.RUN)
    ] = 3,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the figures")] = False,
) -> None:
    """Measure how fast a model scores on this machine, beside plain ONNX Runtime and the arithmetic limit.

    Examples:
    toolchain bench
    toolchain bench --bundle bundle --data reviews.csv --rows 20000
    """
    from export.bundle import open_bundle
    from toolchain.corpus.reviews import Source, read_texts
    from toolchain.judging.bench import different_texts, measure
    from toolchain.scoring.default import find_bundle

    opened = open_bundle(find_bundle(bundle))
    say(f"model {escape(str(opened.folder))}")
    unique = read_texts(Source(data, text_column, reading=reading, say=tell))
    if not unique:
        raise UsageError(f"{data}: holds no text")
    measured = measure(opened, different_texts(unique, rows), rounds, progress=say)
    if as_json:
        print_json(measured.to_json())
        return
    show(speed_table(measured))


def speed_table(measured: "Measurement") -> "Table":
    """A line a route of `bench`."""
    from rich.table import Table

    limit = measured.limit_tokens_per_second
    table = Table(
        title=f"{measured.rows:,} rows, {measured.tokens:,} tokens, {measured.cores} cores, limit {limit:,.0f} tokens/s"
    )
    for column in ("route", "rows/s", "tokens/s", "of the limit"):
        table.add_column(column, justify="left" if column == "route" else "right")
    for route in measured.routes:
        figures = (f"{route.rows_per_second:,.0f}", f"{route.tokens_per_second:,.0f}", f"{route.share_of_limit:.0%}")
        table.add_row(route.name, *figures)
    return table
