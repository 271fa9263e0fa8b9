"""Archives with one file in them: zip and tar, as streams. What a header says of a size is never believed."""

import io
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from toolchain.errors import UsageError
from toolchain.files.compression import BrokenInput
from toolchain.files.recognition import unread_archive

_CHUNK = 1 << 16
_SPOOLED = 8 << 20
_SHOWN = 3
_LARGE, _RATIO = 64 << 20, 100
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError)
_WORKBOOK = "xl/workbook.xml"
_LONGEST_NAME = 1 << 20
_EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class NotOneFile(BrokenInput):
    """An archive with more or fewer files than one."""


class _Member(tarfile.TarInfo):
    """A member whose name and attributes, which are held in memory, are of a size that names have."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in _EXTENSIONS and member.size > _LONGEST_NAME:
            raise tarfile.TarError(f"a name of {member.size:,} bytes")
        return member


@dataclass(frozen=True)
class Zip:
    """An open zip file. `member` is the one file that it holds; a `workbook` is read as a whole."""

    file: BinaryIO
    member: str
    workbook: bool

    def pieces(self, name: str) -> Callable[[BinaryIO], Iterator[bytes]]:
        """What makes the member's bytes of the archive's. Raises `BrokenInput` where it is damaged."""

        def unzipped(file: BinaryIO) -> Iterator[bytes]:
            try:
                with zipfile.ZipFile(file) as archive, archive.open(self.member) as opened:
                    while piece := opened.read1(_CHUNK):  # type: ignore[attr-defined]
                        yield piece
            except _BROKEN as error:
                raise BrokenInput(f"{name}: the archive is damaged or cut off ({error}); fetch it again") from error

        return unzipped


def open_zip(stream: BinaryIO, name: str, plain: bool, stack: ExitStack) -> Zip:
    """Look into a zip archive; one that is not a `plain` file of its own is copied to the disk first: its list of files
    is at its end. Raises `UsageError` where it does not hold one file alone that we read."""
    file = stream
    if not plain:
        spooled = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115 - the stack closes it
        file = cast(BinaryIO, stack.enter_context(spooled))
        shutil.copyfileobj(stream, file, _CHUNK)
        file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            members = [about for about in archive.infolist() if not about.is_dir()]
    except _BROKEN as error:
        raise UsageError(f"{name}: the archive is damaged or cut off ({error}); fetch it again") from error
    file.seek(0)
    names = [about.filename for about in members]
    if _WORKBOOK in names:
        if any(about.file_size > max(_LARGE, _RATIO * about.compress_size) for about in members):
            raise UsageError(f"{name}: unpacks to more than {_RATIO} times its size; no workbook does that")
        return Zip(file, _WORKBOOK, workbook=True)
    if what := unread_archive(names):
        raise UsageError(f"{name}: {what}")
    member = _only(names, name)
    if any(about.filename == member and about.flag_bits & 1 for about in members):
        raise UsageError(f"{name}: has a password; unpack it first: unzip {name}")
    return Zip(file, member, workbook=False)


def tar_member(file: BinaryIO, name: str) -> str:
    """The one file that a tar archive holds, which can be looked through. Raises `UsageError` on more or less."""
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
            member = _only([about.name for about in map(_whole, archive) if about.isfile()], name)
    except _BROKEN as error:
        raise UsageError(f"{name}: the archive is damaged or cut off ({error}); fetch it again") from error
    file.seek(0)
    return member


def untarred(name: str) -> Callable[[BinaryIO], Iterator[bytes]]:
    """What makes the bytes of its one file of a tar archive's.

    Of one that can only be read forward a second file is met when the first is over, and raises `NotOneFile` there.
    """

    def pieces(file: BinaryIO) -> Iterator[bytes]:
        names = []
        try:
            with tarfile.open(
                fileobj=cast(io.BufferedReader, file), mode="r|", bufsize=_CHUNK, tarinfo=_Member
            ) as archive:
                for about in map(_whole, archive):
                    if not about.isfile() or _is_hidden(about.name):
                        continue
                    names.append(about.name)
                    member = archive.extractfile(about)
                    while len(names) == 1 and member and (piece := member.read(_CHUNK)):
                        yield piece
        except _BROKEN as error:
            raise BrokenInput(f"{name}: the archive is damaged or cut off ({error}); fetch it again") from error
        if len(names) != 1:
            raise NotOneFile(_not_one(names, name))

    return pieces


def _whole(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member. Most of a sparse one is in no archive, but made up by its header."""
    if member.issparse():
        raise tarfile.TarError(f"{member.name} is sparse; unpack it with tar")
    return member


def _only(names: Sequence[str], archive: str) -> str:
    visible = [name for name in names if not _is_hidden(name)]
    if len(visible) != 1:
        raise UsageError(_not_one(visible, archive))
    return visible[0]


def _not_one(names: Sequence[str], archive: str) -> str:
    if not names:
        return f"{archive}: is an archive without a file in it"
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{archive}: is an archive of {len(names)} files ({shown}); unpack it, and score them or their folder"


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts if part != ".")
