"""Train small recurrent review classifiers, export them as one text-in file, and score with them.

What `__all__` names loads on first use, so that `import toolchain` needs no runtime.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.errors import ExportError
    from toolchain.errors import CheckFailed, UsageError
    from toolchain.files.tables import ReadOptions
    from toolchain.interface.bundle import Bundle
    from toolchain.interface.snapshot import Snapshot
    from toolchain.interface.training import train
    from toolchain.release.verification import Verification
    from toolchain.scoring.explainer import Explanation
    from toolchain.scoring.scorer import Prediction, Scorer

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "CheckFailed",
    "Explanation",
    "ExportError",
    "Prediction",
    "ReadOptions",
    "Scorer",
    "Snapshot",
    "UsageError",
    "Verification",
    "__version__",
    "load",
    "train",
]

_PLACES = {
    "Bundle": "toolchain.interface.bundle",
    "CheckFailed": "toolchain.errors",
    "Explanation": "toolchain.scoring.explainer",
    "ExportError": "export.errors",
    "Prediction": "toolchain.scoring.scorer",
    "ReadOptions": "toolchain.files.tables",
    "Scorer": "toolchain.scoring.scorer",
    "Snapshot": "toolchain.interface.snapshot",
    "UsageError": "toolchain.errors",
    "Verification": "toolchain.release.verification",
    "train": "toolchain.interface.training",
}


def load(
    bundle: "str | os.PathLike[str] | None" = None,
    *,
    provider: str = "auto",
    provider_options: Mapping[str, str] | None = None,
    precision: str = "fp32",
    threads: int | None = None,
) -> "Scorer":
    """The scorer of a bundle; without one it is that of `./bundle`, else of the model in the box.

    `provider` is auto, cpu, cuda or another of ONNX Runtime's, with its options; `precision` is fp32, or int8 where the
    bundle has it; `threads` score at once on the CPU, by default one a core. Raises what `Scorer` raises.
    """
    from toolchain.scoring.scorer import Scorer

    return Scorer(bundle, provider, provider_options, precision, threads=threads)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'toolchain' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
