"""What the commands show a person: messages on stderr, tables and figures on stdout, progress where someone watches."""

import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import progress as progress_bars
from rich.console import Console, RenderableType
from rich.control import Control
from rich.markup import escape as escape_markup
from rich.segment import ControlType, Segment
from rich.table import Table

if TYPE_CHECKING:
    from export.bundle import Bundle
    from export.parity import Comparison
    from toolchain.judging.bench import Measurement
    from toolchain.judging.comparison import Comparison as ModelComparison
    from toolchain.judging.evaluation import Evaluation
    from toolchain.judging.installation import Finding
    from toolchain.measures.metrics import ClassMetrics, LabelMetrics
    from toolchain.models.importing import Deviation
    from toolchain.release.release import Shrinkage
    from toolchain.scoring.job import Preview, Summary
    from toolchain.training.loops import Epoch

PROGRESS_SECONDS = 30.0
"""How often a long pass says how far it is where no bar can be drawn: in a log or a pipe."""

_ENDLESS = 1000  # columns
_EXCERPT = 240
_SHOWN_CHANGES = 5
_MANY_SUSPECTS = 0.05  # beyond it the model is at fault, not the labels


def _console(stderr: bool) -> Console:
    """As wide as its terminal. A file or a pipe has no width: there a table is as wide as what is in it.

    A character that the encoding of stdout lacks is written as its escape, as Python does on stderr.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    watched = stream.isatty()
    width = None if watched or "COLUMNS" in os.environ else _ENDLESS
    return Console(stderr=stderr, highlight=False, soft_wrap=stderr, width=width)


messages = _console(stderr=True)
"""What happens, on stderr. `--quiet` silences it; `warn`, `fail` and `interrupted` speak all the same."""

results = _console(stderr=False)


def escape(text: str) -> str:
    """Text that a terminal shows and does not obey: no markup, and control characters as their escapes."""
    shown = (character if character.isprintable() else _spelled(character) for character in text)
    return escape_markup("".join(shown))


def _spelled(character: str) -> str:
    return character if character == "\n" else character.encode("unicode_escape").decode()


def warn(message: str) -> None:
    """Something that a person should look at; the command goes on."""
    _insist(f"[yellow]warning:[/] {escape(message)}")


def fail(message: str) -> None:
    """The one line that says what is wrong, where, and what to do."""
    _insist(f"[bold red]error:[/] {escape(message)}")


def interrupted(kept: str) -> None:
    """A run was stopped from outside; `kept` says what there is of it."""
    _insist(f"[yellow]interrupted:[/] {escape(kept)}")


def _insist(line: str) -> None:
    """Print a line even with `--quiet`."""
    quiet, messages.quiet = messages.quiet, False
    messages.print(line)
    messages.quiet = quiet


def print_json(value: Any) -> None:
    """On stdout; as ASCII where that could not hold every character."""
    ascii_only = sys.stdout.encoding.lower() != "utf-8"
    typer.echo(json.dumps(value, indent=2, ensure_ascii=ascii_only))


def progress(batches: Iterable[Any], title: str) -> Iterator[Any]:
    """The batches of a pass, saying how far it is."""
    total = len(batches) if isinstance(batches, Sized) else None
    with Progress(title) as shown:
        for done, batch in enumerate(batches, 1):
            yield batch
            shown.update(done, total)


class _Bar(progress_bars.Progress):
    """A bar that leaves nothing behind where its terminal gets narrower, and so folds the line that it showed."""

    _shown = 0

    def get_renderable(self) -> RenderableType:
        line = super().get_renderable()
        if folds := max(0, self._shown - 1) // messages.width:
            erase = (ControlType.ERASE_IN_LINE, 2)
            up = ((ControlType.CURSOR_UP, 1), erase)
            messages.control(Control(ControlType.CARRIAGE_RETURN, erase, *up * folds))
        self._shown = max(map(Segment.get_line_length, messages.render_lines(line, pad=False)), default=0)
        return line


def _tail(title: str, width: int) -> str:
    """The end of a title that would leave no room for the bar: of a path, the name."""
    return title if len(title) <= width else f"…{title[-width:]}"


class Progress:
    """How far a long pass is: a bar where a person is watching, elsewhere a line every `PROGRESS_SECONDS`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._watched = messages.file.isatty() and not messages.is_dumb_terminal
        self._bar = _Bar(
            progress_bars.TextColumn("{task.description}"),
            progress_bars.BarColumn(),
            progress_bars.TextColumn("{task.fields[note]}"),
            progress_bars.TimeRemainingColumn(),
            console=messages,
            transient=True,
            disable=messages.quiet or not self._watched,
        )
        self._task = self._bar.add_task(escape(_tail(title, messages.width // 3)), total=None, note="")
        self._started = self._said = time.monotonic()

    def update(self, done: float, total: float | None, note: str = "") -> None:
        """`done` of `total`, where that is known; `note` is shown beside it."""
        self._bar.update(self._task, completed=done, total=total, note=note)
        now = time.monotonic()
        if not self._watched and now - self._said >= PROGRESS_SECONDS:
            self._said = now
            facts = [f"{done / total:.0%}"] if total else []
            facts += [note] if note else []
            messages.print(f"{escape(self._title)}: {', '.join([*facts, f'{now - self._started:.0f} s'])}")

    def update_scoring(self, done: int, total: int | None, summary: "Summary") -> None:
        """The same for `score_file`: bytes, or rows of Parquet, and the summary so far."""
        self.update(done, total, f"{summary.rows:,} rows")

    def update_files(self, done: float, total: float, rows: int) -> None:
        """The same for several files at once: files done, with fractions, and rows."""
        self.update(done, total, f"{rows:,} rows")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def print_deviation(deviation: "Deviation") -> None:
    """What an imported model does differently from the notebook."""
    results.print(
        f"{deviation.texts:,} texts against the notebook's reading: {deviation.tokenized_differently:,} cut into "
        f"other tokens, {deviation.labels_changed:,} labels changed, probabilities moved by "
        f"{deviation.mean_change:.4f} in the mean and {deviation.max_change:.4f} at most",
        soft_wrap=True,
    )


def report_comparison(comparison: "Comparison") -> None:
    """One exported form against PyTorch, as soon as it was compared: a line on stderr."""
    verdict = "agrees" if comparison.passed else "DIFFERS"
    messages.print(
        f"{comparison.form} on {comparison.provider}: {verdict}, max |Δ| {comparison.max_difference:.1e}, "
        f"labels {comparison.label_agreement:.2%}, over {comparison.cases:,} texts"
    )


def verification_table(against: str, comparisons: "Sequence[Comparison]") -> Table:
    """The result of `verify`: a row a form, with what it was compared `against`."""
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


def print_shrinkage(shrinkage: "Shrinkage") -> None:
    """A shrunk bundle beside the full one, on stderr."""
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


def print_summary(summary: "Summary") -> None:
    """What a completed run of `score` did, on stderr."""
    labels = ", ".join(f"{label} {count:,}" for label, count in summary.labels.items())
    rate = (summary.rows - summary.resumed) / max(summary.seconds, 1e-9)
    messages.print(
        f"{summary.rows:,} rows: {summary.scored:,} scored, {summary.rejected:,} rejected in {summary.seconds:.1f} s "
        f"({rate:,.0f} rows/s)" + (f", {summary.resumed:,} of them from an interrupted run" if summary.resumed else "")
    )
    messages.print(escape(f"labels: {labels or 'none'}; {summary.unknown / max(1, summary.tokens):.1%} unknown words"))
    messages.print(escape(f"output: {'standard output' if summary.output == '-' else summary.output}"))
    if summary.rejects:
        messages.print(escape(f"rejects: {summary.rejects}"))
    if summary.abstained is not None:
        messages.print(f"abstained: {summary.abstained:,} of {summary.scored:,} rows, below --min-confidence")
    if summary.label_metrics:
        _print_label_metrics(summary.label_metrics)
    if summary.drift:
        for warning in summary.drift.warnings:
            warn(warning)


def _print_label_metrics(metrics: "LabelMetrics") -> None:
    if metrics.accuracy is None:
        messages.print(escape(f"no scored row has a label of the model in {metrics.column!r}"))
    else:
        messages.print(
            f"against {escape(repr(metrics.column))}: accuracy {metrics.accuracy:.2%}, "
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
        table.add_column(escape(heading), justify="right")
    for label, figures in classes.items():
        counts = [f"{count:,}" for count in (*confusion[label].values(), figures.support)]
        table.add_row(escape(label), *counts, *map(share, (figures.precision, figures.recall, figures.f1)))
    return table


def print_evaluation(evaluation: "Evaluation") -> None:
    """The figures, the classes and the worst mistakes, on stdout."""
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
            f"row {mistake.row:,}: {escape(mistake.label)}, answered {escape(mistake.prediction)} "
            f"with {mistake.confidence:.4f}"
        )
        results.print(Padding(Text(_excerpt(mistake.text)), (0, 0, 0, 4), expand=False))


def _excerpt(text: str) -> str:
    """The start of a text for a terminal: no control characters, no line ends, at most `_EXCERPT` characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT].rstrip()} …"


def print_preview(preview: "Preview", model: str) -> None:
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
        results.print(f"{name:15s} {escape(value)}", soft_wrap=True)
    table = Table(show_edge=False)
    for column in ("line", "prediction", "confidence", "text"):
        table.add_column(column, justify="right" if column in ("line", "confidence") else "left")
    for row in preview.rows:
        if row.confidence is None:
            table.add_row(f"{row.line:,}", "rejected", "", escape(row.reason or ""))
        else:
            table.add_row(
                f"{row.line:,}", escape(row.prediction or ""), f"{row.confidence:.6f}", escape(row.text or "")
            )
    results.print(table)


def print_epoch(epoch: "Epoch", best: bool) -> None:
    """One finished epoch, a line on stderr; a star marks the best so far."""
    messages.print(
        f"epoch {epoch.epoch:2d}  train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:5.2f} %  "
        f"validation loss {epoch.validation_loss:.4f} accuracy {epoch.validation_accuracy:5.2f} %  "
        f"{epoch.seconds:.1f} s{'  *' if best else ''}"
    )


def print_training(metrics: Mapping[str, Any], out: Path) -> None:
    """How a training ended, and which of its reviews it never got right."""
    from toolchain.training.suspects import FILE as SUSPECTS_FILE

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
            f"{escape(str(out / SUSPECTS_FILE))}"
        )


def print_comparison(comparison: "ModelComparison") -> None:
    """Two models beside each other on stdout: what differs, who is right, what each costs."""
    from rich.padding import Padding
    from rich.text import Text

    shift = comparison.shift
    results.print(
        escape(
            f"{comparison.changed:,} of {comparison.scored:,} labels change ({comparison.changed_share:.2%}); "
            f"probabilities move by {shift.mean:.4f} in the mean, {shift.quantiles['99%']:.4f} at the 99th percentile, "
            f"{shift.max:.4f} at most"
        ),
        soft_wrap=True,
    )
    if comparison.rejected:
        results.print(f"{comparison.rejected:,} of {comparison.rows:,} rows could not be scored")
    flips = Table(show_edge=False)
    flips.add_column("old answer")
    for label in comparison.flips:
        flips.add_column(escape(f"now {label}"), justify="right")
    for label, counts in comparison.flips.items():
        flips.add_row(escape(label), *(f"{count:,}" for count in counts.values()))
    results.print(flips)
    results.print(_sides_table(comparison))
    if comparison.mcnemar:
        results.print(comparison.mcnemar.verdict, soft_wrap=True)
    for change in comparison.most_changed[:_SHOWN_CHANGES]:
        known = "" if change.label is None else f"; its label is {change.label}"
        results.print(
            escape(
                f"line {change.line:,}: {change.old} {change.old_confidence:.4f} → "
                f"{change.new} {change.new_confidence:.4f}{known}"
            ),
            soft_wrap=True,
        )
        results.print(Padding(Text(_excerpt(change.text)), (0, 0, 0, 4), expand=False))


def _sides_table(comparison: "ModelComparison") -> Table:
    """A line a figure, a column a model."""
    sides = (comparison.old, comparison.new)
    rows = {
        "bundle": [escape(side.bundle) for side in sides],
        "reviews a second": [f"{side.rows_per_second:,.0f}" for side in sides],
        "size of its file": [f"{side.model_bytes / 1e6:,.2f} MB" for side in sides],
        "words it knows": [f"{side.vocabulary:,}" for side in sides],
        "unknown words": [f"{side.unknown_rate:.2%}" for side in sides],
    }
    metrics = [side.label_metrics for side in sides if side.label_metrics and side.label_metrics.labelled]
    if metrics:
        rows["accuracy"] = [f"{figures.accuracy:.2%}" for figures in metrics]
        rows["log-loss"] = [f"{figures.log_loss:.4f}" for figures in metrics]
    table = Table(show_edge=False)
    for column in ("", "old", "new"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def bundle_table(opened: "Bundle") -> Table:
    """What a bundle is: a line a fact, from its manifest."""
    from toolchain.measures.drift import bundle_reference, describe
    from toolchain.release.model_card import architecture, text_definition

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
    table = Table(title=escape(f"bundle {opened.folder}"), show_header=False)
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
        table.add_row(name, escape(value))
    if reference := bundle_reference(opened):
        table.add_row("reference text", escape(describe(reference, specification)))
    if shrunk := opened.manifest.get("shrunk"):
        table.add_row(
            "shrunk",
            f"from {shrunk['vocabulary']['full']:,} entries; {shrunk['label_agreement']:.2%} of the labels of "
            f"{shrunk['texts']:,} texts as before; the figures above are those of the full model",
        )
    for form in opened.manifest.get("parity", {}).get("forms", []):
        table.add_row(f"parity {form['form']}", f"max |Δ| {form['max_difference']:.1e} over {form['cases']:,} texts")
    for name, entry in opened.manifest["files"].items():
        table.add_row(escape(name), f"{entry['bytes']:,} bytes, SHA-256 {entry['sha256'][:12]}…")
    return table


def speed_table(measured: "Measurement") -> Table:
    """A line a route of `bench`."""
    limit = measured.limit_tokens_per_second
    table = Table(
        title=f"{measured.rows:,} rows, {measured.tokens:,} tokens, {measured.cores} cores, limit {limit:,.0f} tokens/s"
    )
    for column in ("route", "rows/s", "tokens/s", "of the limit"):
        table.add_column(column, justify="left" if column == "route" else "right")
    for route in measured.routes:
        figures = (f"{route.rows_per_second:,.0f}", f"{route.tokens_per_second:,.0f}", f"{route.share_of_limit:.0%}")
        table.add_row(route.name, *figures)
    return table


def print_findings(findings: "Iterable[Finding]") -> None:
    """What `doctor` found, a line each, on stdout."""
    marks = {True: "[green]ok[/]", False: "[red]--[/]", None: "  "}
    for finding in findings:
        results.print(f"{marks[finding.ok]}  {finding.what:20s} {escape(finding.state)}", soft_wrap=True)
