"""What the options repeat, so that `--help` loads nothing, is what the product uses."""

import subprocess
import sys
from typing import get_args

import pytest

from export.text import TOKENIZERS
from toolchain.cli import options
from toolchain.errors import UsageError
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


PLAIN = ["cli", "errors", "look"]
"""What the command line is made of, beside the rooms."""


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
    assert loaded("--help") == PLAIN
    assert loaded("score", "--help") == PLAIN


def test_completion_does_without_numpy() -> None:
    completing = {"_TOOLCHAIN_COMPLETE": "complete_bash", "COMP_WORDS": "toolchain tr", "COMP_CWORD": "1"}
    assert loaded(**completing) == PLAIN


def test_names_stand_between_commas_and_in_quotes_hold_one_or_a_line_break() -> None:
    assert options.names("--keep", ['a, b,"c,d"', "e", '"two\nlines"']) == ("a", "b", "c,d", "e", "two\nlines")
    assert options.names("--keep", None) == ()
    assert options.names("--keep", [""]) == ("",)


@pytest.mark.parametrize("value", ["a\nb", 'a,"b', '"a"b', "a\rb" + "x" * 9_999])
def test_names_that_cannot_be_read_are_one_short_line(value: str) -> None:
    with pytest.raises(UsageError) as refused:
        options.names("--keep", [value])
    line = str(refused.value)
    assert line.startswith(f"--keep {value[:1]}")
    assert "expected names with commas between them" in line
    assert not set(line) & set("\r\n")
    assert len(line) < 350
