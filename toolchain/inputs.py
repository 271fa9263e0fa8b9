"""Where rows come from and go to: opening an input, naming its output and its rejects."""

import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from toolchain.errors import UsageError

STDIO = "-"


def open_input(source: str, stack: ExitStack) -> tuple[BinaryIO, int | None]:
    """The input, and its size where it is a regular file."""
    if source == STDIO:
        return sys.stdin.buffer, None
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 - the caller's stack closes it
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}") from error
    stack.enter_context(stream)
    status = os.fstat(stream.fileno())
    return stream, status.st_size if stat.S_ISREG(status.st_mode) else None


def output_path(source: str, out: str | None, many: bool) -> str:
    """Where the scored rows of `source` go: `reviews.csv` -> `reviews.scored.csv`, or into `out`.

    With several inputs `out` is a folder.
    """
    if out == STDIO or (source == STDIO and out is None):
        return STDIO
    name = Path("stdin.csv" if source == STDIO else source)
    scored = name.with_name(f"{name.stem}.scored{name.suffix}")
    if out is None:
        return str(scored)
    if many or Path(out).is_dir():
        return str(Path(out) / scored.name)
    return out


def rejects_path(source: str, output: str) -> Path:
    """Where the rejected rows go: beside the output, `reviews.scored.csv` -> `reviews.csv.rejected.jsonl`."""
    path = Path(output if output != STDIO else source if source != STDIO else "stdin")
    return path.with_name(f"{path.stem.removesuffix('.scored')}{path.suffix}.rejected.jsonl")
