"""What a run of `score` writes, and whether it may: the rows and the rejects of every input, and the summary."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from toolchain.errors import UsageError
from toolchain.files.inputs import rejects_path
from toolchain.files.kind import STDIO, Kind
from toolchain.files.outputs import (
    RECORD,
    Product,
    check,
    check_replaceable,
    is_recorded,
    is_stream,
    not_ours,
    read_record,
    real,
    record_path,
)
from toolchain.files.storage import beside, exists, last_name, open_remote, read_bytes
from toolchain.scoring.journal import PARTS, SHARDS, UNPUBLISHED
from toolchain.scoring.parquet_rows import read_parquet_record

_FIELDS = {"input", "output", "rows", "scored", "rejected"}
_OF_A_REJECT = {"file", "line", "reason"}
_MAX_LINE = 64 << 20


def check_places(
    files: Sequence[tuple[str, str]], summary: str | None = None, overwrite: bool = False, sharded: bool = False
) -> None:
    """Raise `UsageError` where two of the files that a run with these `files` (input, output) writes are one, or one of
    them is an input, or the `summary` cannot be written; it may lie in a folder that the run makes for an output. Where
    it is `sharded`, the rejects are in the folder of the output."""
    inputs = {_place(source) for source, _ in files}
    claimed: set[str] = set()

    def claim(name: str, option: str = "-o") -> None:
        if _place(name) in inputs - {STDIO}:
            raise UsageError(f"{name}: is an input; name another output: {option}")
        if _place(name) in claimed:
            raise UsageError(
                f"several inputs would be written to {name}; score them one after another, or name a folder: -o FOLDER"
            )
        claimed.add(_place(name))

    for source, output in files:
        claim(output)
        if not sharded:
            claim(str(rejects_of(source, output)))
    if summary is not None:
        if not is_stream(summary):
            claim(summary, "--summary")
        made = {os.path.dirname(_place(output)) for _, output in files}
        checked = check_replaceable if os.path.dirname(_place(summary)) in made else check
        checked(summary, SUMMARY, overwrite, option="--summary")


def check_output(source: str, output: str, overwrite: bool) -> None:
    """Raise `UsageError` where the scored rows or the rejects of an input would replace the input, or a file that is
    not ours and is not to be overwritten."""
    rejects = rejects_of(source, output)
    if Kind.of(output).place == "object store":
        _check_object(output, _is_scored_object, overwrite)
        _check_object(beside(output, rejects.name), _is_rejects_object, overwrite)
        return
    if Kind.of(output).place == "local":
        check_replaceable(output, scored_rows(output), overwrite, [source])
    check_replaceable(str(rejects), REJECTS, overwrite, [source])


def _place(name: str) -> str:
    """The same for every name of a file."""
    return os.path.realpath(name) if Kind.of(name).place == "local" else name


def is_passing(output: str) -> bool:
    """Whether rows that are written to `output` are gone at once: standard output, a FIFO, a device."""
    kind = Kind.of(output)
    return kind.place == "standard stream" or (kind.place == "local" and is_stream(output))


def rejects_of(source: str, output: str) -> Path:
    """Where the rejected rows go: beside the output, or beside the input where the output is no file. Where it is a
    link, beside the file that it leads to."""
    return rejects_path(Kind.of(source), Kind.of("-" if is_passing(output) else followed(output)))


def scored_rows(output: str) -> Product:
    """The kind of file that `output` is."""
    return Product("", _is_scored, has_record=Kind.of(output).format != "parquet")


def followed(output: str) -> str:
    """The file itself, where an output is a link to it."""
    return str(real(output)) if Kind.of(output).place == "local" else output


def _is_scored(path: Path) -> bool:
    """By its record: that of the last run, or that of a run which was killed while it put its files in their places."""
    if Kind.of(path.name).format == "parquet":
        return read_parquet_record(path) is not None
    unpublished = [path.with_name(path.name + folder) / UNPUBLISHED for folder in (PARTS, SHARDS)]
    return is_recorded(path, [read_record(at) for at in (record_path(path), *unpublished)])


def _is_rejects(path: Path) -> bool:
    """Whether these are rejects of ours, by their first line: beside standard output they have no record."""
    with path.open("rb") as file:
        return _begins_with_a_reject(file)


def _begins_with_a_reject(file: BinaryIO) -> bool:
    try:
        return bool(json.loads(file.readline(_MAX_LINE)).keys() >= _OF_A_REJECT)
    except (ValueError, AttributeError):
        return False


def _check_object(name: str, ours: Callable[[str], bool], overwrite: bool) -> None:
    if not overwrite and exists(name) and not ours(name):
        raise not_ours(name, "-o")


def _is_scored_object(name: str) -> bool:
    """An object is replaced whole: it is known by its record's size, or a Parquet object by its own record."""
    stream, status = open_remote(name)
    with stream:
        if Kind.of(name).format == "parquet":
            return read_parquet_record(stream) is not None
        try:
            record = json.loads(read_bytes(name + RECORD) or b"{}")
            return bool(record["files"][last_name(name)]["bytes"] == status.size)
        except (ValueError, KeyError, TypeError):
            return False


def _is_rejects_object(name: str) -> bool:
    with open_remote(name)[0] as stream:
        return _begins_with_a_reject(stream)


def _is_summary(path: Path) -> bool:
    try:
        runs = json.loads(path.read_bytes())
        return isinstance(runs, list) and all(run.keys() >= _FIELDS for run in runs)
    except (ValueError, AttributeError):
        return False


REJECTS = Product("", _is_rejects)
SUMMARY = Product("summary.json", _is_summary)
