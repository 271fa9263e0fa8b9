"""`toolchain import`: the state_dict of the documented notebook becomes a snapshot."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, say, show, warn

if TYPE_CHECKING:
    from toolchain.files.tables import ReadOptions
    from toolchain.models.importing import Deviation


@options.reads_rows
def import_(
    state_dict: Annotated[
        Path,
        typer.Option(
            help="What the notebook's torch.save(model.state_dict(), …) wrote.", rich_help_panel=options.INPUT
        ),
    ],
    vocab: Annotated[Path, typer.Option(help="TEXT.vocab.itos, a word a line.", rich_help_panel=options.INPUT)],
    labels: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="The classes in the order of the outputs. The notebook's are those of LABEL.vocab.itos[1:], by "
            "frequency: print it, do not guess.",
            rich_help_panel=options.INPUT,
        ),
    ],
    tokenizer: Annotated[
        options.Tokenizer, typer.Option(help="attached is the notebook's str.split.", rich_help_panel=options.INPUT)
    ] = "attached",
    sample: Annotated[
        str | None,
        options.data(
            "Own texts to measure on what cannot be carried over: sample, imdb, a folder or file.", options.QUALITY
        ),
    ] = None,
    text_column: Annotated[str | None, options.text_column(options.QUALITY)] = None,
    reading: "ReadOptions" = options.READING,
    out: Annotated[Path, typer.Option(help="Folder for the snapshot.", rich_help_panel=options.OUTPUT)] = Path(
        "snapshot"
    ),
    overwrite: Annotated[bool, options.overwrite_snapshot(options.OUTPUT)] = False,
    quiet: options.Quiet = False,
    as_json: Annotated[bool, options.as_json("what was read, and the measures,")] = False,
) -> None:
    """Turn the state_dict of the documented notebook (BasicGRU, BasicRNN) into a snapshot that can be exported.

    Example: toolchain import --state-dict model.pt --vocab vocab.txt --labels neg,pos
    """
    import dataclasses

    from export.text import TOKENIZERS
    from toolchain.models.earlier import set_aside
    from toolchain.models.importing import check_place, import_state_dict, measure_deviation
    from toolchain.models.snapshot import save_snapshot

    check_place(state_dict, out)
    imported = import_state_dict(state_dict, vocab, options.names([labels]), TOKENIZERS[tokenizer])
    specification = imported.snapshot.specification
    say(
        f"{imported.snapshot.model}: {len(imported.snapshot.vocabulary):,} words, embedding {specification.embedding}, "
        f"{specification.layers} × {specification.cell.upper()} {specification.hidden}, "
        f"labels {escape(', '.join(specification.labels))}"
    )
    if imported.unreachable:
        some = ", ".join(map(repr, imported.unreachable[:3]))
        warn(f"words that no text gives with --tokenizer {tokenizer}: {len(imported.unreachable):,}, such as {some}")
    deviation = None
    if sample is not None:
        from toolchain.corpus.reviews import Source, read_texts

        say(f"measuring on {escape(sample)} …")
        deviation = measure_deviation(imported.snapshot, read_texts(Source(sample, text_column, reading=reading)))
        if not as_json:
            print_deviation(deviation)
    earlier = None if overwrite else set_aside(out)
    save_snapshot(imported.snapshot, out)
    if earlier:
        say(escape(earlier.verdict({})))
    say(f"snapshot in {escape(str(out))}/; next: toolchain export --snapshot {escape(str(out))}")
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


def print_deviation(deviation: "Deviation") -> None:
    """What an imported model does differently from the notebook."""
    show(
        f"{deviation.texts:,} texts against the notebook's reading: {deviation.tokenized_differently:,} cut into "
        f"other tokens, {deviation.labels_changed:,} labels changed, probabilities moved by "
        f"{deviation.mean_change:.4f} in the mean and {deviation.max_change:.4f} at most",
        soft_wrap=True,
    )
