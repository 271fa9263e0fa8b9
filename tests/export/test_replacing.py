"""An export replaces a bundle, and nothing else: a folder of somebody's is never lost."""

import shutil
from pathlib import Path

import pytest

from export.bundle import MANIFEST, InvalidBundle, open_bundle, publishing


def republish(bundle: Path, folder: Path) -> None:
    """What an export does to `folder` at its end."""
    with publishing(folder) as room:
        shutil.copytree(bundle, room, dirs_exist_ok=True)


def test_a_bundle_is_replaced_whole_and_an_empty_folder_taken(tiny_bundle: Path, tmp_path: Path) -> None:
    for _ in range(2):
        republish(tiny_bundle, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"")
    republish(tiny_bundle, tmp_path / "empty")
    assert open_bundle(tmp_path / "empty").identity == open_bundle(tiny_bundle).identity
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out"]


@pytest.mark.parametrize("manifest", ['{"name": "my web app", "icons": []}', '{"format_version": 1', "[]"])
def test_a_folder_with_a_manifest_of_something_else_is_not_a_bundle(
    manifest: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    (tmp_path / "app.js").write_text("mine")
    with pytest.raises(InvalidBundle, match=r"exists and is not a bundle that can be read; name another place: --out"):
        republish(tiny_bundle, tmp_path)
    assert (tmp_path / "app.js").read_text() == "mine"


def test_a_file_that_was_put_into_a_bundle_is_not_lost(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InvalidBundle, match=r"holds notes\.txt, which is not the bundle's and would be lost"):
        republish(tiny_bundle, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("mine")
    with pytest.raises(InvalidBundle, match="exists and is not a bundle"):
        republish(tiny_bundle, tmp_path / "bundle")


def test_a_link_stays_and_the_bundle_behind_it_is_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "release-1")
    (tmp_path / "bundle").symlink_to("release-1")
    republish(tiny_bundle, tmp_path / "bundle")
    assert (tmp_path / "bundle").is_symlink()
    assert open_bundle(tmp_path / "release-1").identity == open_bundle(tiny_bundle).identity
