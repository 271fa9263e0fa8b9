"""`toolchain explain`: what each word of a review did to its label."""

from pathlib import Path
from typing import Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say


def explain(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Texts, each in quotes. - reads one from standard input.")
    ],
    encoding: options.Encoding = None,
    bundle: Annotated[
        Path | None,
        options.bundle(options.MODEL),
    ] = None,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("a list of explanations")] = False,
) -> None:
    """Show what each word of a text says for or against its label.

    A terminal with colours shows the words coloured. Elsewhere, and with NO_COLOR, they are listed with their shares:
    the change of the label's log-odds.

    Examples:
    toolchain explain "I expected a dull film but got a lively one."
    toolchain explain - --json < review.txt
    """
    from toolchain.files.records import MAX_ROW_BYTES
    from toolchain.files.standard_input import read_text

    options.refuse_file_names(texts, "to explain its rows: toolchain score FILE --explain 3")
    texts = [read_text(encoding, MAX_ROW_BYTES) if text == "-" else text for text in texts]
    print_explanations(texts, bundle, as_json)


def print_explanations(texts: list[str], bundle: Path | None, as_json: bool) -> None:
    """Explain the texts, on stdout."""
    from toolchain.cli.coloring import print_explanation
    from toolchain.scoring.explainer import Explainer

    explainer = Explainer(bundle)
    say(f"model {escape(str(explainer.bundle.folder))}/{explainer.model}")
    options.refuse_blank_texts(texts)
    explanations = explainer.explain(texts)
    if as_json:
        print_json([explanation.to_json() for explanation in explanations])
    else:
        for explanation in explanations:
            print_explanation(explanation)
