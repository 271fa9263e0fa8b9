"""The documentation is true: it builds, its links lead somewhere, and its commands do what they say."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, Block, anchors, blocks, links
from toolchain.measures.metrics import ClassMetrics, LabelMetrics
from toolchain.scoring.job import Summary
from toolchain.scoring.journal import WindowEntry

# These begin in a fresh clone. The others find a model, its bundle and some reviews there already.
WALKS = ("docs/get-started.md", "docs/walkthrough.md", "README.ko.md")
# The README's blocks are those of "Get started", or need IMDB; the examples in the reference name files of the reader.
UNTESTED = ("README.md", "docs/commands.md")
TESTED = [page for page in PAGES if str(page.relative_to(ROOT)) not in UNTESTED]

LANGUAGES = ("bash", "python")
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

MODULES = sorted(path for package in ("export", "toolchain", "data") for path in (ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    """As pytest shows it."""
    return str(path.relative_to(ROOT))


# --- the site --------------------------------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """What a page makes the browser load."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        urls = [values.get("src"), values.get("href") if tag == "link" and values.get("rel") != "canonical" else None]
        self.urls += [url for url in urls if url]


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))  # one each, and 404.html
    for page in pages:
        assert not [url for url in Loaded(page).urls if re.match(r"(https?:)?//", url)], page


def test_the_command_reference_is_what_the_program_has() -> None:
    written = runpy.run_path(str(DOCS / "commands.py"))["reference"]()
    kept = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert kept == written, "docs/commands.md is stale; write it anew: python docs/commands.py"


def test_every_module_of_the_portable_classifier_is_in_the_python_interface() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    for path in (ROOT / "export").glob("[!_]*.py"):
        assert f"::: export.{path.stem}\n" in page, path


# --- links and images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link.target):
            continue
        path, _, anchor = link.target.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link.target}: no such file"
        assert not anchor or anchor in anchors(target), f"{link.target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_image_says_what_it_shows(page: Path) -> None:
    assert "<img" not in page.read_text(encoding="utf-8"), "write ![what it shows](file)"
    for link in links(page):
        assert not link.image or len(link.text) > 20, f"{link.target}: its alternative text says too little"


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", TESTED, ids=name)
def test_a_block_of_commands_says_that_it_is_one(page: Path) -> None:
    """So that none is left out of the tests unseen."""
    for block in blocks(page):
        if block.language not in LANGUAGES:
            command = re.match(r"(toolchain|make|python3?|pip|git|curl|source|cd|mv|ln|npm) ", block.code)
            assert not command or block.language, f"{block.place}: write ```bash"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project as a clone would be, whose environment is made already."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*MADE, *OURS), symlinks=True)
    (folder / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (folder / ".venv" / ".ready").touch()
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


# --- what the pages have to name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [Summary, LabelMetrics, ClassMetrics, WindowEntry])
def test_the_formats_name_every_field(record: type) -> None:
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    for field in fields(record):
        assert f"`{field.name}`" in page, f"docs/formats.md says nothing of {record.__name__}.{field.name}"


def test_the_formats_name_every_file_and_key_of_a_bundle(bundle: Path) -> None:
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    for known in [*os.listdir(bundle), *json.loads((bundle / "manifest.json").read_bytes())]:
        assert f"`{known}`" in page, f"docs/formats.md says nothing of {known}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_everything_public_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    assert not list(undocumented(tree))


def undocumented(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """The public functions and classes in `node` without a docstring: `name in line N`."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            if not ast.get_docstring(child):
                yield f"{child.name} in line {child.lineno}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child)
