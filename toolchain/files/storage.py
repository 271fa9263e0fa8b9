"""Files by path or by URI (`s3://bucket/key`, `gs://…`): opened, listed, and written so that each is whole or absent.

A name without a scheme is a local path. The others go through pyarrow's filesystems, which take credentials, region and
retries from where the provider's own tools take them; `AWS_ENDPOINT_URL` names another endpoint for `s3://`.
"""

import fnmatch
import functools
import glob
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from toolchain.errors import UsageError
from toolchain.files.compression import BrokenInput, require_pyarrow

_CHUNK = 4 << 20
"""How much of an object is fetched at once: a request takes tens of milliseconds whatever its size."""


@dataclass(frozen=True)
class Status:
    """What tells one state of a file from another: its size in bytes, and when it was last written."""

    size: int
    modified_ns: int


def is_remote(name: str) -> bool:
    """Whether the name is a URI."""
    return "://" in name


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder. An object store has none: there it is one where a `/` ends it, or where
    objects have names under it."""
    if not is_remote(name):
        return Path(name).is_dir()
    files, path = _filesystem(name)
    return name.endswith("/") or _kind(files, path) == "Directory"


def exists(name: str) -> bool:
    """Whether there is a file or a folder of this name."""
    if not is_remote(name):
        return Path(name).exists()
    files, path = _filesystem(name)
    return _kind(files, path) != "NotFound"


def join(folder: str, name: str) -> str:
    """A name in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


def beside(name: str, other: str) -> str:
    """The name `other` in the folder of `name`."""
    return join(name.rpartition("/")[0], other) if is_remote(name) else str(Path(name).with_name(other))


def last_name(name: str) -> str:
    """What stands behind the last `/`."""
    return name.rstrip("/").rpartition("/")[2] if is_remote(name) else Path(name).name


def files_in(folder: str) -> list[str]:
    """The files right in a folder."""
    if not is_remote(folder):
        return [str(path) for path in Path(folder).iterdir() if path.is_file()]
    return _listed(folder, recursive=False)


def files_like(pattern: str) -> list[str]:
    """The files whose names match a pattern: `*`, `?`, `[…]`, and `**` for folders in folders."""
    if not is_remote(pattern):
        return [name for name in glob.glob(pattern, recursive=True) if Path(name).is_file()]
    fixed = pattern[: next(at for at, character in enumerate(pattern) if character in "*?[")].rpartition("/")[0]
    depth = None if "**" in pattern else pattern.count("/")
    listed = _listed(fixed, recursive=True)
    plain = pattern.replace("**/", "*")
    return [name for name in listed if fnmatch.fnmatchcase(name, plain) and depth in (None, name.count("/"))]


def open_remote(uri: str) -> tuple[BinaryIO, Status]:
    """An object as a stream that can seek. Raises `UsageError` where it is not there or cannot be had; a read that
    fails later raises `BrokenInput`."""
    try:
        files, path = _filesystem(uri)
        about = files.get_file_info(path)
        if about.type.name != "File":
            raise UsageError(f"{uri}: no such object")
        raw = RemoteFile(files.open_input_file(path), uri)
    except OSError as error:
        raise UsageError(f"{uri}: {_one_line(error)}") from error
    return io.BufferedReader(raw, _CHUNK), Status(about.size, about.mtime_ns)


def read_bytes(name: str) -> bytes | None:
    """A small file, or None where there is none."""
    if not is_remote(name):
        return Path(name).read_bytes() if Path(name).is_file() else None
    files, path = _filesystem(name)
    if _kind(files, path) != "File":
        return None
    with files.open_input_stream(path) as stream:
        return cast(bytes, stream.read())


def write_bytes(name: str, data: bytes) -> None:
    """Write a file that is durable when this returns, and never seen in part. Several writers of the same bytes may
    meet. Raises `OSError`."""
    if not is_remote(name):
        target = Path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.uname().nodename}.{os.getpid()}")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        return
    files, path = _filesystem(name)
    with files.open_output_stream(path) as stream:
        stream.write(data)


def upload(file: Path, name: str) -> None:
    """Move a local file to where `name` says, in one piece: an object appears when its last byte is there."""
    if not is_remote(name):
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
        file.replace(name)
        return
    files, path = _filesystem(name)
    with file.open("rb") as source, files.open_output_stream(path) as stream:
        shutil.copyfileobj(source, stream, _CHUNK)
    file.unlink()


def remove(name: str) -> None:
    """Remove a file, where there is one."""
    if not is_remote(name):
        Path(name).unlink(missing_ok=True)
    elif exists(name):
        files, path = _filesystem(name)
        files.delete_file(path)


def remove_tree(folder: str) -> None:
    """Remove a folder and what is in it, where there is one."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=not Path(folder).exists())
    elif exists(folder):
        files, path = _filesystem(folder)
        files.delete_dir(path)


class RemoteFile(io.RawIOBase):
    """A pyarrow file as Python's buffers want one, whose failures name it."""

    def __init__(self, file: Any, uri: str) -> None:
        self._file = file
        self._uri = uri

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """How many bytes came. Raises `BrokenInput` where the store gives no more."""
        try:
            return int(self._file.readinto(buffer))
        except OSError as error:
            raise BrokenInput(f"{self._uri}: cannot be read to its end ({_one_line(error)})") from error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """The position, in bytes."""
        return int(self._file.tell())

    def close(self) -> None:
        """Let go of the object."""
        if not self.closed:
            self._file.close()
        super().close()


def _listed(folder: str, recursive: bool) -> list[str]:
    from pyarrow import fs

    files, path = _filesystem(folder)
    scheme = folder.partition("://")[0]
    try:
        found = files.get_file_info(fs.FileSelector(path, recursive=recursive))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({_one_line(error)})") from error
    return [f"{scheme}://{about.path}" for about in found if about.type.name == "File"]


def _kind(files: Any, path: str) -> str:
    return str(files.get_file_info(path).type.name)


def _filesystem(uri: str) -> tuple[Any, str]:
    """The filesystem of a URI, and the path in it."""
    scheme, _, path = uri.partition("://")
    return _connected(scheme, path.partition("/")[0], os.environ.get("AWS_ENDPOINT_URL")), path.rstrip("/")


@functools.lru_cache(maxsize=32)
def _connected(scheme: str, bucket: str, endpoint: str | None) -> Any:
    if scheme in ("http", "https"):
        raise UsageError(f"{scheme}://{bucket}: toolchain downloads nothing; download the file, and name it here")
    require_pyarrow(f"{scheme}://{bucket}", "an object store")
    from pyarrow import fs

    if scheme == "s3" and endpoint:
        return fs.S3FileSystem(endpoint_override=endpoint, region=os.environ.get("AWS_REGION", "us-east-1"))
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{bucket}/")[0]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{scheme}://{bucket}: {_one_line(error)}; expected a path, s3://BUCKET/… or gs://BUCKET/…"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
