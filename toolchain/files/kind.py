"""What a file is: where it lies, how it is packed, and what its rows are in. Found out once, and then handed on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from toolchain.files.compression import SUFFIXES

STDIO = "-"
"""The name of standard input, and of standard output."""

Place = Literal["local", "object store", "standard stream"]
Format = Literal["csv", "jsonl", "parquet"]

FORMATS: Mapping[str, Format] = {
    **{".csv": "csv", ".tsv": "csv"},
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"},
    **{".parquet": "parquet", ".pq": "parquet", ".parq": "parquet"},
}
"""A name's ending -> the format that it stands for."""

NOT_WRITTEN = (".xlsx", ".xlsm", ".zip", ".tar", ".tgz")
"""Endings of what is read, and scored into a CSV file of another name."""

READ = (*FORMATS, *NOT_WRITTEN, ".txt")
"""Endings of what is read, as far as names tell."""


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Its last name is `stem` + `ending` + `packing`: `reviews.csv.gz` is `reviews`, `.csv` and `.gz`. `packing` is empty
    where the file is not packed; `format` is None where nothing says it yet.
    """

    name: str
    place: Place
    stem: str
    ending: str
    packing: str
    format: Format | None

    @classmethod
    def of(cls, name: str) -> "Kind":
        """What a name says of its file."""
        place: Place = "standard stream" if name == STDIO else "object store" if "://" in name else "local"
        path, packing = PurePath(name), ""
        if path.suffix.lower() in SUFFIXES:
            path, packing = path.with_suffix(""), path.suffix
        return cls(name, place, path.stem, path.suffix, packing, FORMATS.get(path.suffix.lower()))

    @property
    def title(self) -> str:
        """The name as messages have it."""
        return "standard input" if self.place == "standard stream" else self.name
