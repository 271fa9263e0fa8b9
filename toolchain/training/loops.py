"""The documented loops: `train` and `evaluate`, and the run over the epochs that keeps the best checkpoint."""

import csv
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from export.forms import softmax
from toolchain import __version__
from toolchain.corpus.corpus import Corpus, batch_tensors, iterators
from toolchain.errors import UsageError
from toolchain.measures.calibration import fit_temperature, reliability
from toolchain.measures.drift import text_reference
from toolchain.measures.standing import Folds
from toolchain.models.classifiers import Model, build_model, output_parameters
from toolchain.models.earlier import METRICS, Earlier, set_aside
from toolchain.models.recipes import Recipe
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.training.adversarial import Adversary
from toolchain.training.baselines import Baselines, answer_by_baselines
from toolchain.training.distillation import beginnings, check_teacher, taught, teach
from toolchain.training.distributed import (
    add_up,
    check_same,
    in_order,
    is_first,
    of_first,
    own_batches,
    parallel,
    part_of,
    parts,
    process_count,
    reseed,
)
from toolchain.training.figures import training_curves
from toolchain.training.findings import findings, is_falling
from toolchain.training.machine import (
    Progress,
    choose_device,
    choose_precision,
    device_and_threads,
    giving_memory_back,
    make_repeatable,
    subnormals_flushed,
)
from toolchain.training.mixing import LinearPart, begin_linear, end_linear
from toolchain.training.optimization import Optimization
from toolchain.training.resumption import FILE as RESUME_FILE
from toolchain.training.resumption import Resumption, load_resumption, save_resumption
from toolchain.training.starting import answers_alike, begin, origin
from toolchain.training.suspects import FILE as SUSPECTS_FILE
from toolchain.training.suspects import MIN_EPOCHS, Suspects

MIN_CALIBRATION_REVIEWS = 100
"""A temperature fitted on fewer validation reviews is noise."""


@dataclass(frozen=True)
class Epoch:
    """One line of `history.csv`. Losses are mean cross-entropies in nats, accuracies in percent.

    Epoch 0 is the start from a trained model, with nothing to say of a training.
    """

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
    precision: str = "auto"
    patience: int | None = None
    class_weights: Literal["none", "balanced"] = "none"


def train(
    model: nn.Module,
    optimizer: Optimization | torch.optim.Optimizer,
    iterator: Iterable[Any],
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    precision: torch.dtype = torch.float32,
    watch: Callable[[Any, Tensor], None] = lambda batch, logits: None,
    adversary: Adversary | None = None,
) -> tuple[float, float]:
    """One pass over the batches with weight updates -> mean loss and accuracy in percent, both as seen in passing.

    In `torch.bfloat16` the products are taken in it (autocast). `watch` sees every batch and its logits. With an
    `adversary` the weights follow the sum of the loss and of the loss that it makes of the batch.
    """
    model.train()
    device = next(model.parameters()).device
    total, correct, count = 0.0, 0.0, 0.0
    for batch in iterator:
        ids, lengths, labels = batch_tensors(batch, device)
        optimizer.zero_grad()
        part = part_of(batch)
        rest = adversary.rest(ids) if adversary else None
        is_taught = hasattr(batch, "target")
        targets = batch.target.to(device).flatten(0, 1) if is_taught else labels
        ends = beginnings(lengths) if is_taught else lengths
        logits = _logits(model, precision, ids, ends, rest)
        loss = criterion(logits.flatten(0, -2), targets)
        (loss * part.scale).backward()  # type: ignore[no-untyped-call]
        if adversary and rest is not None:
            again = _logits(model, precision, ids, ends, adversary.worst(rest, lengths))
            (criterion(again.flatten(0, -2), targets) * part.scale).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not part.weight:
            continue
        logits = logits[:, -1] if is_taught else logits
        total += loss.item() * part.weight
        correct += int((logits.argmax(1) == labels).sum())
        count += len(labels)
        watch(batch, logits)
    total, correct, count = add_up(total, correct, count)
    return total / count, 100.0 * correct / count


def _logits(
    model: nn.Module, precision: torch.dtype, ids: Tensor, lengths: Tensor, noise: Tensor | None = None
) -> Tensor:
    with torch.autocast(ids.device.type, precision, enabled=precision != torch.float32):
        logits: Tensor = model(ids, lengths) if noise is None else model(ids, lengths, noise)
    return logits.float()


def evaluate(model: nn.Module, iterator: Iterable[Any]) -> tuple[float, float]:
    """Mean cross-entropy (summed over every review, then divided) and accuracy in percent."""
    return _agreed_figures(*predict(model, iterator))


@torch.no_grad()
def predict(model: nn.Module, iterator: Iterable[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The logits [reviews, classes] and the labels [reviews] of all batches, in their order."""
    model.eval()
    device = next(model.parameters()).device
    answers = []
    for batch in own_batches(iterator):
        ids, lengths, labels = batch_tensors(batch, device)
        answers.append((model(ids, lengths).cpu().numpy(), labels.cpu().numpy()))
    all_logits, all_labels = zip(*in_order(answers), strict=True)
    return np.concatenate(all_logits), np.concatenate(all_labels)


@subnormals_flushed()
def fit(
    corpus: Corpus,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    on_epoch: Callable[[Epoch, bool], None] = lambda epoch, best: None,
    progress: Progress = lambda batches, title: batches,
    resume: bool = False,
    teachers: Sequence[Snapshot] = (),
    overwrite: bool = False,
    on_earlier: Callable[[Earlier], None] = lambda earlier: None,
    start: Snapshot | None = None,
    folds: Folds | None = None,
) -> dict[str, Any]:
    """Train, keep the checkpoint of the lowest validation loss in `out`, calibrate and test it -> the metrics.

    Writes `txtclassification.pt`, `history.csv` (a line an epoch, as it ends), `history.png`, `metrics.json` and, after
    `MIN_EPOCHS` epochs, `suspects.csv`. `on_epoch` hears of every epoch and whether it is the best so far; `progress`
    wraps the batches of a pass. What `teachers` answer is learned, on labelled and unlabelled texts (see
    `toolchain.training.distillation`). The weights begin at those of `start`, which has the recipe's sizes. `folds` go
    into the metrics. The same seed gives the same checkpoint on the same CPU. Every finished epoch is kept in
    `resume.pt` until the run is complete: with `resume` a killed run goes on behind it, to the same result as an
    undisturbed one. When the first epoch is finished an earlier snapshot in `out` is set aside, and `on_earlier` hears
    of it; with `overwrite` it is replaced. Raises `UsageError` where the loss stops being a number, or where there is
    nothing of this run to resume.
    """
    make_repeatable(settings.seed)
    progress = giving_memory_back(progress)
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    specification = recipe.specification(corpus.labels, settings.layers)
    sizes = (len(corpus.vocabulary), recipe.dropout, recipe.input_dropout, recipe.word_dropout)
    model = build_model(recipe.model, specification, *sizes).to(device)
    labelled = corpus
    linear = begin_linear(model, corpus, recipe.max_tokens, settings.seed) if recipe.bag else None
    if teachers:
        for teacher in teachers:
            check_teacher(teacher, corpus.labels, recipe)
        answers = [teacher.answer_tokens(beginnings, device) for teacher in teachers]
        if linear and not any(teacher.specification.bag for teacher in teachers):  # else it is part of what one answers
            answers.append(linear.answer)
        corpus = taught(corpus, of_first(lambda: teach(labelled, answers, progress)))
    train_batches, validation_batches, test_batches = iterators(corpus, settings.batch_size, settings.seed)
    weights = _class_weights(corpus, device) if settings.class_weights == "balanced" else None
    criterion = nn.CrossEntropyLoss(weights, label_smoothing=0.0 if teachers else recipe.label_smoothing)
    about = _about(labelled, recipe, settings, model, str(precision).removeprefix("torch."))
    about["reviews"] = _sizes(corpus)
    if teachers:
        about["teachers"] = [{"identity": teacher.identity, **origin(teacher)} for teacher in teachers]
    if start:
        about["start"] = {"identity": start.identity, **origin(start)}
    check_same(about)
    if is_first():
        out.mkdir(parents=True, exist_ok=True)
    run = {**asdict(settings), **about}
    if folds:
        about["folds"] = asdict(folds)
    for name in ("settings", "versions", "patience", *([] if recipe.one_cycle else ["epochs"])):
        del run[name]  # what may change in an interrupted run: more epochs than were planned are no other run
    history: list[Epoch] = []
    suspects = Suspects()
    if not resume and is_first():
        begin(model, labelled, recipe, settings.seed, precision, start, teachers, progress)
    parallel_model = parallel(model)
    steps = settings.epochs * len(train_batches)
    optimization = Optimization(model, recipe, settings.learning_rate, steps, started=start is not None)
    if resume:
        resumption = of_first(lambda: load_resumption(out, run))
        resumption.restore(model, optimization)
        train_batches.random_shuffler.random_state = resumption.shuffler
        history = [Epoch(**line) for line in resumption.history]  # type: ignore[arg-type]
        suspects = Suspects(resumption.suspects)
    baselines = of_first(lambda: answer_by_baselines(labelled, recipe.tokenizer))
    if process_count() > 1:
        about["processes"] = process_count()  # which may change in an interrupted run
    adversary = Adversary(recipe.adversarial, recipe.embedding) if recipe.adversarial else None
    # What already answers as it begins is a checkpoint like any other, that of epoch 0.
    begins_trained = linear or (start and answers_alike(corpus.labels, start))
    number = history[-1].epoch + 1 if history else 0 if begins_trained else 1
    terms = predict(linear.bag, validation_batches)[0] if linear else None
    while number <= settings.epochs and not _out_of_patience(history, settings.patience):
        began = time.perf_counter()
        train_loss = train_accuracy = math.nan
        if number:
            reseed(settings.seed, number)
            batches = progress(parts(train_batches, weights), f"epoch {number} training")
            train_loss, train_accuracy = train(
                parallel_model, optimization, batches, criterion, precision, suspects.watch, adversary
            )
            suspects.end_epoch()
        result = optimization.result
        held_out = progress(validation_batches, f"epoch {number} validation")
        if linear and terms is not None:
            together, labels = predict(result, held_out)
            weights_of_both, weighed = linear.weigh(together, terms, labels)
            loss, accuracy = _agreed_figures(weighed, labels)
        else:
            loss, accuracy = evaluate(result, held_out)
        if not math.isfinite(loss):
            raise UsageError(f"epoch {number}: the validation loss is {loss}; the training diverged; lower --lr")
        best = all(loss < earlier.validation_loss for earlier in history)
        epoch = Epoch(number, train_loss, train_accuracy, loss, accuracy, time.perf_counter() - began)
        history.append(epoch)
        number += 1
        if not is_first():
            continue  # one process writes and reports
        if len(history) == 1 and not overwrite and (earlier := set_aside(out)):
            on_earlier(earlier)
        _write_history(history, out / "history.csv")
        if best:
            training = {**about, "epoch": epoch.epoch, "validation_loss": loss, "validation_accuracy": accuracy}
            state = result.state_dict()
            if linear:
                training["weights"] = weights_of_both._asdict()
                state = linear.weighed(state, weights_of_both)
            save_snapshot(Snapshot(recipe.model, specification, corpus.vocabulary, state, training), out)
        resumption = Resumption(
            run=run,
            history=[asdict(line) for line in history],
            suspects=suspects.never_right,
            model=model.state_dict(),
            optimization=optimization.state_dict(),
            shuffler=train_batches.random_shuffler.random_state,
            torch_state=torch.get_rng_state(),
            cuda_states=torch.cuda.get_rng_state_all() if device.type == "cuda" else [],
        )
        save_resumption(resumption, out)
        on_epoch(epoch, best)
    checkpoint = of_first(lambda: load_snapshot(out))
    if "calibration" not in checkpoint.training:  # else the run was killed when nothing but what follows was left
        checkpoint = _finish(
            *(checkpoint, model, validation_batches, test_batches, labelled, recipe, settings, linear),
            *(baselines, progress),
        )
    metrics = {**checkpoint.training, "seconds": sum(epoch.seconds for epoch in history)}
    metrics["still_learning"] = is_falling([epoch.validation_loss for epoch in history])
    metrics["warnings"] = findings(metrics, {epoch.epoch: epoch.validation_loss for epoch in history}, settings.epochs)
    if not is_first():
        return metrics
    if history[-1].epoch >= MIN_EPOCHS:
        metrics["suspects"] = suspects.write(corpus.labels, out / SUSPECTS_FILE)
    else:
        (out / SUSPECTS_FILE).unlink(missing_ok=True)  # of an earlier run
    save_snapshot(replace(checkpoint, training=metrics), out)
    (out / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    training_curves([asdict(epoch) for epoch in history], out / "history.png")
    (out / RESUME_FILE).unlink(missing_ok=True)
    return metrics


def _finish(
    checkpoint: Snapshot,
    model: Model,
    validation_batches: Iterable[Any],
    test_batches: Iterable[Any],
    corpus: Corpus,
    recipe: Recipe,
    settings: Settings,
    linear: LinearPart | None,
    baselines: Baselines,
    progress: Progress,
) -> Snapshot:
    """The checkpoint with its temperature in its last layer, its `linear` part fitted to all that is not the test part,
    or left out where it has no weight, how good it is, and what its validation texts are like."""
    model.load_state_dict(dict(checkpoint.state))
    validation = predict(model, progress(validation_batches, "calibration"))
    calibration = _calibrate(model, validation)
    answers = softmax(validation[0] / np.float32(calibration["temperature"]))
    texts = [example.text for example in corpus.validation]
    reference = text_reference("validation", texts, checkpoint.vocabulary, answers)
    share = checkpoint.training["weights"]["linear"] / calibration["temperature"] if linear else 0.0
    if linear and share:
        end_linear(model, linear, share, corpus, recipe.max_tokens, settings.seed)
    began = time.perf_counter()
    logits, labels = predict(model, progress(test_batches, "test"))
    seconds = time.perf_counter() - began
    speed = {"reviews_a_second": len(labels) / seconds, **device_and_threads(next(model.parameters()).device)}
    loss, accuracy = _figures(logits, labels)
    before = _quality(logits * calibration["temperature"], labels)
    calibration["test"] = {"before": before, "after": _quality(logits, labels)}
    training = {**checkpoint.training, "test_loss": loss, "test_accuracy": accuracy, "calibration": calibration}
    training["speed"] = speed
    training["reference"] = reference.to_json()
    standing = baselines.beside(logits.argmax(1), labels, checkpoint.specification.labels)
    training["standing"] = standing.to_json()
    finished = replace(checkpoint, state=model.state_dict(), training=training)
    return finished if share else finished.without_bag()


def _write_history(history: list[Epoch], path: Path) -> None:
    rows: list[Mapping[str, Any]] = [asdict(epoch) for epoch in history]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _number(v) for k, v in row.items()} for row in rows)


def _number(value: float) -> str:
    """As `history.csv` has it: empty where there is none."""
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6f}"


def _about(corpus: Corpus, recipe: Recipe, settings: Settings, model: nn.Module, precision: str) -> dict[str, Any]:
    """What the snapshot says of its training, in plain values."""
    return {
        "recipe": recipe.name,
        "recipe_settings": json.loads(json.dumps(asdict(recipe))),
        "settings": asdict(settings),
        "precision": precision,
        "data": corpus.name,
        "unlabelled": len(corpus.unlabelled),
        "training_digest": training_digest(corpus),
        "vocabulary": len(corpus.vocabulary),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"toolchain": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
    }


def _sizes(corpus: Corpus) -> dict[str, int]:
    """How many reviews each part has; unlabelled ones that teachers answered stand by themselves."""
    labelled = sum(example.origin is not None for example in corpus.train)
    sizes = {"train": labelled, "validation": len(corpus.validation), "test": len(corpus.test)}
    unlabelled = len(corpus.train) - labelled
    return {**sizes, "taught": unlabelled} if unlabelled else sizes


def training_digest(corpus: Corpus) -> str:
    """SHA-256 of the training part: a line a review, its label and its tokens. Another split is another run."""
    digest = hashlib.sha256()
    for example in corpus.train:
        digest.update(f"{example.label} {' '.join(example.text)}\n".encode())
    return digest.hexdigest()


def _class_weights(corpus: Corpus, device: torch.device) -> Tensor:
    """Weights [classes] under which every label counts the same in the loss, however rare: mean 1 over the reviews."""
    counts = np.bincount([example.label for example in corpus.train], minlength=len(corpus.labels))
    counts = np.maximum(counts, 1)  # whole groups may have taken a label out of the training part
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32, device=device)


def _out_of_patience(history: list[Epoch], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no lower validation loss."""
    if patience is None or not history:
        return False
    best = min(history, key=lambda epoch: epoch.validation_loss)
    return history[-1].epoch - best.epoch >= patience


def _calibrate(model: Model, validation: tuple[NDArray[np.float32], NDArray[np.int64]]) -> dict[str, Any]:
    """Divide the logits by the temperature that suits the validation part, inside the weights that give them.

    Nothing changes where the validation part is too small, or has no mistake that could tell how sure to be.
    """
    logits, labels = validation
    usable = len(labels) >= MIN_CALIBRATION_REVIEWS and bool((logits.argmax(1) != labels).any())
    temperature = fit_temperature(logits, labels) if usable else 1.0
    with torch.no_grad():
        for parameter in output_parameters(model):
            parameter.div_(temperature)
    after = _quality(logits / temperature, labels)
    return {"temperature": temperature, "validation": {"before": _quality(logits, labels), "after": after}}


def _figures(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="sum").item()
    return loss / len(labels), 100.0 * int((logits.argmax(1) == labels).sum()) / len(labels)


def _agreed_figures(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Those of the first process, for all of them."""
    return of_first(lambda: _figures(logits, labels))


def _quality(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Log-loss in nats and expected calibration error of logits [reviews, classes]."""
    error = reliability(softmax(logits), labels).expected_calibration_error
    return {"loss": _figures(logits, labels)[0], "calibration_error": error}
