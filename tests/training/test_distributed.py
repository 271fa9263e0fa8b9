"""Two processes train as one does: the same gradients, figures, files, and no review lost or seen twice."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.tiny import write_reviews
from tests.training import one_of_two
from tests.training.test_resumption import assert_same, heed_sigint, wait_for_epochs
from toolchain import __main__ as entry
from toolchain.cli.app import app
from toolchain.models.snapshot import load_snapshot
from toolchain.training.distributed import take_part

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", 216, wrong=range(0, 216, 9))


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Two processes, each of them this module with these arguments."""
    return subprocess.Popen(
        [*TORCHRUN, "-m", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=heed_sigint,
    )


def train(reviews: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    return start("toolchain", "train", *arguments(reviews, out), *options)


def arguments(reviews: Path, out: Path, device: str = "cpu", precision: str = "fp32") -> list[str]:
    """An odd batch size, dropout, and epochs long enough to be interrupted."""
    settings = ["--epochs", "10", "--batch-size", "7", "--lr", "0.002", "--device", device, "--precision", precision]
    return ["--recipe", "gru", "--data", str(reviews), "--out", str(out), *settings]


def finish(processes: subprocess.Popen[str]) -> tuple[str, str]:
    """What they printed and said, after an end without an error."""
    printed, said = processes.communicate(timeout=300)
    assert processes.returncode == 0, said
    return printed, said


# --- gradients, figures and reviews ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return one_of_two.run(str(reviews), tmp_path_factory.mktemp("alone") / "snapshot")


@pytest.fixture(scope="module")
def folder(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: a snapshot, and what each of them saw."""
    folder = tmp_path_factory.mktemp("together")
    finish(start("tests.training.one_of_two", reviews, folder))
    return folder


@pytest.fixture(scope="module")
def together(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", one_of_two.EPOCHS)
def test_gradients_and_figures_are_those_of_one_process(
    alone: dict[str, Any], together: list[dict[str, Any]], name: str
) -> None:
    """To the rounding of sums in another order: of bf16 it is coarser, 2^-8 of a product."""
    tolerance = 1e-2 if name == "bf16" else 1e-5
    one, two = alone["epochs"][name], [process["epochs"][name] for process in together]
    assert len(one["gradients"]) == len(two[0]["gradients"]) == len(two[1]["gradients"])
    for step, (expected, *others) in enumerate(zip(one["gradients"], *(p["gradients"] for p in two), strict=True)):
        largest = max(float(gradient.abs().max()) for gradient in expected)
        assert largest > 0, step
        for ours in others:
            for gradient, theirs in zip(ours, expected, strict=True):
                torch.testing.assert_close(gradient, theirs, rtol=0, atol=tolerance * largest)
        assert all(torch.equal(first, second) for first, second in zip(*others, strict=True))
    assert two[0]["figures"] == two[1]["figures"] == pytest.approx(one["figures"], rel=tolerance)
    for process in two:
        assert process["logits"] == pytest.approx(one["logits"], abs=1e-6)  # review by review, in the same order


@pytest.mark.parametrize("name", one_of_two.EPOCHS)
def test_no_review_is_lost_or_seen_twice(alone: dict[str, Any], together: list[dict[str, Any]], name: str) -> None:
    expected = Counter(origin for origin, _ in alone["epochs"][name]["seen"])
    assert set(expected.values()) == {1}
    own = [Counter(origin for origin, _ in process["epochs"][name]["seen"]) for process in together]
    assert own[0] + own[1] == expected
    if name == "one review a batch":
        assert not own[1]
    else:
        assert 0 <= own[0].total() - own[1].total() <= len(alone["epochs"][name]["gradients"])


def test_a_training_without_chance_is_the_same(
    alone: dict[str, Any], folder: Path, together: list[dict[str, Any]]
) -> None:
    """With a linear part, clipping, a schedule, averaged weights, class weights and suspects.

    Rounding grows over 48 steps of Adam.
    """
    one, two = alone["metrics"], together[0]["metrics"]
    assert two.pop("processes") == 2
    for name in ("validation_loss", "test_loss", "validation_accuracy", "test_accuracy"):
        assert two[name] == pytest.approx(one[name], abs=1e-3), name
    assert (two["epoch"], two["suspects"]) == (one["epoch"], one["suspects"])
    assert two["suspects"] > 3
    assert [process["ended"] for process in together] == [5, 0]  # one reports
    with (folder / "snapshot" / "history.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 8])
def test_the_parts_of_a_batch_are_the_batch(processes: int) -> None:
    batch = SimpleNamespace(
        dataset=SimpleNamespace(fields={}),
        text=(torch.arange(15).reshape(5, 3), torch.tensor([3, 3, 2, 1, 0])),
        label=torch.tensor([1, 0, 0, 1, 0]),
        origin=list("abcde"),
    )
    weights = torch.tensor([1.0, 3.0])
    parts = [take_part(batch, rank, processes, weights) for rank in range(processes)]
    counting = [part for part in parts if part.part.weight]
    assert sorted(origin for part in counting for origin in part.origin) == batch.origin
    assert len(counting) == min(processes, 5)
    for part in parts:
        rows = [batch.origin.index(origin) for origin in part.origin]
        assert torch.equal(part.text[0], batch.text[0][rows])
        assert torch.equal(part.text[1], batch.text[1][rows])
        assert torch.equal(part.label, batch.label[rows])
    assert sum(part.part.weight for part in parts) == pytest.approx(5)
    assert sum(part.part.scale for part in parts) == pytest.approx(processes)
    first = [weights[label] for label in parts[0].label]
    assert parts[0].part.weight == pytest.approx(5 * float(sum(first)) / 9)


def test_processes_that_would_train_different_things_do_not_begin(together: list[dict[str, Any]]) -> None:
    said = [process["refused"] for process in together]
    assert said[0].startswith("process 1 trains something else (precision differ)")
    assert said[1].startswith("process 0 trains something else (precision differ)")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    printed, said = finish(train(reviews, out, "--json"))
    assert printed.count('"test_loss"') == 1
    assert [said.count(line) for line in ("epoch  1 ", "epoch 10 ", "best epoch ", "snapshot in ")] == [1, 1, 1, 1]
    return out


def test_two_processes_learn_what_one_does_and_the_export_is_proven(
    reviews: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Within 0.1 nats and two of 38 reviews: units drop out otherwise. Seeds of one process lie 0.2 nats apart."""
    run = CliRunner().invoke(app, ["train", *arguments(reviews, tmp_path / "alone")])
    assert run.exit_code == 0, run.stderr
    one, two = load_snapshot(tmp_path / "alone"), load_snapshot(undisturbed)
    assert two.training["processes"] == 2
    assert one.vocabulary == two.vocabulary
    assert {name: tensor.shape for name, tensor in one.state.items()} == {
        name: tensor.shape for name, tensor in two.state.items()
    }
    assert abs(one.training["validation_loss"] - two.training["validation_loss"]) < 0.1
    assert abs(one.training["validation_accuracy"] - two.training["validation_accuracy"]) < 6
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {path.name for path in undisturbed.iterdir()}
    bundle = tmp_path / "bundle"
    exported = CliRunner().invoke(
        app,
        ["export", "--snapshot", str(undisturbed), "--out", str(bundle), "--format", "onnx", "--data", str(reviews)],
    )
    assert exported.exit_code == 0, exported.stderr
    verified = CliRunner().invoke(app, ["verify", str(bundle), "--snapshot", str(undisturbed), "--data", str(reviews)])
    assert verified.exit_code == 0, verified.stderr


def test_a_training_that_is_interrupted_and_loses_a_process_goes_on_to_the_same_checkpoint(
    reviews: Path, undisturbed: Path, tmp_path: Path
) -> None:
    interrupted = train(reviews, tmp_path)
    wait_for_epochs(tmp_path, 1)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=300)
    assert interrupted.returncode != 0
    assert said.count("finished epochs are kept; continue with --resume") == 1

    robbed = train(reviews, tmp_path, "--resume")
    wait_for_epochs(tmp_path, 5)
    os.kill(worker(robbed, rank=1), signal.SIGKILL)
    _, said = robbed.communicate(timeout=300)
    assert robbed.returncode != 0
    assert said.count("torchrun ended the training: another process died") == 1
    assert said.count("finished epochs are kept; continue with --resume") == 1
    assert (tmp_path / "resume.pt").exists()

    finish(train(reviews, tmp_path, "--resume"))
    assert_same(tmp_path, undisturbed)


def worker(processes: subprocess.Popen[str], rank: int) -> int:
    """The process number of a rank, among torchrun's children."""
    for child in Path(f"/proc/{processes.pid}/task/{processes.pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"torchrun has no process of rank {rank}")


def test_what_is_wrong_with_the_data_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\nfine,pos\nlovely,pos\n")
    processes = train(tmp_path / "reviews.csv", tmp_path / "snapshot")
    _, said = processes.communicate(timeout=300)
    assert processes.returncode != 0
    assert said.count("every review has the label 'pos'") == 1
    assert not (tmp_path / "snapshot").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_wrong_with_another_process_alone_is_said_by_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], rank: int
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr("sys.argv", ["toolchain", "train", "--nonsense"])
    monkeypatch.setattr(entry, "PATIENCE", 0.0)
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert "--nonsense" in said
    assert said.startswith("process 1:\n") == (rank == 1)


@pytest.mark.cuda
def test_devices_train_together_on_cuda(reviews: Path, tmp_path: Path) -> None:
    devices = torch.cuda.device_count()
    if not devices:
        pytest.skip("did not run: there is no CUDA device here")
    settings = arguments(reviews, tmp_path, "cuda", "bf16")
    subprocess.run([*TORCHRUN[:-1], str(devices), "-m", "toolchain", "train", *settings], cwd=ROOT, check=True)
    trained = load_snapshot(tmp_path).training
    assert trained["precision"] == "bfloat16"
    assert trained.get("processes", 1) == devices
    assert trained["validation_accuracy"] > 70
