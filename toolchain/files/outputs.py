"""Where results go: what a name leads to, whether it may be written, and the writing, whole or not at all.

A file that is there already may be replaced where this product wrote it and nobody has changed it since. A record
tells: in the file itself where its format has a place for one, else in the small file `NAME.meta.json` beside it.
"""

import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from export.bundle import sha256
from toolchain.errors import UsageError

RECORD = ".meta.json"
"""What is behind a file's name in the name of its record."""

RECORD_FORMAT = 1

_descriptor = re.compile(r"/(?:dev|proc/self)/fd/([0-9]+)")
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_MAX_RECORD_BYTES = 16 << 20


@dataclass(frozen=True)
class Product:
    """A kind of file that a command writes: its name in a folder, what tells that a file is one of ours as it was
    written, and whether a record is written beside it."""

    usual_name: str
    ours: Callable[[Path], bool]
    has_record: bool = False


def placed(name: str, product: Product) -> str:
    """The file that `name` means: where it is a folder, or ends in a slash, the one with the usual name in it. A folder
    that is not there is made."""
    if name.endswith("/") and not os.path.lexists(name.rstrip("/")):
        os.makedirs(name)
    if name.endswith("/") or os.path.isdir(name):
        return os.path.join(name, product.usual_name)
    return name


def is_stream(name: str) -> bool:
    """Whether what is written there goes on at once and cannot be taken back: a FIFO, a device, a descriptor."""
    if _descriptor_of(name) is not None:
        return True
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def open_stream(name: str) -> BinaryIO:
    """What `is_stream` knows, for writing, unbuffered; a FIFO is waited for until somebody reads. Raises `OSError`."""
    descriptor = _descriptor_of(name)
    opened = name if descriptor is None else os.dup(descriptor)
    return cast(BinaryIO, open(opened, "wb", buffering=0))


def real(name: str | Path) -> Path:
    """The file itself where `name` is a symbolic link to it: that one is replaced, and the link stays."""
    return Path(os.path.realpath(name)) if os.path.islink(name) else Path(name)


def check(name: str, product: Product, overwrite: bool, inputs: Iterable[str | Path] = (), option: str = "-o") -> None:
    """Raise `UsageError` where `name` cannot be written: an input of the same run, a folder, a place in no folder, or a
    file that is not ours, unless that is to be overwritten. `option` is the one that names another place."""
    check_replaceable(name, product, overwrite, inputs, option)
    if not is_stream(name) and not (folder := real(name).parent).is_dir():
        raise UsageError(f"{name}: {folder} is not a folder; name another place: {option}")


def check_replaceable(
    name: str, product: Product, overwrite: bool, inputs: Iterable[str | Path] = (), option: str = "-o"
) -> None:
    """`check`, where the folders above are made."""
    if is_stream(name):
        return
    if os.path.realpath(name) in map(os.path.realpath, inputs):
        raise UsageError(f"{name}: is an input; name another output: {option}")
    path = real(name)
    if path.is_dir():
        raise UsageError(f"{name}: is a folder; name a file in it: {option}")
    checked = {path: product.ours, **({record_path(path): _is_record} if product.has_record else {})}
    for file, ours in checked.items():
        if file.exists() and not overwrite and not ours(file):
            raise not_ours(name if file == path else str(file), option)


def not_ours(name: str, option: str) -> UsageError:
    """What is said where a file is not to be replaced."""
    return UsageError(
        f"{name}: exists, and toolchain did not write it as it is now; "
        f"name another place: {option}, or replace it: --overwrite"
    )


@contextmanager
def writing(name: str | Path) -> Iterator[BinaryIO]:
    """A file to write, durable and in its place when the block ends well, and otherwise as it was. Links are followed;
    what is written to a device or a FIFO goes through. Raises `OSError`."""
    if is_stream(str(name)):
        with io.BufferedWriter(cast(io.RawIOBase, open_stream(str(name)))) as stream:
            yield stream
        return
    target = real(name)
    partial = target.with_name(f".{target.name[:200]}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that nobody looks for before it is whole."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def record_path(path: Path) -> Path:
    """Where the record of a file stands, if it is not in the file."""
    return path.with_name(path.name + RECORD)


def read_record(path: Path) -> Mapping[str, Any] | None:
    """The record in the file `path`, None where there is none that can be read."""
    try:
        if path.stat().st_size > _MAX_RECORD_BYTES:
            return None
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def record_bytes(about: Mapping[str, Any], files: Mapping[str, Path]) -> bytes:
    """A record as it stands in its file: `about` it, and the size and SHA-256 of the files that it is the record of, by
    the names that they have or will have."""
    sizes = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for name, path in files.items()}
    return json.dumps({**about, "files": sizes}, indent=2, ensure_ascii=False).encode() + b"\n"


def write_record(path: Path, about: Mapping[str, Any]) -> None:
    """Write the record of a file that is in its place."""
    with writing(record_path(path)) as file:
        file.write(record_bytes(about, {path.name: path}))


def is_recorded(path: Path, records: Sequence[Mapping[str, Any] | None] | None = None) -> bool:
    """Whether the file is what its record says, or one of `records`: nobody has changed it since it was written."""
    for record in [read_record(record_path(path))] if records is None else records:
        try:
            expected = (record or {})["files"][path.name]
            if expected["bytes"] == path.stat().st_size and expected["sha256"] == sha256(path):
                return True
        except (KeyError, TypeError):
            continue
    return False


def _is_record(path: Path) -> bool:
    return {"format", "files"} <= (read_record(path) or {}).keys()


def now() -> str:
    """The time for a record, UTC as ISO 8601 has it. `SOURCE_DATE_EPOCH` sets it, where the same bytes are wanted again
    (https://reproducible-builds.org/specs/source-date-epoch)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    time = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _descriptor_of(name: str) -> int | None:
    """The number of the open file of this process that a name stands for."""
    if (found := _descriptor.fullmatch(name)) is not None:
        return int(found[1])
    return _STANDARD.get(name)
