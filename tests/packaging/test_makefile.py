"""The targets of the Makefile: one of them runs every test, and where something is missing it says what to install."""

import re
import shutil
import subprocess

from tests.packaging.conftest import ROOT

SUITES = ("test", "test-cluster", "test-pages", "test-docs", "test-embed")


def make(*arguments: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program
    return subprocess.run(
        [program, *arguments], cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_check_is_lint_and_every_suite_and_leaves_no_test_out() -> None:
    commands = make("--dry-run", "check").stdout.splitlines()
    assert any(command.endswith("ruff check .") for command in commands)
    suites = [command.partition(" -m pytest ")[2].split() for command in commands if " -m pytest " in command]
    assert len(suites) == len(SUITES)
    ignored = {word.removeprefix("--ignore=") for words in suites for word in words if word.startswith("--ignore=")}
    assert ignored
    assert ignored <= {word for words in suites for word in words}
    assert all((ROOT / path).exists() for path in ignored)
    listed = make("help").stdout
    for target in ("check", "lint", *SUITES):
        assert re.search(rf"^  make {target} ", listed, re.MULTILINE), target


def test_without_chromium_the_pages_are_not_tested_and_nothing_is_installed() -> None:
    done = make("test-pages", path="/nowhere")
    assert done.returncode != 0
    assert done.stdout == ""
    line, end = done.stderr.splitlines()
    assert line == "make test-pages opens pages in Chromium: apt-get install chromium chromium-driver"
    assert end.startswith("make: ***")
