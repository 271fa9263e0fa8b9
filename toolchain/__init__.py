"""Train small recurrent review classifiers, export them as one text-in file, and score with them.

What `__all__` names loads on first use, so that `import toolchain` needs no runtime.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolchain.scoring.scorer import Prediction, Scorer

__version__ = "0.1.0"
__all__ = ["Prediction", "Scorer", "__version__", "load"]


def load(bundle: str | Path | None = None, **settings: Any) -> "Scorer":
    """The scorer of a bundle; without one it is that of `./bundle`, else of the model in the box.

    `settings` are those of `Scorer`.
    """
    from toolchain.scoring.scorer import Scorer

    return Scorer(bundle, **settings)


def __getattr__(name: str) -> Any:
    if name in ("Prediction", "Scorer"):
        from toolchain.scoring import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module 'toolchain' has no attribute {name!r}")
