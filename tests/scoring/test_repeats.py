"""A text that a window holds more than once is run once, and its rows get the same bits."""

import csv
import random
from pathlib import Path

import onnxruntime
import pytest

from tests import tiny
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer, Scores


def different_texts() -> list[str]:
    generator = random.Random(1)
    return [f"w{number} {tiny.review(('neg', 'pos')[number % 2], generator)}" for number in range(150)]


@pytest.fixture
def run_texts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that were run since the test began."""
    seen: list[list[str]] = []
    run = Scorer._run

    def recorded(self: Scorer, session: "onnxruntime.InferenceSession", texts: list[str]) -> Scores:
        seen.append(texts)
        return run(self, session, texts)

    monkeypatch.setattr(Scorer, "_run", recorded)
    return seen


@pytest.mark.parametrize("explain", [0, 2])
def test_a_text_is_run_once_and_all_its_rows_have_its_bits(
    bundle: Path, run_texts: list[list[str]], explain: int
) -> None:
    different = different_texts()
    texts = [*different, *different[::5], *["again"] * 20, *different[:30]]
    order = list(range(len(different), len(texts)))
    random.Random(2).shuffle(order)
    texts = [*different, *(texts[index] for index in order)]
    with Scorer(bundle, "cpu", explain=explain) as scorer:
        alone = scorer.submit([*different, "again"]).result()
        once = sorted(map(len, run_texts))
        run_texts.clear()
        scores = scorer.submit(texts).result()
    assert sorted(map(len, run_texts)) == once
    rows = [different.index(text) if text != "again" else len(different) for text in texts]
    assert scores.probabilities.tobytes() == alone.probabilities[rows].tobytes()
    assert scores.best.tolist() == alone.best[rows].tolist()
    assert scores.tokens.tolist() == alone.tokens[rows].tolist()
    assert scores.unknown.tolist() == alone.unknown[rows].tolist()
    assert list(scores.strongest) == [alone.strongest[row] for row in rows if explain]


def test_texts_without_a_repeat_are_run_in_the_batches_of_their_lengths(
    bundle: Path, run_texts: list[list[str]]
) -> None:
    different = different_texts()
    with Scorer(bundle, "cpu", threads=1) as scorer:
        scorer.submit(different).result()
        tokenizer = scorer.bundle.specification.tokenizer
    by_length = sorted(different, key=lambda text: len(tokenizer.tokenize(text)))
    assert [text for batch in reversed(run_texts) for text in batch] == by_length


def test_the_rows_of_a_file_that_repeat_a_text_repeat_its_answer(
    bundle: Path, tmp_path: Path, run_texts: list[list[str]]
) -> None:
    different = different_texts()
    source, output = tmp_path / "reviews.csv", tmp_path / "scored.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in different * 3)])
    with Scorer(bundle, "cpu") as scorer:
        summary = score_file(scorer, str(source), str(output), Options(probabilities=True))
    assert summary.scored == 3 * len(different)
    assert sum(map(len, run_texts)) == len(different)
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert rows == rows[: len(different)] * 3
