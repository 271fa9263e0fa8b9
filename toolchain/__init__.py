"""Train small recurrent review classifiers, export them as one text-in file, and score with them.

`Scorer` and `Prediction` load on first use, so that `import toolchain` needs no runtime.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolchain.scoring.scorer import Prediction, Scorer

__version__ = "0.1.0"
__all__ = ["Prediction", "Scorer", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Prediction", "Scorer"):
        from toolchain.scoring import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module 'toolchain' has no attribute {name!r}")
