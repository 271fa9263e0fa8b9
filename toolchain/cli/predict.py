"""`toolchain predict`: a sentence in, its label and probability out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, excerpt, print_json, say, show
from toolchain.errors import UsageError


def predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT", help="Texts, each in quotes. Without one, every line of standard input is a text."
        ),
    ] = None,
    encoding: options.Encoding = None,
    bundle: Annotated[Path | None, options.bundle(options.MODEL)] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show what each word says for or against the label.", rich_help_panel=options.OUTPUT
        ),
    ] = False,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("a list of predictions")] = False,
) -> None:
    """Print the label of a text and its probability.

    Examples:
    toolchain predict "I loved this film."
    toolchain predict "I loved this film." "I fell asleep." --json
    toolchain predict < sentences.txt
    """
    from toolchain.scoring.scorer import Scorer

    options.refuse_file_names(texts or [], "to score its rows: toolchain score FILE")
    if explain:
        from toolchain.cli.explain import print_explanations

        print_explanations(texts or _lines(encoding), bundle, as_json)
        return
    with Scorer(bundle) as scorer:
        say(f"model {escape(scorer.name)}")
        wanted = texts or _lines(encoding)
        options.refuse_blank_texts(wanted)
        predictions = scorer.score(wanted)
    if as_json:
        print_json(
            [
                {
                    "text": text,
                    "label": prediction.label,
                    "confidence": prediction.confidence,
                    "probabilities": dict(zip(scorer.labels, prediction.probabilities, strict=True)),
                    "tokens": prediction.tokens,
                    "unknown": prediction.unknown,
                }
                for text, prediction in zip(wanted, predictions, strict=True)
            ]
        )
        return
    widest = max(len(label) for label in scorer.labels)
    for text, prediction in zip(wanted, predictions, strict=True):
        show(
            f"{escape(prediction.label):{widest}}  {prediction.confidence:.4f}  {escape(excerpt(text))}", soft_wrap=True
        )


def _lines(encoding: str | None) -> list[str]:
    """The lines of standard input that hold a text. Raises `UsageError` where nobody has sent any."""
    from toolchain.files.standard_input import read_text

    if sys.stdin.isatty():
        raise UsageError('no text; give one: toolchain predict "I loved this film.", or send lines to standard input')
    return [line for line in read_text(encoding).splitlines() if line.strip()]
