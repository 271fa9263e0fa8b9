"""What the options repeat, so that `--help` loads nothing, is what the product uses."""

import subprocess
import sys
from typing import get_args

from export.text import TOKENIZERS
from toolchain.cli import options
from toolchain.files import records

LOADED = """
import sys
try:
    from toolchain.cli.app import app
    app({arguments!r}, prog_name="toolchain")
except SystemExit:
    rooms = {{name.split(".")[1] for name in sys.modules if name.startswith("toolchain.")}}
    print("loaded:", *sorted(rooms | (sys.modules.keys() & {{"numpy", "rich", "orjson", "onnxruntime"}})))
"""


def test_the_names_and_numbers_are_those_of_the_rooms() -> None:
    assert get_args(options.Tokenizer) == tuple(TOKENIZERS)
    assert options.MAX_ROW_BYTES == records.MAX_ROW_BYTES


def loaded(*arguments: str, **variables: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=list(arguments))],
        capture_output=True,
        text=True,
        check=True,
        env=variables or None,
    )
    return done.stdout.rpartition("loaded: ")[2].split()


def test_the_help_loads_nothing_of_any_other_room() -> None:
    assert loaded("--help") == ["cli", "errors"]
    assert loaded("score", "--help") == ["cli", "errors"]


def test_completion_does_without_numpy() -> None:
    completing = {"_TOOLCHAIN_COMPLETE": "complete_bash", "COMP_WORDS": "toolchain tr", "COMP_CWORD": "1"}
    assert loaded(**completing) == ["cli", "errors"]
