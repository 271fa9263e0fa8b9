"""Compressed files: gzip, bzip2 and xz always; zstd with `zstandard`, or up to a window of 128 MB with pyarrow."""

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
_FED = 1 << 9
_DAMAGE = (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError)


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
            stream = _unzstd(file, name)
    # `read` waits for as much as was asked for, and at a break it loses what it had; `read1` does not.
    read = getattr(stream, "read1", stream.read)
    while True:
        try:
            piece = bytes(read(_CHUNK))
        except Exception as error:
            if not isinstance(error, _DAMAGE) and type(error).__name__ != "ZstdError":
                raise
            unpacked = name[: -len(packing)] if name.endswith(packing) else "UNPACKED"
            raise BrokenInput(
                f"{name}: the compressed data is damaged or cut off ({error}); fetch it again, or unpack what is whole "
                f"and score that: {SUFFIXES[packing.lower()]} -dc {name} > {unpacked}"
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


def _unzstd(file: BinaryIO, name: str) -> Any:
    """Of a window over 128 MB (`zstd --long=28` and more) only `zstandard` takes the frames."""
    try:
        import zstandard
    except ModuleNotFoundError:
        return require_pyarrow(name).CompressedInputStream(file, "zstd")
    return _Frames(file, zstandard.ZstdDecompressor(max_window_size=2**31))


class _Frames:
    """The frames of a zstd file, one behind the other. (`zstandard`'s own reader takes a file that is cut off for one
    that ends there.)"""

    def __init__(self, file: BinaryIO, decompressor: Any) -> None:
        self._file = file
        self._decompressor = decompressor
        self._frame: Any = None
        self._packed = memoryview(b"")

    def read(self, size: int) -> bytes:
        """About so many bytes, none at the end. What is unpacked at once is small, so that a bomb is no more than that:
        a block of 128 KB takes 4 bytes at least."""
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < size:
            if not self._packed and not self._refill():
                break
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            pieces.append(self._frame.decompress(self._packed[:_FED]))
            rest = len(self._frame.unused_data) if self._frame.eof else 0
            self._packed = self._packed[len(self._packed[:_FED]) - rest :]
            if self._frame.eof:
                self._frame = None
        return b"".join(pieces)

    def _refill(self) -> bool:
        self._packed = memoryview(self._file.read1(_CHUNK))  # type: ignore[attr-defined]
        if not self._packed and self._frame is not None:
            raise EOFError("the last frame has no end")
        return bool(self._packed)


def require_pyarrow(name: str, what: str = ".zst") -> Any:
    """The module, or `UsageError` where `name` is `what` and so cannot do without."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UsageError(f"{name}: {what} needs pyarrow; install it: pip install 'toolchain[parquet]'") from None
    return pyarrow
