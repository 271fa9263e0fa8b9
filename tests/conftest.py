"""Real parts for every test: small snapshots of all recipes, and bundles exported from one."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings

from tests import tiny
from toolchain.corpus.corpus import Corpus, load_corpus
from toolchain.corpus.reviews import Source, read_training_reviews, sample_folder
from toolchain.models.classifiers import build_model
from toolchain.models.recipes import RECIPES, Recipe
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.release.release import export_snapshot
from toolchain.training.loops import Settings, fit

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

TRAINED_EPOCHS = 4

settings.load_profile("ci")  # the same examples in every run, and no deadline for any


def narrow(recipe: Recipe) -> Recipe:
    """The recipe with few units and a limit that the edge cases reach soon: exported and proven in two seconds."""
    return replace(
        recipe,
        embedding=12,
        hidden=16,
        head=tuple(12 for _ in recipe.head),
        max_tokens=min(300, recipe.max_tokens),
    )


def untrained_snapshot(
    recipe_name: str, layers: int = 1, labels: tuple[str, ...] = ("neg", "pos"), documented_sizes: bool = False
) -> Snapshot:
    """A snapshot whose weights are random and large, so that answers differ between texts."""
    recipe = RECIPES[recipe_name] if documented_sizes else narrow(RECIPES[recipe_name])
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


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills: the first process of this run that comes here does it, for all. Not to be changed."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache is the user's; the tests have one of their own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    return untrained_snapshot("gru")


@pytest.fixture(scope="session")
def snapshot_folder(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "snapshot", lambda folder: save_snapshot(snapshot, folder))


@pytest.fixture(scope="session")
def bundle(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every form. Shared: a test that changes it copies it first."""
    folder = once(tmp_path_factory, "exported", lambda folder: export_snapshot(snapshot, folder / "bundle", ["all"]))
    return folder / "bundle"


@pytest.fixture(scope="session")
def onnx_bundle(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with `model.onnx` alone, quick to verify. Shared as well."""
    folder = once(tmp_path_factory, "quick", lambda folder: export_snapshot(snapshot, folder / "bundle", ["onnx"]))
    return folder / "bundle"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle so small that a thousand short rows are scored in a tenth of a second."""

    def make(folder: Path) -> None:
        corpus = load_corpus(Source(str(tiny.write_reviews(folder / "reviews.csv", 400))), tiny.TINY, 0)
        fit(corpus, tiny.TINY, tiny.settings(epochs=1), folder / "snapshot")
        export_snapshot(load_snapshot(folder / "snapshot"), folder / "bundle", ["onnx"])

    return once(tmp_path_factory, "tiny", make) / "bundle"


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """A Ray cluster of three nodes, and an object store that they know."""
    from tests.scoring.ray.ray_cluster import started_cluster

    with started_cluster() as started:
        yield started


@dataclass(frozen=True)
class TrainedSample:
    """The `gru` recipe with fewer units, trained on the sample."""

    folder: Path
    corpus: Corpus
    metrics: dict[str, Any]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedSample:
    recipe = replace(RECIPES["gru"], embedding=32, hidden=64)
    corpus = load_corpus(Source("sample"), recipe, 0)
    settings = Settings(TRAINED_EPOCHS, batch_size=32, learning_rate=3e-3, layers=1, seed=0, device="cpu")
    folder = once(tmp_path_factory, "trained", lambda folder: fit(corpus, recipe, settings, folder))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return TrainedSample(folder, corpus, metrics)


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
