"""Whether texts look like those a model was made with: four distributions of theirs beside the same of a reference.

The reference is the validation part of the training: text of the same origin that the weights have not seen. Of the
training part every frequent word is known by construction (a pooled GRU on IMDB: 1.3 % unknown words in the training
part, 2.1 % in the validation part, 2.0 % in the test part). The documented recipes take the words of the validation
part into their vocabulary as well, so that its rate flatters there (gru on IMDB: 5.0 %, where the test part has 6.0 %).

The distance is the population stability index of credit scoring, the sum of (p - q) ln(p / q) over bins that hold a
tenth of the reference each, with its customary limit for a large shift, 0.25 (Siddiqi, "Credit Risk Scorecards", 2006).
Between two samples of one population it is nearly a chi-square with bins - 1 degrees of freedom, times 1/n + 1/m
(Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14,
2020): a small file has to be farther away than that alone would bring it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import MANIFEST, Bundle, InvalidBundle
from export.spec import Specification
from export.text import lookup_table

BINS = 10
LARGE_SHIFT = 0.25
DEVIATIONS = 4
"""How many standard deviations beyond its mean an index by chance is still taken for one."""
MIN_TEXTS = 100
"""Fewer texts are not judged."""
MORE_UNKNOWN = 0.05
"""What has to come to the reference's rate of unknown words before anybody is warned: fewer of them are no drift."""
RESOLUTION = 10_000
"""Shares are counted in ten-thousandths, coarser than what two runtimes disagree by."""

TOKENS, UNKNOWN, CONFIDENCE, LABELS = "tokens", "unknown", "confidence", "labels"

Edges = Mapping[str, Sequence[int]]
"""By quantity: the largest value of each bin but the last. Shares are in ten-thousandths."""


@dataclass(frozen=True)
class Statistics:
    """Texts and a model's answers, counted: those of two parts add up to those of both, in any order.

    `histograms` count texts: by `tokens`, by the share of them that is `unknown`, by `confidence`, and by label.
    `tokens` and `unknown` are summed over the texts.
    """

    tokens: int = 0
    unknown: int = 0
    histograms: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def texts(self) -> int:
        """How many there are."""
        return sum(self.histograms.get(LABELS, ()))

    @property
    def unknown_rate(self) -> float:
        """The share of the words that the vocabulary lacks; 0 where there is no word."""
        return self.unknown / max(1, self.tokens)

    def __add__(self, other: "Statistics") -> "Statistics":
        pairs = {
            name: (self.histograms.get(name, ()), other.histograms.get(name, ()))
            for name in {**self.histograms, **other.histograms}
        }
        histograms = {
            name: [sum(counts) for counts in itertools.zip_longest(*pair, fillvalue=0)] for name, pair in pairs.items()
        }
        return Statistics(self.tokens + other.tokens, self.unknown + other.unknown, histograms)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        histograms = {name: list(counts) for name, counts in self.histograms.items()}
        return {"tokens": self.tokens, "unknown": self.unknown, "histograms": histograms}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_json`; of no values, as before there were any, nothing counted."""
        return cls(**values)


@dataclass(frozen=True)
class Reference:
    """The statistics of a part of the data, and the bins that they and all that is compared with them are counted in.

    What is compared is what `edges` name, and the labels. The unknown words of a model whose vocabulary was shortened
    later are not known: then `edges` do not name them.
    """

    part: str
    edges: Edges
    statistics: Statistics

    @classmethod
    def of(
        cls,
        part: str,
        tokens: NDArray[np.integer[Any]],
        unknown: NDArray[np.integer[Any]],
        probabilities: NDArray[np.floating[Any]],
    ) -> "Reference":
        """Of N texts, one or more: their `tokens` [N], those `unknown` [N], the `probabilities` [N, classes]."""
        values = _quantities(tokens, unknown, probabilities)
        edges = {name: _tenths(numbers) for name, numbers in values.items()}
        return cls(part, edges, _count(edges, tokens, unknown, probabilities))

    def count(
        self,
        tokens: NDArray[np.integer[Any]],
        unknown: NDArray[np.integer[Any]],
        probabilities: NDArray[np.floating[Any]],
    ) -> Statistics:
        """The statistics of N other texts, in the bins of this reference. Shapes as in `of`; N may be 0."""
        return _count(self.edges, tokens, unknown, probabilities)

    def without_unknown(self) -> "Reference":
        """The reference of the same model with another vocabulary, whose unknown words nobody has counted."""
        edges = {name: numbers for name, numbers in self.edges.items() if name != UNKNOWN}
        counted = {name: counts for name, counts in self.statistics.histograms.items() if name != UNKNOWN}
        return Reference(self.part, edges, replace(self.statistics, unknown=0, histograms=counted))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a snapshot and for a manifest."""
        edges = {name: list(numbers) for name, numbers in self.edges.items()}
        return {"part": self.part, "edges": edges, "statistics": self.statistics.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], classes: int) -> "Reference":
        """The inverse of `to_json`. Raises `ValueError` on anything that is no reference of a model with `classes`."""
        try:
            part, edges = str(values["part"]), {str(name): list(each) for name, each in values["edges"].items()}
            statistics = Statistics.from_json(values["statistics"])
            bins = {**{name: len(numbers) + 1 for name, numbers in edges.items()}, LABELS: classes}
            sizes = {name: len(counts) for name, counts in statistics.histograms.items()}
            numbers = [*itertools.chain(*edges.values(), *statistics.histograms.values())]
            plain = all(
                isinstance(number, int) and 0 <= number < 2**53
                for number in [statistics.tokens, statistics.unknown, *numbers]
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no statistics: {error}") from error
        known = {TOKENS, CONFIDENCE} <= edges.keys() <= {TOKENS, UNKNOWN, CONFIDENCE}
        totals = {sum(counts) for counts in statistics.histograms.values()}
        if not plain or not known or bins != sizes or len(totals) != 1 or totals == {0}:
            raise ValueError("their bins and counts do not go together")
        return cls(part, edges, statistics)


@dataclass(frozen=True)
class Shift:
    """One distribution beside that of the reference. `index` is the population stability index.

    `bins` are the largest value of each bin but the last (shares from 0 to 1), or the labels. `limit` is what the index
    has to reach to be called large.
    """

    index: float
    limit: float
    bins: Sequence[float] | Sequence[str]
    counts: Sequence[int]
    reference_counts: Sequence[int]

    @property
    def large(self) -> bool:
        """Whether it is beyond what chance and habit allow."""
        return self.index >= self.limit


@dataclass(frozen=True)
class Drift:
    """`texts` texts beside the reference's: a shift by quantity, and what a person should know, a line each.

    `unknown_rate` is the share of all words; that of the reference is None where nobody has counted them.
    """

    texts: int
    reference_part: str
    reference_texts: int
    unknown_rate: float
    reference_unknown_rate: float | None
    shifts: Mapping[str, Shift]
    warnings: Sequence[str]


def text_reference(
    part: str, texts: Sequence[Sequence[str]], vocabulary: Sequence[str], probabilities: NDArray[np.floating[Any]]
) -> Reference:
    """The reference that these texts, cut into tokens, make, with a model's `probabilities` [texts, classes] of them.

    The order of the texts and that of the probabilities need not be the same.
    """
    known = lookup_table(vocabulary)
    tokens = np.array([len(text) for text in texts])
    unknown = np.array([sum(token not in known for token in text) for text in texts])
    return Reference.of(part, tokens, unknown, probabilities)


def bundle_reference(bundle: Bundle) -> Reference | None:
    """The reference a bundle holds; None in one whose model has none. Raises `InvalidBundle` where it is damaged."""
    if "reference" not in bundle.manifest:
        return None
    try:
        return Reference.from_json(bundle.manifest["reference"], len(bundle.specification.labels))
    except ValueError as error:
        place = bundle.folder / MANIFEST
        raise InvalidBundle(f"{place}: damaged reference statistics ({error}); export the bundle anew") from error


def find_drift(reference: Reference, statistics: Statistics, specification: Specification) -> Drift | None:
    """How far texts that were counted in the bins of `reference` are from it; None where they are too few to say."""
    if statistics.texts < MIN_TEXTS:
        return None
    known = UNKNOWN in reference.edges
    bins: dict[str, Sequence[float] | Sequence[str]] = {
        TOKENS: [float(edge) for edge in reference.edges[TOKENS]],
        **({UNKNOWN: _shares(reference.edges[UNKNOWN])} if known else {}),
        CONFIDENCE: _shares(reference.edges[CONFIDENCE]),
        LABELS: specification.labels,
    }
    shifts = {
        name: shift(values, statistics.histograms[name], reference.statistics.histograms[name])
        for name, values in bins.items()
    }
    return Drift(
        texts=statistics.texts,
        reference_part=reference.part,
        reference_texts=reference.statistics.texts,
        unknown_rate=statistics.unknown_rate,
        reference_unknown_rate=reference.statistics.unknown_rate if known else None,
        shifts=shifts,
        warnings=_warnings(reference, statistics, shifts, specification.tokenizer.unit),
    )


def shift(bins: Sequence[float] | Sequence[str], counts: Sequence[int], reference_counts: Sequence[int]) -> Shift:
    """The population stability index of two histograms over the same bins, each of one text or more.

    Half a text is added to every count, so that an empty bin has a logarithm; bins that are empty in both are left out.
    """
    pairs = np.array([pair for pair in zip(counts, reference_counts, strict=True) if any(pair)], np.float64)
    here, there = ((pairs + 0.5) / (pairs + 0.5).sum(axis=0)).T
    index = float(((here - there) * np.log(here / there)).sum())
    freedom, scale = len(pairs) - 1, 1 / sum(counts) + 1 / sum(reference_counts)
    by_chance = scale * (freedom + DEVIATIONS * math.sqrt(2 * freedom))
    return Shift(index, max(LARGE_SHIFT, by_chance), bins, counts, reference_counts)


def describe(reference: Reference, specification: Specification) -> str:
    """A reference on one line, for a person who wants to know what a model was made for."""
    statistics, unit = reference.statistics, specification.tokenizer.unit
    answers = ", ".join(
        f"{label} {_percent(count / statistics.texts)}"
        for label, count in zip(specification.labels, statistics.histograms[LABELS], strict=True)
    )
    unknown = f", {_percent(statistics.unknown_rate)} of them unknown" if UNKNOWN in reference.edges else ""
    return (
        f"{statistics.texts:,} {reference.part} texts of {statistics.tokens / statistics.texts:.0f} {unit} in the "
        f"mean{unknown}; answers {answers}"
    )


def _quantities(
    tokens: NDArray[np.integer[Any]], unknown: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]
) -> dict[str, NDArray[np.int64]]:
    """What is counted of each of N texts, as whole numbers [N]."""
    confidence = probabilities.max(axis=1, initial=0.0).astype(np.float64)
    return {
        TOKENS: tokens.astype(np.int64),
        UNKNOWN: np.rint(RESOLUTION * unknown / np.maximum(tokens, 1)).astype(np.int64),
        CONFIDENCE: np.rint(RESOLUTION * confidence).astype(np.int64),
    }


def _tenths(values: NDArray[np.int64]) -> list[int]:
    """The values that end a tenth of the `values` [N] each, but the last; fewer where some are the same."""
    ordered = np.sort(values).tolist()
    return sorted({ordered[len(ordered) * tenth // BINS] for tenth in range(1, BINS)})


def _count(
    edges: Edges,
    tokens: NDArray[np.integer[Any]],
    unknown: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
) -> Statistics:
    values = _quantities(tokens, unknown, probabilities)
    histograms = {
        name: np.bincount(np.searchsorted(limits, values[name]), minlength=len(limits) + 1).tolist()
        for name, limits in edges.items()
    }
    classes = probabilities.shape[1]
    histograms[LABELS] = np.bincount(probabilities.argmax(axis=1), minlength=classes).tolist()
    return Statistics(int(tokens.sum()), int(unknown.sum()), histograms)


def _warnings(reference: Reference, statistics: Statistics, shifts: Mapping[str, Shift], unit: str) -> list[str]:
    """A line for every large shift, with the two shares that differ most."""
    lines = []
    rate, own = statistics.unknown_rate, reference.statistics.unknown_rate
    if UNKNOWN in shifts and shifts[UNKNOWN].large and rate >= own + MORE_UNKNOWN:
        lines.append((f"of the {unit} are unknown to this model", rate, own))
    if shifts[TOKENS].large:
        edge, here, there = _farthest(shifts[TOKENS])
        lines.append((f"of the texts have {edge:,.0f} {unit} or fewer", here, there))
    if shifts[CONFIDENCE].large:
        edge, here, there = _farthest(shifts[CONFIDENCE])
        lines.append((f"of the answers have a confidence of {edge:.4f} or less", here, there))
    if shifts[LABELS].large:
        shares = [np.array(counts) / sum(counts) for counts in (shifts[LABELS].counts, shifts[LABELS].reference_counts)]
        most = int(np.abs(shares[0] - shares[1]).argmax())
        lines.append((f"of the answers are {shifts[LABELS].bins[most]}", shares[0][most], shares[1][most]))
    return [
        f"{_percent(here)} {what}; in the model's {reference.part} text it was {_percent(there)}"
        for what, here, there in lines
    ]


def _farthest(shift: Shift) -> tuple[float, float, float]:
    """The edge up to which the shares of the texts differ most, and both shares."""
    here, there = (np.cumsum(counts)[:-1] / sum(counts) for counts in (shift.counts, shift.reference_counts))
    most = int(np.abs(here - there).argmax())
    return float(shift.bins[most]), float(here[most]), float(there[most])


def _shares(edges: Sequence[int]) -> list[float]:
    return [edge / RESOLUTION for edge in edges]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
