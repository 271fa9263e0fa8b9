"""Files of a few kilobytes that would be gigabytes in memory: refused, or read in the memory of a small file."""

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

HEADER = b"text,label\nI loved it,pos\n"
ZEROS = 96 << 20
ROOM = 48 << 20
"""Bytes that a process may take for a file, beyond what it takes for an honest one."""

READ = """
import resource, sys
from contextlib import ExitStack
from toolchain.errors import UsageError
from toolchain.files.tables import ReadOptions, open_table
from toolchain.scoring.windows import UntilBroken

def read(path):
    with ExitStack() as stack:
        try:
            whole = UntilBroken(open_table(path, ReadOptions(), stack).reader)
            errors = [record.error for record in whole]
            return f"{len(errors)} rows, {errors[-1]}, {whole.error}"
        except UsageError as error:
            return str(error)

read(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def zipped(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def workbook(path: Path, **changed: bytes) -> bytes:
    """A workbook with parts of it `changed`, by their names without the ending."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["text", "label"], ["I loved it", "pos"]):
        book.worksheets[0].append(row)
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in parts:
        parts[name] = changed.get(Path(name).stem, parts[name])
    return zipped(parts)


def tar(member: tarfile.TarInfo, content: bytes) -> bytes:
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512) + bytes(1024)


def said(folder: Path, bomb: bytes, honest: bytes | None = None, name: str = "bomb") -> str:
    """What a process says of a bomb. Fails where it took more memory than an honest file of its kind."""
    (folder / name).write_bytes(bomb)
    (folder / f"honest-{name}").write_bytes(HEADER if honest is None else honest)
    ended = subprocess.run(
        [sys.executable, "-c", READ, f"honest-{name}", name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    answer, grown = ended.stdout.splitlines()
    assert int(grown) < ROOM
    return answer


def test_a_row_that_unpacks_to_gigabytes_costs_itself(tmp_path: Path) -> None:
    content = HEADER + bytes(ZEROS) + b",pos\n"
    assert said(tmp_path, zipped({"r.csv": content})).startswith("2 rows, longer than 16777216 bytes")


def test_a_tar_file_is_held_to_the_same_limit_and_may_not_make_up_its_bytes(tmp_path: Path) -> None:
    member = tarfile.TarInfo("r.csv")
    content = HEADER + bytes(ZEROS)
    member.size = len(content)
    assert said(tmp_path, gzip.compress(tar(member, content), 1)).startswith("2 rows, longer than 16777216 bytes")
    sparse = bytearray(tarfile.TarInfo("r.csv").tobuf(tarfile.GNU_FORMAT))
    sparse[156:157] = tarfile.GNUTYPE_SPARSE
    sparse[386:398], sparse[398:410] = b"%011o " % 0, b"%011o " % 0
    sparse[483:495] = b"\x80\0\0\0\0\0\x10\0\0\0\0\0"[:12]  # 2^44 bytes, all of them zeros
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    for packed in (bytes(sparse) + bytes(1024), gzip.compress(bytes(sparse) + bytes(1024))):
        assert "r.csv is sparse" in said(tmp_path, packed)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_the_names_in_a_tar_file_are_no_longer_than_names(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, ZEROS
    for packed in (gzip.compress(tar(member, bytes(ZEROS)), 1), tar(member, bytes(1 << 20))):
        assert f"a name of {ZEROS:,} bytes" in said(tmp_path, packed)


def test_a_workbook_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    honest = workbook(tmp_path / "honest.xlsx")
    spaces = b"<?xml version='1.0'?><worksheet>" + b" " * ZEROS + b"</worksheet>"
    assert "unpacks to more than 100 times its size" in said(tmp_path, workbook(tmp_path / "b", sheet1=spaces), honest)
    entities = b"".join(b'<!ENTITY e%d "%s">' % (level, b"&e%d;" % (level - 1) * 10) for level in range(1, 10))
    sheet = b'<row r="1"><c r="A1" t="inlineStr"><is><t>&e9;</t></is></c></row>'
    main = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    laughs = b'<!DOCTYPE x [<!ENTITY e0 "ha">' + entities + b"]>" + main + sheet + b"</sheetData></worksheet>"
    bomb = workbook(tmp_path / "b", sheet1=b"<?xml version='1.0'?>" + laughs)
    assert "cannot be read as an Excel workbook" in said(tmp_path, bomb, honest)


def test_a_workbook_whose_list_of_files_lies_of_their_sizes_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    honest = workbook(tmp_path / "honest.xlsx")
    content = b"<?xml version='1.0'?><worksheet>" + b" " * ZEROS + b"</worksheet>"
    bomb = workbook(tmp_path / "b", sheet1=content)
    lie = bomb.replace(len(content).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    answer = said(tmp_path, lie, honest)
    assert "cannot be read as an Excel workbook" in answer or "damaged" in answer
