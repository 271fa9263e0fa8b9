"""Data flows one way: no module imports from a floor above its own, and `export` knows nothing of `toolchain`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first. A module may import from its own floor and those below.
FLOORS = [
    {"export.errors", "export.text", "export.spec"},
    {"export.*"},
    {"toolchain", "toolchain.errors"},
    {"toolchain.recurrence", "toolchain.sampled_softmax"},
    {
        "toolchain.recipes",
        "toolchain.models",
        "toolchain.imdb",
        "toolchain.compression",
        "toolchain.storage",
        "toolchain.calibration",
    },
    {"toolchain.shares", "toolchain.running"},
    {"toolchain.drift"},
    {"toolchain.inputs", "toolchain.records", "toolchain.duplicates", "toolchain.data_checks"},
    {"toolchain.distributed"},
    {"toolchain.suspects", "toolchain.vectors"},
    {"toolchain.corpus"},
    {
        "toolchain.snapshot",
        "toolchain.optimization",
        "toolchain.resumption",
        "toolchain.self_training",
        "toolchain.card",
        "toolchain.scorer",
    },
    {"toolchain.language_model", "toolchain.adversarial"},
    {"toolchain.metrics", "toolchain.parquet", "toolchain.parts", "toolchain.rendering", "toolchain.figures"},
    {"toolchain.page", "toolchain.thresholds", "toolchain.survey"},
    {"toolchain.explaining"},
    {"toolchain.training", "toolchain.evaluation", "toolchain.importing", "toolchain.release"},
    {"toolchain.windows"},
    {"toolchain.scoring", "toolchain.comparison", "toolchain.doctor", "toolchain.bench", "toolchain.events"},
    {"toolchain.shards", "toolchain.ledger"},
    {"toolchain.ray_engine"},
    {"toolchain.report", "toolchain.comparison_page"},
    {"toolchain.presentation"},
    {"toolchain.coloring"},
    {"toolchain.cli"},
    {"toolchain.__main__"},
]
PLAIN = (
    "export.text",
    "export.spec",
    "export.bundle",
    "export.sessions",
    "toolchain.scorer",
    "toolchain.scoring",
    "toolchain.explaining",
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("export", "toolchain")
    for path in (ROOT / package).rglob("*.py")
}


def floor(module: str) -> int:
    for number, names in enumerate(FLOORS):
        if module in names or (module.split(".")[0] + ".*" in names):
            return number
    raise AssertionError(f"{module} stands on no floor; give it one in FLOORS")


def imports(path: Path, everywhere: bool) -> set[str]:
    """The modules of ours and others that a file imports: anywhere in it, or only where it loads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_import_goes_up(module: str) -> None:
    if module == "toolchain":
        return  # it loads `Scorer` on first use
    for imported in imports(MODULES[module], everywhere=True) & MODULES.keys():
        assert floor(imported) <= floor(module), f"{module} imports {imported} from a floor above"


@pytest.mark.parametrize("module", PLAIN)
def test_the_scoring_side_needs_neither_torch_nor_onnx(module: str) -> None:
    for imported in imports(MODULES[module], everywhere=True):
        assert imported.split(".")[0] not in ("torch", "torchtext", "onnx")
