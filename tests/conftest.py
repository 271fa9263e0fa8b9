"""Real parts for every test: snapshots of all recipes with real vocabularies, and a bundle exported from one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests import tiny
from toolchain.corpus.corpus import Corpus, load_corpus
from toolchain.corpus.reviews import Source, read_training_reviews, sample_folder
from toolchain.models.classifiers import build_model
from toolchain.models.recipes import RECIPES
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.release.release import export_snapshot
from toolchain.training.loops import Settings, fit

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

TRAINED_EPOCHS = 6


def untrained_snapshot(recipe_name: str, layers: int = 1, labels: tuple[str, ...] = ("neg", "pos")) -> Snapshot:
    """A snapshot of the documented sizes whose weights are random and large, so that answers differ between texts."""
    recipe = RECIPES[recipe_name]
    reviews, _ = read_training_reviews(Source("sample"))
    words = dict.fromkeys(token for text in reviews.texts for token in recipe.tokenizer.tokenize(text))
    vocabulary = ["<unk>", "<pad>", *words]
    specification = recipe.specification(labels, layers)
    torch.manual_seed(0)
    model = build_model(recipe.model, specification, len(vocabulary), dropout=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(2.0 if "out" in name else 1.5)
    return Snapshot(recipe.model, specification, vocabulary, model.state_dict(), {"recipe": recipe_name})


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    return untrained_snapshot("gru")


@pytest.fixture(scope="session")
def snapshot_folder(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshot")
    save_snapshot(snapshot, folder)
    return folder


@pytest.fixture(scope="session")
def bundle(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every form. Shared: a test that changes it copies it first."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_snapshot(snapshot, folder, ["all"])
    return folder


@pytest.fixture(scope="session")
def onnx_bundle(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with `model.onnx` alone, quick to verify. Shared as well."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_snapshot(snapshot, folder, ["onnx"])
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle so small that a thousand short rows are scored in a tenth of a second."""
    folder = tmp_path_factory.mktemp("tiny")
    corpus = load_corpus(Source(str(tiny.write_reviews(folder / "reviews.csv", 400))), tiny.TINY, 0)
    fit(corpus, tiny.TINY, tiny.settings(epochs=1), folder / "snapshot")
    export_snapshot(load_snapshot(folder / "snapshot"), folder / "bundle", ["onnx"])
    return folder / "bundle"


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """A Ray cluster of three nodes, and an object store that they know."""
    from tests.scoring.ray.ray_cluster import started_cluster

    with started_cluster() as started:
        yield started


@dataclass(frozen=True)
class TrainedSample:
    """The `gru` recipe trained on the sample as `make demo` does."""

    folder: Path
    corpus: Corpus
    metrics: dict[str, Any]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedSample:
    folder = tmp_path_factory.mktemp("trained")
    recipe = RECIPES["gru"]
    corpus = load_corpus(Source("sample"), recipe, 0)
    settings = Settings(TRAINED_EPOCHS, recipe.batch_size, recipe.learning_rate, layers=1, seed=0, device="cpu")
    return TrainedSample(folder, corpus, fit(corpus, recipe, settings, folder))


@pytest.fixture(scope="session")
def sample_csv() -> Path:
    return sample_folder() / "sample_test.csv"


MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def make_snapshot() -> MakeSnapshot:
    return untrained_snapshot


def score_command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`toolchain score` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "toolchain", "score", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )
