"""A run that is stopped once so many of its rows are durable."""

from pathlib import Path

import pytest

from toolchain.scoring.job import Interrupted, JobProgress, Options, score_file
from toolchain.scoring.scorer import Scorer


def stop_after(rows: int, scorer: Scorer, source: Path, output: Path | str, options: Options | None = None) -> str:
    """Score until so many rows stand in finished windows, those of an interrupted run included; what it then says."""
    finished = 0

    def hear(reached: JobProgress) -> None:
        nonlocal finished
        finished = reached.finished

    with pytest.raises(Interrupted) as stopped:
        score_file(scorer, str(source), str(output), options or Options(), hear, lambda: finished >= rows)
    assert finished == rows
    return str(stopped.value)
