"""A bundle folder: written whole or not at all, read with its digests checked and never unpickled."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from export.errors import ExportError
from export.spec import InvalidClassifier, Specification, check_vocabulary

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocab.txt"
VECTORS = "vectors.jsonl"
IDS_VECTORS = "vectors.ids.jsonl"
EXPLAIN_VECTORS = "vectors.explain.jsonl"
CARD = "README.md"

_MAX_MANIFEST_BYTES = 16 * 2**20
_OF_THE_DESKTOP = {".DS_Store", "Thumbs.db"}
"""What file managers leave in a folder that was looked at."""


class InvalidBundle(ExportError):
    """A folder that is not a bundle, or one that is damaged or newer than this program."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `manifest` is trusted for what it says about the files, not the other way round."""

    folder: Path
    manifest: Mapping[str, Any]
    specification: Specification

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files the manifest lists, sorted."""
        return tuple(sorted(self.manifest["files"]))

    @property
    def identity(self) -> str:
        """SHA-256 of the manifest, which holds those of all files: two bundles with one identity are the same."""
        return hashlib.sha256((self.folder / MANIFEST).read_bytes()).hexdigest()

    def file(self, name: str) -> Path:
        """The path of a listed file, after its size and SHA-256 were found to be what the manifest says.

        So were those of the files that it is read together with.
        """
        if name not in self.manifest["files"]:
            raise InvalidBundle(f"{self.folder}: holds no {name}; its files: {', '.join(self.files)}")
        expected = self.manifest["files"][name]
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise InvalidBundle(f"{path}: the manifest lists it and it is not there; export the bundle anew")
        if path.stat().st_size != expected["bytes"]:
            raise InvalidBundle(f"{path}: {path.stat().st_size} bytes, the manifest says {expected['bytes']}; damaged")
        if sha256(path) != expected["sha256"]:
            raise InvalidBundle(f"{path}: its SHA-256 is not the one in the manifest; damaged, export the bundle anew")
        for other in expected.get("needs", ()):
            self.file(other)
        return path

    def check(self) -> None:
        """Check every listed file. Raises `InvalidBundle` on the first that differs."""
        for name in self.files:
            self.file(name)

    def vocabulary(self) -> list[str]:
        """The words by id, from `vocab.txt`."""
        words = self.file(VOCABULARY).read_bytes().decode().split("\n")[:-1]
        try:
            check_vocabulary(words)
        except InvalidClassifier as error:
            raise InvalidBundle(f"{self.folder / VOCABULARY}: {error}") from error
        return words

    def vectors(self) -> list[dict[str, Any]]:
        """The conformance vectors: `text`, `label`, `probabilities`, `tokens`, `unknown`."""
        return [json.loads(line) for line in self.file(VECTORS).read_bytes().splitlines()]

    def ids_vectors(self) -> list[dict[str, Any]]:
        """The same texts as ids: `ids`, `logits`. None in a bundle that was exported before there were any."""
        return self._vectors_where_there_are(IDS_VECTORS)

    def explain_vectors(self) -> list[dict[str, Any]]:
        """Some of the texts with the shares of their tokens: `text`, `words`, `shares`. None without that form."""
        return self._vectors_where_there_are(EXPLAIN_VECTORS)

    def _vectors_where_there_are(self, name: str) -> list[dict[str, Any]]:
        if name not in self.manifest["files"]:
            return []
        return [json.loads(line) for line in self.file(name).read_bytes().splitlines()]


def open_bundle(folder: Path) -> Bundle:
    """Read and check a bundle's manifest; files are checked as they are used.

    Raises `InvalidBundle` where there is none, where it is of a newer format, or where it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if any(folder.glob("*.pt")):
            raise InvalidBundle(
                f"{folder}: a snapshot, not a bundle; export it, and name the bundle: "
                f"toolchain export --snapshot {folder} --out bundle"
            )
        if folder.is_file():
            raise InvalidBundle(f"{folder}: a file, not a bundle; name the folder that toolchain export wrote")
        raise InvalidBundle(f"{folder}: no bundle here; make one: toolchain export --out {folder}")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise InvalidBundle(f"{path}: larger than {_MAX_MANIFEST_BYTES} bytes; not a manifest")
    try:
        manifest = json.loads(path.read_bytes())
        version = manifest["format_version"]
        if not isinstance(version, int) or version < 1:
            raise ValueError("format_version is not a whole number")
        if version > FORMAT_VERSION:
            raise InvalidBundle(f"{folder}: bundle format {version}, newer than this program reads; upgrade toolchain")
        for name, entry in manifest["files"].items():
            if PurePosixPath(name).name != name or name in ("", ".", "..") or "\\" in name:
                raise InvalidBundle(f"{path}: lists {name!r}, which leaves the bundle's folder")
            if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
                raise ValueError(f"no size and digest for {name}")
            if any("needs" in manifest["files"][other] for other in entry.get("needs", ())):
                raise ValueError(f"what {name} needs has needs of its own")
        return Bundle(folder, manifest, Specification.from_json(manifest["specification"]))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidClassifier) as error:
        raise InvalidBundle(f"{path}: damaged ({error}); export the bundle anew") from error


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """A room beside `folder` to write a bundle in; it becomes `folder`, replacing it whole, if the block ends well.

    A link stays, and the folder that it leads to is replaced. Raises `InvalidBundle` where `folder` holds anything else
    than a bundle.
    """
    _check_replaceable(folder)
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield room
        for path in room.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        room.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-old-"))
            folder.rename(old / folder.name)
            room.rename(folder)
            shutil.rmtree(old)
        else:
            room.rename(folder)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Raise `InvalidBundle` unless `folder` is absent, empty, or a bundle without a file that its manifest lacks."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} - _OF_THE_DESKTOP if folder.is_dir() else {folder.name}
    if not names:
        return
    try:
        others = names - {MANIFEST, *open_bundle(folder).files}
    except InvalidBundle as error:
        raise InvalidBundle(
            f"{folder}: exists and is not a bundle that can be read; name another place: --out FOLDER, or remove it"
        ) from error
    if others:
        raise InvalidBundle(
            f"{folder}: holds {min(others)}, which is not the bundle's and would be lost; move it, or name another "
            "place: --out FOLDER"
        )


def write_manifest(
    room: Path, specification: Specification, about: Mapping[str, Any], needs: Mapping[str, Sequence[str]] | None = None
) -> None:
    """List every file in `room` with its size and SHA-256, beside what `about` says of the model.

    `needs` are the files that a file is read together with; those have no needs of their own.
    """
    files: dict[str, dict[str, Any]] = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(room.iterdir())
    }
    for name, others in (needs or {}).items():
        files[name]["needs"] = list(others)
    manifest = {
        "format_version": FORMAT_VERSION,
        "specification": specification.to_json(),
        "labels": list(specification.labels),
        **about,
        "files": files,
    }
    (room / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """The hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
