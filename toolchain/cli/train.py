"""`toolchain train`: train a recipe, keep the best checkpoint."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, fail, print_json, say

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions


def _complete_recipe(incomplete: str) -> list[str]:
    from toolchain.models.recipes import RECIPES

    return options.completing(*RECIPES)(incomplete)


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the options in a TOML file the defaults of the command."""
    if path is None:
        return None
    names = {option: parameter.name for parameter in context.command.params for option in parameter.opts}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong_config(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    values = {"--" + name.replace("_", "-"): value for name, value in values.items()}
    if unknown := sorted(values.keys() - names.keys()):
        raise _wrong_config(f"{path}: {unknown[0].removeprefix('--')!r} is no option of this command; see --help")
    context.default_map = {names[option]: value for option, value in values.items()}
    return path


def _wrong_config(message: str) -> typer.Exit:
    """Say it in one line, as `toolchain.cli.app` does, which has not begun when options are read."""
    fail(f"--config {message}")
    return typer.Exit(2)


@options.reads_rows
@options.shown_first(
    *("data", "recipe", "start", "text_column", "label_column"),
    *("test_data", "epochs", "folds", "out", "resume"),
)
def train(
    data: Annotated[
        str,
        options.data(
            "A CSV/JSONL file, an aclImdb folder, sample (comes with the package), or imdb (84 MB, downloaded once).",
            options.DATA,
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            autocompletion=_complete_recipe,
            help="auto suits your data and says what it chose. gru, rnn, rnn-cell: the models of the walk-through. "
            "Default: auto for a file, else gru.",
            rich_help_panel=options.RECIPE,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="box|PATH|none",
            help="Trained model to start from: box, the one that comes with the package; a snapshot or a bundle; none. "
            "Default: auto takes the box for English.",
            rich_help_panel=options.RECIPE,
        ),
    ] = None,
    layers: Annotated[int, typer.Option(min=1, help="Number of recurrent layers.", rich_help_panel=options.RECIPE)] = 1,
    hidden: Annotated[
        int | None,
        typer.Option(min=1, help="Units of a recurrent layer. Default: the recipe's.", rich_help_panel=options.RECIPE),
    ] = None,
    embedding: Annotated[
        int | None,
        typer.Option(
            min=1, help="Numbers that stand for a word. Default: the recipe's.", rich_help_panel=options.RECIPE
        ),
    ] = None,
    tokenizer: Annotated[
        options.Tokenizer | None,
        typer.Option(
            help="How text is cut into tokens. attached: at spaces; isolated: each punctuation mark is a token too; "
            "dropped: punctuation is left out; characters: each is a token, for Chinese, Japanese, Korean. "
            "Default: the recipe's.",
            rich_help_panel=options.RECIPE,
        ),
    ] = None,
    text_column: Annotated[str | None, options.text_column(options.DATA)] = None,
    reading: "ReadOptions" = options.READING,
    label_column: Annotated[str | None, options.label_column(options.DATA)] = None,
    label_map: Annotated[str | None, options.label_map(options.DATA)] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Column with a group, such as a film, product or author. "
            "Training, validation and test never share a group.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    test_data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV/JSONL file to test on. Default: a tenth of --data.", rich_help_panel=options.DATA
        ),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Text without labels, for auto, which then trains longer: a CSV/JSONL file, a folder of .txt files or "
            "an aclImdb folder.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the data. Default: the recipe's.", rich_help_panel=options.TRAINING),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Reviews in a batch. Default: the recipe's.", rich_help_panel=options.TRAINING),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(min=0, help="Learning rate. Default: the recipe's.", rich_help_panel=options.TRAINING),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after N epochs without a better one. Default: the recipe's.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    class_weights: Annotated[
        Literal["none", "balanced"],
        typer.Option(help="balanced: a rare label counts as much as a common one.", rich_help_panel=options.TRAINING),
    ] = "none",
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            metavar="box|PATH",
            help="Trained model whose probabilities this one learns, for the reviews and for the text of --unlabelled. "
            "May be given several times: their mean is learned.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Train and test on N folds first: the mean and spread of the accuracy. For few reviews.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the random numbers. The same seed gives the same model on the same machine; on a GPU nearly.",
            rich_help_panel=options.TRAINING,
        ),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("auto", "cpu", "cuda"),
            metavar="auto|cpu|cuda",
            help="Where to train.",
            rich_help_panel=options.TRAINING,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("auto", "fp32", "bf16"),
            metavar="auto|fp32|bf16",
            help="Number format of the matrix products. bf16 is faster where the processor has it.",
            rich_help_panel=options.TRAINING,
        ),
    ] = "auto",
    out: Annotated[Path, options.snapshot_folder(options.RUN)] = Path("snapshot"),
    overwrite: Annotated[bool, options.overwrite_snapshot(options.RUN)] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training in --out.", rich_help_panel=options.RUN)
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files to OUT/tensorboard.", rich_help_panel=options.RUN)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            callback=_read_config,
            is_eager=True,
            help="Read options from a TOML file, such as batch-size = 32. The command line wins.",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the metrics")] = False,
) -> None:
    """Train a model on labelled reviews and keep the best epoch.

    Examples:
    toolchain train --data sample --epochs 2
    toolchain train --data reviews.csv
    toolchain train --data reviews.csv --start bundle --out better
    """
    from toolchain.cli.logged import spoken
    from toolchain.cli.progress import progress
    from toolchain.interface.training import train as train_snapshot
    from toolchain.training.distributed import Ended

    try:
        with spoken():
            snapshot = train_snapshot(
                data,
                recipe,
                out=out,
                start=start,
                layers=layers,
                hidden=hidden,
                embedding=embedding,
                tokenizer=tokenizer,
                text_column=text_column,
                label_column=label_column,
                label_map=label_map,
                group_column=group_column,
                test_data=test_data,
                unlabelled=unlabelled,
                reading=reading,
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                patience=patience,
                class_weights=class_weights,
                teacher=teacher or (),
                folds=folds,
                seed=seed,
                device=device,
                precision=precision,
                overwrite=overwrite,
                resume=resume,
                tensorboard=tensorboard,
                progress=progress,
            )
    except Ended as end:
        say(escape(str(end)))
        raise typer.Exit(143) from None
    say(f"snapshot in {escape(str(out))}/; next: toolchain export --snapshot {escape(str(out))}")
    if as_json:
        print_json(snapshot.metrics)
