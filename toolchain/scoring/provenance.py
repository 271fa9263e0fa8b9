"""What made a scored file: the bundle by its identity, what it ran on, the options and the input. And the way back from
the file to its bundle."""

import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from export.bundle import Bundle, InvalidBundle, open_bundle
from toolchain import __version__
from toolchain.errors import UsageError
from toolchain.files.outputs import RECORD_FORMAT, is_recorded, now, read_record, real, record_path
from toolchain.scoring.default import BOX, OWN_BUNDLE
from toolchain.scoring.parquet_rows import read_parquet_record

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "pyarrow")
_NOT_OF_THE_ROWS = ("--merge", "--precision")  # where they are written; and what `model` says
_SHORT = 12
_IN_THE_BOX = "the model in the box"


@dataclass(frozen=True)
class Provenance:
    """What made an output.

    `bundle` is the identity of the bundle, `bundle_folder` where it was, as it was named, `model` its file that ran on
    `provider`. `options` are those that shape the rows, by their names. `input` has the `name` of what was read, and
    its `bytes`, when it was `modified`, and its `sha256`, each where it is known; `sha256_of` is `all` of the bytes, or
    the `edges`: the first and the last MiB. `finished` is UTC.
    """

    bundle: str
    bundle_folder: str
    model: str
    provider: str
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    input: Mapping[str, Any]
    finished: str

    @classmethod
    def of(cls, job: Mapping[str, Any], bundle_folder: Path, model: str, provider: str) -> "Provenance":
        """That of a job that is done now, from its description in the journal."""
        options = {
            name: value
            for name, value in {"--text-column": job["text column"], **job}.items()
            if name.startswith("--") and name not in _NOT_OF_THE_ROWS and value not in (None, False, 0, [])
        }
        return cls(
            bundle=job["model"],
            bundle_folder=_IN_THE_BOX if bundle_folder == BOX else str(bundle_folder),
            model=model,
            provider=provider,
            versions=_versions(),
            options=options,
            input={"name": job["input"], **_plain(job.get("input contents"))},
            finished=now(),
        )

    @classmethod
    def from_json(cls, values: Any) -> "Provenance | None":
        """From a record or a summary; None where that has none."""
        if not isinstance(values, Mapping) or not isinstance(values.get("bundle"), str):
            return None
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**known) if len(known) == len(cls.__dataclass_fields__) else None

    def record(self, scored: int, rejected: int) -> dict[str, Any]:
        """The record of an output with so many rows."""
        return {"format": RECORD_FORMAT, **asdict(self), "scored": scored, "rejected": rejected}

    def find_bundle(self, scored: str) -> Bundle:
        """The bundle that made the file `scored`: `./bundle`, the one in the folder that is named here, or the model in
        the box. Raises `UsageError` where it is none of these."""
        for folder in (OWN_BUNDLE, Path(self.bundle_folder), Path(scored).parent / self.bundle_folder, BOX):
            try:
                bundle = open_bundle(folder)
            except InvalidBundle:
                continue
            if bundle.identity == self.bundle:
                return bundle
        raise UsageError(
            f"{scored}: was scored by the bundle {self.bundle[:_SHORT]}…, which is no longer in {self.bundle_folder} "
            "and not in ./bundle; name its folder: --bundle"
        )

    def check_bundle(self, bundle: Bundle, scored: str) -> None:
        """Raise `UsageError` where `bundle` did not make the file `scored`."""
        if bundle.identity != self.bundle:
            raise UsageError(
                f"{scored}: was scored by the bundle {self.bundle[:_SHORT]}… in {self.bundle_folder}, not by "
                f"{bundle.folder} ({bundle.identity[:_SHORT]}…); name that one: --bundle, or score the file anew"
            )


def read_provenance(scored: str) -> Provenance | None:
    """What made a file, by its own metadata (Parquet) or its record; None where nothing says it."""
    path = real(scored)
    if path.suffix.lower() == ".parquet":
        return Provenance.from_json(read_parquet_record(path))
    return Provenance.from_json(read_record(record_path(path)))


def is_changed(scored: str) -> bool:
    """Whether somebody has changed a file since its record was written. (A Parquet file has none then.)"""
    path = real(scored)
    return path.suffix.lower() != ".parquet" and not is_recorded(path)


def _plain(contents: Any) -> dict[str, Any]:
    """A journal's `input contents` for a reader."""
    if contents is None:
        return {}
    size, modified_ns, digest, of = contents
    modified = None
    if modified_ns is not None:
        modified = datetime.fromtimestamp(modified_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
    known = {"bytes": size, "modified": modified, "sha256": digest, "sha256_of": of}
    return {name: value for name, value in known.items() if value is not None}


def _versions() -> dict[str, str]:
    """Those of what took part: of packages that this process has loaded. A cluster's driver, which runs no model, names
    those that are installed."""
    versions = {"toolchain": __version__, "python": platform.python_version()}
    loaded = {package: sys.modules.get(package.removesuffix("-gpu")) for package in _PACKAGES}
    if runtime := loaded["onnxruntime"]:
        del loaded["onnxruntime" if runtime.package_name == "onnxruntime-gpu" else "onnxruntime-gpu"]
        return versions | {package: module.__version__ for package, module in loaded.items() if module}
    from importlib.metadata import PackageNotFoundError, version

    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
