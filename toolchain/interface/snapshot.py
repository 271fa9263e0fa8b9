"""`Snapshot`: a trained model in a folder, and its export."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.shrinking import SHRUNK_ENTRIES
from toolchain.corpus.reviews import Source, read_texts
from toolchain.errors import UsageError
from toolchain.files.tables import ReadOptions
from toolchain.interface.bundle import Bundle
from toolchain.models.restoring import load_trained
from toolchain.release.release import export_snapshot

logger = logging.getLogger(__name__)


class Snapshot:
    """A trained model in a folder: what `train` gives. It stands for its folder wherever a path is taken.

    A bundle's folder, or `box` for the model in the box, gives the model that was exported there. Raises `UsageError`
    where there is none, or a damaged snapshot, and `ExportError` where a bundle is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str] = "snapshot") -> None:
        self.folder = Path(folder)
        self._loaded = load_trained(os.fspath(folder))

    @property
    def labels(self) -> tuple[str, ...]:
        """What it answers, in the order of its probabilities."""
        return self._loaded.specification.labels

    @property
    def metrics(self) -> Mapping[str, Any]:
        """How it was trained and how good it is: what `metrics.json` holds (see `docs/formats.md`)."""
        return self._loaded.training

    def export(
        self,
        out: str | os.PathLike[str] = "bundle",
        *,
        format: str | Sequence[str] = "all",
        precision: str = "fp32",
        shrink: bool = False,
        vocabulary: int | None = None,
        data: str | os.PathLike[str] = "sample",
        text_column: str | None = None,
        reading: ReadOptions | None = None,
        force: bool = False,
    ) -> Bundle:
        """Export it to the bundle `out`, proven equal to PyTorch before it takes the place of an earlier one.

        `format` is one or more of onnx, onnx-cpu, onnx-explain, torchscript, onnx-ids, pt2, and all (which leaves out
        pt2). `data` is real text for the proof: sample, imdb, a folder or a file. The precision int8 adds
        `model.int8.onnx`; `shrink` makes the ONNX files small, with `vocabulary` entries. Raises `CheckFailed` where a
        form differs from PyTorch, or changes too many labels without `force`; then nothing is published. Raises
        `UsageError` on what cannot be exported or read.
        """
        if vocabulary is not None and not shrink:
            raise UsageError(f"--vocabulary {vocabulary}: only --shrink makes the vocabulary shorter; add it")
        entries = (vocabulary or SHRUNK_ENTRIES) if shrink else None
        texts = read_texts(Source(os.fspath(data), text_column, reading=reading or ReadOptions(), say=logger.info))
        logger.info(f"exporting {self.folder} …")
        formats = [format] if isinstance(format, str) else format
        try:
            export_snapshot(self._loaded, Path(out), formats, texts, precision, force, entries)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"nothing was published, {out} is as it was") from None
        return Bundle(out)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        accuracy = self.metrics.get("test_accuracy")
        tested = "" if accuracy is None else f"; test accuracy {accuracy:.2f} %"
        return f"<Snapshot {self.folder}: {self.metrics.get('recipe')}; {', '.join(self.labels)}{tested}>"
