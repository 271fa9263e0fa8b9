"""What the ONNX Runtime that is imported first leaves in the user's cache of a bundle: FOLDER FILE ...

Each file is opened twice. A line for each: `kept`, `not kept`, or that every opening writes.
"""

import os
import sys
import tempfile
from pathlib import Path

from export import folded
from export.bundle import open_bundle
from export.selfcheck import open_for_scoring


def left_behind(bundle: Path, file: str) -> str:
    """Whoever writes makes a folder beside the entries first, which the time of theirs shows."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        entries = Path(cache, "toolchain", "folded")
        seen = set()
        for _ in range(2):
            open_for_scoring(open_bundle(bundle), file, threads=1)
            sizes = [path.stat().st_size for path in entries.rglob("*") if path.is_file()]
            seen.add((entries.stat().st_mtime_ns, sum(sizes)))
        if len(seen) > 1:
            return "every opening writes"
        return "kept" if sum(sizes) else "not kept"


if __name__ == "__main__":
    folded.WORTH_KEEPING = 0
    for file in sys.argv[2:]:
        print(left_behind(Path(sys.argv[1]), file), flush=True)
