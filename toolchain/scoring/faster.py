"""What might have made a long run shorter: a form or a provider that is there and was not used. Nothing is measured."""

from export.sessions import installed_providers
from toolchain.scoring.scorer import GENERAL, INT8, Scorer


def faster_ways(scorer: Scorer, asked: str, data: str) -> list[str]:
    """What to try, a line each, after a run over the file `data` with the provider that was `asked` for."""
    if scorer.provider != "cpu" or scorer.explained_words:
        return []
    ways = []
    if INT8 in scorer.bundle.files and scorer.model != INT8:
        over = "" if data == "-" else f" --data {data}"
        ways.append(
            f"--precision int8 may be faster: the bundle holds it{_labels_kept(scorer)}. Measure it: toolchain bench "
            f"--bundle {scorer.bundle.folder}{over}"
        )
    if asked == "auto" and GENERAL in scorer.bundle.files:
        ways += [
            f"not used: the provider {name}, which is installed; --provider {name} uses it, or says why it cannot"
            for name in installed_providers()
            if name != "cpu"
        ]
    return ways


def _labels_kept(scorer: Scorer) -> str:
    """What the manifest says of the labels of int8, if it says anything."""
    for form in scorer.bundle.manifest.get("parity", {}).get("forms", []):
        if form["form"] == "onnx-int8":
            return f", and it kept {form['label_agreement']:.2%} of the labels of {form['cases']:,} texts in its export"
    return ""
