"""Several inputs as one batch: what is wrong with one of them costs that one alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ParamSpec, TypeVar

from toolchain.errors import CheckFailed, UsageError
from toolchain.files.outputs import writing
from toolchain.scoring.job import OnProgress, Summary, score_file
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.windows import Options

_NAMED = 5

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How one input ended: its summary, and what went wrong, None where nothing did. `summary.error` says it as well;
    where the input could not be read through, that is all there is in the summary."""

    summary: Summary
    error: UsageError | CheckFailed | None = None

    @classmethod
    def of(cls, summary: Summary, options: Options) -> "Outcome":
        """That of a completed run, with the checks on it."""
        try:
            check_run(summary, options)
        except CheckFailed as error:
            summary.error = str(error)
            return cls(summary, error)
        return cls(summary)

    @classmethod
    def failed(cls, source: str, error: UsageError | CheckFailed) -> "Outcome":
        """That of an input that was not scored."""
        return cls(Summary(source, None, None, "", "", "", error=str(error)), error)

    @property
    def source(self) -> str:
        """The input."""
        return self.summary.input

    def completed(self) -> Summary:
        """The summary of an input that was read through. Raises what went wrong with another."""
        if self.summary.output is None and self.error is not None:
            raise self.error
        return self.summary


def attempt(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | UsageError | CheckFailed:
    """What `call` returns, or what is wrong with its input."""
    try:
        return call(*args, **kwargs)
    except (UsageError, CheckFailed) as error:
        return error
    except BrokenPipeError:  # of standard output, which is nobody's input
        raise
    except OSError as error:
        return UsageError(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))


def score_input(
    scorer: Scorer,
    source: str,
    output: str,
    options: Options,
    progress: OnProgress = lambda reached: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Outcome:
    """`score_file`, and the checks on what it did; only `Interrupted` is raised."""
    summary = attempt(score_file, scorer, source, output, options, progress, stopping)
    if isinstance(summary, Summary):
        return Outcome.of(summary, options)
    return Outcome.failed(source, summary)


def check_run(summary: Summary, options: Options) -> None:
    """Raise `CheckFailed` where too few rows of a completed run were scored, or none has the label that it was to be
    held against."""
    if summary.scored == 0:
        raise CheckFailed(
            f"{summary.input}: no row could be scored; see {summary.rejects or 'the input, it has no rows'}"
        )
    share = summary.rejected / summary.rows
    if share > options.max_rejects:
        raise CheckFailed(
            f"{summary.input}: {summary.rejected} of {summary.rows} rows rejected ({share:.1%}), more than "
            f"--max-rejects {options.max_rejects:.1%}; see {summary.rejects}. The scored rows are in {summary.output}"
        )
    metrics = summary.label_metrics
    if metrics is not None and not metrics.labelled:
        raise CheckFailed(f"{metrics.warning(summary.input)}. The scored rows are in {summary.output}")


def check_batch(failed: Mapping[str, UsageError | CheckFailed], count: int) -> None:
    """Raise what is wrong with the only input of a run; of `count` inputs, `CheckFailed` that names the failed ones."""
    if count == 1:
        for error in failed.values():
            raise error
    if failed:
        names = ", ".join(list(failed)[:_NAMED])
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise CheckFailed(f"{len(failed)} of {count} inputs failed: {names}{more}")


def write_summaries(outcomes: Sequence[Outcome], path: str) -> None:
    """A JSON list with an object an input, whole or not at all."""
    text = json.dumps([asdict(outcome.summary) for outcome in outcomes], indent=2, ensure_ascii=False)
    try:
        with writing(path) as file:
            file.write(text.encode() + b"\n")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot write the summary here ({error.strerror}); name another: --summary"
        ) from error
