"""What a finished training has to say against itself: each finding is one line that ends in what to try."""

from collections.abc import Mapping, Sequence
from typing import Any

from toolchain.measures.standing import Standing

SURE_ENOUGH, TOO_SURE = 0.3, 3.0
"""Between these a fitted temperature is a correction; outside, the answers before it had little to do with chances."""
STILL_FALLING = 0.02
"""Share by which the last epoch's validation loss has to be below the best before it: less is the schedule's end."""
LOW = 0.1
"""A validation loss below which there is nothing to win worth a warning."""


def findings(metrics: Mapping[str, Any], validation_losses: Mapping[int, float], epochs: int) -> list[str]:
    """The warnings of a training of at most `epochs` epochs with these validation losses by epoch."""
    more = f"train longer: --epochs {2 * epochs}"
    losses = list(validation_losses.values())
    last_is_best = epochs in validation_losses and losses[-1] == min(losses)
    standing = Standing.from_json(metrics["standing"])
    warnings = []
    if warning := standing.warning(more if last_is_best else _other_ways(metrics)):
        warnings.append(warning)
    elif last_is_best and losses[-1] > LOW and is_falling(losses):
        warnings.append(f"the last epoch is the best, and the loss was still falling; {more}")
    temperature = metrics["calibration"]["temperature"]
    if temperature < SURE_ENOUGH:
        warnings.append(
            f"the model was hardly sure of anything before it was calibrated (temperature {temperature:.2f}): it has "
            f"not learnt enough, {more}"
        )
    elif temperature > TOO_SURE:
        warnings.append(
            f"the model was far too sure of its mistakes before it was calibrated (temperature {temperature:.2f}): it "
            "knows its training reviews by heart; stop it earlier, --patience 1, or collect more reviews"
        )
    return warnings + _seen_before(metrics)


def _seen_before(metrics: Mapping[str, Any]) -> list[str]:
    """What a start or a teacher knows of the reviews that this model is judged by, if their data have one name."""
    started = [("the model to start from", metrics["start"])] if "start" in metrics else []
    taught = [("a teacher", teacher) for teacher in metrics.get("teachers", ())]
    warnings = []
    for who, model in started + taught:
        if model["data"] != metrics["data"] or not model["training_digest"]:
            continue
        if model["training_digest"] != metrics["training_digest"]:
            warnings.append(
                f"{who} was trained on {metrics['data']} too, but not on this training part of it: it may know "
                "validation and test reviews by heart, whose figures then flatter; train both with the same --seed, or "
                "test on reviews that neither has seen: --test-data FILE"
            )
        elif "folds" in metrics and model is metrics.get("start"):  # no teacher teaches in a fold
            warnings.append(
                f"{who} was trained on reviews of every fold: the figures of the folds flatter; leave --folds out, or "
                "start from another: --start box"
            )
    return list(dict.fromkeys(warnings))


def is_falling(losses: Sequence[float]) -> bool:
    """Whether the last validation loss is far below those before it; a single one says nothing against that."""
    return len(losses) == 1 or losses[-1] < (1 - STILL_FALLING) * min(losses[:-1])


def _other_ways(metrics: Mapping[str, Any]) -> str:
    """What may help a model that had its time."""
    if metrics["recipe"] in ("gru", "rnn", "rnn-cell"):
        return f"try another recipe than {metrics['recipe']}: --recipe auto"
    ways = "collect more labelled reviews"
    return ways if metrics["unlabelled"] else f"{ways}, or give it more text of the kind: --unlabelled PATH"
