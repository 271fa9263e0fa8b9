"""The Dockerfile, as far as it can be judged without Docker: what it copies is there, what it starts can be started."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from typer.main import get_command

from toolchain.cli.app import app

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(name + " ")]


def test_what_it_copies_is_there_and_not_ignored() -> None:
    sources = [
        path for line in instructions("COPY") if not line.startswith("--from") for path in shlex.split(line)[:-1]
    ]
    assert {"pyproject.toml", "export", "toolchain", "data"} <= set(sources)
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(kept) == sorted(sources)
    assert all((ROOT / path).exists() for path in sources)


def test_what_it_installs_is_what_the_package_has_to_offer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (installed,) = re.findall(r"'\.\[([\w,]+)\]'", "\n".join(instructions("RUN")))
    assert {"cpu", "serve"} <= set(installed.split(",")) <= project["optional-dependencies"].keys()
    needed = {project["readme"], *project["license-files"], "constraints.txt"}
    assert needed <= {path for line in instructions("COPY") for path in shlex.split(line)}


def test_what_it_starts_is_a_command_of_ours_with_options_of_its_own() -> None:
    ((entry,),) = map(json.loads, instructions("ENTRYPOINT"))
    (default,) = instructions("CMD")
    assert entry == "toolchain"
    name, bundle, *options = json.loads(default)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(options[::2]) <= known
    assert dict(zip(options[::2], options[1::2], strict=True))["--port"] == instructions("EXPOSE")[0]
    shown = next(line for line in LINES if "--volume" in line and "/bundle" in line)
    assert f":{bundle}:ro" in shown


def test_its_health_check_is_python_that_fails_where_nobody_answers() -> None:
    (check,) = instructions("HEALTHCHECK")
    program, *arguments = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    nobody = [argument.replace(":8000/", ":1/") for argument in arguments]
    assert subprocess.run([sys.executable, *nobody], stderr=subprocess.DEVNULL).returncode == 1
    assert "/healthz" in arguments[-1]


def test_it_does_not_run_as_root() -> None:
    assert LINES.index("USER toolchain") < next(i for i, line in enumerate(LINES) if line.startswith("ENTRYPOINT"))
