"""Compressed files, by the last ending of their name: `.gz`, `.bz2` and `.xz` always, `.zst` with pyarrow."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from toolchain.errors import UsageError

SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""A file's ending -> the tool that unpacks it."""

_CHUNK = 1 << 16
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class BrokenInput(UsageError):
    """An input that ends or turns to noise in its middle; what came before was read."""


def check_packing(packing: str, name: str) -> None:
    """Raise `UsageError` where the compression needs what is not installed."""
    if packing.lower() == ".zst":
        require_pyarrow(name)


def decompressed(file: BinaryIO, packing: str, name: str) -> Iterator[bytes]:
    """The bytes of a compressed file, piece by piece. Raises `BrokenInput` where it is damaged, behind the last good
    piece."""
    stream: Any
    match packing.lower():
        case ".gz":
            stream = gzip.GzipFile(fileobj=file, mode="rb")
        case ".bz2":
            stream = bz2.BZ2File(file)
        case ".xz":
            stream = lzma.LZMAFile(file)  # noqa: SIM115 - the file below is the caller's to close
        case _:
            stream = require_pyarrow(name).CompressedInputStream(file, "zstd")
    # `read` waits for as much as was asked for, and at a break it loses what it had; `read1` does not.
    read = getattr(stream, "read1", stream.read)
    while True:
        try:
            piece = bytes(read(_CHUNK))
        except _DAMAGE as error:
            raise BrokenInput(
                f"{name}: the compressed data is damaged or cut off ({error}); fetch it again, or unpack what is whole "
                f"and score that: {SUFFIXES[packing.lower()]} -dc {name} > {name[: -len(packing)]}"
            ) from error
        if not piece:
            return
        yield piece


@contextmanager
def compressing(path: Path, packing: str) -> Iterator[BinaryIO]:
    """A file to write that is compressed as `packing` says; the same bytes in always make the same file."""
    with ExitStack() as stack:
        if packing.lower() == ".zst":
            yield cast(
                BinaryIO, stack.enter_context(require_pyarrow(str(path)).CompressedOutputStream(str(path), "zstd"))
            )
            return
        file = stack.enter_context(path.open("wb"))
        match packing.lower():
            case ".gz":
                # Neither a name nor a time, which would differ from run to run.
                stream = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
                yield cast(BinaryIO, stack.enter_context(stream))
            case ".bz2":
                yield cast(BinaryIO, stack.enter_context(bz2.BZ2File(file, "wb")))
            case ".xz":
                yield cast(BinaryIO, stack.enter_context(lzma.LZMAFile(file, "wb")))
            case _:
                yield file


def require_pyarrow(name: str, what: str = ".zst") -> Any:
    """The module, or `UsageError` where `name` is `what` and so cannot do without."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UsageError(f"{name}: {what} needs pyarrow; install it: pip install 'toolchain[parquet]'") from None
    return pyarrow
