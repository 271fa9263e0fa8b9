"""A model of every class, so small that a bundle that explains is exported in a second."""

import json
import shutil
from pathlib import Path

import torch

from export.bundle import EXPLAIN_VECTORS, MANIFEST
from export.spec import Specification
from export.text import Tokenizer
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot
from toolchain.release.release import export_snapshot

LABELS = ("bad", 'fine, "really"', "좋다")
WORDS = [
    "<unk>",
    "<pad>",
    "a",
    "fine",
    "film",
    "but",
    "dull",
    "in",
    "the",
    "end",
    *(f"w{number}" for number in range(90)),
]


def small_snapshot(model: str = "PooledGRU", layers: int = 1) -> Snapshot:
    """A small model of every class, with weights large enough for answers to differ between texts."""
    specification = Specification(
        labels=LABELS,
        cell="gru" if "GRU" in model else "rnn",
        embedding=24,
        hidden=32,
        layers=layers,
        pooling=("last", "max", "mean") if model == "PooledGRU" else ("last",),
        head=(16,) if model == "RNNCellClassifier" else (),
        max_tokens=100,
        tokenizer=Tokenizer(punctuation="dropped" if model == "RNNCellClassifier" else "isolated"),
    )
    torch.manual_seed(0)
    state = build_model(model, specification, len(WORDS), dropout=0.0).state_dict()
    state["out.weight"] *= 5
    return Snapshot(model, specification, WORDS, state, {"recipe": "ours"})


def explaining_bundle(folder: Path) -> Path:
    """A bundle of the pooled model in `folder`, with what scores and what explains."""
    export_snapshot(small_snapshot(), folder, ["onnx-cpu", "onnx-explain"])
    return folder


def without_the_form(explaining: Path, folder: Path) -> Path:
    """A copy of a bundle in `folder` that does not explain."""
    copy = folder / "plain"
    shutil.copytree(explaining, copy)
    for name in ("model.explain.onnx", EXPLAIN_VECTORS):
        (copy / name).unlink()
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"] = {path.name: manifest["files"][path.name] for path in copy.iterdir() if path.name != MANIFEST}
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return copy
