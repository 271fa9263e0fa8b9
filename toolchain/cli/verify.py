"""`toolchain verify`: every form of a bundle against PyTorch, or against the vectors it carries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show

if TYPE_CHECKING:
    from rich.table import Table

    from toolchain.files.tables import ReadOptions
    from toolchain.release.verification import Verification


@options.reads_rows
@options.shown_first("snapshot", "data", "text_column", "provider")
def verify(
    bundle: Annotated[Path | None, options.bundle_argument("bundle")] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Compare with this snapshot, in PyTorch. Without it: with the test vectors in the bundle.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    data: Annotated[
        str | None,
        options.data("Real texts for the comparison too: a file, an aclImdb folder, sample or imdb.", options.INPUT),
    ] = None,
    text_column: Annotated[str | None, options.text_column(options.INPUT)] = None,
    reading: "ReadOptions" = options.READING,
    provider: Annotated[str, options.provider(options.MODEL)] = "cpu",
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the result")] = False,
) -> None:
    """Check that every exported form of a model gives the answers of PyTorch.

    Examples:
    toolchain verify bundle
    toolchain verify bundle --snapshot snapshot --data reviews.csv
    toolchain verify bundle --provider cuda --json
    """
    from toolchain.cli.logged import spoken
    from toolchain.interface.bundle import Bundle
    from toolchain.release.verification import VerificationFailed

    opened = Bundle(bundle)
    say(f"model {escape(str(opened.folder))}")
    try:
        with spoken():
            verification = opened.verify(
                snapshot, data=data, text_column=text_column, reading=reading, provider=provider
            )
    except VerificationFailed as failure:
        print_verification(failure.verification, as_json)
        raise
    print_verification(verification, as_json)


def print_verification(verification: "Verification", as_json: bool) -> None:
    """What was found, on stdout."""
    if as_json:
        print_json(verification.to_json())
    else:
        show(verification_table(verification))


def verification_table(verification: "Verification") -> "Table":
    """The result of `verify`: a row a form, with what it was compared with, and why a form was not."""
    from rich.table import Table

    table = Table(title=f"against {verification.against}")
    for column in ("form", "provider", "cases", "alone", "max |Δ|", "label agreement", "verdict"):
        table.add_column(column, justify="left" if column in ("form", "provider", "verdict") else "right")
    for comparison in verification.comparisons:
        table.add_row(
            comparison.form,
            comparison.provider,
            f"{comparison.cases:,}",
            f"{comparison.alone:,}",
            f"{comparison.max_difference:.1e}",
            f"{comparison.label_agreement:.3%}",
            "[green]pass" if comparison.passed else "[bold red]FAIL",
        )
    for each in verification.unchecked:
        table.add_row(each.form, *[""] * 5, escape(f"not checked: {each.reason}"))
    return table
