"""The folded graphs of large models, kept in the user's cache so that a session maps their tables into memory.

ONNX Runtime folds `embedding @ W_ih + b` while a session loads, a quarter of a second for 30,000 words. The first
session of a model on a machine writes the graph that ONNX Runtime has made of it; later ones load that.

An entry is a folder named by everything that its numbers depend on: the model's SHA-256, the version of ONNX Runtime,
the processor. It is written beside and renamed, so that it is whole or absent whoever else writes it at that time, and
read only where its files have the SHA-256 that it says and nobody else could have put them there. Where anything of it
is missing, damaged or not allowed, the session is opened as if there were no cache. Answers are the same to the bit.

A graph that was written is opened once before it is kept, because not every ONNX Runtime can: up to 1.22 none writes a
graph that holds strings, and 1.23 to 1.29 write the constants of a loop twice and do not load that
(https://github.com/microsoft/onnxruntime/pull/32474). What is kept then is an empty entry, so that it is not tried anew
each time.
"""

import hashlib
import json
import mmap
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from export.errors import ExportError
from export.sessions import RuntimeUnavailable, open_session, runtime_version

if TYPE_CHECKING:
    import onnxruntime

WORTH_KEEPING = 2 << 20
"""Bytes of a model's file and of those that it reads; a smaller one is folded sooner than an entry is checked."""

KEPT = 4
"""Entries that stay, those that were used last. One takes as much room as the tables: 142 MB for 46,000 words."""

_FORMAT = 1
_GRAPH, _TABLES, _DIGESTS = "model.onnx", "tables.bin", "entry.json"
_UNFINISHED = ".writing-"
_TRIED_AGAIN = 7 * 86400.0  # seconds that an empty entry holds: the disk may have been full
_LEFT_BEHIND = 3600.0  # seconds after which an unfinished entry is nobody's
_CPU_DESCRIPTION = 4096  # bytes of /proc/cpuinfo, of its first processor
_MAX_DIGESTS_BYTES = 1 << 12


def folder() -> Path | None:
    """Where entries are kept: `toolchain/folded` in the user's cache folder; None where there is no home."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "toolchain" / "folded" if os.path.isabs(base) else None


def open_mapped(digests: Sequence[str], threads: int) -> "onnxruntime.InferenceSession | None":
    """A session on `cpu` of the graph that is kept of a model; None where there is none that can be used.

    `digests` are the SHA-256 of its file, and of those that it reads its weights from.
    """
    if (entry := _entry(digests)) is None:
        return None
    try:
        if not _is_whole(entry):
            return None
        session = open_session(entry / _GRAPH, "cpu", threads, optimized=True)
        os.utime(entry)
    except (OSError, ValueError, KeyError, TypeError, RuntimeUnavailable):
        return None
    return session


def open_and_keep(
    model: Path, digests: Sequence[str], threads: int, check: Callable[["onnxruntime.InferenceSession"], object]
) -> "onnxruntime.InferenceSession":
    """A session on `cpu` of `model`, which has these `digests`, that leaves its folded graph for the next one.

    `check` raises an `ExportError` where a session of the graph is not to be kept; what is returned is unchecked.
    Raises `RuntimeUnavailable` as `open_session` does.
    """
    entry = _entry(digests)
    if entry is None or _is_refusal(entry):
        return open_session(model, "cpu", threads)
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(entry.parent):
            return open_session(model, "cpu", threads)
        room = Path(tempfile.mkdtemp(dir=entry.parent, prefix=_UNFINISHED))
    except OSError:
        return open_session(model, "cpu", threads)
    try:
        try:
            session = open_session(model, "cpu", threads, keep=(room / _GRAPH, _TABLES))
            opens = _finish(room, threads, check)
        except RuntimeUnavailable:
            session, opens = open_session(model, "cpu", threads), False
        with suppress(OSError):
            _publish(room, entry, [_GRAPH, _TABLES, _DIGESTS] if opens else [])
        return session
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _entry(digests: Sequence[str]) -> Path | None:
    """The folder of a model's entry, whether it exists or not; None where none can be kept."""
    base = folder()
    if base is None:
        return None
    depends_on = (_FORMAT, *digests, runtime_version(), _processor())
    return base / hashlib.sha256(repr(depends_on).encode()).hexdigest()


def _processor() -> str:
    """What the numbers of a product depend on: the processor's model and what it can do."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            lines = file.read(_CPU_DESCRIPTION).split(b"\n\n")[0].decode(errors="replace").splitlines()
        told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))]
    except OSError:
        told = []
    return "\n".join([platform.machine(), *(told or [platform.processor()])])


def _finish(room: Path, threads: int, check: Callable[["onnxruntime.InferenceSession"], object]) -> bool:
    """Whether the graph in `room` can be opened and passes the `check`. Its digests are beside it then."""
    try:
        check(open_session(room / _GRAPH, "cpu", threads, optimized=True))
        digests = {name: _digest(room / name) for name in (_GRAPH, _TABLES)}
        (room / _DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
    except (ExportError, OSError, ValueError):
        return False
    return True


def _publish(room: Path, entry: Path, files: Sequence[str]) -> None:
    """Make the `files` in `room` the `entry`, in place of a damaged one, and drop entries that are too many."""
    whole = room / "whole"
    whole.mkdir(mode=0o700)
    for name in files:
        (room / name).rename(whole / name)
    if entry.exists():
        entry.rename(room / "replaced")
    whole.rename(entry)
    newest_first = sorted(entry.parent.iterdir(), key=lambda path: -path.stat().st_mtime)
    unfinished = [path for path in newest_first if path.name.startswith(_UNFINISHED)]
    finished = [path for path in newest_first if path not in unfinished and not _is_refusal(path)]
    left_behind = [path for path in unfinished if time.time() - path.stat().st_mtime > _LEFT_BEHIND]
    for path in (*left_behind, *finished[KEPT:]):
        shutil.rmtree(path, ignore_errors=True)


def _is_refusal(entry: Path) -> bool:
    """Whether it is an empty entry that still holds: this ONNX Runtime does not keep the graph of the model."""
    try:
        return not any(entry.iterdir()) and time.time() - entry.stat().st_mtime < _TRIED_AGAIN
    except OSError:
        return False


def _is_whole(entry: Path) -> bool:
    """Whether an entry is ours and its files are what it says they are."""
    if not (_is_ours(entry.parent) and _is_ours(entry)) or any(path.is_symlink() for path in entry.iterdir()):
        return False
    if (entry / _DIGESTS).stat().st_size > _MAX_DIGESTS_BYTES:
        return False
    digests = json.loads((entry / _DIGESTS).read_bytes())
    return all(_digest(entry / name) == digests[name] for name in (_GRAPH, _TABLES))


def _is_ours(path: Path) -> bool:
    """Whether it is a folder, no link to one, that only this user may write to."""
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode):
        return False
    return not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)


def _digest(path: Path) -> str:
    """The hex SHA-256 of a file that is not empty, without a copy of it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return hashlib.sha256(mapped).hexdigest()
