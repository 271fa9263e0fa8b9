"""The records of a large file, found by several tasks of a Ray cluster at once (`toolchain.scoring.borders`)."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import ray

from toolchain.errors import UsageError
from toolchain.scoring.borders import Span, read_span
from toolchain.scoring.ray.shards import Failed, File, Job
from toolchain.scoring.windows import open_records


def read_spans(job: Job, cutters: int, file: File, parts: Sequence[tuple[int, int]], size: int) -> Iterator[Span]:
    """The spans of a file of this size in its order, as many read at once as there are `cutters`. Raises `UsageError`
    where one cannot be read."""
    read = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(_read)
    under_way: deque[Any] = deque()
    for part in parts:
        under_way.append(read.remote(job, file, *part, size))
        if len(under_way) == cutters:
            yield _span(under_way.popleft())
    while under_way:
        yield _span(under_way.popleft())


def _read(job: Job, file: File, begin: int, end: int, size: int) -> Span | Failed:
    try:
        with ExitStack() as stack:
            return read_span(open_records(file.path, file.target, job.options, stack, size).reader, begin, end)
    except OSError as error:
        return Failed(file, f"{file.source}: {error.strerror or error}")
    except UsageError as error:  # Ray would tell it with its traceback
        return Failed(file, str(error))


def _span(answer: Any) -> Span:
    span = ray.get(answer)
    if isinstance(span, Failed):
        raise UsageError(span.error)
    assert isinstance(span, Span)
    return span
