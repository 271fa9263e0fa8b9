"""Real parts for every test: snapshots of all recipes with real vocabularies, and a bundle exported from one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toolchain.corpus import Source, read_training_reviews, sample_folder
from toolchain.models import build_model
from toolchain.recipes import RECIPES
from toolchain.release import export_snapshot
from toolchain.snapshot import Snapshot, save_snapshot


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
def sample_csv() -> Path:
    return sample_folder() / "sample_test.csv"


MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def make_snapshot() -> MakeSnapshot:
    return untrained_snapshot
