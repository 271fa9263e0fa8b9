"""Which labels of a file are meant by which of a model: the `--label-map` to propose, from what both are called."""

import re
from collections.abc import Iterable, Sequence

_NEGATIVE = frozenset(("neg", "negative", "n", "bad", "no", "false", "unfavorable", "dislike", "부정"))
_NEUTRAL = frozenset(("neu", "neutral", "mixed", "중립"))
_POSITIVE = frozenset(("pos", "positive", "p", "good", "yes", "true", "favorable", "like", "긍정"))
_SCALES = (
    # What people rate with: from, to, the last that is negative, the first that is positive.
    (0, 1, 0, 1),
    (-1, 1, -1, 1),
    (1, 2, 1, 2),
    (0, 2, 0, 2),
    (1, 3, 1, 3),
    (1, 5, 2, 4),
    (0, 4, 1, 3),
    (0, 5, 2, 4),
    (1, 10, 4, 7),
    (0, 10, 4, 7),
    (-5, 5, -1, 1),
)
_whole = re.compile(r"-?\d{1,3}")
_number = re.compile(r"-?\d{1,3}(?:\.\d+)?")


def propose(values: Iterable[str], labels: Sequence[str]) -> str | None:
    """A `--label-map` from a file's `values` to a model's `labels`, None where none suggests itself.

    Values that differ in case alone are the same; else it goes by what is negative, neutral or positive, in words, or
    as numbers of a scale (0 and 1, stars). A neutral value is left out where the model has no label for it. A value
    that says nothing stands in no proposal.
    """
    values = [value for value in values if value not in labels]
    folded = {label.casefold(): label for label in labels}
    polar = {label: sign for label, sign in _polarities(labels).items() if sign is not None}
    signs = list(polar.values())
    targets: dict[int, str] = {0: "", **{sign: label for label, sign in polar.items()}}
    usable = len(polar) == len(labels) == len(set(signs)) and {-1, 1} <= set(signs)
    found: dict[str, str] = {}
    for value, sign in _polarities(values).items():
        if value.casefold() in folded:
            found[value] = folded[value.casefold()]
        elif usable and sign is not None:
            found[value] = targets[sign]
    if not any(found.values()):
        return None
    return ",".join(f"{','.join(map(_quoted, keys))}={label}" for label, keys in _grouped(found))


def _polarities(names: Iterable[str]) -> dict[str, int | None]:
    """Each name: -1 negative, 0 neutral, 1 positive, None where it does not say. Numbers are read on one scale."""
    names = list(names)
    scale = _scale([float(name) for name in names if _number.fullmatch(name)])
    return {name: _polarity(name, scale) for name in names}


def _polarity(name: str, scale: tuple[int, int, int, int] | None) -> int | None:
    if _number.fullmatch(name):
        if scale is None:
            return None
        _, _, negative, positive = scale
        return -1 if float(name) <= negative else 1 if float(name) >= positive else 0
    *_, word = name.casefold().split() or [""]  # of `very positive` the last
    for sign, words in ((-1, _NEGATIVE), (0, _NEUTRAL), (1, _POSITIVE)):
        if word in words:
            return sign
    return None


def _scale(numbers: Sequence[float]) -> tuple[int, int, int, int] | None:
    """The smallest scale that holds every number. Two numbers or more say which, a single one does not."""
    if len(numbers) < 2:
        return None
    if set(numbers) in ({0, 4}, {0, 2, 4}):  # tweets of Sentiment140
        return 0, 4, 0, 4
    return next((scale for scale in _SCALES if scale[0] <= min(numbers) and max(numbers) <= scale[1]), None)


def _grouped(found: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Labels with their values, in order: numbers by size, neighbours among the whole ones as a range, then words."""
    numbers = sorted((value for value in found if _number.fullmatch(value)), key=float)
    groups: list[tuple[str, list[str]]] = []
    for value in [*numbers, *(value for value in found if value not in numbers)]:
        if groups and groups[-1][0] == found[value] and (value in numbers) == (groups[-1][1][0] in numbers):
            groups[-1][1].append(value)
        else:
            groups.append((found[value], [value]))
    return [(label, _as_range(keys)) for label, keys in groups]


def _as_range(keys: list[str]) -> list[str]:
    whole = len(keys) > 1 and all(map(_whole.fullmatch, keys))
    if whole and [int(key) for key in keys] == list(range(int(keys[0]), int(keys[-1]) + 1)):
        return [f"{keys[0]}-{keys[-1]}"]
    return keys


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
