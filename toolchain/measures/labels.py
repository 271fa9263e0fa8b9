"""What a label is: how a field of a file names one, what `--label-map` makes of it, and which of a model's it is."""

import csv
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import UsageError
from toolchain.measures.polarity import propose

KEPT_UNKNOWN = 100
"""So many different labels that a model does not know are counted, each by its beginning."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_number = re.compile(_NUMBER)
_range = re.compile(f"({_NUMBER})-({_NUMBER})")
_whole = re.compile(r"(-?\d+)\.0+")
_EXAMPLE = "expected VALUE=LABEL,…, such as 1=pos,0=neg or 4-5=pos,1-2=neg,3="
_LONGEST = 40
_SHOWN = 5
_SHOWN_LABELS = 8


def label_name(value: Any) -> str | None:
    """The label that a field names, the same in every format; None where it names none: null, blank, NaN, a list, an
    object.

    A whole number is the same label however it is written (`1`, `1.0` and `"1.0"` are `1`: a table with a gap in it
    makes one of the other), JSON's `true` and `false` are these words.
    """
    match value:
        case str():
            name = value.strip()
        case bool():
            name = "true" if value else "false"
        case float():
            name = repr(value) if math.isfinite(value) else ""
        case None | dict() | list():
            name = ""
        case _:
            name = str(value).strip()
    if whole := _whole.fullmatch(name):
        return whole[1]
    return name or None


def why_no_label(value: Any, column: str) -> str:
    """Why `label_name` is None."""
    kind = _kind(value)
    return f"the label in column {column!r} is {kind}, expected one label" if kind else f"no label in column {column!r}"


@dataclass(frozen=True)
class LabelMap:
    """Labels of a file -> labels of a model, None for what is left out. A label that it does not name stays as it is.

    Names are looked up as they are written, then without regard to case, then as numbers in the `ranges` (from, to,
    both included).
    """

    text: str = ""
    names: Mapping[str, str | None] = field(default_factory=dict)
    ranges: Sequence[tuple[float, float, str | None]] = ()

    @classmethod
    def parse(cls, text: str | None) -> "LabelMap":
        """Read `1=pos,0=neg`, `4,5=pos`, `1-2=neg`, `3=` (left out); a name with a comma stands in quotes, as in CSV.

        None changes nothing. Raises `UsageError`.
        """
        names: dict[str, str | None] = {}
        ranges: list[tuple[float, float, str | None]] = []
        keys: list[str] = []
        for part in next(csv.reader([text or ""], skipinitialspace=True), []):
            key, sign, label = part.rpartition("=")
            keys.append((key if sign else part).strip())
            if not keys[-1]:
                raise UsageError(f"--label-map {text}: a value is missing; {_EXAMPLE}")
            if not sign:
                continue
            target = label.strip() or None
            for name in (label_name(key) or key for key in keys):
                if names.setdefault(name, target) != target:
                    raise UsageError(f"--label-map {text}: {name} is there twice, with different labels")
                if bounds := _range.fullmatch(name):
                    ranges.append((float(bounds[1]), float(bounds[2]), target))
            keys = []
        if keys:
            raise UsageError(f"--label-map {text}: {keys[0]} has no label; {_EXAMPLE}")
        edges = [edge for first, last, _ in sorted(ranges, key=lambda bounds: bounds[:2]) for edge in (first, last)]
        if edges != sorted(edges) or len(set(edges)) < len(edges):
            raise UsageError(f"--label-map {text}: expected ranges from low to high that do not overlap: 1-2, 4-5")
        return cls(text or "", names, ranges)

    def check(self, labels: Sequence[str]) -> None:
        """Raise `UsageError` where it leads to a label that is none of a model's."""
        if strange := sorted({target for target in self.names.values() if target is not None} - set(labels)):
            raise UsageError(
                f"--label-map {self.text}: {strange[0]!r} is not a label of the model, which has {_listed(labels)}"
            )

    def speaks_of(self, name: str) -> bool:
        """Whether it maps this name, or leads to it."""
        return self(name) != name or name in self.names or name in self.names.values()

    def __call__(self, name: str) -> str | None:
        """The label of a name, None where it is left out."""
        for spelled in (name, name.casefold()):
            if spelled in self._folded:
                return self._folded[spelled]
        if self.ranges and _number.fullmatch(name):
            number = float(name)
            for first, last, target in self.ranges:
                if first <= number <= last:
                    return target
        return name

    @cached_property
    def _folded(self) -> Mapping[str, str | None]:
        return {**{name.casefold(): target for name, target in self.names.items()}, **self.names}


@dataclass(frozen=True)
class Truth:
    """The labels of N rows: `index` [N] into the model's labels, -1 where a row has none of them; `unknown` counts the
    labels that are none of them."""

    index: NDArray[np.int64]
    unknown: Counter[str] = field(default_factory=Counter)


class LabelReader:
    """Reads the fields of a label column as indices of a model's labels."""

    def __init__(self, labels: Sequence[str], label_map: str | None = None) -> None:
        """`label_map` as `LabelMap.parse` has it. Raises `UsageError` where it leads to no label of the model."""
        self._map = LabelMap.parse(label_map)
        self._map.check(labels)
        # A model of before may have been trained on `1.0`, or on Python's spelling of JSON's `true`.
        self._index = {label.lower(): number for number, label in enumerate(labels) if label in ("True", "False")}
        self._index |= {label_name(label) or label: number for number, label in enumerate(labels)}
        self._index |= {label: number for number, label in enumerate(labels)}

    def match(self, value: Any) -> tuple[int, str | None]:
        """Which label a field holds, -1 where it is none of the model's; then what it holds, if it is not left out."""
        name = label_name(value)
        if name is None:
            return -1, _kind(value) or None
        label = self._map(name)
        number = -1 if label is None else self._index.get(label, -1)
        return number, _beginning(name) if number < 0 and label is not None else None

    def read(self, values: Iterable[Any]) -> Truth:
        """The labels of some rows."""
        index: list[int] = []
        unknown: Counter[str] = Counter()
        for value in values:
            number, name = self.match(value)
            index.append(number)
            if name is not None:
                unknown[name] += 1
        return Truth(np.array(index, np.int64), most_common(unknown))


def most_common(unknown: Counter[str]) -> Counter[str]:
    """The first `KEPT_UNKNOWN` by count, then by the order in which they were met."""
    return unknown if len(unknown) <= KEPT_UNKNOWN else Counter(dict(unknown.most_common(KEPT_UNKNOWN)))


def describe_unknown(
    where: str,
    column: str | None,
    unknown: Mapping[str, int],
    known: int,
    labels: Sequence[str],
    whose: str = "the model's",
) -> str | None:
    """One line about labels that are none of `labels`, with the `--label-map` that would fit; None where all are.

    `unknown` counts them beside `known` rows that have one of `labels`, and these are `whose`.
    """
    place = f" in column {column!r}" if column else ""
    if not unknown:
        return None if known else f"{where}: no row has a label{place}; name another column: --label-column"
    others = sum(unknown.values())
    if known:
        what = f"{others:,} of {others + known:,} labels{place} are none of {whose} ({_listed(labels)})"
    else:
        what = f"no label{place} is one of {whose} ({_listed(labels)})"
    most = sorted(unknown.items(), key=lambda item: -item[1])
    seen = ", ".join(f"{name} ({count:,})" for name, count in most[:_SHOWN])
    more = f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else ""
    fit = propose(unknown, labels)
    advice = f"Map them: --label-map {shlex.quote(fit) if fit else 'VALUE=LABEL,…'}"
    return f"{where}: {what}; found {seen}{more}. {advice}"


def _kind(value: Any) -> str:
    """What a field holds where that can be no label, empty where it may be one."""
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else ""


def _beginning(name: str) -> str:
    """As much of a name as is kept, as text that every encoding of Unicode can hold."""
    return name[:_LONGEST].encode(errors="replace").decode()


def _listed(labels: Sequence[str]) -> str:
    return ", ".join([*labels[:_SHOWN_LABELS], *(["…"] if len(labels) > _SHOWN_LABELS else [])])
