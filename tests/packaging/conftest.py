"""What `make dist` makes, for all who look into it."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environment import link_environment

ROOT = Path(__file__).parents[2]
MADE_WHEN = {"SOURCE_DATE_EPOCH": "1700000000"}
SOMEBODY = ("-c", "user.name=somebody", "-c", "user.email=somebody@localhost")
LYING_ABOUT = ("notes.txt", "data/private.csv", "toolchain/unfinished.py", "tests/test_unfinished.py")


@dataclass(frozen=True)
class Distribution:
    """A wheel and an sdist; `tracked` are the files of the commit that they are made of."""

    wheel: Path
    sdist: Path
    tracked: Sequence[str] = ()

    def unpack(self, folder: Path) -> Path:
        with tarfile.open(self.sdist) as archive:
            archive.extractall(folder, filter="data")
        (project,) = folder.iterdir()
        return project


def build(project: Path, out: Path, umask: int = 0o022) -> Distribution:
    """As anyone builds an unpacked sdist."""
    command: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-d", out, "-t", "sdist", "-t", "wheel"]
    environment = {**os.environ, **MADE_WHEN}
    subprocess.run(command, cwd=project, env=environment, umask=umask, stdout=subprocess.DEVNULL, check=True)
    return built(out)


def built(out: Path, tracked: Sequence[str] = ()) -> Distribution:
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Distribution(wheel, sdist, tracked)


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """What `make dist` makes of these sources, committed as they are now, in a folder where other files lie about."""
    project = tmp_path_factory.mktemp("dist") / "project"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = [name for name in listed.split("\0") if name and (ROOT / name).exists()]
    for name in tracked:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    for command in (("init", "--quiet"), ("add", "--all", "--force"), (*SOMEBODY, "commit", "--quiet", "-m", "now")):
        subprocess.run(["git", *command], cwd=project, check=True)
    for name in LYING_ABOUT:
        (project / name).touch()
    link_environment(project)
    environment = {**os.environ, **MADE_WHEN}
    subprocess.run(["make", "dist"], cwd=project, env=environment, stdout=subprocess.DEVNULL, check=True)
    return built(project / "dist", tracked)
