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
from toolchain.files.archives import NotOneFile, open_zip, tar_member, untarred
from toolchain.files.compression import BrokenInput, decompressed
from toolchain.files.kind import Kind
from toolchain.files.recognition import ENOUGH, PARQUET, packing_of, unread
from toolchain.files.storage import RemoteFile, Status, open_remote

HEAD = 1 << 20
"""So much of a file is looked at to find out what it is."""

_CHUNK = 1 << 16
_MAX_PACKINGS = 3
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes that an encoding does not know become one byte that UTF-8 does not know, so that they cost their row alone.
_BAD_BYTE = "toolchain.bad-byte"
codecs.register_error(_BAD_BYTE, lambda error: ("\udc80", cast(UnicodeDecodeError, error).end))


@dataclass(frozen=True)
class Input:
    """An open input: `stream` gives its rows as UTF-8, unpacked. `head` is how it begins, and still to be read.

    `packings` are what it was unpacked from, the outermost first; `member` is the name of the file in an archive.
    `encoding` is what it was in, None for UTF-8. A `plain` stream is the file itself; a `workbook` is not unpacked.
    `status` is that of a regular file or an object as it was opened, None for anything else, which cannot be read
    again; what was read of that, `passed` knows. `size` is the number of bytes that `stream` will give, where that is
    known.
    """

    stream: BinaryIO
    head: bytes
    packings: tuple[str, ...]
    member: str | None
    encoding: str | None
    plain: bool
    workbook: bool
    status: Status | None
    size: int | None
    passed: "Passed | None" = None


def open_input(source: Kind, stack: ExitStack, encoding: str | None = None, end: int | None = None) -> Input:
    """Open a file, an object (`s3://…`), a FIFO or standard input; `stack` closes it.

    A file that grows is read as it was when it was opened, or to its byte `end` as it was when somebody else opened it.
    What is packed is unpacked, whatever its name. An `encoding` other than UTF-8 is changed to UTF-8; None is UTF-8, or
    what the file's mark says. Raises `UsageError` where it is nothing that we read.
    """
    encoding = _known(encoding)
    file, status = _open(source, stack, end)
    passed = None if status is not None else cast(Passed, cast(io.BufferedReader, file).raw)
    stream: BinaryIO = file
    packings: list[str] = []
    member = None
    head, stream = _looked_at(stream, ENOUGH)
    while packing := packing_of(head):
        if len(packings) == _MAX_PACKINGS:
            raise UsageError(f"{source.title}: is compressed more than {_MAX_PACKINGS} times; unpack it first")
        plain = not packings and status is not None
        if packing == ".zip":
            archive = open_zip(stream, source.title, plain, stack)
            if archive.workbook:
                return Input(archive.file, b"", (*packings,), None, None, plain, True, status, None, passed)
            member = archive.member
            stream = _forward(archive.file, archive.pieces(source.title))
        elif packing == ".tar":
            member = tar_member(stream, source.title) if plain else None
            stream = _forward(stream, untarred(source.title))
        else:
            stream = _forward(stream, _unpacking(packing, source.title))
        packings.append(packing)
        head, stream = _looked_at(stream, ENOUGH)
    if what := unread(head):
        raise UsageError(f"{source.title}: {what}")
    mark = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding is None and mark is not None:
        encoding = mark
    if encoding is not None and encoding != "utf-8" and not head.startswith(PARQUET):
        stream = _forward(stream, _transcoding(encoding, source.title))
    plain = stream is file
    head, stream = _looked_at(stream, HEAD)
    size = status.size if status is not None and plain else None
    return Input(stream, head, (*packings,), member, encoding, plain, False, status, size, passed)


class _Ahead(io.RawIOBase):
    """A stream whose first bytes, `head`, were read already; `error` is what came instead of more of them."""

    def __init__(self, head: bytes, source: BinaryIO, error: BrokenInput | None) -> None:
        self._head = head
        self._source = source
        self._error = error
        self._position = 0
        self._at = len(head)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._source.seekable()

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position < len(self._head):
            piece = self._head[self._position : self._position + len(buffer)]
        elif self._error is not None:
            raise self._error
        else:
            if self._at != self._position:
                self._at = self._source.seek(self._position)
            piece = self._source.read1(len(buffer))  # type: ignore[attr-defined]
            self._at += len(piece)
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position


def _looked_at(stream: BinaryIO, size: int) -> tuple[bytes, BinaryIO]:
    """How a stream begins, in `size` bytes at most, and the stream from its beginning on."""
    pieces: list[bytes] = []
    held, error = 0, None
    try:
        while held < size and (piece := stream.read1(size - held)):  # type: ignore[attr-defined]
            pieces.append(piece)
            held += len(piece)
    except BrokenInput as broken:
        if not pieces or isinstance(broken, NotOneFile):
            raise
        error = broken
    head = b"".join(pieces)
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, _AsOpened | RemoteFile):
        stream.seek(0)
        return head, stream
    return head, io.BufferedReader(_Ahead(head, stream, error), _CHUNK)


def _unpacking(packing: str, name: str) -> Callable[[BinaryIO], Iterator[bytes]]:
    return lambda packed: decompressed(packed, packing, name)


def _transcoding(encoding: str, name: str) -> Callable[[BinaryIO], Iterator[bytes]]:
    decoder = codecs.getincrementaldecoder(encoding)
    return lambda coded: _transcoded(coded, decoder(_BAD_BYTE), name)


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
        file = stack.enter_context(io.BufferedReader(raw if regular else Passed(cast(BinaryIO, raw)), _CHUNK))
    except OSError as error:
        why = "is a folder; name a file in it" if isinstance(error, IsADirectoryError) else error.strerror
        raise UsageError(f"{source.name}: {why}") from error
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
