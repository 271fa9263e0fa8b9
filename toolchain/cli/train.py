"""`toolchain train`: train a recipe, keep the best checkpoint."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, fail, print_json, say, tell, warn

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions
    from toolchain.measures.standing import Standing
    from toolchain.models.earlier import Earlier
    from toolchain.training.loops import Epoch

_MANY_SUSPECTS = 0.05  # beyond it the model is at fault, not the labels


def _complete_recipe(incomplete: str) -> list[str]:
    from toolchain.models.recipes import AUTO, RECIPES

    return options.completing(AUTO.name, *RECIPES)(incomplete)


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
            help="auto picks one for your data and says which. gru-pool for your own data; gru-lm if you also have "
            "much text without labels (slower); gru, rnn, rnn-cell: the models of the walk-through. Default: auto for "
            "a file, else gru.",
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
            help="Text without labels, for auto, gru-lm, gru-pool: a CSV/JSONL file, a folder of .txt files or an "
            "aclImdb folder.",
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
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Snapshot that labels the text of --unlabelled. Texts it is sure of are trained on too.",
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
            help="Seed of the random numbers. The same seed gives the same model on the same machine.",
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
    from export.forms import too_large
    from toolchain.cli.progress import progress
    from toolchain.corpus.reviews import Source
    from toolchain.models.snapshot import load_snapshot
    from toolchain.training.automatic import plan
    from toolchain.training.distributed import Ended, process_group
    from toolchain.training.folds import cross_validate
    from toolchain.training.loops import Epoch, Settings, fit
    from toolchain.training.machine import choose_device
    from toolchain.training.resumption import FILE as RESUME_FILE

    say(f"reading {escape(data)} …")
    loaded_teacher = load_snapshot(teacher) if teacher else None
    source = Source(data, text_column, label_column, test_data, group_column, unlabelled, label_map, reading, say=tell)
    planned = plan(source, recipe, seed, start, tokenizer, layers, taught=teacher is not None)
    corpus, chosen = planned.corpus, planned.recipe
    if planned.reason:
        say(escape(f"recipe {chosen.name}: {planned.reason}"))
    for warning in corpus.warnings:
        warn(warning)
    if reason := too_large(chosen.specification(corpus.labels, planned.layers), corpus.vocabulary):
        warn(f"{reason}: such a model can be exported with --shrink, or with --format torchscript alone")
    say(
        f"{len(corpus.train):,} training, {len(corpus.validation):,} validation, {len(corpus.test):,} test reviews; "
        f"labels {escape(', '.join(corpus.labels))}; {len(corpus.vocabulary):,} words"
    )

    events = None
    if tensorboard:
        from toolchain.training.tensorboard import EventLog

        events = EventLog(out)

    def on_epoch(epoch: Epoch, best: bool) -> None:
        print_epoch(epoch, best)
        if events:
            events.add(epoch)

    settings = Settings(
        epochs=epochs or chosen.epochs,
        batch_size=batch_size or chosen.batch_size,
        learning_rate=chosen.learning_rate if lr is None else lr,
        layers=planned.layers,
        seed=seed,
        device=device,
        precision=precision,
        patience=patience or chosen.patience,
        class_weights=class_weights,
    )
    earlier: list[Earlier] = []
    try:
        with process_group(choose_device(device)):
            validated = cross_validate(planned, source, settings, folds, print_fold, progress) if folds else None
            metrics = fit(
                *(corpus, chosen, settings, out, on_epoch, progress, resume, loaded_teacher, overwrite),
                on_earlier=earlier.append,
                start=planned.start,
                folds=validated,
            )
    except (KeyboardInterrupt, Ended) as end:
        kept = "finished epochs are kept, go on: --resume" if (out / RESUME_FILE).exists() else "no epoch was finished"
        if isinstance(end, Ended):
            say(f"{end}; {kept}")
            raise typer.Exit(143) from None
        raise KeyboardInterrupt(kept) from None
    print_training(metrics, out)
    for one in earlier:
        print_earlier(one, metrics)
    say(f"snapshot in {escape(str(out))}/; next: toolchain export --snapshot {escape(str(out))}")
    if as_json:
        print_json(metrics)


def print_epoch(epoch: "Epoch", best: bool) -> None:
    """One finished epoch, a line on stderr; a star marks the best so far."""
    trained = f"train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:5.2f} %"
    say(
        f"epoch {epoch.epoch:2d}  {trained if epoch.epoch else 'the start, as it is':{len(trained)}}  "
        f"validation loss {epoch.validation_loss:.4f} accuracy {epoch.validation_accuracy:5.2f} %  "
        f"{epoch.seconds:.1f} s{'  *' if best else ''}"
    )


def print_fold(number: int, standing: "Standing") -> None:
    """How the model of a fold stands, a line on stderr."""
    say(f"fold {number}: {escape(str(standing))}")


def print_earlier(earlier: "Earlier", metrics: Mapping[str, Any]) -> None:
    """Where the earlier snapshot is now, and which one is better, on stderr."""
    verdict = earlier.verdict(metrics)
    if earlier.is_better(metrics):
        warn(verdict)
    else:
        say(escape(verdict))


def print_training(metrics: Mapping[str, Any], out: Path) -> None:
    """How a training ended, beside what costs nothing, and what there is to say against it."""
    from toolchain.measures.standing import Folds, Standing
    from toolchain.training.suspects import FILE as SUSPECTS_FILE

    say(
        f"best epoch {metrics['epoch']}: test loss {metrics['test_loss']:.4f}, "
        f"accuracy {metrics['test_accuracy']:.2f} % on {metrics['reviews']['test']:,} reviews, "
        f"{metrics['seconds']:.0f} s"
    )
    say(escape(str(Standing.from_json(metrics["standing"]))))
    if "folds" in metrics:
        say(str(Folds(**metrics["folds"])))
    if guessed := metrics["reviews"].get("pseudo-labelled"):
        say(f"{guessed:,} unlabelled texts were trained on with the teacher's label")
    calibration = metrics["calibration"]
    before, after = (calibration["test"][when] for when in ("before", "after"))
    say(
        f"calibrated: temperature {calibration['temperature']:.3f}, expected calibration error "
        f"{before['calibration_error']:.4f} → {after['calibration_error']:.4f}, "
        f"test loss {before['loss']:.4f} → {after['loss']:.4f}"
    )
    if 0 < metrics.get("suspects", 0) <= _MANY_SUSPECTS * metrics["reviews"]["train"]:
        say(
            f"{metrics['suspects']:,} training reviews were wrong in every epoch: are their labels right? "
            f"{escape(str(out / SUSPECTS_FILE))}"
        )
    for warning in metrics["warnings"]:
        warn(warning)
