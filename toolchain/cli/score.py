"""`toolchain score`: review files with the model's answers behind their rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, excerpt, fail, interrupted, print_json, say, tell
from toolchain.errors import UsageError

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions
    from toolchain.scoring.batch import Outcome
    from toolchain.scoring.job import Options
    from toolchain.scoring.ray.engine import Cluster, Model
    from toolchain.scoring.scorer import Scorer

_LONG_RUN = 30.0
"""Seconds after which a run ends with what might have made it shorter."""


@options.reads_rows
@options.shown_first(
    *("out", "text_column", "bundle", "probabilities", "explain", "min_confidence", "label_column"),
    *("precision", "provider", "dry_run"),
)
def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files to score: CSV, JSONL, Excel or Parquet, or folders of them. - is standard input.",
        ),
    ],
    text_column: Annotated[str | None, options.text_column(options.INPUT)] = None,
    reading: "ReadOptions" = options.READING,
    max_row_bytes: Annotated[
        int, typer.Option(min=1024, help="Reject rows that are longer.", rich_help_panel=options.INPUT)
    ] = options.MAX_ROW_BYTES,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score only the first rows of each input.", rich_help_panel=options.INPUT)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file; a folder for several inputs; - for standard output. Default: INPUT.scored.csv.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add a column p_LABEL with the probability of each label.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="Add a column abstain: true where the confidence is below N. N is from 0 to 1, such as 0.6.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    explain: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="K",
            show_default=False,
            help="Add a column explanation with the K words that speak most for the label, and K against it. Slower; "
            "CPU only.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = 0,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,…",
            help="Keep only these columns of the input. May be repeated.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,…",
            help="Leave these columns of the input out. May be repeated.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Keep only this column (and those of --keep). Rejected rows carry it too.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        options.bundle(options.MODEL),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=options.completing("fp32", "int8"),
            metavar="fp32|int8",
            help="int8 is faster on processors with VNNI, with nearly the same answers. "
            "CPU only; the bundle must hold it.",
            rich_help_panel=options.MODEL,
        ),
    ] = "fp32",
    provider: Annotated[str, options.provider(options.MODEL)] = "auto",
    provider_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="An option of the provider itself. May be repeated.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    device_id: Annotated[
        int | None, typer.Option(min=0, help="Number of the GPU.", rich_help_panel=options.MODEL)
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the true label. Adds accuracy and a confusion matrix to the summary.",
            rich_help_panel=options.QUALITY,
        ),
    ] = None,
    label_map: Annotated[str | None, options.label_map(options.QUALITY)] = None,
    on_error: Annotated[
        Literal["reject", "fail"],
        typer.Option(
            help="What to do with a row that cannot be scored: put it into the file of rejects, or stop.",
            rich_help_panel=options.QUALITY,
        ),
    ] = "reject",
    max_rejects: Annotated[str, options.max_rejects(options.QUALITY)] = "10%",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would be read and the first predictions. Write nothing.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(help="Continue an interrupted run of the same job, or start over.", rich_help_panel=options.RUN),
    ] = True,
    overwrite: options.Overwrite = False,
    summary_file: Annotated[
        str | None,
        typer.Option(
            "--summary",
            metavar="FILE",
            help="Write a summary of each input to this JSON file.",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="local: this machine. ray: a Ray cluster (needs the extra ray).", rich_help_panel=options.CLUSTER
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the Ray cluster: auto, HOST:6379 or ray://HOST:10001; local starts one here. Default: the "
            "running one, else local.",
            rich_help_panel=options.CLUSTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Workers of one core each. Default: as many as the cluster has cores for.",
            rich_help_panel=options.CLUSTER,
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float,
        typer.Option(
            min=0, show_default=False, help="GPUs for each worker, such as 1 or 0.5.", rich_help_panel=options.CLUSTER
        ),
    ] = 0,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Write one file instead of a folder OUTPUT.shards.", rich_help_panel=options.CLUSTER
        ),
    ] = False,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("a summary of each input")] = False,
) -> None:
    """Score files of reviews: every row as it was, with the columns `prediction` and `confidence` added.

    reviews.csv becomes reviews.scored.csv. Rows without a text go to reviews.csv.rejected.jsonl. A run that was stopped
    continues when you start it again. The format is detected: CSV of any dialect, JSON, Excel, Parquet, compressed or
    not. An output named .gz, .bz2, .xz or .zst is compressed. Parquet stays Parquet, with its columns and types.

    Examples:
    toolchain score reviews.csv
    toolchain score reviews.csv more.jsonl.gz -o scored/
    toolchain score reviews.csv --label-column label --summary summary.json
    toolchain score reviews.csv --dry-run
    zcat reviews.csv.gz | toolchain score - -o - --quiet | head
    toolchain score s3://shop/in/ -o s3://shop/out/ --engine ray --address auto
    """
    from toolchain.files.inputs import expand, output_paths
    from toolchain.files.outputs import placed
    from toolchain.files.storage import is_remote
    from toolchain.scoring.default import find_bundle
    from toolchain.scoring.job import Options
    from toolchain.scoring.places import SUMMARY, check_places
    from toolchain.scoring.scorer import Scorer

    wanted = Options(
        **{**vars(reading), "text_column": text_column, "max_row_bytes": max_row_bytes},
        on_error=on_error,
        max_rejects=options.share("--max-rejects", max_rejects),
        resume=resume,
        overwrite=overwrite,
        label_column=label_column,
        label_map=label_map,
        probabilities=probabilities,
        min_confidence=min_confidence,
        keep=options.names("--keep", keep),
        drop=options.names("--drop", drop),
        id_column=id_column,
        limit=limit,
        explain=explain,
    )
    if engine == "local" and (address or workers or gpus_per_worker or merge):
        raise UsageError("--address, --workers, --gpus-per-worker and --merge are for --engine ray")
    if engine == "local" and out is not None and is_remote(out):
        raise UsageError(f"{out}: only --engine ray writes to an object store; add it, or name a local file: -o FILE")
    _refuse_a_sentence(inputs)
    named, inputs = inputs, expand(inputs)
    outputs = output_paths(inputs, out, len(inputs) > 1 or inputs != named)
    files = list(zip(inputs, outputs, strict=True))
    if summary_file and dry_run:
        raise UsageError(f"--summary {summary_file}: --dry-run writes nothing")
    summary_file = summary_file and placed(summary_file, SUMMARY)
    check_places(files, summary_file, overwrite, sharded=engine == "ray" and not merge)
    if as_json and "-" in outputs and not dry_run:
        raise UsageError("--json and the rows cannot both go to standard output; name a file: -o FILE")
    chosen = find_bundle(bundle)
    provider_options = dict(options.key_value(option) for option in provider_option or [])
    if device_id is not None:
        provider_options["device_id"] = str(device_id)
    if engine == "ray" and not dry_run:
        from toolchain.scoring.ray.engine import Cluster, Model

        if device_id is not None:
            raise UsageError(f"--device-id {device_id}: Ray gives every worker its own GPU; leave --device-id out")
        say(f"model {escape(str(chosen))} on Ray")
        model = Model(chosen, provider, provider_options, precision)
        cluster = Cluster(address, workers, gpus_per_worker)
        _finish_scoring(_score_on_ray(files, model, wanted, cluster, merge), as_json, summary_file)
        return
    with Scorer(chosen, provider, provider_options, precision, explain) as scorer:
        say(f"model {escape(scorer.name)} on {scorer.provider}")
        if dry_run:
            _preview(files, scorer, wanted, str(chosen), as_json)
            return
        outcomes = _score_here(files, scorer, wanted)
        if sum(outcome.summary.seconds for outcome in outcomes) > _LONG_RUN:
            from toolchain.scoring.faster import faster_ways

            for way in faster_ways(scorer, provider, inputs[0]):
                tell(way)
    _finish_scoring(outcomes, as_json, summary_file)


def _refuse_a_sentence(inputs: Sequence[str]) -> None:
    """Raise `UsageError` where an input is no file but plainly a text."""
    for each in inputs:
        if " " in each.strip() and not Path(each).suffix[1:].isalnum() and "/" not in each and not Path(each).exists():
            raise UsageError(f'no such file: {excerpt(each)!r}; to score a text: toolchain predict "TEXT"')


def _preview(files: Sequence[tuple[str, str]], scorer: "Scorer", options: "Options", model: str, as_json: bool) -> None:
    """Show what a run would do with each of the files (input, output)."""
    import dataclasses

    from toolchain.cli.score_results import print_preview
    from toolchain.scoring.batch import attempt, check_batch
    from toolchain.scoring.job import Preview, preview_file

    failed, entries = {}, []
    for source, output in files:
        found = attempt(preview_file, scorer, source, output, options)
        if isinstance(found, Preview):
            entries.append(dataclasses.asdict(found))
            if not as_json:
                print_preview(found, model)
        else:
            failed[source] = found
            entries.append({"input": source, "error": str(found)})
            if len(files) > 1:
                fail(str(found))
    if as_json:
        print_json(entries)
    check_batch(failed, len(files))


def _score_here(files: Sequence[tuple[str, str]], scorer: "Scorer", options: "Options") -> "list[Outcome]":
    """Score the files (input, output) in this process."""
    from toolchain.cli.progress import Progress
    from toolchain.cli.stopping import StopSignals
    from toolchain.scoring.batch import score_input
    from toolchain.scoring.job import Interrupted, JobProgress

    stop = StopSignals()
    outcomes = []
    with stop:
        for source, output in files:
            try:
                with Progress(source) as shown:

                    def hear(reached: JobProgress, shown: Progress = shown) -> None:
                        stop.kept = reached.kept
                        shown.update_scoring(reached)

                    outcome = score_input(scorer, source, output, options, hear, stop.requested)
            except Interrupted as error:
                interrupted(str(error))
                raise typer.Exit(128 + stop.number) from None
            outcomes.append(outcome)
            _print_outcome(outcome, alone=len(files) == 1)
    return outcomes


def _score_on_ray(
    files: Sequence[tuple[str, str]], model: "Model", options: "Options", cluster: "Cluster", merge: bool
) -> "list[Outcome]":
    """Score the files (input, output) on a cluster."""
    from toolchain.cli.progress import Progress
    from toolchain.cli.stopping import StopSignals
    from toolchain.scoring.job import Interrupted
    from toolchain.scoring.ray.engine import connected, score_files

    stop = StopSignals()
    outcomes = []
    # Ray's own handlers come with the connection; ours go over them.
    with connected(cluster.address), stop, Progress(f"{len(files)} inputs") as shown:
        try:
            for outcome in score_files(files, model, options, cluster, merge, shown.update_files, stop.requested):
                outcomes.append(outcome)
                _print_outcome(outcome, alone=len(files) == 1)
        except Interrupted as error:
            interrupted(str(error))
            raise typer.Exit(128 + stop.number) from None
    order = [source for source, _ in files]
    return sorted(outcomes, key=lambda outcome: order.index(outcome.source))


def _print_outcome(outcome: "Outcome", alone: bool) -> None:
    """What came of an input; what went wrong with one that stands alone is the command's own error."""
    from toolchain.cli.score_results import print_summary

    if outcome.summary.output is not None:
        print_summary(outcome.summary)
    if outcome.error is not None and not alone:
        fail(str(outcome.error))


def _finish_scoring(outcomes: "Sequence[Outcome]", as_json: bool, summary_file: str | None) -> None:
    """Hand out the summaries; raise what went wrong."""
    import dataclasses

    from toolchain.scoring.batch import check_batch, write_summaries

    if as_json:
        print_json([dataclasses.asdict(outcome.summary) for outcome in outcomes])
    if summary_file:
        write_summaries(outcomes, summary_file)
    check_batch({outcome.source: outcome.error for outcome in outcomes if outcome.error}, len(outcomes))
