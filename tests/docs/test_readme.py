"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from toolchain.cli.app import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_python_block_runs_as_it_stands(bundle: Path, tmp_path: Path) -> None:
    """In a folder with the bundle where the blocks expect it."""
    (tmp_path / "demo").mkdir()
    for place in (tmp_path / "bundle", tmp_path / "demo" / "bundle"):
        place.symlink_to(bundle)
    blocks = python_blocks()
    assert len(blocks) >= 2
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.search(r"\b(neg|pos)\b", done.stdout), done.stdout


def test_every_command_is_mentioned() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {"train", "evaluate", "import", "export", "verify", "score", "inspect", "doctor", "bench"} <= set(commands)
    for name in commands:
        assert f"`{name}`" in README or f"toolchain {name}" in README or f"make {name}" in README, name


def test_every_make_target_it_names_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE) or target == "help", target
