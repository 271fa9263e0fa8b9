"""`toolchain import`: a notebook's state_dict becomes a snapshot, with what can be known of how well it fits."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show, tell, warn
from toolchain.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from export.spec import Nonlinearity
    from export.text import TokenizerName
    from toolchain.files.tables import ReadOptions
    from toolchain.models.importing import Deviation, Fit, Imported
    from toolchain.models.snapshot import Snapshot


@options.reads_rows
@options.shown_first("state_dict", "vocab", "labels", "tokenizer", "sample", "out")
def import_(
    state_dict: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="What torch.save(model.state_dict(), …) wrote.", rich_help_panel=options.INPUT
        ),
    ],
    vocab: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The words of TEXT.vocab.itos: one on each line, a JSON list, or a JSON object {word: id}.",
            rich_help_panel=options.INPUT,
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="The labels in the order of the model's outputs. In the notebook: print(LABEL.vocab.itos[1:]).",
            rich_help_panel=options.INPUT,
        ),
    ],
    tokenizer: Annotated[
        options.Tokenizer,
        typer.Option(
            help="How the notebook cut text into tokens; attached is str.split. --sample shows which one fits.",
            rich_help_panel=options.INPUT,
        ),
    ] = "attached",
    nonlinearity: Annotated[
        Literal["tanh", "relu"] | None,
        typer.Option(
            help="The nonlinearity of an RNN or RNNCell. The file does not tell it. Default: tanh.",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    sample: Annotated[
        str | None,
        options.data(
            "Texts to check the import with, best with labels: a file, an aclImdb folder, sample or imdb.",
            options.QUALITY,
        ),
    ] = None,
    text_column: Annotated[str | None, options.text_column(options.QUALITY)] = None,
    label_column: Annotated[str | None, options.true_label_column(options.QUALITY)] = None,
    label_map: Annotated[str | None, options.label_map(options.QUALITY)] = None,
    reading: "ReadOptions" = options.READING,
    out: Annotated[Path, options.snapshot_folder(options.OUTPUT)] = Path("snapshot"),
    overwrite: Annotated[bool, options.overwrite_snapshot(options.OUTPUT)] = False,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("what was read and measured")] = False,
) -> None:
    """Make a snapshot from the state_dict of a notebook: a GRU, RNN or RNNCell with one or more Linear layers.

    The names of the tensors do not matter, nor a prefix such as module. or a checkpoint around them: their shapes tell.

    Examples:
    toolchain import --state-dict model.pt --vocab vocab.txt --labels neg,pos
    toolchain import --state-dict m.pt --vocab v.json --labels a,b --sample my.csv
    """
    import dataclasses

    from export.text import TOKENIZERS
    from toolchain.models.earlier import set_aside
    from toolchain.models.importing import (
        accuracy_by_nonlinearity,
        best_fit,
        check_place,
        import_state_dict,
        measure_deviation,
        measure_fits,
    )
    from toolchain.models.snapshot import save_snapshot

    check_place(state_dict, out)
    classes = options.label_names("--labels", labels)
    imported = import_state_dict(state_dict, vocab, classes, TOKENIZERS[tokenizer], nonlinearity or "tanh")
    snapshot = imported.snapshot
    say_found(imported)
    if imported.unreachable:
        some = quoted(", ".join(map(repr, imported.unreachable[:3])))
        warn(f"words that cannot occur with --tokenizer {tokenizer}: {len(imported.unreachable):,}, such as {some}")
    untold = imported.found.cell == "rnn" and nonlinearity is None
    measures = {}
    if sample is not None:
        from toolchain.corpus.reviews import Source, read_texts_with_labels

        say(f"measuring on {escape(sample)} …")
        source = Source(sample, text_column, label_column, label_map=label_map, reading=reading, say=tell)
        rows = read_texts_with_labels(source)
        texts, truth = [text for text, _ in rows], [label for _, label in rows]
        fits = measure_fits(snapshot, texts, truth)
        deviation = measure_deviation(snapshot, texts)
        if not as_json:
            print_fits(fits, tokenizer, deviation)
        warn_of_fit(snapshot, fits, tokenizer)
        if untold:
            warn_of_nonlinearity(accuracy_by_nonlinearity(snapshot, texts, truth))
        measures = {
            "fits": {name: dataclasses.asdict(fit) for name, fit in fits.items()},
            "proposed": best_fit(fits).tokenizer,
            "deviation": dataclasses.asdict(deviation),
        }
    elif untold:
        warn_of_nonlinearity({})
    earlier = None if overwrite else set_aside(out)
    save_snapshot(snapshot, out)
    if earlier:
        say(escape(earlier.verdict({})))
    say(f"snapshot in {escape(str(out))}/; next: toolchain export --snapshot {escape(str(out))}")
    if as_json:
        print_json(
            {
                "model": snapshot.model,
                "specification": snapshot.specification.to_json(),
                "vocabulary": len(snapshot.vocabulary),
                "unreachable": len(imported.unreachable),
                "left_out": list(imported.found.left_out),
                **({"deviation": None} | measures),
            }
        )


def say_found(imported: "Imported") -> None:
    """What was read, and what of it the file does not tell."""
    specification, found = imported.snapshot.specification, imported.found
    nonlinearity = f" with {specification.nonlinearity}" if found.cell == "rnn" else ""
    say(
        f"{found.cell.upper()}: {found.words:,} words, embedding {found.embedding}, {found.layers} × {found.hidden}"
        f"{nonlinearity}, labels {escape(', '.join(specification.labels))}; read as {escape(', '.join(found.called))}"
    )
    if found.head:
        say(
            f"a ReLU between {escape(' and '.join(found.called[2:]))}, and texts cut at {specification.max_tokens} "
            "tokens: both as documented, the file does not tell"
        )
    if found.left_out:
        say(f"left out, no weights: {escape(quoted(', '.join(found.left_out)))}")


def print_fits(fits: "Mapping[TokenizerName, Fit]", chosen: str, deviation: "Deviation") -> None:
    """How each tokenizer fits the vocabulary, and what a notebook like the documented one would answer otherwise."""
    show(f"{deviation.texts:,} texts; tokens that the vocabulary lacks, by tokenizer:")
    for name, fit in fits.items():
        accuracy = "" if fit.accuracy is None else f"   accuracy {fit.accuracy:.2f} %"
        mark = "   <- chosen" if name == chosen else ""
        out_of_reach = f"   {fit.unreachable:.1%} of the training text out of reach" if fit.unreachable >= 0.001 else ""
        show(f"  {name:10s} {fit.unknown:6.1%}{accuracy}{out_of_reach}{mark}", soft_wrap=True)
    show(
        "if the notebook reads its answer after the padding of batches of 64, as the documented one does: "
        f"{deviation.tokenized_differently:,} texts cut into other tokens, {deviation.labels_changed:,} labels "
        f"changed, probabilities moved by {deviation.mean_change:.4f} in the mean, {deviation.max_change:.4f} at most",
        soft_wrap=True,
    )


def warn_of_fit(snapshot: "Snapshot", fits: "Mapping[TokenizerName, Fit]", chosen: "TokenizerName") -> None:
    """Where the vocabulary was made by another tokenizer, and where the answers are worse than a guess."""
    from toolchain.models.importing import UNKNOWN_LIMIT, best_fit

    own, best = fits[chosen], best_fit(fits)
    if own.unknown > UNKNOWN_LIMIT:
        warn(
            f"{own.unknown:.1%} of the sample's tokens are unknown with --tokenizer {chosen}: the model was trained on "
            "tokens that were cut otherwise, or on other text"
        )
    if best.tokenizer != chosen:
        warn(f"--tokenizer {best.tokenizer} fits the vocabulary best: {best.unknown:.1%} unknown; import with that")
    if best.unknown > UNKNOWN_LIMIT:
        warn(
            "none of the tokenizers gives all words of the vocabulary: where too few are known, cut texts as the "
            "notebook does, put a space between the tokens, and score those with --tokenizer attached"
        )
    if own.accuracy is not None and own.accuracy < 100 / len(snapshot.specification.labels):
        warn(f"accuracy {own.accuracy:.2f} % is below chance: --labels may be in the wrong order")


def warn_of_nonlinearity(accuracies: "Mapping[Nonlinearity, float]") -> None:
    """What of an RNN has to be known, and which way the labels of a sample speak."""
    measured = ", ".join(f"{accuracy:.2f} % with {name}" for name, accuracy in accuracies.items())
    warn(
        "the file does not tell the nonlinearity of an RNN; tanh is assumed, else add --nonlinearity relu"
        + (f". Accuracy: {measured}" if measured else "")
    )
