"""`toolchain verify`: every form of a bundle against PyTorch, or against the vectors it carries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show, tell
from toolchain.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from export.parity import Comparison
    from toolchain.files.tables import ReadOptions
    from toolchain.release.verification import Verification


@options.reads_rows
@options.shown_first("snapshot", "data", "text_column", "provider")
def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Folder with the bundle. Default: ./bundle if it exists, else the model in the box."),
    ] = None,
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
    from export.bundle import open_bundle
    from toolchain.release.verification import verify_vectors
    from toolchain.scoring.default import find_bundle

    opened = open_bundle(bundle or find_bundle())
    say(f"model {escape(str(opened.folder))}")
    if snapshot:
        from toolchain.corpus.reviews import Source, read_texts
        from toolchain.models.snapshot import load_snapshot
        from toolchain.release.release import verify_bundle

        loaded = load_snapshot(snapshot)
        texts = read_texts(Source(data, text_column, reading=reading, say=tell)) if data else []
        verification = verify_bundle(opened, loaded, texts, provider, say_comparison)
    elif data:
        raise UsageError("real text can be compared with PyTorch only; name the snapshot: --snapshot FOLDER")
    else:
        verification = verify_vectors(opened, provider, say_comparison)
    if as_json:
        print_json(verification.to_json())
    else:
        show(verification_table(verification))
    if not verification.passed:
        raise CheckFailed("; ".join(c.failure() for c in verification.comparisons if not c.passed))


def say_comparison(comparison: "Comparison") -> None:
    """One exported form against PyTorch, as soon as it was compared: a line on stderr."""
    verdict = "agrees" if comparison.passed else "DIFFERS"
    far = comparison.logits_difference
    logits = "" if far is None else f"logits {far:.2f} units in the last place, "
    say(
        f"{comparison.form} on {comparison.provider}: {verdict}, max |Δ| {comparison.max_difference:.1e}, "
        f"{logits}"
        f"labels {comparison.label_agreement:.2%}, over {comparison.cases:,} texts"
    )


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
