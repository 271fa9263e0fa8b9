"""`toolchain report`: what was scored, as one HTML page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, say, warn

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions


@options.reads_rows
@options.shown_first("out", "text_column", "label_column", "bundle", "overwrite")
def report(
    file: Annotated[Path, typer.Argument(help="A file that toolchain score wrote.")],
    text_column: Annotated[str | None, options.text_column(options.INPUT)] = None,
    reading: "ReadOptions" = options.READING,
    label_column: Annotated[
        str | None,
        options.true_label_column(options.INPUT),
    ] = None,
    label_map: Annotated[str | None, options.label_map(options.INPUT)] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The model that scored the file. Default: the one in the file's record, else ./bundle, else the "
            "model in the box.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="The file that score --summary wrote.", rich_help_panel=options.MODEL),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FILE.html", help="The page, or a folder for it.", rich_help_panel=options.OUTPUT
        ),
    ] = "report.html",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one HTML page about a scored file: labels, confidence, accuracy, mistakes. It loads nothing.

    With distributions, unknown words and drift, and a table of the rows to filter and sort. Known labels add a
    confusion matrix, ROC and reliability curves, and the worst mistakes with their words coloured.

    Example: toolchain report reviews.scored.csv -o report.html
    """
    from toolchain.cli.progress import Progress
    from toolchain.files.outputs import placed
    from toolchain.report.report import PAGE, write_report

    out = placed(out, PAGE)
    with Progress(file.name) as shown:
        survey = write_report(
            *(str(file), out, bundle, summary, text_column, label_column, shown.update, label_map, reading, overwrite)
        )
    for warning in (survey.doubt, survey.label_warning):
        if warning:
            warn(warning)
    say(f"{survey.rows:,} rows; report: {escape(out)}")
