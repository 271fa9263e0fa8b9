"""An earlier snapshot where a new one is to stand: it is kept beside it, and the two are compared."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolchain.models.snapshot import FILE

KEPT = ".previous"
"""What is behind the folder's name in the name of the one that keeps what was in it."""
METRICS = "metrics.json"
NAMES = (METRICS, "history.csv", "history.png", "suspects.csv", "resume.pt", "tensorboard", FILE)
"""All that a snapshot's folder may hold, the snapshot itself at last. What else is in the folder stays there."""


@dataclass(frozen=True)
class Earlier:
    """What was kept of an earlier snapshot: where, and the figures of its training; none where it was not finished."""

    folder: Path
    metrics: Mapping[str, Any]

    def is_better(self, metrics: Mapping[str, Any]) -> bool:
        """Whether it is known to be better than the new one, whose metrics these are."""
        old, new = self.metrics.get("test_accuracy"), metrics.get("test_accuracy")
        return old is not None and new is not None and old > new and _test_set(metrics) == _test_set(self.metrics)

    def verdict(self, metrics: Mapping[str, Any]) -> str:
        """Which of the two is better by its test accuracy, in a sentence; `metrics` are those of the new one."""
        kept = f"the earlier snapshot is kept in {self.folder}"
        old, new = self.metrics.get("test_accuracy"), metrics.get("test_accuracy")
        if old is None or new is None:
            return f"{kept}; nothing says which of the two is better, evaluate both on the same reviews"
        figures = f"{kept}: test accuracy {old:.2f} %, the new one {new:.2f} %"
        if (here := _test_set(metrics)) != (there := _test_set(self.metrics)):
            return f"{figures}, but on other reviews ({there}; {here}): evaluate both on the same ones"
        if old == new:
            return f"{figures}; neither is better"
        return f"{figures}; the {'earlier' if self.is_better(metrics) else 'new'} one is better"


def set_aside(out: Path) -> Earlier | None:
    """Move what `out` holds of a snapshot, finished or not, into a folder `OUT.previous` of its own, or the first such
    name that is free. Nothing else is moved, and nothing is replaced. None where there is nothing."""
    folder = Path(os.path.realpath(out))
    names = [name for name in NAMES if (folder / name).exists()]
    if not names:
        return None
    number, kept = 1, folder.with_name(folder.name + KEPT)
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}{KEPT}-{number}")
    kept.mkdir()
    for name in names:
        (folder / name).rename(kept / name)
    return Earlier(kept if out.is_absolute() else Path(os.path.relpath(kept)), _metrics(kept))


def _metrics(folder: Path) -> Mapping[str, Any]:
    try:
        metrics = json.loads((folder / METRICS).read_bytes())
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _test_set(metrics: Mapping[str, Any]) -> str:
    """What the model was tested on, as far as its metrics tell."""
    return f"{metrics.get('reviews', {}).get('test', 'no')} of {metrics.get('data', 'unknown data')}"
