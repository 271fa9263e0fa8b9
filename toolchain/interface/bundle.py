"""`Bundle`: an exported model in a folder, and the proof that it still says what PyTorch says."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.bundle import open_bundle
from toolchain.errors import UsageError
from toolchain.files.tables import ReadOptions
from toolchain.release.verification import Verification, VerificationFailed, verify_vectors
from toolchain.scoring.default import find_bundle

logger = logging.getLogger(__name__)


class Bundle:
    """An exported model in a folder. Without one it is `./bundle`, else the model in the box.

    It stands for its folder wherever a path is taken: `toolchain.load(bundle)`. Raises `ExportError` where there is no
    bundle, or a damaged one; the other files are checked as they are used, all of them by `verify`.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._opened = open_bundle(find_bundle(folder))

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._opened.folder

    @property
    def labels(self) -> tuple[str, ...]:
        """What it answers, in the order of its probabilities."""
        return self._opened.specification.labels

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files, sorted."""
        return self._opened.files

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What it says of itself: see `docs/formats.md`."""
        return self._opened.manifest

    def verify(
        self,
        snapshot: str | os.PathLike[str] | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        text_column: str | None = None,
        reading: ReadOptions | None = None,
        provider: str = "cpu",
    ) -> Verification:
        """Prove that every form still says what PyTorch says: that of a snapshot, or without one the bundle's vectors.

        `data` adds real text to the proof with a snapshot: `sample`, `imdb`, a folder or a file. Raises `CheckFailed`
        where a form differs, `ExportError` where a file is damaged or the provider cannot be had, and `UsageError`
        where `data` is given without a snapshot, or cannot be read.
        """
        if snapshot is None:
            if data is not None:
                raise UsageError("--data needs PyTorch to compare with; name the snapshot: --snapshot FOLDER")
            verification = verify_vectors(self._opened, provider)
        else:
            from toolchain.corpus.reviews import Source, read_texts
            from toolchain.models.snapshot import load_snapshot
            from toolchain.release.release import verify_bundle

            loaded = load_snapshot(Path(snapshot))
            texts = []
            if data is not None:
                texts = read_texts(
                    Source(os.fspath(data), text_column, reading=reading or ReadOptions(), say=logger.info)
                )
            verification = verify_bundle(self._opened, loaded, texts, provider)
        if not verification.passed:
            raise VerificationFailed(verification)
        return verification

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        forms = ", ".join(file for file in self.files if file.startswith("model."))
        return f"<Bundle {self.folder}: {', '.join(self.labels)}; {forms}>"
