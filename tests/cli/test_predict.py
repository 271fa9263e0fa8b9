"""`toolchain predict`: a sentence in, its label and probability out."""

import gzip
import io
import json
import sys

import pytest

from tests.cli.test_app import Run, run
from toolchain.scoring.default import BOX
from toolchain.scoring.scorer import Scorer

__all__ = ["run"]

GOOD, BAD = "I loved this film.", "I fell asleep and the plot made no sense."


class _Sent(io.BytesIO):
    """Standard input that somebody has sent."""

    @property
    def buffer(self) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self.getvalue()))


def test_a_line_a_text_with_label_and_probability(run: Run) -> None:
    done = run("predict", GOOD, BAD, "--bundle", BOX)
    assert done.status == 0
    with Scorer(BOX) as scorer:
        good, bad = scorer.score([GOOD, BAD])
    assert (good.label, bad.label) == ("pos", "neg")
    assert done.stdout.splitlines() == [f"pos  {good.confidence:.4f}  {GOOD}", f"neg  {bad.confidence:.4f}  {BAD}"]
    assert done.stderr.startswith("model in the box")


def test_lines_of_standard_input_and_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Sent(f"{GOOD}\r\n\n{BAD}\n".encode("utf-8-sig")))
    done = run("predict", "--json", "--quiet", "--bundle", BOX)
    answers = json.loads(done.stdout)
    assert [(answer["text"], answer["label"]) for answer in answers] == [(GOOD, "pos"), (BAD, "neg")]
    for answer in answers:
        assert answer["confidence"] == max(answer["probabilities"].values())
        assert answer["tokens"] > answer["unknown"] == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("sent", "said"),
    [(b"", "no text"), (b" \n\n", "no text"), (b"caf\xe9\n", "byte 4 is not UTF-8")],
    ids=["nothing", "blank", "Latin-1"],
)
def test_standard_input_without_a_text_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, sent: bytes, said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", _Sent(sent))
    done = run("predict", "--bundle", BOX)
    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        ("café\n".encode("utf-16"), ()),
        ("café\n".encode("latin-1"), ("--encoding", "latin-1")),
        (gzip.compress("café\n".encode()), ()),
    ],
    ids=["UTF-16", "Latin-1", "gzip"],  # gzip's bytes hold the time: no name for a test that two processes collect
)
def test_standard_input_may_be_packed_or_in_another_encoding(
    run: Run, monkeypatch: pytest.MonkeyPatch, sent: bytes, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Sent(sent))
    (answer,) = json.loads(run("predict", "--json", "--bundle", BOX, *options).stdout)
    assert answer["text"] == "café"


def test_a_blank_text_is_refused(run: Run) -> None:
    done = run("predict", GOOD, " \t", "--bundle", BOX)
    assert (done.status, done.stdout) == (2, "")
    assert "text 2 is blank" in done.stderr


def test_score_points_to_it_where_it_is_given_a_sentence(run: Run) -> None:
    done = run("score", GOOD)
    assert (done.status, done.stdout) == (2, "")
    assert 'to score a text: toolchain predict "TEXT"' in done.stderr


def test_explanations_are_those_of_explain(run: Run, bundle: str) -> None:
    explained = run("predict", GOOD, "--explain", "--json", "--bundle", bundle)
    assert explained.status == 0
    assert explained.stdout == run("explain", GOOD, "--json", "--bundle", bundle).stdout
