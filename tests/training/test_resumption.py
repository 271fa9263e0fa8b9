"""A training that is killed goes on to the result of an undisturbed one."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from export.text import TOKENIZERS
from tests.tiny import TINY, settings, write_reviews
from toolchain.cli.app import app
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source, read_reviews, sample_folder
from toolchain.errors import UsageError
from toolchain.models.recipes import RECIPES
from toolchain.models.snapshot import load_snapshot
from toolchain.training.loops import Settings, fit
from toolchain.training.resumption import FILE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    reviews = read_reviews(sample_folder() / "sample_train.csv")
    rows = [f'"{text}",{label}\n' for text, label in zip(reviews.texts, reviews.labels, strict=True) if '"' not in text]
    path.write_text("text,label\n" + "".join(rows[:400]), encoding="utf-8")
    return path


def arguments(data: Path, out: Path) -> list[str]:
    """Of a training whose epochs take half a second, long enough to be stopped between two of them.

    On the CPU, where the same seed gives the same bits.
    """
    return ["train", "--recipe", "gru", "--data", str(data), "--epochs", "6", "--device", "cpu", "--out", str(out)]


def start(data: Path, out: Path) -> subprocess.Popen[str]:
    """The training as a process of its own."""
    command = [sys.executable, "-m", "toolchain", *arguments(data, out)]
    # A shell that runs the tests in the background makes them ignore SIGINT, and the child would inherit that.
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_sigint)


def train(data: Path, out: Path, *options: str) -> None:
    """The training from its beginning, or with `--resume` from where another process left it, to its end."""
    run = CliRunner().invoke(app, [*arguments(data, out), *options])
    assert run.exit_code == 0, run.stderr


def heed_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_epochs(out: Path, count: int) -> None:
    """Until the history names that many finished epochs and their state is on disk."""
    for _ in range(6000):
        history = out / "history.csv"
        if (out / FILE).exists() and history.exists() and len(history.read_text().splitlines()) > count:
            return
        time.sleep(0.05)
    raise AssertionError("the training did not get that far")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    train(data, out)
    return out


def assert_same(out: Path, undisturbed: Path) -> None:
    columns = [
        [line.rsplit(",", 1)[0] for line in (folder / "history.csv").read_text().splitlines()]  # all but the seconds
        for folder in (out, undisturbed)
    ]
    assert columns[0] == columns[1]
    ours, theirs = load_snapshot(out), load_snapshot(undisturbed)
    figures = ("epoch", "validation_loss", "test_loss", "test_accuracy")
    assert [ours.training[name] for name in figures] == [theirs.training[name] for name in figures]
    assert [name for name in theirs.state if not torch.equal(ours.state[name], theirs.state[name])] == []
    assert not (out / FILE).exists()


def stop(epoch: object, best: bool) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_killed_training_goes_on_to_the_same_checkpoint(
    data: Path, undisturbed: Path, tmp_path: Path, epochs: int
) -> None:
    killed = start(data, tmp_path)
    wait_for_epochs(tmp_path, epochs)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    train(data, tmp_path, "--resume")
    assert_same(tmp_path, undisturbed)


def test_an_interrupted_training_says_how_to_go_on(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    interrupted = start(data, tmp_path)
    wait_for_epochs(tmp_path, 1)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate()
    assert interrupted.returncode == 130
    assert "finished epochs are kept; continue with --resume" in said
    assert "Traceback" not in said
    train(data, tmp_path, "--resume")
    assert_same(tmp_path, undisturbed)


def test_another_training_is_not_resumed(data: Path, tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(data)), RECIPES["rnn"], 0)

    def seeded(seed: int) -> Settings:
        return Settings(epochs=2, batch_size=64, learning_rate=1e-3, layers=1, seed=seed, device="cpu")

    with pytest.raises(UsageError, match="there is no interrupted training to resume"):
        fit(corpus, RECIPES["rnn"], seeded(0), tmp_path, resume=True)

    with pytest.raises(KeyboardInterrupt):
        fit(corpus, RECIPES["rnn"], seeded(0), tmp_path, on_epoch=stop)
    with pytest.raises(UsageError, match=r"had other settings \(seed was 0\)"):
        fit(corpus, RECIPES["rnn"], seeded(1), tmp_path, resume=True)
    (tmp_path / FILE).write_bytes(b"not a file of ours")
    with pytest.raises(UsageError, match="damaged; train anew without --resume"):
        fit(corpus, RECIPES["rnn"], seeded(0), tmp_path, resume=True)


# --- a recipe with a schedule, averaged weights and word vectors -----------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("films") / "reviews.csv", 240, wrong=range(0, 240, 9))


def test_a_schedule_and_averaged_weights_go_on_as_well(films: Path, tmp_path: Path) -> None:
    """With the learning rate, the average and the suspects of the epochs before, bit for bit."""
    assert TINY.one_cycle
    assert TINY.average_decay
    assert TINY.vector_epochs
    corpus = load_corpus(Source(str(films)), TINY, 0)
    undisturbed, interrupted = tmp_path / "undisturbed", tmp_path / "interrupted"
    fit(corpus, TINY, settings(epochs=4), undisturbed)
    with pytest.raises(KeyboardInterrupt):
        fit(corpus, TINY, settings(epochs=4), interrupted, on_epoch=stop)
    assert len((interrupted / "history.csv").read_text().splitlines()) == 2
    corpus = load_corpus(Source(str(films)), TINY, 0)  # as another process reads it
    with pytest.raises(KeyboardInterrupt):
        fit(corpus, TINY, settings(epochs=4), interrupted, on_epoch=stop, resume=True)
    fit(corpus, TINY, settings(epochs=4), interrupted, resume=True)
    assert_same(interrupted, undisturbed)
    suspects = [(folder / "suspects.csv").read_text() for folder in (interrupted, undisturbed)]
    assert suspects[0] == suspects[1]
    assert len(suspects[0].splitlines()) > 5


def test_a_run_on_other_text_or_another_split_is_not_resumed(films: Path, tmp_path: Path) -> None:
    source = Source(str(films))
    with pytest.raises(KeyboardInterrupt):
        fit(load_corpus(source, TINY, 0), TINY, settings(epochs=3), tmp_path, on_epoch=stop)
    isolated = replace(TINY, tokenizer=TOKENIZERS["characters"])
    with pytest.raises(UsageError, match=r"had other settings \(.*recipe_settings was .*'isolated'"):
        fit(load_corpus(source, isolated, 0), isolated, settings(epochs=3), tmp_path, resume=True)
    for other in (load_corpus(replace(source, group_column="film"), TINY, 0), load_corpus(source, TINY, 1)):
        with pytest.raises(UsageError, match=r"had other settings \(.*training_digest was "):
            fit(other, TINY, settings(epochs=3), tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"had other settings \(epochs was 3\)"):
        fit(load_corpus(source, TINY, 0), TINY, settings(epochs=4), tmp_path, resume=True)
    changed = settings(epochs=3, class_weights="balanced", precision="bf16")
    with pytest.raises(UsageError, match=r"had other settings \(class_weights was none, precision was float32\)"):
        fit(load_corpus(source, TINY, 0), TINY, changed, tmp_path, resume=True)
    metrics = fit(load_corpus(source, TINY, 0), TINY, settings(epochs=3, patience=3), tmp_path, resume=True)
    assert metrics["settings"]["patience"] == 3
