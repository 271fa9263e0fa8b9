"""The documented loops: `train` and `evaluate`, and the run over the epochs that keeps the best checkpoint."""

import csv
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from toolchain import __version__
from toolchain.corpus import Corpus, batch_tensors, iterators
from toolchain.errors import UsageError
from toolchain.models import build_model
from toolchain.recipes import Recipe
from toolchain.resumption import FILE as RESUME_FILE
from toolchain.resumption import Resumption, load_resumption, save_resumption
from toolchain.snapshot import Snapshot, load_snapshot, save_snapshot

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Epoch:
    """One line of `history.csv`. Losses are mean cross-entropies in nats, accuracies in percent."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Settings:
    """What a user may change about a recipe's run."""

    epochs: int
    batch_size: int
    learning_rate: float
    layers: int
    seed: int
    device: str = "auto"


def train(model: nn.Module, optimizer: Optimizer, iterator: Iterable[Any]) -> tuple[float, float]:
    """One pass over the batches with weight updates -> mean loss and accuracy in percent, both as seen in passing."""
    model.train()
    total, correct, count = 0.0, 0, 0
    for batch in iterator:
        ids, lengths, labels = batch_tensors(batch)
        optimizer.zero_grad()
        logits = model(ids, lengths)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item() * len(labels)
        correct += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return total / count, 100.0 * correct / count


@torch.no_grad()
def evaluate(model: nn.Module, iterator: Iterable[Any]) -> tuple[float, float]:
    """Mean cross-entropy (summed over every review, then divided) and accuracy in percent."""
    model.eval()
    total, correct, count = 0.0, 0, 0
    for batch in iterator:
        ids, lengths, labels = batch_tensors(batch)
        logits = model(ids, lengths)
        total += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return total / count, 100.0 * correct / count


def fit(
    corpus: Corpus,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    on_epoch: Callable[[Epoch, bool], None] = lambda epoch, best: None,
    progress: Progress = lambda batches, title: batches,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, keep the checkpoint of the lowest validation loss in `out`, test it -> the metrics.

    Writes `txtclassification.pt`, `history.csv` (a line an epoch, as it ends) and `metrics.json`. `on_epoch` hears of
    every epoch and whether it is the best so far; `progress` wraps the batches of a pass. The same seed gives the same
    checkpoint on the same machine. Every finished epoch is kept in `resume.pt` until the run is complete: with `resume`
    a killed run goes on behind it, to the same result as an undisturbed one. Raises `UsageError` where the loss stops
    being a number, or where there is nothing of this run to resume.
    """
    # MKL otherwise chooses code, threads and so the order of a sum anew in every process ("conditional numerical
    # reproducibility" in the oneMKL developer guide). It reads these at its first product.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    torch.set_flush_denormal(True)  # vanishing gradients become subnormal, and the CPU crawls through those
    torch.manual_seed(settings.seed)
    device = choose_device(settings.device)
    specification = recipe.specification(corpus.labels, settings.layers)
    model = build_model(recipe.model, specification, len(corpus.vocabulary), recipe.dropout).to(device)
    optimizer = Adam(model.parameters(), lr=settings.learning_rate)
    train_batches, validation_batches, test_batches = iterators(corpus, settings.batch_size, settings.seed, device)
    about = {
        "recipe": recipe.name,
        "settings": asdict(settings),
        "data": corpus.name,
        "reviews": {"train": len(corpus.train), "validation": len(corpus.validation), "test": len(corpus.test)},
        "vocabulary": len(corpus.vocabulary),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"toolchain": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
    }
    out.mkdir(parents=True, exist_ok=True)
    run = {**about, **asdict(settings)}
    for name in ("settings", "versions", "epochs"):  # more epochs than were planned are no other run
        del run[name]
    history: list[Epoch] = []
    best = math.inf
    if resume:
        resumption = load_resumption(out, run)
        resumption.restore(model, optimizer)
        train_batches.random_shuffler.random_state = resumption.shuffler
        history = [Epoch(**line) for line in resumption.history]  # type: ignore[arg-type]
        best = resumption.best
    for number in range(len(history) + 1, settings.epochs + 1):
        start = time.perf_counter()
        train_loss, train_accuracy = train(model, optimizer, progress(train_batches, f"epoch {number} training"))
        loss, accuracy = evaluate(model, progress(validation_batches, f"epoch {number} validation"))
        if not math.isfinite(loss):
            raise UsageError(f"epoch {number}: the validation loss is {loss}; the training diverged; lower --lr")
        epoch = Epoch(number, train_loss, train_accuracy, loss, accuracy, time.perf_counter() - start)
        history.append(epoch)
        _write_history(history, out / "history.csv")
        if loss < best:
            best = loss
            training = {**about, "epoch": number, "validation_loss": loss, "validation_accuracy": accuracy}
            save_snapshot(Snapshot(recipe.model, specification, corpus.vocabulary, model.state_dict(), training), out)
        resumption = Resumption(
            run=run,
            epoch=number,
            best=best,
            history=[asdict(line) for line in history],
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            shuffler=train_batches.random_shuffler.random_state,
            torch_state=torch.get_rng_state(),
            cuda_states=torch.cuda.get_rng_state_all() if device.type == "cuda" else [],
        )
        save_resumption(resumption, out)
        on_epoch(epoch, loss == best)
    checkpoint = load_snapshot(out)
    model.load_state_dict(dict(checkpoint.state))
    test_loss, test_accuracy = evaluate(model, progress(test_batches, "test"))
    metrics = {
        **checkpoint.training,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "seconds": sum(epoch.seconds for epoch in history),
    }
    save_snapshot(Snapshot(recipe.model, specification, corpus.vocabulary, checkpoint.state, metrics), out)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (out / RESUME_FILE).unlink(missing_ok=True)
    return metrics


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises `UsageError` where the device that was asked for is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _write_history(history: list[Epoch], path: Path) -> None:
    rows: list[Mapping[str, Any]] = [asdict(epoch) for epoch in history]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
