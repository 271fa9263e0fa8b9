"""Whatever is in a file: every row is scored or rejected, and a good one is scored as its text is alone."""

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toolchain.scoring.job
from export.text import is_blank
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer

PROPERTY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Line:
    """One record of a generated file; `text` is None where it cannot be scored."""

    raw: bytes
    text: str | None


_words = st.lists(st.sampled_from(["good", "dull", "Zoë", "<br />", "don't", "🎬", "在", "a,b", "%s", "{"]), min_size=1)
_texts = st.one_of(
    _words.map(" ".join),
    # A comma in front could make an unclosed quote in the row before a well-formed record that swallows this one.
    st.text(st.characters(exclude_characters='\r\n",', exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.just("good \0 dull\0"),
    st.just("\x0b \u00a0 x"),
)
_blank = st.sampled_from(["", " ", "\t", " \x0b\x0c", "\0"])
_quoted_texts = st.builds("{}{}{}".format, _texts, st.sampled_from(["\n", "\r\n", '"', '"\n"', ", "]), _texts)


@pytest.fixture(scope="module")
def scorer(onnx_bundle: Path) -> Iterator[Scorer]:
    with Scorer(onnx_bundle, "cpu") as opened:
        yield opened


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 3)


def _scorable(text: str) -> str | None:
    return None if is_blank(text) else text


def _csv_line(text: str, end: str) -> Line:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow(["0", text])
    return Line(buffer.getvalue()[:-2].encode() + end.encode(), _scorable(text))


_csv_damage = st.sampled_from(
    [b"0,a,b\n", b"alone\n", b"0,caf\xe9\n", b"0,\xff\xfe\n", b'0,"not closed\n', b"0,,,,,\r\n"]
)
_csv_lines = st.lists(
    st.one_of(
        st.builds(_csv_line, st.one_of(_texts, _blank, _quoted_texts), st.sampled_from(["\n", "\r\n"])),
        _csv_damage.map(lambda raw: Line(raw, None)),
    ),
    max_size=14,
)


def _json_line(text: str, spelled: bool, end: str) -> Line:
    row = json.dumps({"id": 0, "text": text}, ensure_ascii=spelled)
    return Line(row.encode() + end.encode(), _scorable(text))


_json_damage = st.sampled_from(
    [
        *(b'{"text": "open\n', b"{\n", b"[1]\n", b"null\n", b'{"text": "caf\xe9"}\n', b'{"text": null}\n', b"\0\0\n"),
        *(b'{"text": ["a"]}\n', b'{"id": 1}\n', b'{"text": "a"} x\n', b'{"text": "a",}\n', b'{"text": "\\ud800"}\n'),
    ]
)
_json_lines = st.lists(
    st.one_of(
        st.builds(
            _json_line, st.one_of(_texts, _blank, _quoted_texts), st.booleans(), st.sampled_from(["\n", "\r\n", " \n"])
        ),
        _json_damage.map(lambda raw: Line(raw, None)),
    ),
    max_size=14,
)


OURS = (".rejected.jsonl", ".meta.json")


def score(scorer: Scorer, name: str, head: bytes, lines: list[Line]) -> tuple[bytes, list[dict[str, object]]]:
    """Score the file that `lines` make -> its output and its rejects; every row is in one of them."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / name, Path(folder) / f"out-{name}"
        source.write_bytes(head + b"".join(line.raw for line in lines))
        summary = score_file(scorer, str(source), str(output), Options(text_column="text", encoding="utf-8"))
        rejects = [json.loads(x) for x in Path(summary.rejects).read_bytes().splitlines()] if summary.rejects else []
        assert summary.rows == summary.scored + summary.rejected
        assert summary.rejected == len(rejects)
        assert sorted(path.name for path in Path(folder).iterdir() if not path.name.endswith(OURS)) == sorted(
            [name] + ([output.name] if head or summary.scored else [])
        )
        return output.read_bytes() if output.exists() else b"", rejects


def check_rows(scorer: Scorer, lines: list[Line], rows: list[tuple[str, str, float]]) -> None:
    """`rows` (text, label, confidence) are those of the good lines, in order, with the answers they get alone."""
    wanted = [line.text for line in lines if line.text is not None]
    assert [text for text, _, _ in rows] == wanted
    for text, label, confidence in rows:
        (alone,) = scorer.score([text])
        assert confidence == pytest.approx(alone.confidence, abs=1.5e-6)  # 1e-6, and the sixth decimal's rounding
        first, second = sorted(alone.probabilities, reverse=True)[:2]
        assert label == alone.label or first - second <= 1e-5


@pytest.mark.usefixtures("small_windows")
@PROPERTY
@given(_csv_lines)
def test_every_row_of_a_damaged_csv_file_is_accounted_for(scorer: Scorer, lines: list[Line]) -> None:
    output, _ = score(scorer, "in.csv", b"id,text\n", lines)
    header, *rows = csv.reader(io.StringIO(output.decode(), newline=""))
    assert header == ["id", "text", "prediction", "confidence"]
    check_rows(scorer, lines, [(text, label, float(confidence)) for _, text, label, confidence in rows])


@pytest.mark.usefixtures("small_windows")
@PROPERTY
@given(_json_lines)
def test_every_row_of_a_damaged_jsonl_file_is_accounted_for(scorer: Scorer, lines: list[Line]) -> None:
    lines = [Line(b'{"id": 0, "text": "first"}\n', "first"), *lines]
    output, rejects = score(scorer, "in.jsonl", b"", lines)
    rows = [json.loads(line) for line in output.split(b"\n") if line]
    assert all(list(row) == ["id", "text", "prediction", "confidence"] for row in rows)
    check_rows(scorer, lines, [(row["text"], row["prediction"], row["confidence"]) for row in rows])
    bad = [number for number, line in enumerate(lines, 1) if line.text is None]
    assert [reject["line"] for reject in rejects] == bad
