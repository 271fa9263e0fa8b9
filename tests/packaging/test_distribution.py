"""What is released: one version, the same bytes from the same sources, an installation that needs nothing else."""

import csv
import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.conftest import ROOT, Distribution, build
from toolchain import __version__

TOOLS = Path(sys.executable).parent
TYPED = """
from toolchain import Prediction, Scorer

def answer(texts: list[str]) -> dict[str, float]:
    with Scorer("bundle", provider="cpu") as scorer:
        predictions: list[Prediction] = scorer.score(texts)
    return {prediction.label: prediction.confidence for prediction in predictions}
"""
MISTYPED = """
from toolchain import Scorer

with Scorer("bundle") as scorer:
    scorer.score(["fine"])[0].confidence.upper()
"""


def needed(requirements: Iterable[Requirement], found: set[str] | None = None) -> set[str]:
    """The names of what these requirements bring along, of those that are installed here."""
    found = set() if found is None else found
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            needed(of_extras(metadata.requires(name) or [], requirement.extras), found)
    return found


def of_extras(lines: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    """The requirements that hold here, with these extras."""
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [
        requirement
        for requirement in map(Requirement, lines)
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments))
    ]


def requirements_of(wheel: Path, *extras: str) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(name))
    return of_extras(about.get_all("Requires-Dist", []), extras)


@pytest.fixture(scope="module")
def installed(dist: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an empty environment that got the wheel with `[cpu]`: what it declares, and nothing else.

    The files of those packages are copied from this environment, so that no package index is asked.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home)
    here, there = (
        Path(sysconfig.get_path("purelib", vars={"base": base, "platbase": base})).resolve()
        for base in (sys.prefix, str(home))
    )
    for name in needed(requirements_of(dist.wheel, "cpu")):
        for file in metadata.files(name) or []:
            source = Path(str(file.locate())).resolve()
            if source.is_relative_to(here) and source.exists():
                (there / source.relative_to(here)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, there / source.relative_to(here))
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "--disable-pip-version-check",
        "--python",
        home / "bin" / "python",
    ]
    subprocess.run([*pip, "install", "--quiet", "--no-index", f"{dist.wheel}[cpu]"], check=True)
    return home / "bin"


def alone(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that sees nothing of this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=cwd, env={**kept, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )


# --- building --------------------------------------------------------------------------------------------------------


def test_the_version_stands_in_one_place(dist: Distribution) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]
    assert dist.wheel.name == f"toolchain-{__version__}-py3-none-any.whl"
    assert dist.sdist.name == f"toolchain-{__version__}.tar.gz"


def test_other_times_rights_and_places_build_the_same_bytes(dist: Distribution, tmp_path: Path) -> None:
    project = dist.unpack(tmp_path / "another place")
    for number, path in enumerate(sorted(project.rglob("*"))):
        path.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
        os.utime(path, (number, 1_000_000_000 + number))
    again = build(project, tmp_path / "again", umask=0o077)
    assert again.wheel.read_bytes() == dist.wheel.read_bytes()
    assert again.sdist.read_bytes() == dist.sdist.read_bytes()


def test_the_sdist_holds_what_is_tracked_and_nothing_that_lies_about(dist: Distribution) -> None:
    with tarfile.open(dist.sdist) as archive:
        names = sorted(name.partition("/")[2] for name in archive.getnames())
    assert names == sorted([*dist.tracked, "PKG-INFO"])
    assert {"Makefile", "constraints.txt", ".ci/run", "LICENSE", "tests/conftest.py", "docs/index.md"} <= set(names)


# --- installed -------------------------------------------------------------------------------------------------------


def test_an_empty_environment_scores_with_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("review\nSuperb and moving.\nA dull mess.\n  \n", encoding="utf-8")
    assert alone(installed / "toolchain", "--version", cwd=tmp_path).stdout == f"toolchain {__version__}\n"
    done = alone(installed / "toolchain", "score", "reviews.csv", "--max-rejects", "50%", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "reviews.scored.csv").open(newline="", encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["pos", "neg"]
    assert (tmp_path / "reviews.csv.rejected.jsonl").exists()


def test_people_who_check_their_types_see_ours(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "mistyped.py").write_text(MISTYPED)
    checker: list[str | Path] = [
        TOOLS / "mypy",
        "--strict",
        "--python-executable",
        installed / "python",
        "--cache-dir",
        tmp_path / "cache",
    ]
    done = alone(*checker, "typed.py", "mistyped.py", cwd=tmp_path)
    assert [line.split(" error: ")[0] for line in done.stdout.splitlines()[:-1]] == ["mistyped.py:5:"], done.stdout
    assert '"float" has no attribute "upper"' in done.stdout


# --- beside the package ----------------------------------------------------------------------------------------------


def test_the_bill_of_materials_lists_what_an_installation_brings_along(dist: Distribution) -> None:
    listed = json.loads((ROOT / "sbom.json").read_text(encoding="utf-8"))["components"]
    versions = {canonicalize_name(component["name"]): component["version"].partition("+")[0] for component in listed}
    extras = re.search(r"^RUNTIME := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert extras
    assert versions.keys() == needed(requirements_of(dist.wheel, *extras[1].split(","))), "stale: make sbom"
    pins = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    assert versions == {name: pinned.get(name) for name in versions}, "stale: make sbom"
    unlicensed = {component["name"] for component in listed if not component.get("licenses")}
    # Their metadata do not say it: BSD-3-Clause, Apache-2.0, BSD-3-Clause.
    assert unlicensed <= {"protobuf", "ray", "torchtext"}, "say here under what it is"


def test_the_workflows_are_ones_that_github_reads() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.name for path in workflows] == ["ci.yml", "release.yml"]
    checker: list[str | Path] = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*checker, *workflows], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    ci = workflows[0].read_text(encoding="utf-8")
    assert "run: .ci/run\n" in ci
    assert "permissions:\n  contents: read\n" in ci


def test_the_hooks_run_tools_that_make_setup_installs() -> None:
    programs = re.findall(r"entry: \.venv/bin/(\S+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {"ruff", "mypy", "check-jsonschema"} == set(programs)
    assert all((TOOLS / program).is_file() for program in programs)
