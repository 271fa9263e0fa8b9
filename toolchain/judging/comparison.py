"""Two bundles over the same reviews: what a release would change, whether it is better, and what it costs."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import CheckFailed, UsageError
from toolchain.files.kind import Kind
from toolchain.files.records import LABEL_COLUMNS, Reader, Record
from toolchain.measures.labels import Truth
from toolchain.measures.metrics import LabelCounts, LabelMetrics, count_labels, label_metrics, named_confusion
from toolchain.scoring.scorer import Scorer, Scores
from toolchain.scoring.windows import Options, Plan, cut, limited, open_records

TURN_ROWS = 512
"""How many rows both models score before the next are read. They begin in turn: a slow minute hits both."""
TURN_BYTES = 4 << 20
EXACT_BELOW = 25
"""Reviews that one model alone got right, below which the chi-square is too rough an approximation."""
SIGNIFICANT = 0.05
FEW_REVIEWS = 100
"""Below so many a share says little: one review is more than a percent of it."""
SPEED_TURNS = 2
"""So many whole turns tell how fast a model is, so that each of the two went first; of fewer rows a rate is chance."""
QUANTILES = {"median": 0.5, "90%": 0.9, "99%": 0.99}
SHIFT_BINS = 20
MOST_CHANGED = 20
EXCERPT = 500


@dataclass(frozen=True)
class McNemar:
    """Whether two models differ in accuracy by more than chance.

    `old_only` labelled reviews the old model alone got right, `new_only` the new one alone. `p_value` is the two-sided
    probability of a division at least as uneven, were both equally good.
    """

    old_only: int
    new_only: int
    method: Literal["exact binomial", "chi-square with continuity correction"]
    p_value: float

    @property
    def verdict(self) -> str:
        """The test in a sentence."""
        more = "more than chance explains" if self.p_value < SIGNIFICANT else "no more than chance may explain"
        return (
            f"The old model alone is right on {self.old_only:,} reviews, the new one alone on {self.new_only:,}: "
            f"{more} (McNemar's test, {self.method}, p = {self.p_value:.2g})."
        )


@dataclass(frozen=True)
class Side:
    """One of the two models: its bundle by folder and identity. Sizes in bytes: of the file that was run, and of the
    whole bundle. `rows_per_second` is None of fewer than `SPEED_TURNS` turns of rows.

    `labels` counts its answers, `unknown_rate` is the share of the words that it does not know. `label_metrics` is None
    where the input has no label column.
    """

    bundle: str
    identity: str
    model: str
    model_bytes: int
    bundle_bytes: int
    vocabulary: int
    rows_per_second: float | None
    unknown_rate: float
    labels: dict[str, int]
    label_metrics: LabelMetrics | None

    @property
    def speed(self) -> str:
        """The reviews a second, as they are read."""
        return "too few to tell" if self.rows_per_second is None else f"{self.rows_per_second:,.0f}"


@dataclass(frozen=True)
class ProbabilityShift:
    """How much probability moves between the classes of a review, from 0 to 1: the total variation distance, half the
    sum of the absolute changes. With two classes that is the change of either one.

    `histogram` counts reviews in `SHIFT_BINS` bins of equal width.
    """

    mean: float
    max: float
    quantiles: dict[str, float]
    histogram: list[int]


@dataclass(frozen=True)
class Change:
    """A review whose probabilities moved: both answers with their confidences, and its label where it is known.

    `line` is where it stands in the file (in Parquet the row), `text` how it begins.
    """

    line: int
    shift: float
    old: str
    old_confidence: float
    new: str
    new_confidence: float
    label: str | None
    text: str


@dataclass(frozen=True)
class Comparison:
    """Two models over the same `rows` rows: of the `scored` ones, `changed` get another label.

    `flips[old][new]` counts rows by both answers. `mcnemar` is None without a labelled row. `most_changed` are the
    reviews whose probabilities moved farthest, the farthest first. Each of `warnings` is a line about what makes the
    figures weak: few reviews, labels that are none of the models'. `found` is what was found out of the input that is
    not as usual.
    """

    input: str
    text_column: str
    label_column: str | None
    provider: str
    rows: int
    scored: int
    rejected: int
    changed: int
    changed_share: float
    flips: dict[str, dict[str, int]]
    shift: ProbabilityShift
    old: Side
    new: Side
    mcnemar: McNemar | None
    most_changed: list[Change]
    warnings: list[str]
    found: list[str]

    def check(self, max_rejects: float, max_changed: float | None = None) -> None:
        """Raise `CheckFailed` where more than these shares of the rows could not be scored, or of the labels change."""
        if self.rejected > max_rejects * self.rows:
            raise CheckFailed(
                f"{self.input}: {self.rejected:,} of {self.rows:,} rows cannot be scored "
                f"({self.rejected / self.rows:.1%}), more than --max-rejects {max_rejects:.1%}; toolchain score names "
                "each with the reason"
            )
        if max_changed is not None and self.changed_share > max_changed:
            raise CheckFailed(
                f"{self.changed:,} of {self.scored:,} labels change ({self.changed_share:.2%}), more than "
                f"--max-changed {max_changed:.2%}; look at the most changed reviews, then keep {self.old.bundle} or "
                "allow more"
            )


def mcnemar(old_only: int, new_only: int) -> McNemar:
    """McNemar's test of how many labelled reviews the old model alone and the new model alone got right.

    Q. McNemar, Psychometrika 12 (1947), with the continuity correction of A. L. Edwards, Psychometrika 13 (1948); for
    fewer than `EXACT_BELOW` such reviews the binomial distribution itself. T. G. Dietterich, Neural Computation 10
    (1998), has the reasons for this test where two classifiers were trained once.
    """
    either = old_only + new_only
    if either < EXACT_BELOW:
        tail = sum(math.comb(either, count) for count in range(min(old_only, new_only) + 1))
        return McNemar(old_only, new_only, "exact binomial", min(1.0, 2 * tail / 2**either))
    statistic = max(0, abs(old_only - new_only) - 1) ** 2 / either
    # A chi-square with one degree of freedom is the square of a standard normal.
    p_value = math.erfc(math.sqrt(statistic / 2))
    return McNemar(old_only, new_only, "chi-square with continuity correction", p_value)


def compare_models(
    old: Scorer,
    new: Scorer,
    source: str,
    options: Options,
    progress: Callable[[float, float | None, str], None] = lambda done, total, note: None,
) -> Comparison:
    """Score a CSV, JSONL or Parquet file with both models, side by side, and compare their answers.

    The label column is the one that `options` names, else one with a usual name. Rows that cannot be scored are
    counted; `Comparison.check` holds `options.max_rejects` against them. `progress` gets bytes done, bytes in all (of
    Parquet the rows), and a note on the rows so far. Raises `UsageError` where the models have different labels, the
    input cannot be read, or the column that was named holds none of the models' labels; `CheckFailed` where none of its
    rows can be scored.
    """
    labels = old.labels
    if set(labels) != set(new.labels):
        raise UsageError(
            f"{old.bundle.folder} answers {', '.join(labels)} and {new.bundle.folder} {', '.join(new.labels)}; "
            "expected two models with the same labels"
        )
    models = (_Model(old, labels), _Model(new, labels))
    pairs, rows = _Pairs(labels), 0
    with ExitStack() as stack:
        table = open_records(source, Kind.of(source), options, stack)
        label_column = options.label_column or _usual_label_column(table.reader)
        plan = Plan.of(table.reader, labels, replace(options, label_column=label_column))
        for number, records in enumerate(cut(limited(table.reader, options, 0), TURN_ROWS, TURN_BYTES)):
            rows += len(records)
            if reviews := _Reviews.of(records, plan):
                step = 1 if number % 2 else -1
                old_scores, new_scores = [model.score(reviews) for model in models[::step]][::step]
                pairs.add(reviews, old_scores, new_scores)
            progress(records[-1].end_offset, table.size, f"{rows:,} rows")
    scored = int(pairs.flips.sum())
    if not scored:
        raise CheckFailed(
            f"{source}: no row can be scored; is {plan.text_column!r} the right column? Name another: --text-column"
        )
    changed = scored - int(pairs.flips.trace())
    label_column = plan.label_column
    sides = models[0].side(pairs.flips.sum(axis=1), label_column), models[1].side(pairs.flips.sum(axis=0), label_column)
    metrics = sides[0].label_metrics
    strange = metrics.warning(source) if metrics else None
    if strange and metrics and not metrics.labelled and (options.label_column or options.label_map):
        raise UsageError(strange)
    return Comparison(
        input=source,
        text_column=plan.text_column,
        label_column=label_column,
        provider=old.provider,
        rows=rows,
        scored=scored,
        rejected=rows - scored,
        changed=changed,
        changed_share=changed / scored,
        flips=named_confusion(pairs.flips, labels),
        shift=pairs.shift(),
        old=sides[0],
        new=sides[1],
        mcnemar=mcnemar(pairs.old_only, pairs.new_only) if models[0].counts.confusion.any() else None,
        most_changed=pairs.most_changed,
        warnings=[*([strange] if strange else []), *_few(scored, metrics)],
        found=[*table.found, *([plan.note] if plan.note else [])],
    )


@dataclass(frozen=True)
class _Reviews:
    """The scorable rows of a turn: where each stands, its text, and its true label."""

    lines: Sequence[int]
    texts: Sequence[str]
    truth: Truth

    @classmethod
    def of(cls, records: Sequence[Record], plan: Plan) -> "_Reviews":
        """Those of `records` that can be scored."""
        scored = [record for record in records if plan.reason(record) is None]
        texts = [plan.text(record.fields) for record in scored]
        return cls([record.line for record in scored], texts, plan.truth(scored))

    def __len__(self) -> int:
        return len(self.texts)


class _Model:
    """One of the two at work. Its answers are in the order of `labels`."""

    def __init__(self, scorer: Scorer, labels: Sequence[str]) -> None:
        self.counts = LabelCounts.none(len(labels))
        self._scorer = scorer
        self._labels = labels
        self._order = [scorer.labels.index(label) for label in labels]
        self._tokens = 0
        self._unknown = 0
        self._seconds = 0.0

    def score(self, reviews: _Reviews) -> Scores:
        """Its answers, on the clock, counted beside the true labels."""
        if not self._seconds:
            self._scorer.score(reviews.texts[:1])  # what a session does once is not what a row costs
        start = time.perf_counter()
        scores = self._scorer.submit(reviews.texts).result()
        self._seconds += time.perf_counter() - start
        self._tokens += int(scores.tokens.sum())
        self._unknown += int(scores.unknown.sum())
        probabilities = scores.probabilities[:, self._order]
        scores = replace(scores, best=probabilities.argmax(axis=1), probabilities=probabilities)
        self.counts.add(count_labels(reviews.truth, scores.best, probabilities))
        return scores

    def side(self, answers: NDArray[np.int64], label_column: str | None) -> Side:
        """What there is to say of it; `answers` [classes] counts them."""
        bundle, model = self._scorer.bundle, self._scorer.model
        rows = int(answers.sum())
        sizes = {name: file["bytes"] for name, file in bundle.manifest["files"].items()}
        return Side(
            bundle=str(bundle.folder),
            identity=self._scorer.identity,
            model=model,
            model_bytes=sizes[model],
            bundle_bytes=sum(sizes.values()),
            vocabulary=len(bundle.vocabulary()),
            rows_per_second=None if rows < SPEED_TURNS * TURN_ROWS else rows / self._seconds,
            unknown_rate=self._unknown / max(1, self._tokens),
            labels=dict(zip(self._labels, answers.tolist(), strict=True)),
            label_metrics=None if label_column is None else label_metrics(self.counts, self._labels, label_column),
        )


class _Pairs:
    """The answers of both models side by side. `flips` [old, new] counts labels."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.flips = np.zeros((len(labels), len(labels)), np.int64)
        self.old_only = 0
        self.new_only = 0
        self.most_changed: list[Change] = []
        self._labels = labels
        self._shifts: list[NDArray[np.float32]] = []

    def add(self, reviews: _Reviews, old: Scores, new: Scores) -> None:
        """Count the answers to N reviews."""
        np.add.at(self.flips, (old.best, new.best), 1)
        truth = reviews.truth.index
        right, right_now = old.best == truth, new.best == truth
        self.old_only += int((right & ~right_now).sum())
        self.new_only += int((right_now & ~right).sum())
        shifts = np.abs(old.probabilities - new.probabilities).sum(axis=1) / 2
        self._shifts.append(shifts)
        farthest = np.argsort(-shifts, kind="stable")[:MOST_CHANGED]
        self.most_changed += [
            Change(
                line=reviews.lines[row],
                shift=float(shifts[row]),
                old=self._labels[old.best[row]],
                old_confidence=float(old.probabilities[row].max()),
                new=self._labels[new.best[row]],
                new_confidence=float(new.probabilities[row].max()),
                label=self._labels[truth[row]] if truth[row] >= 0 else None,
                text=_excerpt(reviews.texts[row]),
            )
            for row in farthest[shifts[farthest] > 0].tolist()
        ]
        self.most_changed = sorted(self.most_changed, key=lambda change: -change.shift)[:MOST_CHANGED]

    def shift(self) -> ProbabilityShift:
        """That of all reviews, one at least."""
        shifts = np.concatenate(self._shifts).astype(np.float64)
        quantiles = np.quantile(shifts, list(QUANTILES.values())).tolist()
        return ProbabilityShift(
            mean=float(shifts.mean()),
            max=float(shifts.max()),
            quantiles=dict(zip(QUANTILES, quantiles, strict=True)),
            histogram=np.histogram(shifts, SHIFT_BINS, (0, 1))[0].tolist(),
        )


def _few(scored: int, metrics: LabelMetrics | None) -> list[str]:
    """A line where the figures are those of a handful of reviews."""
    labelled = metrics.labelled if metrics and metrics.labelled else scored
    if labelled >= FEW_REVIEWS:
        return []
    what = f"{labelled:,} reviews" if labelled == scored else f"{labelled:,} labelled reviews"
    return [f"{what} are few: each is {1 / labelled:.1%} of a share; compare on {FEW_REVIEWS:,} or more"]


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]} …"


def _usual_label_column(reader: Reader) -> str | None:
    """The column with a name that label columns usually have, None where there is none."""
    names = {column.strip().lower(): column for column in reversed(reader.columns)}
    return next((names[name] for name in LABEL_COLUMNS if name in names), None)
