"""The same answers in every locale, in every time zone, and in an empty environment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from examples.tests.conftest import EXAMPLES

Environment = Mapping[str, str]

# A Python program is in the "C" locale until it calls setlocale, as a service it is part of may well have done.
IN_ITS_LOCALE = """
import contextlib, locale, runpy, sys
with contextlib.suppress(locale.Error):
    locale.setlocale(locale.LC_ALL, "")
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
IN_EFFECT = "import locale; print(locale.setlocale(locale.LC_ALL, ''), locale.localeconv()['decimal_point'])"

# A locale and a time zone each, for one has nothing to do with the other.
ENVIRONMENTS: dict[str, Environment] = {
    "empty": {},
    "C, fourteen hours ahead": {"LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Kiritimati"},
    "a locale that is not there, half an hour off": {"LC_ALL": "xx_XX.UTF-8", "TZ": "America/St_Johns"},
}


@dataclass(frozen=True)
class Program:
    """An example's command, without the bundle, and what it reads."""

    command: Sequence[str | Path]
    stdin: bytes = b""

    def run(self, bundle: Path, environment: Environment) -> bytes:
        """What it prints in an environment of PATH and `environment` alone."""
        return output([*self.command, bundle], environment, self.stdin)


def output(command: Sequence[str | Path], environment: Environment, stdin: bytes = b"") -> bytes:
    variables = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, env=variables, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def programs(vectors: list[dict[str, Any]]) -> list[Program]:
    lines = "".join(f"{vector['text']}\n" for vector in vectors if "\n" not in vector["text"])
    in_its_locale = (sys.executable, "-c", IN_ITS_LOCALE)
    return [
        Program([*in_its_locale, EXAMPLES / "python" / "score.py"], lines.encode()),
        Program([*in_its_locale, EXAMPLES / "python" / "check.py"]),
        Program(["node", EXAMPLES / "node" / "check.mjs"]),
    ]


@pytest.fixture(scope="module")
def usual(programs: list[Program], bundle: Path) -> list[bytes]:
    """What the programs print in the environment of these tests."""
    return [program.run(bundle, os.environ) for program in programs]


@pytest.fixture(scope="module")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment in Turkish, where the lower case of I is ı and numbers have a decimal comma; in effect, surely.

    And in a time zone that is not there.
    """
    localedef = shutil.which("localedef")
    assert localedef, "install localedef (Debian: libc-bin)"
    assert Path("/usr/share/i18n/locales/tr_TR").exists(), "install the sources of locales (Debian: locales)"
    folder = tmp_path_factory.mktemp("locales")
    subprocess.run([localedef, "-i", "tr_TR", "-f", "UTF-8", folder / "tr_TR.UTF-8"], check=True)
    environment = {"LC_ALL": "tr_TR.UTF-8", "LOCPATH": str(folder), "TZ": ":/nowhere"}
    assert output([sys.executable, "-c", IN_EFFECT], environment) == b"tr_TR.UTF-8 ,\n"
    return environment


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_no_environment_changes_an_answer(
    programs: list[Program], usual: list[bytes], bundle: Path, environment: Environment
) -> None:
    assert [program.run(bundle, environment) for program in programs] == usual


def test_turkish_changes_no_answer(
    programs: list[Program], usual: list[bytes], bundle: Path, turkish: Environment
) -> None:
    assert [program.run(bundle, turkish) for program in programs] == usual
