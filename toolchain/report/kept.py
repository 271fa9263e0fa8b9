"""What is kept of a file of any size for a page: its most frequent words, its most telling rows, a sample of all."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SAMPLED_ROWS = 50_000
SHOWN_TEXTS = 20
_WORDS = 100_000
_WORD = 64

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row as it was scored: `best` and `truth` index the labels, `truth` -1 where its label is not known."""

    line: int
    best: int
    confidence: float
    truth: int
    text: str | None


class WordCounts:
    """The most frequent of any number of words: beyond 100,000 different ones the rarer half is forgotten.

    A count is exact unless its word was forgotten once; `forgetful` says whether that can have happened.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.forgetful = False

    def add(self, words: Sequence[str]) -> None:
        """Count some words; of a very long one its beginning."""
        self._counts.update(word[:_WORD] for word in words)
        if len(self._counts) > _WORDS:
            self._counts = Counter(dict(self._counts.most_common(_WORDS // 2)))
            self.forgetful = True

    def most_common(self, count: int) -> list[tuple[str, int]]:
        """The first by count, then by the order in which they were met."""
        return self._counts.most_common(count)


class Extremes:
    """The `SHOWN_TEXTS` rows with the largest key; of equal ones the first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, ScoredRow]] = []

    def offer(self, key: float, row: ScoredRow) -> None:
        """Keep the row if its key is among the largest so far."""
        if len(self._heap) < SHOWN_TEXTS:
            heapq.heappush(self._heap, (key, -row.line, row))
        elif key > self._heap[0][0]:
            heapq.heapreplace(self._heap, (key, -row.line, row))

    def rows(self) -> list[ScoredRow]:
        """The largest key first."""
        return [row for _, _, row in sorted(self._heap, reverse=True)]


class Sample:
    """Every row of a small file; of a larger one 50,000 rows by chance, the same ones each time (Vitter's algorithm R).

    A row is its number in the file and its cells.
    """

    def __init__(self) -> None:
        self._random = random.Random(0)
        self._rows: list[tuple[int, list[Cell]]] = []
        self._seen = 0

    def offer(self, line: int, cells: Callable[[], list[Cell]]) -> None:
        """Draw for the next row; `cells` is called where it is kept."""
        self._seen += 1
        if len(self._rows) < SAMPLED_ROWS:
            self._rows.append((line, cells()))
        elif (place := self._random.randrange(self._seen)) < SAMPLED_ROWS:
            self._rows[place] = (line, cells())

    def rows(self) -> list[list[Cell]]:
        """In the file's order."""
        return [[line, *cells] for line, cells in sorted(self._rows, key=lambda row: row[0])]
