"""The bundle of whoever names none."""

from pathlib import Path

OWN_BUNDLE = Path("bundle")
BOX = Path(__file__).parents[1] / "box"
"""The bundle that comes with the package, for scoring before anything was trained."""


def find_bundle() -> Path:
    """The bundle of whoever names none: `./bundle` where there is one, else the model in the box."""
    return OWN_BUNDLE if OWN_BUNDLE.exists() or not BOX.exists() else BOX
