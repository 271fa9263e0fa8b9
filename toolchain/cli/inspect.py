"""`toolchain inspect`: what a bundle is, every digest checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from toolchain.cli import options
from toolchain.cli.terminal import escape, print_json, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from export.bundle import Bundle


def inspect(
    bundle: Annotated[Path | None, options.bundle_argument("bundle")] = None,
    as_json: Annotated[bool, options.as_json("the manifest", None)] = False,
) -> None:
    """Show what a bundle holds: model, metrics, proof, files. Checks the digest of every file.

    Examples:
    toolchain inspect bundle
    toolchain inspect bundle --json | jq .labels
    """
    from export.bundle import open_bundle
    from toolchain.scoring.default import find_bundle

    opened = open_bundle(find_bundle(bundle))
    opened.check()
    if as_json:
        print_json(opened.manifest)
        return
    show(bundle_table(opened))


def _parts(reviews: "Mapping[str, int]") -> str:
    """`3,680 training, 920 validation, 800 test reviews`."""
    names = {"train": "training", "validation": "validation", "test": "test"}
    return f"{', '.join(f'{reviews[part]:,} {name}' for part, name in names.items() if part in reviews)} reviews"


def bundle_table(opened: "Bundle") -> "Table":
    """What a bundle is: a line a fact, from its manifest."""
    from toolchain.measures.drift import bundle_reference, describe
    from toolchain.measures.standing import BASELINE, Folds, Standing
    from toolchain.release.model_card import architecture, speed_line, text_definition, trained_before

    specification, training, words = opened.specification, opened.manifest.get("training", {}), opened.vocabulary()
    if "imported" in training:
        source = training["imported"]
        origin = {"imported from": f"{source['file']}, SHA-256 {source['sha256'][:12]}…"}
    else:
        origin = {
            "trained on": f"{training.get('data')}: {_parts(training.get('reviews', {}))}",
            "best epoch": f"{training.get('epoch')}, "
            f"validation loss {training.get('validation_loss', float('nan')):.4f}",
            "test": f"loss {training.get('test_loss', float('nan')):.4f}, "
            f"accuracy {training.get('test_accuracy', float('nan')):.2f} %",
        }
        if speed := training.get("speed"):
            origin["speed"] = speed_line(speed)
        if folds := training.get("folds"):
            origin["cross-validation"] = str(Folds(**folds))
        if start := training.get("start"):
            origin["started from"] = trained_before(start)
        if teachers := training.get("teachers"):
            origin["taught by"] = "; ".join(map(trained_before, teachers))
        if values := training.get("standing"):
            standing = Standing.from_json(values)
            origin |= {
                "accuracy, 95 % interval": f"{standing.model} on {standing.reviews:,} {standing.part} reviews",
                BASELINE: f"{standing.baseline}; counts {standing.features}",
                f"always {standing.majority_label}": str(standing.majority),
            }
    from rich.table import Table

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
