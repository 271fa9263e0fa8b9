"""Which bundle is meant: the one that was named, or that of whoever names none."""

import os
from pathlib import Path

OWN_BUNDLE = Path("bundle")
BOX = Path(__file__).parents[1] / "box"
"""The bundle that comes with the package, for scoring before anything was trained."""
IN_THE_BOX = "box"
"""What it is called where a bundle or a snapshot can be named."""


def find_bundle(named: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the bundle that was named; where none was, `./bundle` if it is there, else the model in the box.

    `box` is the model in the box too, unless there is a folder of that name.
    """
    if named is not None:
        folder = Path(named)
        return BOX if folder == Path(IN_THE_BOX) and not folder.exists() else folder
    return OWN_BUNDLE if OWN_BUNDLE.exists() or not BOX.exists() else BOX
