"""The command line: it parses, calls one function, and prints. Data goes to stdout, everything else to stderr."""

import contextlib
import csv
import functools
import inspect as introspection
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from export.errors import ExportError
from export.text import TOKENIZERS, TokenizerName
from toolchain import __version__
from toolchain.cli.presentation import (
    Progress,
    bundle_table,
    escape,
    fail,
    interrupted,
    messages,
    print_deviation,
    print_epoch,
    print_evaluation,
    print_findings,
    print_json,
    print_preview,
    print_shrinkage,
    print_summary,
    print_training,
    progress,
    report_comparison,
    results,
    speed_table,
    verification_table,
    warn,
)
from toolchain.errors import CheckFailed, UsageError
from toolchain.files.records import MAX_ROW_BYTES

if TYPE_CHECKING:
    from toolchain.scoring.job import Options, Summary
    from toolchain.scoring.ray.engine import Cluster, Model

app = typer.Typer(
    help="Train small review classifiers, export them as one text-in file, prove the export, score files with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_debug = False

# The panels of --help.
_INPUT, _OUTPUT, _MODEL, _QUALITY, _RUN = "Input", "Output", "Model", "Quality", "Run"
_CLUSTER = "Cluster"
_RECIPE, _DATA, _TRAINING = "Recipe", "Data", "Training"

_PROVIDER_HELP = "ONNX Runtime provider: auto, cpu, cuda, or any other that is installed."
_TEXT_HELP = "Column or field with the text. Default: found by name (text, review, content, body …)."
_EXTRAS = dict.fromkeys(("torch", "torchtext", "onnx", "matplotlib", "gensim"), "train") | {
    "tensorboard": "tensorboard",
    **dict.fromkeys(("jinja2", "markupsafe", "vl_convert"), "report"),
    "ray": "ray",
}


def _completing(*values: str) -> Callable[[str], list[str]]:
    """What the shell offers for an option: these values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def _complete_recipe(incomplete: str) -> list[str]:
    from toolchain.models.recipes import RECIPES

    return _completing(*RECIPES)(incomplete)


def _complete_format(incomplete: str) -> list[str]:
    from export.forms import FORMATS

    return _completing(*FORMATS)(incomplete)


def _complete_provider(incomplete: str) -> list[str]:
    from export.sessions import RuntimeUnavailable, installed_providers

    try:
        return _completing("auto", *installed_providers())(incomplete)
    except RuntimeUnavailable:
        return []


_complete_data = _completing("sample", "imdb")


def _be_quiet(wanted: bool) -> None:
    messages.quiet = wanted


_Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_be_quiet,
        is_eager=True,
        help="Say nothing on stderr but warnings and errors.",
        rich_help_panel=_RUN,
    ),
]


def _version_and_exit(wanted: bool) -> None:
    if wanted:
        results.print(f"toolchain {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version_and_exit, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    messages.quiet = False  # of an earlier command in this process


def _paragraphs(docstring: str) -> str:
    """A docstring as help: a paragraph is as wide as the terminal; examples stand a line each."""
    paragraphs = introspection.cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if text.startswith("Example") else text.replace("\n", " ") for text in paragraphs)


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command; an error becomes one line on stderr and an exit status."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except (UsageError, ExportError, CheckFailed) as error:
            if _debug:
                raise
            fail(str(error))
            raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from None
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").split(".")[0])
            if _debug or extra is None:
                raise
            extra = f"{error.name} is not installed; install it: pip install 'toolchain[{extra}]'"
            fail(extra)
            raise typer.Exit(2) from None
        except OSError as error:
            if _debug or isinstance(error, BrokenPipeError):
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            fail(where + (error.strerror or str(error)))
            raise typer.Exit(2) from None
        except KeyboardInterrupt as error:
            interrupted(str(error) or "nothing was written")
            raise typer.Exit(130) from None

    name, about = function.__name__.rstrip("_"), _paragraphs(function.__doc__ or "")
    return app.command(name=name, help=about, no_args_is_help=False)(run)


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
    """Say it in one line, as `_command` does, which has not begun when options are read."""
    fail(f"--config {message}")
    return typer.Exit(2)


@_command
def train(
    recipe: Annotated[
        str,
        typer.Option(
            autocompletion=_complete_recipe,
            help="gru-pool for data of your own; gru-lm, which takes longer, where there is much more text without "
            "labels. gru, rnn, rnn-cell: as documented.",
            rich_help_panel=_RECIPE,
        ),
    ] = "gru",
    layers: Annotated[int, typer.Option(min=1, help="Recurrent layers.", rich_help_panel=_RECIPE)] = 1,
    tokenizer: Annotated[
        TokenizerName | None,
        typer.Option(
            help="What a token is. attached: what stands between spaces; isolated: each punctuation mark by itself; "
            "dropped: marks left out; characters: each by itself, for Chinese, Japanese, Korean. "
            "Default: the recipe's.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            autocompletion=_complete_data,
            help="imdb, sample, an aclImdb folder, or a CSV/JSONL file.",
            rich_help_panel=_DATA,
        ),
    ] = "imdb",
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP, rich_help_panel=_DATA)] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column or field with the label.", rich_help_panel=_DATA)
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field whose equals are never split: a film, product or author.", rich_help_panel=_DATA
        ),
    ] = None,
    test_data: Annotated[
        Path | None,
        typer.Option(help="CSV/JSONL file to test on. Default: a tenth is held out.", rich_help_panel=_DATA),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="More text without labels, for gru-lm and gru-pool: a folder of .txt files, an aclImdb folder, or a "
            "CSV/JSONL file.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.", rich_help_panel=_TRAINING)] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Default: the recipe's.", rich_help_panel=_TRAINING)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=0, help="Learning rate. Default: the recipe's.", rich_help_panel=_TRAINING)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after so many epochs without a better one. Default: the recipe's.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    class_weights: Annotated[
        Literal["none", "balanced"],
        typer.Option(help="balanced: a rare label counts as much as a common one.", rich_help_panel=_TRAINING),
    ] = "none",
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Snapshot that labels the unlabelled text: what it is sure of is trained on as well.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same checkpoint.", rich_help_panel=_TRAINING)] = 0,
    device: Annotated[
        str,
        typer.Option(
            autocompletion=_completing("auto", "cpu", "cuda"), help="auto, cpu or cuda.", rich_help_panel=_TRAINING
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=_completing("auto", "fp32", "bf16"),
            help="auto, fp32 or bf16: of the products in training.",
            rich_help_panel=_TRAINING,
        ),
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the snapshot.", rich_help_panel=_RUN)] = Path("snapshot"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training in --out.", rich_help_panel=_RUN)
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files to OUT/tensorboard.", rich_help_panel=_RUN)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            callback=_read_config,
            is_eager=True,
            help="Options by their names, such as batch-size = 32; what the command line says goes first.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    quiet: _Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.", rich_help_panel=_RUN)] = False,
) -> None:
    """Train a recipe, keep the checkpoint with the best validation loss, and calibrate it.

    Examples:
    [bold]toolchain train --data sample --epochs 2[/]
    [bold]toolchain train --recipe gru-pool --data reviews.csv --patience 3[/]
    [bold]toolchain train --recipe gru-pool --data reviews.csv --resume[/]
    """
    from toolchain.corpus.corpus import Source, load_corpus
    from toolchain.models.recipes import RECIPES
    from toolchain.models.snapshot import load_snapshot
    from toolchain.training.distributed import Ended, process_group
    from toolchain.training.loops import Epoch, Settings, choose_device, fit
    from toolchain.training.resumption import FILE as RESUME_FILE

    if recipe not in RECIPES:
        raise UsageError(f"--recipe {recipe}: expected one of {', '.join(RECIPES)}")
    chosen = RECIPES[recipe]
    if tokenizer:
        chosen = replace(chosen, tokenizer=TOKENIZERS[tokenizer])
    messages.print(f"reading {escape(data)} …")
    if unlabelled and not chosen.vector_epochs:
        raise UsageError(f"--unlabelled: the recipe {recipe} makes no use of it; use --recipe gru-lm, or leave it out")
    loaded_teacher = load_snapshot(teacher) if teacher else None
    source = Source(data, text_column, label_column, test_data, group_column, unlabelled)
    corpus = load_corpus(source, chosen, seed)
    for warning in corpus.warnings:
        warn(warning)
    messages.print(
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
        layers=layers,
        seed=seed,
        device=device,
        precision=precision,
        patience=patience or chosen.patience,
        class_weights=class_weights,
    )
    try:
        with process_group(choose_device(device)):
            metrics = fit(corpus, chosen, settings, out, on_epoch, progress, resume, loaded_teacher)
    except (KeyboardInterrupt, Ended) as end:
        kept = "finished epochs are kept, go on: --resume" if (out / RESUME_FILE).exists() else "no epoch was finished"
        if isinstance(end, Ended):
            messages.print(f"{end}; {kept}")
            raise typer.Exit(143) from None
        raise KeyboardInterrupt(kept) from None
    print_training(metrics, out)
    messages.print(f"snapshot in {escape(str(out))}/; next: toolchain export --snapshot {escape(str(out))}")
    if as_json:
        print_json(metrics)


@_command
def evaluate(
    data: Annotated[
        str,
        typer.Option(
            autocompletion=_complete_data,
            help="imdb, sample, an aclImdb folder, or a CSV/JSONL file with labels.",
            rich_help_panel=_INPUT,
        ),
    ],
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP, rich_help_panel=_INPUT)] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column or field with the label.", rich_help_panel=_INPUT)
    ] = None,
    snapshot: Annotated[
        Path | None, typer.Option(help="Evaluate PyTorch. Default: ./snapshot.", rich_help_panel=_MODEL)
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Evaluate the exported model instead.", rich_help_panel=_MODEL)
    ] = None,
    provider: Annotated[
        str, typer.Option(help=_PROVIDER_HELP, autocompletion=_complete_provider, rich_help_panel=_MODEL)
    ] = "auto",
    predictions: Annotated[
        Path | None, typer.Option(help="Write every prediction to this CSV file.", rich_help_panel=_OUTPUT)
    ] = None,
    mistakes: Annotated[
        int, typer.Option(min=0, help="Show this many of the worst mistakes.", rich_help_panel=_OUTPUT)
    ] = 5,
    reliability: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw accuracy by confidence to this file.", rich_help_panel=_OUTPUT),
    ] = None,
    quiet: _Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_RUN)] = False,
) -> None:
    """How good a snapshot or a bundle is on labelled reviews: loss, every class, calibration, the worst mistakes.

    Examples:
    [bold]toolchain evaluate --data reviews.csv --mistakes 20[/]
    [bold]toolchain evaluate --data sample --bundle bundle --json[/]
    """
    from export.forms import softmax
    from toolchain.corpus.corpus import Source, read_test_reviews
    from toolchain.judging.evaluation import evaluate_reviews, write_predictions
    from toolchain.models.snapshot import load_snapshot
    from toolchain.scoring.scorer import Scorer

    if snapshot and bundle:
        raise UsageError("--snapshot and --bundle: name one of them")
    if reliability and reliability.suffix.lower() != ".png":
        raise UsageError(f"--reliability {reliability}: expected a name that ends in .png")
    if bundle:
        with Scorer(bundle, provider) as scorer:
            reviews = read_test_reviews(Source(data, text_column, label_column))
            evaluation = evaluate_reviews(
                reviews, scorer.labels, lambda texts: scorer.submit(texts).result().probabilities, mistakes, progress
            )
    else:
        loaded = load_snapshot(snapshot or Path("snapshot"))
        reference = loaded.reference()
        reviews = read_test_reviews(Source(data, text_column, label_column))
        evaluation = evaluate_reviews(
            reviews, loaded.specification.labels, lambda texts: softmax(reference(texts)), mistakes, progress
        )
    for skipped in reviews.skipped[:3]:
        warn(f"left out {skipped}")
    if predictions:
        write_predictions(evaluation, reviews, predictions)
        messages.print(f"predictions in {escape(str(predictions))}")
    if reliability:
        from toolchain.training.figures import reliability_diagram

        reliability_diagram(evaluation.reliability, None, reliability)
        messages.print(f"reliability diagram in {escape(str(reliability))}")
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation)


@_command
def import_(
    state_dict: Annotated[
        Path, typer.Option(help="What the notebook's torch.save(model.state_dict(), …) wrote.", rich_help_panel=_INPUT)
    ],
    vocab: Annotated[Path, typer.Option(help="TEXT.vocab.itos, a word a line.", rich_help_panel=_INPUT)],
    labels: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="The classes in the order of the outputs. The notebook's are those of LABEL.vocab.itos[1:], by "
            "frequency: print it, do not guess.",
            rich_help_panel=_INPUT,
        ),
    ],
    tokenizer: Annotated[
        TokenizerName, typer.Option(help="attached is the notebook's str.split.", rich_help_panel=_INPUT)
    ] = "attached",
    sample: Annotated[
        str | None,
        typer.Option(
            autocompletion=_complete_data,
            help="Own texts to measure on what cannot be carried over: sample, imdb, a folder or file.",
            rich_help_panel=_QUALITY,
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP, rich_help_panel=_QUALITY)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the snapshot.", rich_help_panel=_OUTPUT)] = Path("snapshot"),
    quiet: _Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was read, and the measures, as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Turn the state_dict of the documented notebook (BasicGRU, BasicRNN) into a snapshot that can be exported.

    Example: [bold]toolchain import --state-dict model.pt --vocab vocab.txt --labels neg,pos[/]
    """
    import dataclasses

    from toolchain.models.importing import check_place, import_state_dict, measure_deviation
    from toolchain.models.snapshot import save_snapshot

    check_place(state_dict, out)
    imported = import_state_dict(state_dict, vocab, _names([labels]), TOKENIZERS[tokenizer])
    specification = imported.snapshot.specification
    messages.print(
        f"{imported.snapshot.model}: {len(imported.snapshot.vocabulary):,} words, embedding {specification.embedding}, "
        f"{specification.layers} × {specification.cell.upper()} {specification.hidden}, "
        f"labels {escape(', '.join(specification.labels))}"
    )
    if imported.unreachable:
        some = ", ".join(map(repr, imported.unreachable[:3]))
        warn(f"words that no text gives with --tokenizer {tokenizer}: {len(imported.unreachable):,}, such as {some}")
    deviation = None
    if sample is not None:
        from toolchain.corpus.corpus import Source, read_texts

        messages.print(f"measuring on {escape(sample)} …")
        deviation = measure_deviation(imported.snapshot, read_texts(Source(sample, text_column)))
        if not as_json:
            print_deviation(deviation)
    save_snapshot(imported.snapshot, out)
    messages.print(f"snapshot in {escape(str(out))}/; next: toolchain export --snapshot {escape(str(out))}")
    if as_json:
        print_json(
            {
                "model": imported.snapshot.model,
                "specification": specification.to_json(),
                "vocabulary": len(imported.snapshot.vocabulary),
                "unreachable": len(imported.unreachable),
                "deviation": deviation and dataclasses.asdict(deviation),
            }
        )


@_command
def export(
    snapshot: Annotated[Path, typer.Option(help="Folder with the snapshot.", rich_help_panel=_MODEL)] = Path(
        "snapshot"
    ),
    format: Annotated[
        list[str],
        typer.Option(
            autocompletion=_complete_format,
            help="onnx, onnx-cpu, onnx-explain, torchscript, onnx-ids, pt2, or all (but pt2); may be repeated.",
            rich_help_panel=_MODEL,
        ),
    ] = ["all"],  # noqa: B006
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=_completing("fp32", "int8"),
            help="fp32, or int8 to add model.int8.onnx for the CPU.",
            rich_help_panel=_MODEL,
        ),
    ] = "fp32",
    shrink: Annotated[
        bool,
        typer.Option(
            "--shrink", help="Small ONNX files: a shorter vocabulary, the embedding in bytes.", rich_help_panel=_MODEL
        ),
    ] = False,
    vocabulary: Annotated[
        int | None,
        typer.Option(min=3, help="Most frequent entries that --shrink keeps. Default: 30,000.", rich_help_panel=_MODEL),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            autocompletion=_complete_data,
            help="Real text for the proof: sample, imdb, a folder or file.",
            rich_help_panel=_QUALITY,
        ),
    ] = "sample",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Publish an int8 form or a shrunk model that changes too many labels.",
            rich_help_panel=_QUALITY,
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for the bundle; an earlier bundle is replaced.", rich_help_panel=_OUTPUT)
    ] = Path("bundle"),
    quiet: _Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest of the bundle as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Export a snapshot to a bundle, proven equal to PyTorch before it is published.

    Examples:
    [bold]toolchain export[/]
    [bold]toolchain export --format onnx --format torchscript --data reviews.csv[/]
    [bold]toolchain export --precision int8 --shrink --out small[/]
    """
    from export.bundle import open_bundle
    from export.shrinking import SHRUNK_ENTRIES
    from toolchain.corpus.corpus import Source, read_texts
    from toolchain.models.snapshot import load_snapshot
    from toolchain.release.release import export_snapshot

    if vocabulary is not None and not shrink:
        raise UsageError(f"--vocabulary {vocabulary}: a shrunk bundle alone has a shorter one; add --shrink")
    entries = (vocabulary or SHRUNK_ENTRIES) if shrink else None
    loaded = load_snapshot(snapshot)
    texts = read_texts(Source(data))
    messages.print(f"exporting {escape(str(snapshot))} …")
    try:
        verification = export_snapshot(
            loaded, out, format, texts, report_comparison, precision, force, entries, print_shrinkage
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"nothing was published, {out} is as it was") from None
    messages.print(
        f"{sum(comparison.passed for comparison in verification.comparisons)} forms agree with PyTorch. "
        f"Bundle in {escape(str(out))}/; next: toolchain score reviews.csv --bundle {escape(str(out))}"
    )
    if as_json:
        print_json(open_bundle(out).manifest)


@_command
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle.")] = Path("bundle"),
    snapshot: Annotated[
        Path | None, typer.Option(help="Compare with PyTorch. Without it, with the bundle's own vectors.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(autocompletion=_complete_data, help="Real text as well: sample, imdb, a folder or file."),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    provider: Annotated[str, typer.Option(help=_PROVIDER_HELP, autocompletion=_complete_provider)] = "cpu",
    quiet: _Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prove that every form in a bundle still says what PyTorch says.

    Examples:
    [bold]toolchain verify bundle[/]
    [bold]toolchain verify bundle --snapshot snapshot --data reviews.csv[/]
    [bold]toolchain verify bundle --provider cuda --json[/]
    """
    from export.bundle import open_bundle
    from toolchain.release.release import verify_bundle

    opened = open_bundle(bundle)
    loaded, texts = None, []
    if snapshot:
        from toolchain.models.snapshot import load_snapshot

        loaded = load_snapshot(snapshot)
    if data:
        from toolchain.corpus.corpus import Source, read_texts

        texts = read_texts(Source(data, text_column))
    verification = verify_bundle(opened, loaded, texts, provider, report_comparison)
    if as_json:
        print_json(verification.to_json())
    else:
        results.print(verification_table(verification.against, verification.comparisons))
    if not verification.passed:
        raise CheckFailed("; ".join(c.failure() for c in verification.comparisons if not c.passed))


@_command
def score(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="CSV, JSONL or Parquet files, or folders of them; - is standard input."),
    ],
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP, rich_help_panel=_INPUT)] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Of the input, such as latin-1; the output is UTF-8. Default: UTF-8, or UTF-16 by its mark.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            help="Of a CSV: , ; | or \\t. Default: found in its header; kept in the output.", rich_help_panel=_INPUT
        ),
    ] = None,
    max_row_bytes: Annotated[
        int, typer.Option(min=1024, help="Longer rows are rejected.", rich_help_panel=_INPUT)
    ] = MAX_ROW_BYTES,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score only the first rows of each input.", rich_help_panel=_INPUT)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="Output file, a folder for several inputs, or - for stdout.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add a field a class: p_LABEL.", rich_help_panel=_OUTPUT)
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Add a field abstain: true where the confidence is below this.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    explain: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="K",
            help="Add a field explanation: the K words that moved the score most for the label, and K against it. "
            "Costs speed; CPU only.",
            rich_help_panel=_OUTPUT,
        ),
    ] = 0,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,…", help="Keep only these columns; may be repeated.", rich_help_panel=_OUTPUT),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,…", help="Leave these columns out; may be repeated.", rich_help_panel=_OUTPUT),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Keep this column alone (and those of --keep), and name rejected rows by it.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The model. Default: ./bundle, or the one in the box where there is none.", rich_help_panel=_MODEL
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=_completing("fp32", "int8"),
            help="fp32, or int8: faster, nearly the same; CPU only.",
            rich_help_panel=_MODEL,
        ),
    ] = "fp32",
    provider: Annotated[
        str, typer.Option(help=_PROVIDER_HELP, autocompletion=_complete_provider, rich_help_panel=_MODEL)
    ] = "auto",
    provider_option: Annotated[
        list[str] | None, typer.Option(help="key=value for the provider; may be repeated.", rich_help_panel=_MODEL)
    ] = None,
    device_id: Annotated[int | None, typer.Option(min=0, help="Which GPU.", rich_help_panel=_MODEL)] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the true label: adds accuracy and more to the summary.", rich_help_panel=_QUALITY
        ),
    ] = None,
    on_error: Annotated[
        Literal["reject", "fail"],
        typer.Option(help="A row that cannot be scored: set it aside, or stop.", rich_help_panel=_QUALITY),
    ] = "reject",
    max_rejects: Annotated[
        str,
        typer.Option(
            help="Exit status 1 if more of the rows are rejected: a share such as 10%.", rich_help_panel=_QUALITY
        ),
    ] = "10%",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be read, and the first predictions; write nothing.", rich_help_panel=_RUN
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option(help="Continue an interrupted run of the same job.", rich_help_panel=_RUN)
    ] = True,
    summary_file: Annotated[
        Path | None,
        typer.Option("--summary", metavar="FILE", help="Write the summaries to this JSON file.", rich_help_panel=_RUN),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="This process, or the workers of a Ray cluster (the extra ray).", rich_help_panel=_CLUSTER),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="auto, ray://HOST:10001, HOST:6379, or local for one on this machine. Default: the running one, else "
            "local.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="One core each. Default: as many as there is room for.", rich_help_panel=_CLUSTER),
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0, help="GPUs a worker, such as 1 or 0.5.", rich_help_panel=_CLUSTER)
    ] = 0,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Write one file, not a folder OUTPUT.shards.", rich_help_panel=_CLUSTER),
    ] = False,
    quiet: _Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.", rich_help_panel=_RUN)] = False,
) -> None:
    """Score review files: the rows as they are, with `prediction` and `confidence` behind them.

    reviews.csv becomes reviews.scored.csv; rows that cannot be scored go to reviews.csv.rejected.jsonl. A run that was
    killed continues when it is started again. Files that end in .gz, .bz2, .xz or .zst are read and written packed.
    A Parquet file becomes one, its columns and types untouched.

    Examples:
    [bold]toolchain score reviews.csv[/]
    [bold]toolchain score reviews.csv more.jsonl.gz -o scored/[/]
    [bold]toolchain score reviews.csv --label-column label --summary summary.json[/]
    [bold]toolchain score reviews.csv --dry-run[/]
    [bold]zcat reviews.csv.gz | toolchain score - -o - --quiet | head[/]
    [bold]toolchain score s3://shop/in/ -o s3://shop/out/ --engine ray --address auto[/]
    """
    import dataclasses

    from toolchain.files.inputs import expand, output_path
    from toolchain.files.storage import is_remote
    from toolchain.scoring.job import Interrupted, Options, check_rejects, preview_file, score_file
    from toolchain.scoring.scorer import BOX, Scorer, find_bundle

    options = Options(
        text_column=text_column,
        on_error=on_error,
        max_rejects=_share("--max-rejects", max_rejects),
        resume=resume,
        label_column=label_column,
        probabilities=probabilities,
        min_confidence=min_confidence,
        keep=_names(keep),
        drop=_names(drop),
        id_column=id_column,
        limit=limit,
        explain=explain,
        encoding=encoding,
        delimiter=delimiter and delimiter.replace("\\t", "\t"),
        max_row_bytes=max_row_bytes,
    )
    if engine == "local" and (address or workers or gpus_per_worker or merge):
        raise UsageError("--address, --workers, --gpus-per-worker and --merge are for --engine ray")
    if engine == "local" and out is not None and is_remote(out):
        raise UsageError(f"{out}: only --engine ray writes there; add it, or name a local file: -o FILE")
    named, inputs = inputs, expand(inputs)
    outputs = [output_path(source, out, len(inputs) > 1 or inputs != named) for source in inputs]
    if twice := next((output for output in outputs if outputs.count(output) > 1), None):
        raise UsageError(
            f"several inputs would be written to {twice}; score them one by one, or name a folder: -o FOLDER"
        )
    if summary_file and (dry_run or not summary_file.absolute().parent.is_dir()):
        reason = "--dry-run writes nothing" if dry_run else f"{summary_file.parent} is not a folder"
        raise UsageError(f"--summary {summary_file}: {reason}")
    if as_json and "-" in outputs and not dry_run:
        raise UsageError("--json and the rows cannot both go to standard output; name a file: -o FILE")
    chosen = bundle or find_bundle()
    provider_options = dict(_key_value(option) for option in provider_option or [])
    if device_id is not None:
        provider_options["device_id"] = str(device_id)
    if engine == "ray" and not dry_run:
        from toolchain.scoring.ray.engine import Cluster, Model

        if device_id is not None:
            raise UsageError(f"--device-id {device_id}: Ray gives every worker its own GPU; leave it away")
        messages.print(f"model {escape(str(chosen))} on Ray")
        model = Model(chosen, provider, provider_options, precision)
        cluster = Cluster(address, workers, gpus_per_worker)
        runs = _score_on_ray(list(zip(inputs, outputs, strict=True)), model, options, cluster, merge)
        _finish_scoring(*runs, len(inputs), as_json, summary_file)
        return
    stop = _StopSignals()
    failures: list[CheckFailed | UsageError] = []
    summaries = []
    with (
        Scorer(chosen, provider, provider_options, precision, explain) as scorer,
        contextlib.nullcontext() if dry_run else stop,
    ):
        which = f"{chosen}/{scorer.model}"
        if chosen == BOX:
            training = scorer.bundle.manifest["training"]
            which = f"in the box ({training['recipe']} trained on {training['data']}), {scorer.model},"
        messages.print(f"model {escape(which)} on {scorer.provider}")
        if dry_run:
            previews = [preview_file(scorer, *files, options) for files in zip(inputs, outputs, strict=True)]
            if as_json:
                print_json([dataclasses.asdict(preview) for preview in previews])
            else:
                for preview in previews:
                    print_preview(preview, str(chosen))
            return
        for source, output in zip(inputs, outputs, strict=True):
            try:
                with Progress(source) as shown:
                    summary = score_file(scorer, source, output, options, shown.update_scoring, stop.requested)
                summaries.append(summary)
                print_summary(summary)
                check_rejects(summary, options)
            except CheckFailed as error:
                failures.append(error)
                if len(inputs) > 1:
                    fail(str(error))
            except Interrupted as error:
                interrupted(str(error))
                raise typer.Exit(128 + stop.number) from None
    _finish_scoring(summaries, failures, len(inputs), as_json, summary_file)


@_command
def explain(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Reviews; - is one from standard input.")],
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The model. Default: ./bundle, or the one in the box where there is none.", rich_help_panel=_MODEL
        ),
    ] = None,
    quiet: _Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list of explanations as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """What each word of a review did to its label, as the change of the label's log-odds.

    Where the terminal has colours the review is shown with its words coloured; elsewhere, and with NO_COLOR, the words
    are listed with their shares.

    Examples:
    [bold]toolchain explain "I expected a dull film but got a lively one."[/]
    [bold]toolchain explain - --json < review.txt[/]
    """
    from toolchain.cli.coloring import print_explanation
    from toolchain.scoring.explainer import Explainer, read_text

    explainer = Explainer(bundle)
    messages.print(f"model {escape(str(explainer.bundle.folder))}/{explainer.model}")
    explanations = explainer.explain([read_text(sys.stdin.buffer) if text == "-" else text for text in texts])
    if as_json:
        print_json([explanation.to_json() for explanation in explanations])
    else:
        for explanation in explanations:
            print_explanation(explanation)


@_command
def report(
    file: Annotated[Path, typer.Argument(help="What toolchain score has written.")],
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP, rich_help_panel=_INPUT)] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field with the true label. Default: found by name (label, class …).", rich_help_panel=_INPUT
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The model that scored it. Default: ./bundle, else the model in the box.", rich_help_panel=_MODEL
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What score --summary wrote of the run.", rich_help_panel=_MODEL),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.", rich_help_panel=_OUTPUT)] = Path("report.html"),
    quiet: _Quiet = False,
) -> None:
    """What was scored, how sure and how right the answers are, as one HTML page that loads nothing.

    Distributions, unknown words, drift and, where labels are known, confusion, ROC and reliability; the worst mistakes
    with their words coloured, and a table of the rows to filter and sort.

    Example: [bold]toolchain report reviews.scored.csv -o report.html[/]
    """
    from export.bundle import open_bundle
    from toolchain.cli.presentation import Progress
    from toolchain.report.report import write_report
    from toolchain.scoring.scorer import find_bundle

    with Progress(file.name) as shown:
        survey = write_report(
            str(file), out, open_bundle(bundle or find_bundle()), summary, text_column, label_column, shown.update
        )
    messages.print(f"{survey.rows:,} rows; report: {escape(str(out))}")


@_command
def compare(
    old: Annotated[Path, typer.Argument(help="Folder with the bundle that is in use.")],
    new: Annotated[Path, typer.Argument(help="Folder with the bundle that is to replace it.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Reviews: a CSV, JSONL or Parquet file.")],
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP, rich_help_panel=_INPUT)] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field with the true label. Default: found by name (label, class …).", rich_help_panel=_INPUT
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Compare on the first rows alone.", rich_help_panel=_INPUT)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE.html", help="Write the comparison as a page as well.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    provider: Annotated[
        str, typer.Option(autocompletion=_complete_provider, help=_PROVIDER_HELP, rich_help_panel=_MODEL)
    ] = "auto",
    max_changed: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Exit status 1 if more of the labels change: such as 1%.", rich_help_panel=_QUALITY
        ),
    ] = None,
    quiet: _Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """What a new model would change: labels, probabilities, accuracy where labels are known, speed and size.

    Both score the same reviews in turns. A label column adds accuracy, log-loss and McNemar's test.

    Examples:
    [bold]toolchain compare bundle candidate reviews.csv --max-changed 1%[/]
    [bold]toolchain compare bundle candidate labelled.csv -o compare.html[/]
    """
    import dataclasses

    from toolchain.cli.presentation import Progress, print_comparison
    from toolchain.judging.comparison import compare_models
    from toolchain.scoring.scorer import Scorer
    from toolchain.scoring.windows import Options

    allowed = None if max_changed is None else _share("--max-changed", max_changed)
    if out is not None:
        from toolchain.report.comparison_page import write_comparison  # tells at once what is not installed

        if not out.absolute().parent.is_dir():
            raise UsageError(f"--out {out}: {out.parent} is not a folder")
    options = Options(text_column=text_column, label_column=label_column, limit=limit)
    with Scorer(old, provider) as first, Scorer(new, provider) as second, Progress(file) as shown:
        comparison = compare_models(first, second, file, options, shown.update)
    if as_json:
        print_json(dataclasses.asdict(comparison))
    else:
        print_comparison(comparison)
    if out is not None:
        write_comparison(comparison, out)
        messages.print(f"page: {escape(str(out))}")
    if allowed is not None:
        comparison.check(allowed)


@_command
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle.")] = Path("bundle"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """What a bundle is: model, metrics, parity, files. Checks every digest.

    Examples:
    [bold]toolchain inspect bundle[/]
    [bold]toolchain inspect bundle --json | jq .labels[/]
    """
    from export.bundle import open_bundle

    opened = open_bundle(bundle)
    opened.check()
    if as_json:
        print_json(opened.manifest)
        return
    results.print(bundle_table(opened))


@_command
def bench(
    bundle: Annotated[Path, typer.Option(help="The model.")] = Path("bundle"),
    data: Annotated[
        str, typer.Option(autocompletion=_complete_data, help="Texts: sample, imdb, a folder or file.")
    ] = "sample",
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    rows: Annotated[int, typer.Option(min=1, help="The texts are repeated to this many rows.")] = 5000,
    rounds: Annotated[int, typer.Option(min=1, help="Every route takes a turn in each.")] = 3,
    quiet: _Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """How fast a bundle scores here, from texts in memory, beside plain ONNX Runtime and the arithmetic limit.

    Examples:
    [bold]toolchain bench[/]
    [bold]toolchain bench --bundle bundle --data reviews.csv --rows 20000[/]
    """
    from export.bundle import open_bundle
    from toolchain.corpus.corpus import Source, read_texts
    from toolchain.judging.bench import measure

    opened = open_bundle(bundle)
    unique = read_texts(Source(data, text_column))
    if not unique:
        raise UsageError(f"{data}: holds no text")
    texts = [unique[index % len(unique)] for index in range(rows)]
    measured = measure(opened, texts, rounds, progress=messages.print)
    if as_json:
        print_json(measured.to_json())
        return
    results.print(speed_table(measured))


@_command
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """What is installed, which providers really take a session, and what to install.

    Examples:
    [bold]toolchain doctor[/]
    [bold]toolchain doctor --json[/]
    """
    import dataclasses

    from toolchain.judging.installation import examine

    findings = examine()
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
        return
    print_findings(findings)


def _score_on_ray(
    files: Sequence[tuple[str, str]], model: "Model", options: "Options", cluster: "Cluster", merge: bool
) -> "tuple[list[Summary], list[CheckFailed | UsageError]]":
    """Score the files (input, output) on a cluster: the summaries, and the errors of the others."""
    from toolchain.scoring.job import Interrupted, check_rejects
    from toolchain.scoring.ray.engine import connected, score_files

    stop = _StopSignals()
    failures: list[CheckFailed | UsageError] = []
    summaries = []
    # Ray's own handlers come with the connection; ours go over them.
    with connected(cluster.address), stop, Progress(f"{len(files)} inputs") as shown:
        try:
            for outcome in score_files(files, model, options, cluster, merge, shown.update_files, stop.requested):
                try:
                    summary = outcome.completed()
                    summaries.append(summary)
                    print_summary(summary)
                    check_rejects(summary, options)
                except (CheckFailed, UsageError) as error:
                    failures.append(error)
                    if len(files) > 1:
                        fail(str(error))
        except Interrupted as error:
            interrupted(str(error))
            raise typer.Exit(128 + stop.number) from None
    return summaries, failures


def _finish_scoring(
    summaries: "Sequence[Summary]",
    failures: Sequence[CheckFailed | UsageError],
    count: int,
    as_json: bool,
    summary_file: Path | None,
) -> None:
    """Hand out the summaries; raise what went wrong with one of `count` inputs, or how many of them failed."""
    import dataclasses

    from toolchain.scoring.job import write_summaries

    if as_json:
        print_json([dataclasses.asdict(summary) for summary in summaries])
    if summary_file:
        write_summaries(summaries, summary_file)
    if failures and count == 1:
        raise failures[0]
    if failures:
        unusable = any(isinstance(error, UsageError) for error in failures)
        raise (UsageError if unusable else CheckFailed)(f"{len(failures)} of {count} inputs failed")


class _StopSignals:
    """The first SIGINT or SIGTERM asks for a clean stop; a second one is not held back."""

    number = 0

    def requested(self) -> bool:
        return self.number != 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._old:
            signal.signal(each, signal.SIG_DFL)
        messages.show_cursor()  # which a bar hides, and a process that is killed leaves hidden
        messages.print("stopping when the window in hand is finished; once more stops at once, without it")

    def __enter__(self) -> "_StopSignals":
        self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def _share(option: str, value: str) -> float:
    """`10%` or `0.1` -> 0.1."""
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{option} {value}: expected a share of the rows, such as 10% or 0.1")
    return share


def _names(values: Sequence[str] | None) -> tuple[str, ...]:
    """`["a,b", "c"]` -> `("a", "b", "c")`; a name with a comma stands in quotes, as in a CSV file."""
    return tuple(name for value in values or [] for name in next(csv.reader([value], skipinitialspace=True)) or [""])


def _key_value(option: str) -> tuple[str, str]:
    key, sign, value = option.partition("=")
    if not sign or not key:
        raise UsageError(f"--provider-option {option}: expected key=value")
    return key, value
