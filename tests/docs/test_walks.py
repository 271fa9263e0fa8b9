"""The commands of the documentation do what they say: its blocks are run as they stand, page by page."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import LANGUAGES, ROOT, TESTED, Block, blocks, name
from tests.environment import link_environment

# These begin in a fresh clone. The others find a model, its bundle and some reviews there already.
WALKS = ("README.md", "docs/get-started.md", "docs/walkthrough.md", "README.ko.md")
MADE = (
    ".git",
    ".venv",
    "node_modules",
    "site",
    "dist",
    "build",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "*.egg-info",
)
OURS = ("snapshot", "bundle", "demo", ".data", "*.parts")
# The blocks are to run; how good the models are that they train is not looked at here.
TRAINED_ON = 1000


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project as a clone would be, whose environment is made already, with less to train on."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*MADE, *OURS), symlinks=True)
    link_environment(folder)
    sample = folder / "data" / "sample_train.csv"
    sample.write_text("".join(sample.read_text(encoding="utf-8").splitlines(True)[:TRAINED_ON]), encoding="utf-8")
    return folder


@pytest.fixture
def furnished(clone: Path, bundle: Path, snapshot_folder: Path, sample_csv: Path) -> Path:
    """A clone in which somebody has worked: with a snapshot, its bundle, and reviews."""
    shutil.copytree(bundle, clone / "bundle")
    shutil.copytree(snapshot_folder, clone / "snapshot")
    shutil.copy(sample_csv, clone / "reviews.csv")
    return clone


def runnable(page: Path) -> list[Block]:
    """The blocks that are commands or Python and have no excuse."""
    return [block for block in blocks(page) if block.language in LANGUAGES and not block.excuse]


def run_blocks(page: Path, folder: Path) -> None:
    """Run the blocks of a page in order, as one copies them into one terminal; each has to succeed."""
    script = ["set -euo pipefail"]
    for block in runnable(page):
        script += [f"echo '### {block.place}' >&2", shell(block)]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            **{"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder)},
            **{"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_MKDOCS_2_WARNING": "1"},
        },
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def shell(block: Block) -> str:
    """What runs a block in a shell."""
    return block.code if block.language == "bash" else f"python - <<'END OF BLOCK'\n{block.code}END OF BLOCK"


@pytest.mark.parametrize("page", [page for page in TESTED if name(page) in WALKS], ids=name)
def test_a_walk_in_a_fresh_clone_works_to_its_end(page: Path, clone: Path) -> None:
    assert len(runnable(page)) >= 5
    run_blocks(page, clone)


@pytest.mark.parametrize("page", [page for page in TESTED if name(page) not in WALKS and runnable(page)], ids=name)
def test_every_block_of_a_page_runs(page: Path, furnished: Path) -> None:
    run_blocks(page, furnished)
