"""`model.pt2` says what PyTorch says for any number of rows and time steps, and needs nothing of ours to be loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.exc import UserError

from export.bundle import open_bundle
from export.pt2 import IdsClassifier, pt2_bytes
from tests.conftest import MakeSnapshot
from toolchain.corpus.reviews import Source, read_texts
from toolchain.models.snapshot import Snapshot
from toolchain.release.release import export_snapshot, verify_bundle


@pytest.fixture(scope="module")
def pt2_bundle(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pt2") / "bundle"
    export_snapshot(snapshot, folder, ["pt2"])
    return folder


@pytest.mark.parametrize(("recipe", "layers"), [("gru", 2), ("auto", 1), ("rnn", 1), ("rnn-cell", 2)])
def test_it_says_what_pytorch_says(make_snapshot: MakeSnapshot, recipe: str, layers: int, tmp_path: Path) -> None:
    snapshot = make_snapshot(recipe, layers)
    verification = export_snapshot(snapshot, tmp_path / "bundle", ["pt2"], read_texts(Source("sample"))[:100])
    (comparison,) = verification.comparisons
    assert comparison.form == "pt2"
    assert comparison.passed, comparison.failure()
    assert comparison.cases > 300
    assert comparison.alone == 200


def test_the_bundle_verifies_itself_again(pt2_bundle: Path) -> None:
    verification = verify_bundle(open_bundle(pt2_bundle), None)
    assert verification.passed
    assert [comparison.form for comparison in verification.comparisons] == ["pt2"]


def test_rows_and_time_are_free(snapshot: Snapshot, tmp_path: Path) -> None:
    """The example it was traced with has 3 rows and 7 steps."""
    (tmp_path / "model.pt2").write_bytes(pt2_bytes(snapshot.classifier(), {}))
    program = torch.export.load(tmp_path / "model.pt2").module()
    model = IdsClassifier(snapshot.classifier()).eval()
    generator = torch.Generator().manual_seed(0)
    for rows, time in [(3, 7), (1, 0), (2, 0), (1, 1), (5, 1), (1, 2_000), (64, 300)]:
        ids = torch.randint(len(snapshot.vocabulary), (rows, time), generator=generator)
        lengths = torch.randint(time + 1, (rows,), generator=generator)
        with torch.inference_mode():
            difference = (program(ids, lengths) - model(ids, lengths)).abs().max().item()
        assert difference <= 1e-6, (rows, time)


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # of the plain exports
def test_pytorch_is_left_as_it_was(snapshot: Snapshot) -> None:
    """Before and after, PyTorch's own rule fixes the time of a GRU, and in between that does not get in the way."""

    def fixed_time() -> str:
        time = torch.export.Dim("time")
        with pytest.raises(UserError, match="specialized it to be a constant") as raised:
            torch.export.export(nn.GRU(4, 4), (torch.zeros(5, 2, 4),), dynamic_shapes=({0: time},))
        return str(raised.value)

    before = fixed_time()
    assert pt2_bytes(snapshot.classifier(), {})
    assert fixed_time() == before


def test_it_needs_nothing_of_ours(pt2_bundle: Path, tmp_path: Path) -> None:
    """The program loads in a process whose path does not reach this project, and carries its specification."""
    site = Path(torch.__file__).parent.parent
    code = (
        f"import sys; sys.path.append({str(site)!r}); import torch\n"
        "extra = {'specification.json': ''}\n"
        f"program = torch.export.load({str(pt2_bundle / 'model.pt2')!r}, extra_files=extra).module()\n"
        "logits = program(torch.tensor([[2, 3, 1], [4, 5, 6]]), torch.tensor([2, 3]))\n"
        "assert not {'toolchain', 'export'} & set(sys.modules)\n"
        "print(tuple(logits.shape), 'max_tokens' in extra['specification.json'])"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.stdout.strip() == "(2, 2) True", run.stderr
