"""The documentation is true: its links lead somewhere, and it names what it has to name."""

import ast
import json
import os
import re
import runpy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, LANGUAGES, PAGES, ROOT, TESTED, anchors, blocks, links, name
from toolchain.measures.metrics import ClassMetrics, LabelMetrics
from toolchain.scoring.job import Summary
from toolchain.scoring.journal import WindowEntry

MODULES = sorted(path for package in ("export", "toolchain", "data") for path in (ROOT / package).rglob("*.py"))


def test_the_command_reference_is_what_the_program_has() -> None:
    written = runpy.run_path(str(DOCS / "commands.py"))["reference"]()
    kept = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert kept == written, "docs/commands.md is stale; write it anew: python docs/commands.py"


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
