"""`toolchain evaluate`: how good a snapshot or a bundle is on labelled reviews."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show, show_excerpt, tell, warn
from toolchain.errors import UsageError

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions
    from toolchain.judging.evaluation import Evaluation


@options.reads_rows
@options.shown_first(
    *("data", "text_column", "label_column", "label_map"),
    *("snapshot", "bundle", "predictions", "mistakes", "reliability", "as_json"),
)
def evaluate(
    data: Annotated[
        str,
        options.data(
            "Labelled reviews: a CSV/JSONL file, an aclImdb folder, sample (comes with the package), or imdb (84 MB, "
            "downloaded once).",
            options.INPUT,
        ),
    ],
    text_column: Annotated[str | None, options.text_column(options.INPUT)] = None,
    reading: "ReadOptions" = options.READING,
    label_column: Annotated[str | None, options.label_column(options.INPUT)] = None,
    label_map: Annotated[str | None, options.label_map(options.INPUT)] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Evaluate this snapshot, in PyTorch. Default: ./snapshot if it exists.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Evaluate this bundle instead. Default without a snapshot: ./bundle, else the model in the box.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    provider: Annotated[str, options.provider(options.MODEL)] = "auto",
    predictions: Annotated[
        str | None,
        typer.Option(metavar="FILE.csv", help="Write every prediction to this file.", rich_help_panel=options.OUTPUT),
    ] = None,
    mistakes: Annotated[
        int, typer.Option(min=0, help="Number of worst mistakes to show.", rich_help_panel=options.OUTPUT)
    ] = 5,
    reliability: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.png", help="Draw accuracy against confidence into this file.", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("the result")] = False,
) -> None:
    """Measure a model on labelled reviews: accuracy, loss, each label, calibration, the worst mistakes.

    Examples:
    toolchain evaluate --data reviews.csv --mistakes 20
    toolchain evaluate --data sample --bundle bundle --json
    """
    from export.forms import softmax
    from toolchain.cli.progress import progress
    from toolchain.corpus.reviews import Source, read_test_reviews
    from toolchain.files.outputs import check, placed
    from toolchain.judging.evaluation import PREDICTIONS, evaluate_reviews, write_predictions
    from toolchain.scoring.default import find_bundle
    from toolchain.scoring.scorer import Scorer

    if snapshot and bundle:
        raise UsageError("--snapshot and --bundle: give one of them, not both")
    if predictions:
        predictions = placed(predictions, PREDICTIONS)
        check(predictions, PREDICTIONS, overwrite, [data], "--predictions")
    if reliability:
        import matplotlib.figure  # noqa: F401  # tells at once where it is not installed

        from toolchain.training.figures import RELIABILITY

        reliability = placed(reliability, RELIABILITY)
        if not reliability.lower().endswith(".png"):
            raise UsageError(f"--reliability {reliability}: expected a name that ends in .png")
        check(reliability, RELIABILITY, overwrite, [data], "--reliability")
    source = Source(data, text_column, label_column, label_map=label_map, reading=reading, say=tell)
    if not snapshot and not bundle and not Path("snapshot").exists():
        bundle = find_bundle()
        say(f"model {escape(str(bundle))}")
    if bundle:
        with Scorer(bundle, provider) as scorer:
            made_by = {"bundle": scorer.identity, "model": scorer.model, "provider": scorer.provider}
            reviews = read_test_reviews(source)
            evaluation = evaluate_reviews(
                reviews, scorer.labels, lambda texts: scorer.submit(texts).result().probabilities, mistakes, progress
            )
    else:
        from toolchain.models.snapshot import load_snapshot

        loaded = load_snapshot(snapshot or Path("snapshot"))
        made_by = {"snapshot": str(snapshot or "snapshot"), "weights_sha256": loaded.identity}
        reference = loaded.reference()
        reviews = read_test_reviews(source)
        evaluation = evaluate_reviews(
            reviews, loaded.specification.labels, lambda texts: softmax(reference(texts)), mistakes, progress
        )
    for skipped in reviews.skipped[:3]:
        warn(f"left out {skipped}")
    if reviews.skipped:
        warn(f"{len(reviews.skipped):,} rows were left out, {len(reviews):,} evaluated")
    if predictions:
        write_predictions(evaluation, reviews, predictions, {**made_by, "data": data})
        say(f"predictions in {escape(predictions)}")
    if reliability:
        from toolchain.training.figures import reliability_diagram

        reliability_diagram(evaluation.reliability, None, reliability)
        say(f"reliability diagram in {escape(reliability)}")
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation)


def print_evaluation(evaluation: "Evaluation") -> None:
    """The figures, the classes and the worst mistakes, on stdout."""
    from toolchain.cli.class_table import class_table

    show(f"{evaluation.reviews} reviews, loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.2f} %")
    show(
        "the loss is the log-loss in nats; "
        f"expected calibration error {evaluation.reliability.expected_calibration_error:.4f}"
    )
    show(class_table(evaluation.classes, evaluation.confusion))
    for mistake in evaluation.mistakes:
        show(
            f"row {mistake.row:,}: {escape(mistake.label)}, answered {escape(mistake.prediction)} "
            f"with {mistake.confidence:.4f}"
        )
        show_excerpt(mistake.text)
