"""The command line: it parses, calls one function, and prints. Data goes to stdout, everything else to stderr."""

import contextlib
import csv
import functools
import json
import signal
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from export.errors import ExportError
from export.text import TOKENIZERS, TokenizerName
from toolchain import __version__
from toolchain.errors import CheckFailed, UsageError
from toolchain.records import MAX_ROW_BYTES

if TYPE_CHECKING:
    from export.parity import Comparison
    from toolchain.evaluation import Evaluation
    from toolchain.metrics import ClassMetrics, LabelMetrics
    from toolchain.release import Shrinkage
    from toolchain.scoring import Preview, Summary

app = typer.Typer(
    help="Train small review classifiers, export them as one text-in file, prove the export, score files with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
messages = Console(stderr=True, highlight=False, soft_wrap=True)
results = Console(highlight=False)
_debug = False

_PROVIDER_HELP = "ONNX Runtime provider: auto, cpu, cuda, or any other that is installed."
_TEXT_HELP = "Column or field with the text. Default: found by name (text, review, content, body …)."
_EXCERPT = 240
_MANY_SUSPECTS = 0.05  # beyond it the model is at fault, not the labels
_EXTRAS = dict.fromkeys(("torch", "torchtext", "onnx", "matplotlib", "gensim"), "train") | {
    "tensorboard": "tensorboard"
}


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


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command; an error becomes one line on stderr and an exit status."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except (UsageError, ExportError, CheckFailed) as error:
            if _debug:
                raise
            messages.print(f"[bold red]error:[/] {_escape(str(error))}")
            raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from None
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").split(".")[0])
            if _debug or extra is None:
                raise
            extra = f"{error.name} is not installed; install it: pip install 'toolchain[{extra}]'"
            messages.print(f"[bold red]error:[/] {_escape(extra)}")
            raise typer.Exit(2) from None
        except OSError as error:
            if _debug or isinstance(error, BrokenPipeError):
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            messages.print(f"[bold red]error:[/] {_escape(where + (error.strerror or str(error)))}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            messages.print("interrupted")
            raise typer.Exit(130) from None

    return app.command(name=function.__name__.rstrip("_"), no_args_is_help=False)(run)


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
    messages.print(f"[bold red]error:[/] {_escape(f'--config {message}')}")
    return typer.Exit(2)


@_command
def train(
    recipe: Annotated[
        str,
        typer.Option(
            help="gru-pool for data of your own: the best and the most robust. gru, rnn, rnn-cell: as documented."
        ),
    ] = "gru",
    data: Annotated[str, typer.Option(help="imdb, sample, an aclImdb folder, or a CSV/JSONL file.")] = "imdb",
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Learning rate. Default: the recipe's.")] = None,
    layers: Annotated[int, typer.Option(min=1, help="Recurrent layers.")] = 1,
    tokenizer: Annotated[
        TokenizerName | None,
        typer.Option(
            help="What a token is. attached: what stands between spaces; isolated: each punctuation mark by itself; "
            "dropped: marks left out; characters: each by itself, for Chinese, Japanese, Korean. Default: the recipe's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same checkpoint.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16: of the products in training.")] = "auto",
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better one. Default: the recipe's.")
    ] = None,
    class_weights: Annotated[
        Literal["none", "balanced"], typer.Option(help="balanced: a rare label counts as much as a common one.")
    ] = "none",
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="More text without labels, for gru-pool: a folder of .txt files, an aclImdb folder, or a CSV/JSONL.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Snapshot that labels the unlabelled text: what it is sure of is trained on as well."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the snapshot.")] = Path("snapshot"),
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    label_column: Annotated[str | None, typer.Option(help="Column or field with the label.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column or field whose equals are never split: a film, product or author.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training in --out.")] = False,
    test_data: Annotated[
        Path | None, typer.Option(help="CSV/JSONL file to test on. Default: a tenth is held out.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files to OUT/tensorboard.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            callback=_read_config,
            is_eager=True,
            help="Options by their names, such as batch-size = 32; what the command line says goes first.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Train a recipe, keep the checkpoint with the best validation loss, and calibrate it.

    Example: [bold]toolchain train --recipe gru-pool --data reviews.csv --patience 3[/]
    """
    from toolchain.corpus import Source, load_corpus
    from toolchain.recipes import RECIPES
    from toolchain.resumption import FILE as RESUME_FILE
    from toolchain.snapshot import load_snapshot
    from toolchain.suspects import FILE as SUSPECTS_FILE
    from toolchain.training import Epoch, Settings, fit

    if recipe not in RECIPES:
        raise UsageError(f"--recipe {recipe}: expected one of {', '.join(RECIPES)}")
    chosen = RECIPES[recipe]
    if tokenizer:
        chosen = replace(chosen, tokenizer=TOKENIZERS[tokenizer])
    messages.print(f"reading {_escape(data)} …")
    if unlabelled and not chosen.pretrained_vectors:
        raise UsageError(
            f"--unlabelled: the recipe {recipe} makes no use of it; use --recipe gru-pool, or leave it out"
        )
    loaded_teacher = load_snapshot(teacher) if teacher else None
    source = Source(data, text_column, label_column, test_data, group_column, unlabelled)
    corpus = load_corpus(source, chosen, seed)
    for warning in corpus.warnings:
        messages.print(f"[yellow]warning:[/] {_escape(warning)}")
    messages.print(
        f"{len(corpus.train):,} training, {len(corpus.validation):,} validation, {len(corpus.test):,} test reviews; "
        f"labels {_escape(', '.join(corpus.labels))}; {len(corpus.vocabulary):,} words"
    )

    events = None
    if tensorboard:
        from toolchain.events import EventLog

        events = EventLog(out)

    def on_epoch(epoch: Epoch, best: bool) -> None:
        messages.print(
            f"epoch {epoch.epoch:2d}  train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:5.2f} %  "
            f"validation loss {epoch.validation_loss:.4f} accuracy {epoch.validation_accuracy:5.2f} %  "
            f"{epoch.seconds:.1f} s{'  *' if best else ''}"
        )
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
        metrics = fit(corpus, chosen, settings, out, on_epoch, _progress, resume, loaded_teacher)
    except KeyboardInterrupt:
        kept = "finished epochs are kept, go on: --resume" if (out / RESUME_FILE).exists() else "no epoch was finished"
        messages.print(f"interrupted; {kept}")
        raise typer.Exit(130) from None
    messages.print(
        f"best epoch {metrics['epoch']}: test loss {metrics['test_loss']:.4f}, "
        f"accuracy {metrics['test_accuracy']:.2f} % on {metrics['reviews']['test']:,} reviews, "
        f"{metrics['seconds']:.0f} s"
    )
    if guessed := metrics["reviews"].get("pseudo-labelled"):
        messages.print(f"{guessed:,} unlabelled texts were trained on with the teacher's label")
    calibration = metrics["calibration"]
    before, after = (calibration["test"][when] for when in ("before", "after"))
    messages.print(
        f"calibrated: temperature {calibration['temperature']:.3f}, expected calibration error "
        f"{before['calibration_error']:.4f} → {after['calibration_error']:.4f}, "
        f"test loss {before['loss']:.4f} → {after['loss']:.4f}"
    )
    if 0 < metrics.get("suspects", 0) <= _MANY_SUSPECTS * metrics["reviews"]["train"]:
        messages.print(
            f"{metrics['suspects']:,} training reviews were wrong in every epoch: are their labels right? "
            f"{_escape(str(out / SUSPECTS_FILE))}"
        )
    messages.print(f"snapshot in {_escape(str(out))}/; next: toolchain export --snapshot {_escape(str(out))}")
    if as_json:
        _print_json(metrics)


@_command
def evaluate(
    data: Annotated[str, typer.Option(help="imdb, sample, an aclImdb folder, or a CSV/JSONL file with labels.")],
    snapshot: Annotated[Path | None, typer.Option(help="Evaluate PyTorch. Default: ./snapshot.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Evaluate the exported model instead.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Write every prediction to this CSV file.")] = None,
    mistakes: Annotated[int, typer.Option(min=0, help="Show this many of the worst mistakes.")] = 5,
    reliability: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy by confidence to this file.")
    ] = None,
    provider: Annotated[str, typer.Option(help=_PROVIDER_HELP)] = "auto",
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    label_column: Annotated[str | None, typer.Option(help="Column or field with the label.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """How good a snapshot or a bundle is on labelled reviews: loss, every class, calibration, the worst mistakes.

    Example: [bold]toolchain evaluate --data reviews.csv --mistakes 20 --reliability reliability.png[/]
    """
    from export.forms import softmax
    from toolchain.corpus import Source, read_test_reviews
    from toolchain.evaluation import evaluate_reviews, write_predictions
    from toolchain.scorer import Scorer
    from toolchain.snapshot import load_snapshot

    if snapshot and bundle:
        raise UsageError("--snapshot and --bundle: name one of them")
    if reliability and reliability.suffix.lower() != ".png":
        raise UsageError(f"--reliability {reliability}: expected a name that ends in .png")
    if bundle:
        with Scorer(bundle, provider) as scorer:
            reviews = read_test_reviews(Source(data, text_column, label_column))
            evaluation = evaluate_reviews(
                reviews, scorer.labels, lambda texts: scorer.submit(texts).result().probabilities, mistakes
            )
    else:
        loaded = load_snapshot(snapshot or Path("snapshot"))
        reference = loaded.reference()
        reviews = read_test_reviews(Source(data, text_column, label_column))
        evaluation = evaluate_reviews(
            reviews, loaded.specification.labels, lambda texts: softmax(reference(texts)), mistakes
        )
    for skipped in reviews.skipped[:3]:
        messages.print(f"[yellow]warning:[/] left out {_escape(skipped)}")
    if predictions:
        write_predictions(evaluation, reviews, predictions)
        messages.print(f"predictions in {_escape(str(predictions))}")
    if reliability:
        from toolchain.figures import reliability_diagram

        reliability_diagram(evaluation.reliability, None, reliability)
        messages.print(f"reliability diagram in {_escape(str(reliability))}")
    if as_json:
        _print_json(evaluation.to_json())
    else:
        _print_evaluation(evaluation)


@_command
def import_(
    state_dict: Annotated[Path, typer.Option(help="What the notebook's torch.save(model.state_dict(), …) wrote.")],
    vocab: Annotated[Path, typer.Option(help="TEXT.vocab.itos, a word a line.")],
    labels: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="The classes in the order of the outputs. The notebook's are those of LABEL.vocab.itos[1:], by "
            "frequency: print it, do not guess.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the snapshot.")] = Path("snapshot"),
    tokenizer: Annotated[TokenizerName, typer.Option(help="attached is the notebook's str.split.")] = "attached",
    sample: Annotated[
        str | None,
        typer.Option(help="Own texts to measure on what cannot be carried over: sample, imdb, a folder or file."),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
) -> None:
    """Turn the state_dict of the documented notebook (BasicGRU, BasicRNN) into a snapshot that can be exported.

    Example: [bold]toolchain import --state-dict txtclassification.pt --vocab vocab.txt --labels neg,pos --out mine[/]
    """
    from toolchain.importing import check_place, import_state_dict, measure_deviation
    from toolchain.snapshot import save_snapshot

    check_place(state_dict, out)
    imported = import_state_dict(state_dict, vocab, _names([labels]), TOKENIZERS[tokenizer])
    specification = imported.snapshot.specification
    messages.print(
        f"{imported.snapshot.model}: {len(imported.snapshot.vocabulary):,} words, embedding {specification.embedding}, "
        f"{specification.layers} × {specification.cell.upper()} {specification.hidden}, "
        f"labels {_escape(', '.join(specification.labels))}"
    )
    if imported.unreachable:
        some = ", ".join(map(repr, imported.unreachable[:3]))
        messages.print(
            f"[yellow]warning:[/] words that no text gives with --tokenizer {tokenizer}: "
            f"{len(imported.unreachable):,}, such as {_escape(some)}"
        )
    if sample is not None:
        from toolchain.corpus import Source, read_texts

        messages.print(f"measuring on {_escape(sample)} …")
        deviation = measure_deviation(imported.snapshot, read_texts(Source(sample, text_column)))
        results.print(
            f"{deviation.texts:,} texts against the notebook's reading: {deviation.tokenized_differently:,} cut into "
            f"other tokens, {deviation.labels_changed:,} labels changed, probabilities moved by "
            f"{deviation.mean_change:.4f} in the mean and {deviation.max_change:.4f} at most",
            soft_wrap=True,
        )
    save_snapshot(imported.snapshot, out)
    messages.print(f"snapshot in {_escape(str(out))}/; next: toolchain export --snapshot {_escape(str(out))}")


@_command
def export(
    format: Annotated[
        list[str], typer.Option(help="onnx, onnx-cpu, torchscript, onnx-ids, pt2, or all (but pt2); may be repeated.")
    ] = ["all"],  # noqa: B006
    snapshot: Annotated[Path, typer.Option(help="Folder with the snapshot.")] = Path("snapshot"),
    out: Annotated[Path, typer.Option(help="Folder for the bundle; an earlier bundle is replaced.")] = Path("bundle"),
    data: Annotated[str, typer.Option(help="Real text for the proof: sample, imdb, a folder or file.")] = "sample",
    precision: Annotated[str, typer.Option(help="fp32, or int8 to add model.int8.onnx for the CPU.")] = "fp32",
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Small ONNX files: a shorter vocabulary, the embedding in bytes.")
    ] = False,
    vocabulary: Annotated[
        int | None, typer.Option(min=3, help="Most frequent entries that --shrink keeps. Default: 30,000.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish an int8 form or a shrunk model that changes too many labels.")
    ] = False,
) -> None:
    """Export a snapshot to a bundle, proven equal to PyTorch before it is published.

    Example: [bold]toolchain export --format onnx --format torchscript --out bundle[/]
    """
    from export.shrinking import SHRUNK_ENTRIES
    from toolchain.corpus import Source, read_texts
    from toolchain.release import export_snapshot
    from toolchain.snapshot import load_snapshot

    if vocabulary is not None and not shrink:
        raise UsageError(f"--vocabulary {vocabulary}: a shrunk bundle alone has a shorter one; add --shrink")
    entries = (vocabulary or SHRUNK_ENTRIES) if shrink else None
    loaded = load_snapshot(snapshot)
    texts = read_texts(Source(data))
    verification = export_snapshot(
        loaded, out, format, texts, _report_comparison, precision, force, entries, _print_shrinkage
    )
    messages.print(
        f"{sum(comparison.passed for comparison in verification.comparisons)} forms agree with PyTorch. "
        f"Bundle in {_escape(str(out))}/; next: toolchain score reviews.csv --bundle {_escape(str(out))}"
    )


@_command
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle.")] = Path("bundle"),
    snapshot: Annotated[
        Path | None, typer.Option(help="Compare with PyTorch. Without it, with the bundle's own vectors.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Real text as well: sample, imdb, a folder or file.")] = None,
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    provider: Annotated[str, typer.Option(help=_PROVIDER_HELP)] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prove that every form in a bundle still says what PyTorch says.

    Example: [bold]toolchain verify bundle --snapshot snapshot --data reviews.csv[/]
    """
    from export.bundle import open_bundle
    from toolchain.release import verify_bundle

    opened = open_bundle(bundle)
    loaded, texts = None, []
    if snapshot:
        from toolchain.snapshot import load_snapshot

        loaded = load_snapshot(snapshot)
    if data:
        from toolchain.corpus import Source, read_texts

        texts = read_texts(Source(data, text_column))
    verification = verify_bundle(opened, loaded, texts, provider, _report_comparison)
    if as_json:
        _print_json(verification.to_json())
    else:
        results.print(_verification_table(verification.against, verification.comparisons))
    if not verification.passed:
        raise CheckFailed("; ".join(c.failure() for c in verification.comparisons if not c.passed))


@_command
def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="CSV, JSONL or Parquet files, or folders of them; - is standard input."
        ),
    ],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Output file, a folder for several inputs, or - for stdout.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The model. Default: ./bundle, or the one in the box where there is none.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    provider: Annotated[str, typer.Option(help=_PROVIDER_HELP)] = "auto",
    provider_option: Annotated[
        list[str] | None, typer.Option(help="key=value for the provider; may be repeated.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or int8: faster, nearly the same; CPU only.")] = "fp32",
    device_id: Annotated[int | None, typer.Option(min=0, help="Which GPU.")] = None,
    on_error: Annotated[
        Literal["reject", "fail"], typer.Option(help="A row that cannot be scored: set it aside, or stop.")
    ] = "reject",
    encoding: Annotated[
        str | None,
        typer.Option(help="Of the input, such as latin-1; the output is UTF-8. Default: UTF-8, or UTF-16 by its mark."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Of a CSV: , ; | or \\t. Default: found in its header; kept in the output.")
    ] = None,
    max_row_bytes: Annotated[int, typer.Option(min=1024, help="Longer rows are rejected.")] = MAX_ROW_BYTES,
    max_rejects: Annotated[
        str, typer.Option(help="Exit status 1 if more of the rows are rejected: a share such as 10%.")
    ] = "10%",
    label_column: Annotated[
        str | None, typer.Option(help="Column with the true label: adds accuracy and more to the summary.")
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Add a field a class: p_LABEL.")] = False,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Add a field abstain: true where the confidence is below this.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="NAME,…", help="Keep only these columns; may be repeated.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="NAME,…", help="Leave these columns out; may be repeated.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Keep this column alone (and those of --keep), and name rejected rows by it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first rows of each input.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read, and the first predictions; write nothing.")
    ] = False,
    summary_file: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Write the summaries to this JSON file.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run of the same job.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")] = False,
) -> None:
    """Score review files: the rows as they are, with `prediction` and `confidence` behind them.

    reviews.csv becomes reviews.scored.csv; rows that cannot be scored go to reviews.csv.rejected.jsonl. A run that was
    killed continues when it is started again. Files that end in .gz, .bz2, .xz or .zst are read and written packed.
    A Parquet file becomes one, its columns and types untouched.

    Example: [bold]toolchain score reviews.csv more.jsonl -o scored/[/]
    """
    import dataclasses

    from toolchain.inputs import expand, output_path
    from toolchain.scorer import BOX, Scorer, find_bundle
    from toolchain.scoring import Interrupted, Options, check_rejects, preview_file, score_file, write_summaries

    options = Options(
        text_column=text_column,
        on_error=on_error,
        max_rejects=_share(max_rejects),
        resume=resume,
        label_column=label_column,
        probabilities=probabilities,
        min_confidence=min_confidence,
        keep=_names(keep),
        drop=_names(drop),
        id_column=id_column,
        limit=limit,
        encoding=encoding,
        delimiter=delimiter and delimiter.replace("\\t", "\t"),
        max_row_bytes=max_row_bytes,
    )
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
    stop = _StopSignals()
    failures: list[CheckFailed] = []
    summaries = []
    with Scorer(chosen, provider, provider_options, precision) as scorer, contextlib.nullcontext() if dry_run else stop:
        if not quiet:
            which = f"{chosen}/{scorer.model}"
            if chosen == BOX:
                training = scorer.bundle.manifest["training"]
                which = f"in the box ({training['recipe']} trained on {training['data']}), {scorer.model},"
            messages.print(f"model {_escape(which)} on {scorer.provider}")
        if dry_run:
            previews = [preview_file(scorer, *files, options) for files in zip(inputs, outputs, strict=True)]
            if as_json:
                _print_json([dataclasses.asdict(preview) for preview in previews])
            else:
                for preview in previews:
                    _print_preview(preview, str(chosen))
            return
        for source, output in zip(inputs, outputs, strict=True):
            try:
                with _ScoreProgress(source, quiet) as progress:
                    summary = score_file(scorer, source, output, options, progress.update, stop.requested)
                summaries.append(summary)
                if not quiet:
                    _print_summary(summary)
                check_rejects(summary, options)
            except CheckFailed as error:
                failures.append(error)
                if len(inputs) > 1:
                    messages.print(f"[bold red]error:[/] {_escape(str(error))}")
            except Interrupted as error:
                messages.print(f"[yellow]interrupted:[/] {_escape(str(error))}")
                raise typer.Exit(128 + stop.number) from None
    if as_json:
        _print_json([dataclasses.asdict(summary) for summary in summaries])
    if summary_file:
        write_summaries(summaries, summary_file)
    if failures:
        raise failures[0] if len(inputs) == 1 else CheckFailed(f"{len(failures)} of {len(inputs)} inputs failed")


@_command
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Folder with the bundle.")] = Path("bundle"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """What a bundle is: model, metrics, parity, files. Checks every digest.

    Example: [bold]toolchain inspect bundle[/]
    """
    from export.bundle import open_bundle
    from toolchain.card import architecture, text_definition

    opened = open_bundle(bundle)
    opened.check()
    if as_json:
        _print_json(opened.manifest)
        return
    specification, training, words = opened.specification, opened.manifest.get("training", {}), opened.vocabulary()
    if "imported" in training:
        source = training["imported"]
        origin = {"imported from": f"{source['file']}, SHA-256 {source['sha256'][:12]}…"}
    else:
        origin = {
            "trained on": f"{training.get('data')}: {training.get('reviews')}",
            "best epoch": f"{training.get('epoch')}, "
            f"validation loss {training.get('validation_loss', float('nan')):.4f}",
            "test": f"loss {training.get('test_loss', float('nan')):.4f}, "
            f"accuracy {training.get('test_accuracy', float('nan')):.2f} %",
        }
    table = Table(title=f"bundle {bundle}", show_header=False)
    rows: dict[str, str] = {
        "labels": ", ".join(specification.labels),
        "model": f"{training.get('recipe')}: {architecture(specification)}, "
        f"{specification.parameters(len(words)):,} parameters",
        "text": text_definition(specification),
        "vocabulary": f"{len(words):,} entries",
        **origin,
        "versions": ", ".join(f"{name} {number}" for name, number in opened.manifest.get("versions", {}).items()),
    }
    for name, value in rows.items():
        table.add_row(name, _escape(value))
    if shrunk := opened.manifest.get("shrunk"):
        table.add_row(
            "shrunk",
            f"from {shrunk['vocabulary']['full']:,} entries; {shrunk['label_agreement']:.2%} of the labels of "
            f"{shrunk['texts']:,} texts as before; the figures above are those of the full model",
        )
    for form in opened.manifest.get("parity", {}).get("forms", []):
        table.add_row(f"parity {form['form']}", f"max |Δ| {form['max_difference']:.1e} over {form['cases']:,} texts")
    for name, entry in opened.manifest["files"].items():
        table.add_row(_escape(name), f"{entry['bytes']:,} bytes, SHA-256 {entry['sha256'][:12]}…")
    results.print(table)


@_command
def bench(
    bundle: Annotated[Path, typer.Option(help="The model.")] = Path("bundle"),
    data: Annotated[str, typer.Option(help="Texts: sample, imdb, a folder or file.")] = "sample",
    text_column: Annotated[str | None, typer.Option(help=_TEXT_HELP)] = None,
    rows: Annotated[int, typer.Option(min=1, help="The texts are repeated to this many rows.")] = 5000,
    rounds: Annotated[int, typer.Option(min=1, help="Every route takes a turn in each.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """How fast a bundle scores here, from texts in memory, beside plain ONNX Runtime and the arithmetic limit.

    Example: [bold]toolchain bench --bundle bundle --data reviews.csv[/]
    """
    from export.bundle import open_bundle
    from toolchain.bench import measure
    from toolchain.corpus import Source, read_texts

    opened = open_bundle(bundle)
    unique = read_texts(Source(data, text_column))
    if not unique:
        raise UsageError(f"{data}: holds no text")
    texts = [unique[index % len(unique)] for index in range(rows)]
    measured = measure(opened, texts, rounds, progress=messages.print)
    if as_json:
        _print_json(measured.to_json())
        return
    limit = measured.limit_tokens_per_second
    table = Table(
        title=f"{rows:,} rows, {measured.tokens:,} tokens, {measured.cores} cores, limit {limit:,.0f} tokens/s"
    )
    for column in ("route", "rows/s", "tokens/s", "of the limit"):
        table.add_column(column, justify="left" if column == "route" else "right")
    for route in measured.routes:
        figures = (f"{route.rows_per_second:,.0f}", f"{route.tokens_per_second:,.0f}", f"{route.share_of_limit:.0%}")
        table.add_row(route.name, *figures)
    results.print(table)


@_command
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """What is installed, which providers really take a session, and what to install.

    Example: [bold]toolchain doctor[/]
    """
    import dataclasses

    from toolchain.doctor import examine

    findings = examine()
    if as_json:
        _print_json([dataclasses.asdict(finding) for finding in findings])
        return
    marks = {True: "[green]ok[/]", False: "[red]--[/]", None: "  "}
    for finding in findings:
        results.print(f"{marks[finding.ok]}  {finding.what:20s} {_escape(finding.state)}", soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _progress(batches: Iterable[Any], title: str) -> Iterable[Any]:
    """A progress bar over the batches of a pass, where a person is watching."""
    if not messages.is_terminal:
        return batches
    from rich.progress import track

    return track(batches, title, console=messages, transient=True)


def _report_comparison(comparison: "Comparison") -> None:
    verdict = "agrees" if comparison.passed else "DIFFERS"
    messages.print(
        f"{comparison.form} on {comparison.provider}: {verdict}, max |Δ| {comparison.max_difference:.1e}, "
        f"labels {comparison.label_agreement:.2%}, over {comparison.cases:,} texts"
    )


def _verification_table(against: str, comparisons: "Sequence[Comparison]") -> Table:
    table = Table(title=f"against {against}")
    for column in ("form", "provider", "cases", "alone", "max |Δ|", "label agreement", "verdict"):
        table.add_column(column, justify="left" if column in ("form", "provider", "verdict") else "right")
    for comparison in comparisons:
        table.add_row(
            comparison.form,
            comparison.provider,
            f"{comparison.cases:,}",
            f"{comparison.alone:,}",
            f"{comparison.max_difference:.1e}",
            f"{comparison.label_agreement:.3%}",
            "[green]pass[/]" if comparison.passed else "[bold red]FAIL[/]",
        )
    return table


def _print_shrinkage(shrinkage: "Shrinkage") -> None:
    table = Table(title="shrunk")
    for column in ("", "full", "shrunk"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("entries of the vocabulary", *(f"{entries:,}" for entries in shrinkage.entries))
    for file, sizes in shrinkage.sizes.items():
        table.add_row(file, *(f"{size / 1e6:.2f} MB" for size in sizes))
    messages.print(table)
    answers = shrinkage.agreement
    messages.print(
        f"{answers.label_agreement:.2%} of the labels of {answers.texts:,} texts as before, "
        f"largest change of a probability {answers.max_difference:.4f}"
    )


def _print_summary(summary: "Summary") -> None:
    labels = ", ".join(f"{label} {count:,}" for label, count in summary.labels.items())
    rate = (summary.rows - summary.resumed) / max(summary.seconds, 1e-9)
    messages.print(
        f"{summary.rows:,} rows: {summary.scored:,} scored, {summary.rejected:,} rejected in {summary.seconds:.1f} s "
        f"({rate:,.0f} rows/s)" + (f", {summary.resumed:,} of them from an interrupted run" if summary.resumed else "")
    )
    messages.print(_escape(f"labels: {labels or 'none'}; {summary.unknown / max(1, summary.tokens):.1%} unknown words"))
    messages.print(_escape(f"output: {'standard output' if summary.output == '-' else summary.output}"))
    if summary.rejects:
        messages.print(_escape(f"rejects: {summary.rejects}"))
    if summary.abstained is not None:
        messages.print(f"abstained: {summary.abstained:,} of {summary.scored:,} rows, below --min-confidence")
    if summary.label_metrics:
        _print_label_metrics(summary.label_metrics)


def _print_label_metrics(metrics: "LabelMetrics") -> None:
    if metrics.accuracy is None:
        messages.print(_escape(f"no scored row has a label of the model in {metrics.column!r}"))
    else:
        messages.print(
            f"against {_escape(repr(metrics.column))}: accuracy {metrics.accuracy:.2%}, "
            f"log-loss {metrics.log_loss:.4f} on {metrics.labelled:,} labelled rows; {metrics.unlabelled:,} unlabelled"
        )
        messages.print(_class_table(metrics.classes, metrics.confusion))


def _class_table(classes: "Mapping[str, ClassMetrics]", confusion: Mapping[str, Mapping[str, int]]) -> Table:
    """A line a true label: how often it was predicted as which, and its figures."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    table = Table(show_edge=False)
    table.add_column("true label")
    for heading in (*(f"as {label}" for label in classes), "support", "precision", "recall", "F1"):
        table.add_column(_escape(heading), justify="right")
    for label, figures in classes.items():
        counts = [f"{count:,}" for count in (*confusion[label].values(), figures.support)]
        table.add_row(_escape(label), *counts, *map(share, (figures.precision, figures.recall, figures.f1)))
    return table


def _print_evaluation(evaluation: "Evaluation") -> None:
    from rich.padding import Padding
    from rich.text import Text

    results.print(f"{evaluation.reviews} reviews, loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.2f} %")
    results.print(
        "the loss is the log-loss in nats; "
        f"expected calibration error {evaluation.reliability.expected_calibration_error:.4f}"
    )
    results.print(_class_table(evaluation.classes, evaluation.confusion))
    for mistake in evaluation.mistakes:
        results.print(
            f"row {mistake.row:,}: {_escape(mistake.label)}, answered {_escape(mistake.prediction)} "
            f"with {mistake.confidence:.4f}"
        )
        results.print(Padding(Text(_excerpt(mistake.text)), (0, 0, 0, 4)))


def _excerpt(text: str) -> str:
    """The start of a text for a terminal: no control characters, no line ends, at most `_EXCERPT` characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT].rstrip()} …"


def _print_preview(preview: "Preview", model: str) -> None:
    """A dry run's findings on stdout."""
    lines = {
        "input": preview.input,
        "format": preview.format,
        "columns": ", ".join(preview.columns) or "none",
        "text column": preview.text_column,
        **({"label column": preview.label_column} if preview.label_column else {}),
        "output": "standard output" if preview.output == "-" else preview.output,
        "output columns": ", ".join(preview.output_columns),
        "model": f"{model}/{preview.model} on {preview.provider}",
        "first window": f"{preview.records:,} rows, {preview.rejected:,} of them would be rejected",
    }
    for name, value in lines.items():
        results.print(f"{name:15s} {_escape(value)}", soft_wrap=True)
    table = Table(show_edge=False)
    for column in ("line", "prediction", "confidence", "text"):
        table.add_column(column, justify="right" if column in ("line", "confidence") else "left")
    for row in preview.rows:
        if row.confidence is None:
            table.add_row(f"{row.line:,}", "rejected", "", _escape(row.reason or ""))
        else:
            table.add_row(
                f"{row.line:,}", _escape(row.prediction or ""), f"{row.confidence:.6f}", _escape(row.text or "")
            )
    results.print(table)


class _ScoreProgress:
    """A bar over the bytes of an input, where a person is watching."""

    def __init__(self, source: str, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=messages,
            transient=True,
            disable=quiet or not messages.is_terminal,
        )
        self._task = self._bar.add_task(_escape(source), total=None, rows=0)

    def update(self, done: int, total: int | None, summary: "Summary") -> None:
        self._bar.update(self._task, completed=done, total=total, rows=summary.rows)

    def __enter__(self) -> "_ScoreProgress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class _StopSignals:
    """The first SIGINT or SIGTERM asks for a clean stop; a second one is not held back."""

    number = 0

    def requested(self) -> bool:
        return self.number != 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._old:
            signal.signal(each, signal.SIG_DFL)

    def __enter__(self) -> "_StopSignals":
        self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def _share(value: str) -> float:
    """`10%` or `0.1` -> 0.1."""
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-rejects {value}: expected a share of the rows, such as 10% or 0.1")
    return share


def _names(values: Sequence[str] | None) -> tuple[str, ...]:
    """`["a,b", "c"]` -> `("a", "b", "c")`; a name with a comma stands in quotes, as in a CSV file."""
    return tuple(name for value in values or [] for name in next(csv.reader([value], skipinitialspace=True)) or [""])


def _key_value(option: str) -> tuple[str, str]:
    key, sign, value = option.partition("=")
    if not sign or not key:
        raise UsageError(f"--provider-option {option}: expected key=value")
    return key, value
