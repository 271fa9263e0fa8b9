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
def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            autocompletion=_complete_recipe,
            help="auto: chosen by the data, and said. gru-pool; gru-lm, which takes longer, where there is much more "
            "text without labels. gru, rnn, rnn-cell: as documented. Default: auto for a file, else gru.",
            rich_help_panel=options.RECIPE,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="box|PATH|none",
            help="Trained model to start from: box, the one that comes with the program; a snapshot; a bundle; none. "
            "Default: auto takes the box for English.",
            rich_help_panel=options.RECIPE,
        ),
    ] = None,
    layers: Annotated[int, typer.Option(min=1, help="Recurrent layers.", rich_help_panel=options.RECIPE)] = 1,
    tokenizer: Annotated[
        options.Tokenizer | None,
        typer.Option(
            help="What a token is. attached: what stands between spaces; isolated: each punctuation mark by itself; "
            "dropped: marks left out; characters: each by itself, for Chinese, Japanese, Korean. "
            "Default: the recipe's.",
            rich_help_panel=options.RECIPE,
        ),
    ] = None,
    data: Annotated[
        str,
        options.data("imdb, sample, an aclImdb folder, or a CSV/JSONL file.", options.DATA),
    ] = "imdb",
    text_column: Annotated[str | None, options.text_column(options.DATA)] = None,
    reading: "ReadOptions" = options.READING,
    label_column: Annotated[str | None, options.label_column(options.DATA)] = None,
    label_map: Annotated[str | None, options.label_map(options.DATA)] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field whose equals are never split: a film, product or author.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    test_data: Annotated[
        Path | None,
        typer.Option(help="CSV/JSONL file to test on. Default: a tenth is held out.", rich_help_panel=options.DATA),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="More text without labels, for gru-lm and gru-pool: a folder of .txt files, an aclImdb folder, or a "
            "CSV/JSONL file.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Default: the recipe's.", rich_help_panel=options.TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Default: the recipe's.", rich_help_panel=options.TRAINING)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(min=0, help="Learning rate. Default: the recipe's.", rich_help_panel=options.TRAINING),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after so many epochs without a better one. Default: the recipe's.",
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
            help="Snapshot that labels the unlabelled text: what it is sure of is trained on as well.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Before that, train and test once for each of so many folds: mean and spread for few reviews.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Same seed, same machine: same checkpoint.", rich_help_panel=options.TRAINING)
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("auto", "cpu", "cuda"),
            help="auto, cpu or cuda.",
            rich_help_panel=options.TRAINING,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("auto", "fp32", "bf16"),
            help="auto, fp32 or bf16: of the products in training.",
            rich_help_panel=options.TRAINING,
        ),
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the snapshot.", rich_help_panel=options.RUN)] = Path("snapshot"),
    overwrite: Annotated[bool, options.overwrite_snapshot(options.RUN)] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training in --out.", rich_help_panel=options.RUN)
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
            help="Options by their names, such as batch-size = 32; what the command line says goes first.",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the metrics")] = False,
) -> None:
    """Train a recipe, keep the checkpoint with the best validation loss, and calibrate it.

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
