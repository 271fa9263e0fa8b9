"""Where rows come from and go to: finding inputs, naming their outputs and their rejects."""

import functools
import glob
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from export.bundle import MANIFEST, VOCABULARY
from toolchain.errors import UsageError
from toolchain.files.kind import NOT_WRITTEN, READ, STDIO, Kind
from toolchain.files.outputs import RECORD
from toolchain.files.storage import beside, files_in, files_like, is_folder, join

_STANDARD_OUTPUT = (STDIO, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def expand(sources: Sequence[str]) -> list[str]:
    """Every folder and every pattern (`'in/*.csv.gz'`) replaced by the files in it, by name, without our own outputs
    and hidden files (`.DS_Store`, `._reviews.csv`, `~$reviews.xlsx`).

    Raises `UsageError` where there are none.
    """
    files: list[str] = []
    for source in sources:
        if is_folder(source):
            if (Path(source) / MANIFEST).is_file() and (Path(source) / VOCABULARY).is_file():
                raise UsageError(f"{source}: a bundle, not reviews; to score with it: --bundle {source}")
            found = files_in(source)
        elif glob.has_magic(source) and (Kind.of(source).place != "local" or not Path(source).exists()):
            found = files_like(source)
        else:
            files.append(source)
            continue
        wanted = sorted(name for name in found if _is_input(name))
        if not wanted:
            raise UsageError(f"{source}: no file to score in it; expected {', '.join(READ)}, or one of them packed")
        files += wanted
    return files


def output_path(source: str, out: str | None, many: bool) -> str:
    """Where the scored rows of `source` go: `reviews.csv.gz` -> `reviews.scored.csv.gz`, or into `out`.

    With several inputs `out` is a folder, and where it ends with a `/`.
    """
    if out in _STANDARD_OUTPUT or (source == STDIO and out is None):
        return STDIO
    named = "stdin.csv" if source == STDIO else source
    kind = Kind.of(named)
    ending = ".csv" if kind.ending.lower() in (*NOT_WRITTEN, ".txt") else kind.ending
    scored = f"{kind.stem}.scored{ending}{kind.packing}"
    if out is None:
        return beside(named, scored)
    if many or is_folder(out) or out.endswith("/"):
        return join(out, scored)
    return out


def output_paths(sources: Sequence[str], out: str | None, many: bool) -> list[str]:
    """`output_path` for every source. A folder `out` has the folders that the sources lie in, below the one that they
    share: `d1/r.csv` and `d2/r.csv` go to `out/d1/r.scored.csv` and `out/d2/r.scored.csv`.

    Raises `UsageError` where `out` has the name of a file, and several inputs need a folder."""
    if out is None or out in _STANDARD_OUTPUT or not many:
        return [output_path(source, out, many) for source in sources]
    named = Kind.of(out)
    if (named.ending.lower() in READ or named.packing) and not (out.endswith("/") or is_folder(out)):
        raise UsageError(
            f"--out {out}: the name of a file, and a folder, a pattern or several files were named to score; name a "
            "folder for what comes of them: --out scored/"
        )
    folders = [_folders(source) for source in sources]
    levels = zip(*(parts for parts in folders if parts is not None), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
    return [
        output_path(source, functools.reduce(join, (parts or [])[shared:], out), many)
        for source, parts in zip(sources, folders, strict=True)
    ]


def rejects_path(source: Kind, output: Kind) -> Path:
    """Where the rejected rows go: beside the output, `reviews.scored.csv.gz` -> `reviews.csv.gz.rejected.jsonl`."""
    named = next((kind for kind in (output, source) if kind.place != "standard stream"), Kind.of("stdin"))
    stem = named.stem.removesuffix(".scored")
    return Path(named.name).with_name(f"{stem}{named.ending}{named.packing}.rejected.jsonl")


def _folders(source: str) -> list[str] | None:
    """The folders that a file lies in, from the outermost; None of standard input."""
    if source == STDIO:
        return None
    place = source.partition("://")[2] if Kind.of(source).place == "object store" else os.path.abspath(source)
    return [part for part in place.split("/")[:-1] if part]


def _is_input(name: str) -> bool:
    kind = Kind.of(name)
    if name.endswith(RECORD):
        return False
    ours = kind.stem.endswith(".scored") or f"{kind.stem}{kind.ending}".endswith(".rejected.jsonl")
    return kind.ending.lower() in READ and not ours and not kind.stem.startswith((".", "~$"))
