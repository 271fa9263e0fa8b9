"""A pandas or polars frame with the model's answers behind its columns. Neither library is loaded here."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from export.text import is_blank
from toolchain.errors import UsageError

Frame = TypeVar("Frame")
"""`pandas.DataFrame` or `polars.DataFrame`."""

ANSWERS = ("prediction", "confidence")


def with_answers(answer: Callable[[list[str]], Sequence[tuple[str, float]]], frame: Frame, column: str) -> Frame:
    """The frame with `prediction` and `confidence` behind its columns; the frame given stays as it is.

    `answer` gives texts their labels and confidences. A row whose text is missing or blank has neither. Raises
    `UsageError` where the frame is of another library, has no such column or has ours already, and where a text is no
    string.
    """
    given: Any = frame
    library = type(frame).__module__.partition(".")[0]
    if library not in ("pandas", "polars") or not hasattr(given, "columns"):
        raise UsageError(f"expected a pandas or polars DataFrame, not {type(frame).__name__}")
    columns = list(given.columns)
    if column not in columns:
        raise UsageError(f"the frame has no column {column!r}; its columns: {', '.join(map(str, columns))}")
    if taken := next((name for name in ANSWERS if name in columns), None):
        raise UsageError(f"the frame has a column {taken!r} already; rename or drop it first")
    values = given[column].to_list()
    rows = [row for row, value in enumerate(values) if not _is_missing(value)]
    for row in rows:
        if not isinstance(values[row], str):
            raise UsageError(f"row {row} of {column!r} is not a string but {type(values[row]).__name__}")
    answers: list[tuple[str | None, float | None]] = [(None, None)] * len(values)
    for row, own in zip(rows, answer([values[row] for row in rows]), strict=True):
        answers[row] = own
    labels, confidences = ([own[side] for own in answers] for side in (0, 1))
    series = type(given[column])
    if library == "pandas":  # the frame's own index, and NaN where there is no number
        scored = given.assign(
            prediction=series(labels, index=given.index, dtype=object),
            confidence=series(confidences, index=given.index, dtype="float64"),
        )
    else:
        scored = given.with_columns(series("prediction", labels), series("confidence", confidences))
    return cast(Frame, scored)


def _is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA, and text that says nothing."""
    if isinstance(value, str):
        return is_blank(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
