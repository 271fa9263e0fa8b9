"""`toolchain export`: a snapshot becomes a bundle, proven equal to PyTorch before it is published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions


def _complete_format(incomplete: str) -> list[str]:
    from export.forms import FORMATS

    return options.completing(*FORMATS)(incomplete)


@options.reads_rows
@options.shown_first("snapshot", "format", "precision", "data", "out")
def export(
    snapshot: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Folder with the snapshot; or a bundle, or box, to export its weights anew.",
            rich_help_panel=options.MODEL,
        ),
    ] = "snapshot",
    format: Annotated[
        list[str],
        typer.Option(
            autocompletion=_complete_format,
            help="onnx, onnx-cpu, onnx-explain, torchscript, onnx-ids, pt2, or all (without pt2). May be repeated.",
            rich_help_panel=options.MODEL,
        ),
    ] = ["all"],  # noqa: B006
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("fp32", "int8"),
            metavar="fp32|int8",
            help="int8 adds model.int8.onnx, faster on processors with VNNI.",
            rich_help_panel=options.MODEL,
        ),
    ] = "fp32",
    shrink: Annotated[
        bool,
        typer.Option(
            "--shrink",
            help="Make the ONNX files small: fewer words, an embedding of bytes.",
            rich_help_panel=options.MODEL,
        ),
    ] = False,
    vocabulary: Annotated[
        int | None,
        typer.Option(
            min=3, help="With --shrink: keep the N most frequent words. Default: 30,000.", rich_help_panel=options.MODEL
        ),
    ] = None,
    data: Annotated[
        str,
        options.data("Texts for the proof: a file, an aclImdb folder, sample or imdb.", options.QUALITY),
    ] = "sample",
    text_column: Annotated[str | None, options.text_column(options.QUALITY)] = None,
    reading: "ReadOptions" = options.READING,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Publish an int8 or shrunk model even if it changes too many labels.",
            rich_help_panel=options.QUALITY,
        ),
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the bundle. An earlier bundle is replaced.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Path("bundle"),
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the manifest of the bundle")] = False,
) -> None:
    """Export a snapshot as a bundle of ONNX and TorchScript files, proven equal to PyTorch.

    Examples:
    toolchain export
    toolchain export --format onnx --format torchscript --data reviews.csv
    toolchain export --precision int8 --shrink --out small
    """
    from toolchain.cli.logged import spoken
    from toolchain.interface.snapshot import Snapshot

    with spoken():
        bundle = Snapshot(snapshot).export(
            out,
            format=format,
            precision=precision,
            shrink=shrink,
            vocabulary=vocabulary,
            data=data,
            text_column=text_column,
            reading=reading,
            force=force,
        )
    say(
        f"{sum(form['passed'] for form in bundle.manifest['parity']['forms'])} forms agree with PyTorch. "
        f"Bundle in {escape(str(out))}/; next: toolchain score reviews.csv --bundle {escape(str(out))}"
    )
    if as_json:
        print_json(bundle.manifest)
