"""Objects and local files behind one set of names: listed, read, written whole."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.fs
import pytest

from tests.files.object_store import BROKEN, READABLE, object_store
from toolchain.errors import UsageError
from toolchain.files import storage
from toolchain.files.compression import BrokenInput
from toolchain.files.inputs import expand, output_path
from toolchain.files.kind import Kind
from toolchain.files.opening import open_input

BUCKET = "s3://reviews"


@pytest.fixture(scope="module", autouse=True)
def endpoint() -> Iterator[str]:
    """A bucket at an endpoint of our own."""
    with object_store() as address, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", address)
        environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        pyarrow.fs.S3FileSystem(endpoint_override=address, region="us-east-1", allow_bucket_creation=True).create_dir(
            "reviews"
        )
        yield address


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"{BUCKET}/{tmp_path.name}"


def test_what_is_written_is_read_listed_and_removed(folder: str) -> None:
    names = [storage.join(folder, name) for name in ("in/a.csv", "in/b.jsonl", "in/deep/c.csv")]
    for name in names:
        storage.write_bytes(name, name.encode())
    assert [storage.read_bytes(name) for name in names] == [name.encode() for name in names]
    assert sorted(storage.files_in(storage.join(folder, "in"))) == names[:2]
    assert storage.files_like(storage.join(folder, "in/*.csv")) == names[:1]
    assert sorted(storage.files_like(storage.join(folder, "in/**/*.csv"))) == [names[0], names[2]]
    assert storage.is_folder(storage.join(folder, "in"))
    assert not storage.is_folder(names[0])
    storage.remove(names[1])
    assert storage.read_bytes(names[1]) is None
    storage.remove_tree(storage.join(folder, "in"))
    assert not storage.exists(names[0])
    storage.remove_tree(storage.join(folder, "in"))


def test_a_write_replaces_what_was_there_and_leaves_nothing_beside_it(folder: str) -> None:
    name = storage.join(folder, "out/part.csv")
    storage.write_bytes(name, b"first")
    storage.write_bytes(name, b"second")
    assert storage.read_bytes(name) == b"second"
    assert storage.files_in(storage.join(folder, "out")) == [name]


def test_an_upload_moves_a_file(folder: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"rows" * 3_000_000)
    storage.upload(made, storage.join(folder, "rows.csv"))
    assert storage.read_bytes(storage.join(folder, "rows.csv")) == b"rows" * 3_000_000
    assert not made.exists()


def test_an_object_is_an_input_that_can_seek() -> None:
    storage.write_bytes(f"{BUCKET}/seek.csv", bytes(range(256)) * 40_000)
    with ExitStack() as stack:
        opened = open_input(Kind.of(f"{BUCKET}/seek.csv"), stack)
        assert opened.size == 256 * 40_000
        opened.stream.seek(256 * 30_000 + 7)
        assert opened.stream.read(3) == bytes((7, 8, 9))


def test_what_is_not_there_is_one_line_that_names_it() -> None:
    with ExitStack() as stack, pytest.raises(UsageError, match=r"^s3://reviews/nowhere\.csv: no such object$"):
        open_input(Kind.of(f"{BUCKET}/nowhere.csv"), stack)
    with pytest.raises(UsageError, match=r"^ftp://somewhere: .*expected a path, s3://BUCKET"):
        storage.read_bytes("ftp://somewhere/file.csv")


def test_an_object_that_fails_midway_is_named() -> None:
    name = f"{BUCKET}/{BROKEN}.csv"
    storage.write_bytes(name, b"x" * (READABLE + 1000))
    with ExitStack() as stack:
        stream = open_input(Kind.of(name), stack).stream
        assert len(stream.read(READABLE)) == READABLE
        with pytest.raises(BrokenInput, match=f"^{name}: cannot be read to its end"):
            stream.read(1)


def test_folders_patterns_and_outputs_in_a_bucket() -> None:
    for name in ("a.csv", "b.jsonl", "a.scored.csv", "notes.md"):
        storage.write_bytes(f"{BUCKET}/shop/{name}", b"")
    assert expand([f"{BUCKET}/shop/"]) == [f"{BUCKET}/shop/a.csv", f"{BUCKET}/shop/b.jsonl"]
    assert expand([f"{BUCKET}/shop"]) == expand([f"{BUCKET}/shop/"])
    assert expand([f"{BUCKET}/shop/*.csv"]) == [f"{BUCKET}/shop/a.csv"]
    assert output_path(f"{BUCKET}/shop/a.csv.gz", None, many=False) == f"{BUCKET}/shop/a.scored.csv.gz"
    assert output_path(f"{BUCKET}/shop/a.csv", f"{BUCKET}/done/", many=True) == f"{BUCKET}/done/a.scored.csv"
    assert output_path("in/a.csv", f"{BUCKET}/done/", many=False) == f"{BUCKET}/done/a.scored.csv"
