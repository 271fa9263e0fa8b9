"""Inputs as streams of bytes: opened wherever they lie, unpacked, and in UTF-8."""

import codecs
import hashlib
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from toolchain.errors import UsageError
from toolchain.files.compression import BrokenInput, check_packing, decompressed
from toolchain.files.kind import Kind
from toolchain.files.storage import Status, open_remote

_CHUNK = 1 << 16
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Bytes that an encoding does not know become one byte that UTF-8 does not know, so that they cost their row alone.
_BAD_BYTE = "toolchain.bad-byte"
codecs.register_error(_BAD_BYTE, lambda error: ("\udc80", cast(UnicodeDecodeError, error).end))


@dataclass(frozen=True)
class Input:
    """An open input: `stream` gives its rows as UTF-8, unpacked.

    `status` is that of a regular file or an object as it was opened, None for anything else, which cannot be read
    again; what was read of that, `passed` knows. `size` is the number of bytes that `stream` will give, where that is
    known.
    """

    stream: BinaryIO
    status: Status | None
    size: int | None
    passed: "Passed | None" = None


def open_input(source: Kind, stack: ExitStack, encoding: str | None = None, end: int | None = None) -> Input:
    """Open a file, an object (`s3://…`), a FIFO or standard input; `stack` closes it.

    A file that grows is read as it was when it was opened, or to its byte `end` as it was when somebody else opened it.

    Compressed files are unpacked. An `encoding` other than UTF-8 is changed to UTF-8; None is UTF-8, or UTF-16 where
    the file begins with its mark.
    """
    encoding = _known(encoding)
    file, status = _open(source, stack, end)
    stream: BinaryIO = file
    if source.packing:
        check_packing(source.packing, source.name)
        stream = _forward(file, lambda packed: decompressed(packed, source.packing, source.name))
    if encoding is None and cast(io.BufferedReader, stream).peek(2)[:2] in _UTF16_MARKS:
        encoding = "utf-16"
    if encoding is not None and encoding != "utf-8":
        decoder = codecs.getincrementaldecoder(encoding)
        stream = _forward(stream, lambda coded: _transcoded(coded, decoder(_BAD_BYTE), source.name))
    passed = None if status is not None else cast(Passed, cast(io.BufferedReader, file).raw)
    return Input(stream, status, status.size if status is not None and stream is file else None, passed)


class _AsOpened(io.FileIO):
    """A regular file up to the size it had when it was opened."""

    def __init__(self, path: str, end: int | None) -> None:
        super().__init__(path, "rb")
        size = os.fstat(self.fileno()).st_size
        self._end = size if end is None else min(size, end)

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer)[: max(0, self._end - self.tell())]
        size = super().readinto(wanted) or 0
        if not size and wanted:
            raise BrokenInput(f"{self.name}: became shorter while it was read")
        return size


class Passed(io.RawIOBase):
    """What can be read once, from a FIFO or standard input: counted (`size`, in bytes) and digested on its way."""

    def __init__(self, source: BinaryIO) -> None:
        self._read = getattr(source, "readinto1", None) or source.readinto  # type: ignore[attr-defined]
        self._digest = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As much as there is, up to the buffer's size."""
        size: int = self._read(buffer) or 0
        self._digest.update(memoryview(buffer)[:size])
        self.size += size
        return size

    def sha256(self) -> str:
        """The SHA-256 of what was read so far."""
        return self._digest.hexdigest()


class _Pieces(io.RawIOBase):
    """What is made of another stream piece by piece, from its beginning: seeking back begins again and skips."""

    def __init__(self, source: BinaryIO, pieces: Callable[[BinaryIO], Iterator[bytes]]) -> None:
        self._source = source
        self._make = pieces
        self._pieces = pieces(source)
        self._rest = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        self._position += size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        offset += self._position if whence == os.SEEK_CUR else 0
        if offset < self._position:
            self._source.seek(0)
            self._pieces, self._rest, self._position = self._make(self._source), memoryview(b""), 0
        skipped = bytearray(_CHUNK)
        while self._position < offset and self.readinto(memoryview(skipped)[: offset - self._position]):
            pass
        return self._position


def _open(source: Kind, stack: ExitStack, end: int | None) -> tuple[BinaryIO, Status | None]:
    if source.place == "standard stream":
        return io.BufferedReader(Passed(sys.stdin.buffer), _CHUNK), None
    if source.place == "object store":
        stream, status = open_remote(source.name)
        stack.callback(stream.close)
        return stream, status
    try:
        regular = stat.S_ISREG(os.stat(source.name).st_mode)
        raw = stack.enter_context(_AsOpened(source.name, end) if regular else io.FileIO(source.name))
        file = io.BufferedReader(raw if regular else Passed(cast(BinaryIO, raw)), _CHUNK)
    except OSError as error:
        raise UsageError(f"{source.name}: {error.strerror}") from error
    about = os.fstat(raw.fileno())
    return file, Status(about.st_size, about.st_mtime_ns) if regular else None


def _forward(source: BinaryIO, pieces: Callable[[BinaryIO], Iterator[bytes]]) -> BinaryIO:
    return io.BufferedReader(_Pieces(source, pieces), _CHUNK)


def _transcoded(stream: BinaryIO, decoder: codecs.IncrementalDecoder, name: str) -> Iterator[bytes]:
    more = True
    while more:
        more = bool(piece := stream.read1(_CHUNK))  # type: ignore[attr-defined]
        try:
            yield decoder.decode(piece, not more).encode("utf-8", "surrogateescape")
        except UnicodeError as error:
            raise BrokenInput(f"{name}: {error}; expected another --encoding") from error


def _known(encoding: str | None) -> str | None:
    """The encoding's proper name."""
    if encoding is None:
        return None
    try:
        b" ".decode(encoding, "ignore")
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise UsageError(f"--encoding {encoding}: not known; expected utf-8, utf-16, latin-1, cp1252 …") from None
