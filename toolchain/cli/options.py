"""The options that several commands share, the panels of their help, and what option values mean."""

import ast
import csv
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from toolchain.cli.terminal import be_quiet
from toolchain.errors import UsageError, quoted

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions

# The panels of --help.
INPUT, OUTPUT, MODEL, QUALITY, RUN = "Input", "Output", "Model", "Quality", "Run"
CLUSTER = "Cluster"
RECIPE, DATA, TRAINING = "Recipe", "Data", "Training"

Tokenizer = Literal["attached", "isolated", "dropped", "characters"]
"""The names of `export.text.TOKENIZERS`, which `--help` does not load."""

MAX_ROW_BYTES = 16 * 2**20
"""That of `toolchain.files.records`, which `--help` does not load."""

_LONGEST_NAME = 255  # of a file, in characters

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=be_quiet,
        is_eager=True,
        help="Print warnings and errors only.",
        rich_help_panel=RUN,
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a file that toolchain did not write, or that was changed since.",
        rich_help_panel=OUTPUT,
    ),
]

_BUNDLE = "Folder with the {}, or box. Default: ./bundle if it exists, else the model in the box."


def snapshot_folder(panel: str) -> Any:
    """`--out` of the commands that write a snapshot."""
    return typer.Option(metavar="FOLDER", help="Folder for the snapshot.", rich_help_panel=panel)


def overwrite_snapshot(panel: str) -> Any:
    """`--overwrite` of the commands that write a snapshot."""
    return typer.Option(
        "--overwrite",
        help="Replace an earlier snapshot. Without it, that is kept in OUT.previous.",
        rich_help_panel=panel,
    )


Encoding = Annotated[
    str | None,
    typer.Option(
        help="Encoding of the input, such as cp1252. Default: UTF-8, or what its byte order mark says.",
        rich_help_panel=INPUT,
    ),
]

READ_BY: Mapping[str, tuple[Any, Any]] = {
    "encoding": (Encoding, None),
    "delimiter": (
        Annotated[
            str | None,
            typer.Option(
                help="Separator in a CSV: a character, tab, or a code such as '\\x01'. Default: detected.",
                rich_help_panel=INPUT,
            ),
        ],
        None,
    ),
    "quoting": (
        Annotated[
            Literal["auto", "minimal", "none"],
            typer.Option(
                help="Quotes in a CSV: minimal, a field may stand in quotes; none, quotes are plain characters.",
                rich_help_panel=INPUT,
            ),
        ],
        "auto",
    ),
    "escape": (
        Annotated[
            Literal["auto", "double", "backslash"],
            typer.Option(
                help='How a quoted field of a CSV writes a quote: double, as two quotes; backslash, as \\".',
                rich_help_panel=INPUT,
            ),
        ],
        "auto",
    ),
    "no_header": (
        Annotated[
            bool,
            typer.Option(
                "--no-header",
                help="The CSV has no header: line 1 is a row. Name columns by number: --text-column 2.",
                rich_help_panel=INPUT,
            ),
        ],
        False,
    ),
    "skip_lines": (
        Annotated[
            int | None,
            typer.Option(
                min=0, help="Skip this many lines above the header. Default: detected.", rich_help_panel=INPUT
            ),
        ],
        None,
    ),
    "comment": (
        Annotated[
            str | None,
            typer.Option(
                metavar="MARK", help="Skip lines of a CSV that begin with MARK, such as #.", rich_help_panel=INPUT
            ),
        ],
        None,
    ),
    "sheet": (
        Annotated[
            str | None,
            typer.Option(metavar="NAME", help="Sheet of an Excel workbook. Default: the first.", rich_help_panel=INPUT),
        ],
        None,
    ),
}
"""How a file of rows is read: what makes `toolchain.files.tables.ReadOptions`, each as an option and its default."""

READING: "ReadOptions" = cast(Any, None)
"""The default of a command's parameter `reading`, which stands for the options that `reads_rows` puts there."""


def shown_first(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with many options: those by these names come first in its help, the others under More."""

    def mark(command: Callable[..., None]) -> Callable[..., None]:
        command.shown_first = names  # type: ignore[attr-defined]
        return command

    return mark


def reads_rows(command: Callable[..., None]) -> Callable[..., None]:
    """A command that reads files of rows: in place of its parameter `reading` it has the options that say how, and it
    gets what they say as `toolchain.files.tables.ReadOptions`."""
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name != "reading":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for option, (annotation, default) in READ_BY.items():
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(option, kind, default=default, annotation=annotation))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        from toolchain.files.tables import ReadOptions

        given: dict[str, Any] = {option: values.pop(option) for option in READ_BY}
        given["header"] = not given.pop("no_header")
        given |= {option: None for option in ("quoting", "escape") if given[option] == "auto"}
        command(**values, reading=ReadOptions(**given))

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def as_json(what: str, panel: str | None = RUN) -> Any:
    """`--json`, with what it prints."""
    return typer.Option("--json", help=f"Print {what} as JSON.", rich_help_panel=panel)


def completing(*values: str) -> Callable[[str], list[str]]:
    """What the shell offers for an option: these values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def _complete_provider(incomplete: str) -> list[str]:
    from export.sessions import RuntimeUnavailable, installed_providers

    try:
        return completing("auto", *installed_providers())(incomplete)
    except RuntimeUnavailable:
        return []


def data(what: str, panel: str | None = None) -> Any:
    """`--data` and its like: a name of known data, a folder or a file."""
    return typer.Option(autocompletion=completing("sample", "imdb"), help=what, rich_help_panel=panel)


def text_column(panel: str | None = None) -> Any:
    """`--text-column`."""
    return typer.Option(
        help="Column with the text. Default: found by name (text, review, content, body …).",
        rich_help_panel=panel,
    )


def label_column(panel: str | None = None) -> Any:
    """`--label-column`, where labels are needed."""
    return typer.Option(
        help="Column with the label. Default: found by name (label, sentiment, class …).", rich_help_panel=panel
    )


def true_label_column(panel: str | None = None) -> Any:
    """`--label-column`, where labels are welcome."""
    return typer.Option(
        help="Column with the true label. Default: found by name (label, sentiment, class …).", rich_help_panel=panel
    )


def label_map(panel: str | None = None) -> Any:
    """`--label-map`."""
    return typer.Option(
        metavar="VALUE=LABEL,…",
        help="Rename the file's labels: 1=pos,0=neg, or for stars 4,5=pos,1-2=neg,3= (rows with 3 are left out).",
        rich_help_panel=panel,
    )


def max_rejects(panel: str | None = None) -> Any:
    """`--max-rejects`."""
    return typer.Option(
        metavar="SHARE",
        help="Fail (exit status 1) if more rows than this cannot be scored: 10% or 0.1.",
        rich_help_panel=panel,
    )


def bundle(panel: str | None = None) -> Any:
    """`--bundle`, where there is a model to fall back on."""
    return typer.Option(metavar="FOLDER", help=_BUNDLE.format("model"), rich_help_panel=panel)


def bundle_argument(name: str) -> Any:
    """BUNDLE, where there is a model to fall back on; `name` is what the command calls it."""
    return typer.Argument(help=_BUNDLE.format(name), show_default=False)


def provider(panel: str | None = None) -> Any:
    """`--provider`."""
    return typer.Option(
        help="Where to run: auto, cpu, cuda, or another provider of ONNX Runtime that is installed.",
        autocompletion=_complete_provider,
        rich_help_panel=panel,
    )


def share(option: str, value: str) -> float:
    """`10%` or `0.1` -> 0.1. Raises `UsageError` on what is no share."""
    try:
        number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UsageError(f"{option} {value}: expected a share, such as 10% or 0.1")
    return number


def names(option: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """`["a,b", "c"]` -> `("a", "b", "c")`; a name with a comma stands in quotes, as in a CSV file.

    Raises `UsageError` that names `option` on a line break, or on a quote that is not closed.
    """
    found: list[str] = []
    for value in values or []:
        try:
            rows = list(csv.reader([value], skipinitialspace=True, strict=True))
        except csv.Error as error:
            what = "a line break" if "new-line" in str(error) else "a quote that does not end a name"
            raise UsageError(
                f"{option} {quoted(value)}: holds {what}; expected names with commas between them; a name with a "
                "comma, a quote or a line break stands in double quotes"
            ) from error
        found += rows[0] if rows and rows[0] else [""]
    return tuple(found)


def label_names(option: str, value: str) -> tuple[str, ...]:
    """`neg,pos`, or the list that Python prints, `['neg', 'pos']` -> the names, without spaces around them.

    Raises `UsageError` on what is neither, and on a name that is empty or holds a line break.
    """
    if value.strip()[:1] in ("[", "("):
        try:
            listed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise UsageError(f"{option} {quoted(value)}: not a list that can be read; write it as neg,pos") from error
        if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
            raise UsageError(f"{option} {quoted(value)}: not a list of names; write it as neg,pos")
        found = tuple(listed)
    else:
        found = names(option, [value])
    stripped = tuple(name.strip() for name in found)
    for name in stripped:
        if not name or "\n" in name or "\r" in name:
            what = "holds a line break" if name else "is empty"
            raise UsageError(f"{option} {quoted(value)}: a name {what}; write them on one line, as neg,pos")
    return stripped


def refuse_file_names(texts: Sequence[str], way_out: str) -> None:
    """Raise `UsageError` where a text is the name of a file that exists: it was hardly meant to be read itself. A word
    may be the name of a folder too."""
    for text in texts:
        if text != "-" and len(text) < _LONGEST_NAME and Path(text).is_file():
            raise UsageError(f"{text}: this is a file, not a text; {way_out}")


def refuse_blank_texts(texts: Sequence[str]) -> None:
    """Raise `UsageError` on a text that says nothing, and where there is no text."""
    from export.text import is_blank

    if not texts:
        raise UsageError("standard input: no text; expected one on each line")
    if blank := [number for number, text in enumerate(texts, 1) if is_blank(text)]:
        raise UsageError(f"text {blank[0]} is blank; leave it out")


def key_value(option: str) -> tuple[str, str]:
    """`key=value` of `--provider-option`. Raises `UsageError` on anything else."""
    key, sign, value = option.partition("=")
    if not sign or not key:
        raise UsageError(f"--provider-option {option}: expected key=value")
    return key, value
