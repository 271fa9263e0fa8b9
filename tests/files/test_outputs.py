"""What may be written where: our own files are replaced, others' are not, links and devices stay what they are."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toolchain.errors import UsageError
from toolchain.files.outputs import (
    Product,
    check,
    is_recorded,
    is_stream,
    now,
    placed,
    record_path,
    write_record,
    writing,
)

PAGE = Product("page.html", is_recorded)


def write(path: Path | str, data: bytes = b"new") -> None:
    with writing(path) as file:
        file.write(data)


def test_a_file_that_nobody_wrote_for_us_is_refused_and_overwritten_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "precious.csv"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"precious\.csv: exists, .* another place: -o, or replace it: --overwrite"):
        check(str(path), PAGE, overwrite=False)
    check(str(path), PAGE, overwrite=True)
    check(str(tmp_path / "new.csv"), PAGE, overwrite=False)


def test_our_own_is_replaced_until_somebody_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write(path)
    write_record(path, {"format": 1})
    check(str(path), PAGE, overwrite=False)
    path.write_bytes(b"NEW")
    with pytest.raises(UsageError, match="exists"):
        check(str(path), PAGE, overwrite=False)
    write(path)
    record_path(path).write_bytes(b"{")
    assert not is_recorded(path)


def test_an_input_is_no_output_even_where_it_may_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"mine")
    (tmp_path / "link.csv").symlink_to(path)
    for name in (path, tmp_path / "link.csv", tmp_path / "." / "in.csv"):
        with pytest.raises(UsageError, match="is an input"):
            check(str(name), PAGE, overwrite=True, inputs=[path])


def test_a_folder_and_a_place_in_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        check(str(tmp_path), PAGE, overwrite=True)
    with pytest.raises(UsageError, match=r"no is not a folder"):
        check(str(tmp_path / "no" / "page.html"), PAGE, overwrite=True)


def test_a_slash_at_the_end_means_a_folder(tmp_path: Path) -> None:
    assert placed(f"{tmp_path}/new/", PAGE) == f"{tmp_path}/new/page.html"
    assert (tmp_path / "new").is_dir()
    assert placed(str(tmp_path / "new"), PAGE) == f"{tmp_path}/new/page.html"
    assert placed(str(tmp_path / "other"), PAGE) == f"{tmp_path}/other"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="file is not a folder"):
        check(placed(f"{tmp_path}/file/", PAGE), PAGE, overwrite=True)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link.html", tmp_path / "there" / "page.html"
    link.symlink_to("there/page.html")
    write(link)
    assert link.is_symlink()
    assert target.read_bytes() == link.read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["page.html"]


def test_what_fails_midway_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write(path, b"old")

    def fail() -> None:
        with writing(path) as file:
            file.write(b"half")
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fifo_is_written_through_and_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(fifo.read_bytes()))
    reader.start()
    check(str(fifo), PAGE, overwrite=False)
    write(fifo)
    reader.join()
    assert said == [b"new"]
    assert fifo.is_fifo()


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_devices_and_descriptors_are_streams(name: str) -> None:
    assert is_stream(name)
    check(name, PAGE, overwrite=False)


def test_standard_output_is_gone_on_with_where_it_is_a_file(tmp_path: Path) -> None:
    """`-o /dev/stdout >> log`: what stands in the file already stays, and the file is no other."""
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    with log.open("ab") as file:
        code = "from toolchain.files.outputs import writing\nwith writing('/dev/stdout') as file: file.write(b'new')"
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, cwd=Path(__file__).parents[2])
    assert log.read_bytes() == b"before\nnew"


def test_a_record_can_have_a_time_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert now() == "2023-11-14T22:13:20Z"
