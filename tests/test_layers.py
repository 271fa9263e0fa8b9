"""Data goes down the floors once: a room imports from lower rooms alone, modules go in no circle, and `export` knows
nothing of `toolchain`."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Highest first. A room may import from rooms on lower floors; the rooms of one floor know nothing of each other.
FLOORS = (
    ("toolchain.__main__",),
    ("toolchain.cli",),
    ("toolchain.interface", "toolchain.report"),
    ("toolchain.judging", "toolchain.training", "toolchain.release"),
    ("toolchain.corpus", "toolchain.serving"),
    ("toolchain.models",),
    ("toolchain.scoring.ray",),
    ("toolchain.scoring",),
    ("toolchain.files", "toolchain.measures"),
    ("toolchain", "toolchain.errors", "toolchain.look"),
    ("export",),
)
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# What scoring, serving and judging import needs neither of these: they run where ONNX Runtime is all there is.
PLAIN_ROOMS = (
    "toolchain.files",
    "toolchain.judging",
    "toolchain.measures",
    "toolchain.scoring",
    "toolchain.scoring.ray",
    "toolchain.serving",
)
PLAIN = (
    "export.text",
    "export.spec",
    "export.bundle",
    "export.selfcheck",
    "export.sessions",
    "toolchain.corpus.imdb",
    "toolchain.corpus.reviews",
    "toolchain.interface.bundle",
    "toolchain.release.verification",
)
HEAVY = ("torch", "torchtext", "onnx")

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("export", "toolchain")
    for path in (ROOT / package).rglob("*.py")
}


def room(module: str) -> str:
    """The longest name of a room that the module's begins with; the package itself is a room of two files."""
    for name in sorted(ROOMS.keys() - {"toolchain"}, key=len, reverse=True):
        if module == name or module.startswith(name + "."):
            return name
    assert module == "toolchain", f"{module} stands in no room; give it one in FLOORS"
    return module


def imports(path: Path) -> set[str]:
    """The modules of ours and others that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
    return found


IMPORTS = {module: imports(path) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"toolchain"}))  # which loads its public names on first use
def test_a_room_imports_from_lower_rooms_alone(module: str) -> None:
    own = room(module)
    for imported in IMPORTS[module] & MODULES.keys():
        other = room(imported)
        assert other == own or ROOMS[other] > ROOMS[own], f"{module} imports {imported}, which is not below it"


def test_no_circle_of_imports_exists() -> None:
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join([*way[way.index(module) :], module])}"
        if module not in finished:
            for imported in sorted(IMPORTS[module] & MODULES.keys() - {"toolchain"}):
                visit(imported, (*way, module))
            finished.add(module)

    for module in sorted(MODULES.keys() - {"toolchain"}):
        visit(module, ())
    assert finished == MODULES.keys() - {"toolchain"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name in PLAIN or room(name) in PLAIN_ROOMS))
def test_the_scoring_side_needs_neither_torch_nor_onnx(module: str) -> None:
    assert not {imported.split(".")[0] for imported in IMPORTS[module]} & set(HEAVY)


def test_every_room_has_a_line_in_the_page_on_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = (ROOT / "toolchain").rglob("__init__.py")
    folders = {path.parent.relative_to(ROOT / "toolchain") for path in rooms}
    for folder in folders - {Path()}:
        assert f"\n| `{folder}/` |" in page, f"docs/architecture.md has no line for {folder}/"


def test_the_diagram_on_that_page_has_the_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = [set(re.split(" · ", label)) for label in re.findall(r'"(.+?)"', page.split("```")[1])]
    rooms = [{room.removeprefix("toolchain.").replace(".", "/") for room in floor} for floor in FLOORS]
    assert drawn == [floor for floor in rooms[:-2] if "__main__" not in floor] + [{"export/"}]
