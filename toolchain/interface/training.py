"""`train`: from labelled reviews to a snapshot, in one call."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from export.forms import too_large
from export.text import TokenizerName
from toolchain.corpus.reviews import Source
from toolchain.errors import UsageError
from toolchain.files.tables import ReadOptions
from toolchain.interface.snapshot import Snapshot
from toolchain.measures.standing import Folds, Standing
from toolchain.models.earlier import Earlier
from toolchain.models.restoring import load_trained
from toolchain.training.automatic import Sizes, plan
from toolchain.training.distributed import Ended, of_first, process_group
from toolchain.training.folds import cross_validate
from toolchain.training.loops import Epoch, Settings, fit
from toolchain.training.machine import Progress, choose_device
from toolchain.training.resumption import FILE as RESUME_FILE
from toolchain.training.suspects import FILE as SUSPECTS_FILE

_MANY_SUSPECTS = 0.05

logger = logging.getLogger(__name__)


def train(
    data: str | os.PathLike[str],
    recipe: str | None = None,
    *,
    out: str | os.PathLike[str] = "snapshot",
    start: str | os.PathLike[str] | None = None,
    layers: int = 1,
    hidden: int | None = None,
    embedding: int | None = None,
    tokenizer: TokenizerName | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    label_map: str | None = None,
    group_column: str | None = None,
    test_data: str | os.PathLike[str] | None = None,
    unlabelled: str | os.PathLike[str] | None = None,
    reading: ReadOptions | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    patience: int | None = None,
    class_weights: Literal["none", "balanced"] = "none",
    teacher: Sequence[str | os.PathLike[str]] = (),
    folds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    progress: Progress = lambda batches, title: batches,
) -> Snapshot:
    """Train on `data`, keep the checkpoint with the best validation loss in the folder `out`, calibrate and test it.

    `data` is a CSV or JSONL file with a text and a label column, an aclImdb folder, `sample` or `imdb`. The other
    parameters are the options of `toolchain train`, by the same names; `reading` says how a file is read where that is
    not to be found out. `progress` wraps the batches of every pass, given their title, such as a progress bar does.

    Raises `UsageError` on data that cannot be trained on and on settings that do not go together. A `KeyboardInterrupt`
    says what was kept; `resume` goes on from there.
    """
    out = Path(out)
    if out.is_file():
        raise UsageError(f"--out {out}: is a file; name a folder for the snapshot")
    logger.info(f"reading {os.fspath(data)} …")
    teachers = [load_trained(os.fspath(one)) for one in teacher]
    source = Source(
        data=os.fspath(data),
        text_column=text_column,
        label_column=label_column,
        test=None if test_data is None else Path(test_data),
        group_column=group_column,
        unlabelled=None if unlabelled is None else os.fspath(unlabelled),
        label_map=label_map,
        reading=reading or ReadOptions(),
        say=logger.info,
    )
    beginning = None if start is None else os.fspath(start)
    planned = plan(source, recipe, seed, beginning, tokenizer, Sizes(layers, hidden, embedding), taught=bool(teacher))
    corpus, chosen = planned.corpus, planned.recipe
    if planned.reason:
        logger.info(f"recipe {chosen.name}: {planned.reason}")
    for warning in corpus.warnings:
        logger.warning(warning)
    if reason := too_large(chosen.specification(corpus.labels, planned.layers), corpus.vocabulary):
        logger.warning(f"{reason}: such a model can be exported with --shrink, or with --format torchscript alone")
    logger.info(
        f"{len(corpus.train):,} training, {len(corpus.validation):,} validation, {len(corpus.test):,} test reviews; "
        f"labels {', '.join(corpus.labels)}; {len(corpus.vocabulary):,} words"
    )
    events = None
    if tensorboard:
        from toolchain.training.tensorboard import EventLog  # an extra of its own

        events = EventLog(out)

    def on_epoch(epoch: Epoch, best: bool) -> None:
        _tell_epoch(epoch, best)
        if events:
            events.add(epoch)

    settings = Settings(
        epochs=epochs or chosen.epochs,
        batch_size=batch_size or chosen.batch_size,
        learning_rate=chosen.learning_rate if lr is None else lr,
        layers=planned.layers,
        seed=seed,
        device=device,
        precision=precision,
        patience=patience or chosen.patience,
        class_weights=class_weights,
    )
    earlier: list[Earlier] = []
    try:
        with process_group(choose_device(device)):
            validated = cross_validate(planned, source, settings, folds, _tell_fold, progress) if folds else None
            fit(
                *(corpus, chosen, settings, out, on_epoch, progress, resume, teachers, overwrite),
                on_earlier=earlier.append,
                start=planned.start,
                folds=validated,
            )
            snapshot = of_first(lambda: Snapshot(out))
    except (KeyboardInterrupt, Ended) as end:
        kept = (
            "finished epochs are kept; continue with --resume"
            if (out / RESUME_FILE).exists()
            else "no epoch was finished"
        )
        if isinstance(end, Ended):
            raise Ended(f"{end}; {kept}") from None
        raise KeyboardInterrupt(kept) from None
    _tell_end(snapshot.metrics, out)
    for one in earlier:
        logger.log(logging.WARNING if one.is_better(snapshot.metrics) else logging.INFO, one.verdict(snapshot.metrics))
    return snapshot


def _tell_epoch(epoch: Epoch, best: bool) -> None:
    """One finished epoch, a line; a star marks the best so far."""
    trained = f"train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:5.2f} %"
    logger.info(
        f"epoch {epoch.epoch:2d}  {trained if epoch.epoch else 'the start, as it is':{len(trained)}}  "
        f"validation loss {epoch.validation_loss:.4f} accuracy {epoch.validation_accuracy:5.2f} %  "
        f"{epoch.seconds:.1f} s{'  *' if best else ''}"
    )


def _tell_fold(number: int, standing: Standing) -> None:
    logger.info(f"fold {number}: {standing}")


def _tell_end(metrics: Mapping[str, Any], out: Path) -> None:
    """How a training ended, beside what costs nothing, and what there is to say against it."""
    logger.info(
        f"best epoch {metrics['epoch']}: test loss {metrics['test_loss']:.4f}, "
        f"accuracy {metrics['test_accuracy']:.2f} % on {metrics['reviews']['test']:,} reviews, "
        f"{metrics['seconds']:.0f} s"
    )
    logger.info(str(Standing.from_json(metrics["standing"])))
    if "folds" in metrics:
        logger.info(str(Folds(**metrics["folds"])))
    if taught := metrics["reviews"].get("taught"):
        logger.info(f"{taught:,} unlabelled texts were trained on as the teachers answer them")
    calibration = metrics["calibration"]
    before, after = (calibration["test"][when] for when in ("before", "after"))
    logger.info(
        f"calibrated: temperature {calibration['temperature']:.3f}, expected calibration error "
        f"{before['calibration_error']:.4f} → {after['calibration_error']:.4f}, "
        f"test loss {before['loss']:.4f} → {after['loss']:.4f}"
    )
    few = metrics.get("suspects", 0) <= _MANY_SUSPECTS * metrics["reviews"]["train"]
    if metrics.get("suspects") and few and not metrics["still_learning"]:  # else the model is at fault, not the labels
        logger.info(
            f"{metrics['suspects']:,} training reviews were predicted wrong in every epoch; check their labels: "
            f"{out / SUSPECTS_FILE}"
        )
    for warning in metrics["warnings"]:
        logger.warning(warning)
