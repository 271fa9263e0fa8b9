"""`score --explain` and `explain`: the strongest words beside the answer, in every format, and for a person to read."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import toolchain.cli.coloring
import toolchain.scoring.job
from export.text import clean
from tests.cli.test_app import Run, run
from tests.explaining import LABELS, explaining_bundle, without_the_form
from toolchain.cli.coloring import colored, listed
from toolchain.errors import UsageError
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.job import Options, preview_file, score_file
from toolchain.scoring.scorer import Scorer

__all__ = ["run"]

TEXTS = [
    "A fine Film, but dull in the end!",
    "=cmd|' /C calc'!A0 ; \"quoted\", a",
    "\u00a0\u200b",
    "dull " * 3_000,
    "w1 w2 \x01\x1b[31m \x7f w3",
    "nul\0nul but fine",
    "영화 정말 좋다 😀",
    *(f"w{number} fine w{number + 1} dull w{number + 2}" for number in range(20)),
]


@pytest.fixture(scope="module")
def explaining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explaining_bundle(tmp_path_factory.mktemp("explaining") / "bundle")


@pytest.fixture(scope="module")
def scorer(explaining: Path) -> Iterator[Scorer]:
    with Scorer(explaining, explain=2) as opened:
        yield opened


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 7)


def score(scorer: Scorer, source: Path, options: Options = Options(explain=2)) -> Path:  # noqa: B008
    output = source.with_name("out" + source.suffix)
    score_file(scorer, str(source), str(output), options)
    return output


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def write_jsonl(path: Path, texts: list[str]) -> Path:
    lines = (json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    path.write_text("".join(lines), encoding="utf-8")
    return path


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_csv_gets_the_strongest_words_of_either_side(explaining: Path, scorer: Scorer, tmp_path: Path) -> None:
    scorable = [text for text in TEXTS if text.strip()]
    output = score(scorer, write_csv(tmp_path / "in.csv", scorable))
    rows = read_csv(output)
    assert list(rows[0]) == ["id", "text", "prediction", "confidence", "explanation"]
    explanations = Explainer(explaining).explain(scorable)
    for row, explanation in zip(rows, explanations, strict=True):
        assert row["prediction"] == explanation.label
        sides = dict(side.split(": ", 1) for side in re.split(r" \| (?=against: )", row["explanation"]))
        wanted: dict[str, list[str]] = {"for": [], "against": []}
        for word, share in explanation.strongest(2):
            wanted["for" if share > 0 else "against"].append(f"{word} {share:+.2f}")
        assert sides == {side: "; ".join(words) for side, words in wanted.items() if words}
        assert not row["explanation"].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_the_answers_are_those_without_explanations(explaining: Path, scorer: Scorer) -> None:
    with Scorer(explaining) as plain:
        expected = plain.submit(TEXTS).result()
    said = scorer.submit(TEXTS).result()
    assert said.best.tolist() == expected.best.tolist()
    assert np.abs(said.probabilities - expected.probabilities).max() <= 1e-5
    assert said.tokens.tolist() == expected.tokens.tolist()
    assert len(said.strongest) == len(TEXTS)
    assert not expected.strongest


def test_jsonl_gets_a_list_of_words_and_shares(explaining: Path, scorer: Scorer, tmp_path: Path) -> None:
    output = score(scorer, write_jsonl(tmp_path / "in.jsonl", TEXTS))
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]]
    by_number = dict(enumerate(Explainer(explaining).explain(TEXTS)))
    assert len(rows) > 20
    for row in rows:
        wanted = by_number[row["id"]].strongest(2)
        assert [word["word"] for word in row["explanation"]] == [word for word, _ in wanted]
        assert [word["share"] for word in row["explanation"]] == pytest.approx([share for _, share in wanted], abs=2e-6)


def test_parquet_gets_a_list_column(explaining: Path, scorer: Scorer, tmp_path: Path) -> None:
    scorable = [clean(text) for text in TEXTS if text.strip()]
    pq.write_table(pyarrow.table({"text": scorable}), tmp_path / "in.parquet")
    table = pq.read_table(score(scorer, tmp_path / "in.parquet", Options(explain=2, probabilities=True)))
    assert table.column_names == [
        "text",
        "prediction",
        "confidence",
        *(f"p_{label}" for label in LABELS),
        "explanation",
    ]
    kind = table.schema.field("explanation").type.value_type
    assert (kind.field("word").type, kind.field("share").type) == (pyarrow.string(), pyarrow.float32())
    for cell, explanation in zip(
        table["explanation"].to_pylist(), Explainer(explaining).explain(scorable), strict=True
    ):
        assert [word["word"] for word in cell] == [word for word, _ in explanation.strongest(2)]


def test_a_column_of_that_name_stays_and_ours_gets_a_number(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,explanation\na fine film,mine\n", encoding="utf-8")
    (row,) = read_csv(score(scorer, tmp_path / "in.csv"))
    assert row["explanation"] == "mine"
    assert row["explanation_2"]


def test_every_added_field_goes_with_every_other(scorer: Scorer, tmp_path: Path) -> None:
    options = Options(explain=2, probabilities=True, min_confidence=0.5, id_column="id")
    output = score(scorer, write_jsonl(tmp_path / "in.jsonl", ["a fine film"]), options)
    row = json.loads(output.read_text(encoding="utf-8"))
    assert list(row) == [
        "id",
        "prediction",
        "confidence",
        *(f"p_{label}" for label in LABELS),
        "abstain",
        "explanation",
    ]
    preview = preview_file(scorer, str(tmp_path / "in.jsonl"), "out.jsonl", options)
    assert preview.output_columns[-1] == "explanation"
    assert preview.model == "model.explain.onnx"


def test_an_interrupted_run_is_not_continued_with_another_number_of_words(
    explaining: Path, scorer: Scorer, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", [f"a fine film w{number}" for number in range(30)])
    whole = score(scorer, source).read_bytes()
    windows = iter(range(100))
    with pytest.raises(toolchain.scoring.job.Interrupted):
        score_file(
            scorer, str(source), str(tmp_path / "out.csv"), Options(explain=2), stopping=lambda: next(windows) == 1
        )
    with Scorer(explaining, explain=3) as other, pytest.raises(UsageError, match="another --explain"):
        score_file(other, str(source), str(tmp_path / "out.csv"), Options(explain=3))
    assert score(scorer, source).read_bytes() == whole


def test_what_cannot_explain_says_so(explaining: Path, scorer: Scorer, tmp_path: Path) -> None:
    plain = without_the_form(explaining, tmp_path)
    with pytest.raises(UsageError, match=r"holds no model\.explain\.onnx"):
        Scorer(plain, explain=3)
    with pytest.raises(UsageError, match="--explain goes with --precision fp32, not int8"):
        Scorer(explaining, precision="int8", explain=3)
    source = write_csv(tmp_path / "in.csv", ["a"])
    with pytest.raises(UsageError, match=r"need Scorer\(explain=5\)"):
        score_file(scorer, str(source), str(tmp_path / "out.csv"), Options(explain=5))


def test_the_command_writes_the_explanations(run: Run, explaining: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", ["a fine film but dull"])
    ended = run("score", source, "--bundle", explaining, "--explain", "1", "--quiet")
    assert ended.status == 0, ended.stderr
    (row,) = read_csv(tmp_path / "in.scored.csv")
    assert len(re.findall(r"[+-]\d+\.\d\d", row["explanation"])) in (1, 2)


# --- for a person ----------------------------------------------------------------------------------------------------


def test_the_command_lists_the_words_where_there_is_no_colour(run: Run, explaining: Path) -> None:
    ended = run("explain", "A fine film", "film", "--bundle", explaining, "--quiet")
    assert (ended.status, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    lines = ended.stdout.splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["a", "fine", "film"]
    assert all(re.match(r" ?[+-]\d+\.\d{4}  ", line) for line in lines[1:4])
    assert lines[4].startswith("for:")
    assert lines[5].startswith("against:")
    assert sorted(line.split()[1] for line in lines[-2:]) == ["film", "nothing"]  # a word speaks for one side alone


def test_a_blank_text_is_refused(run: Run, explaining: Path) -> None:
    ended = run("explain", "A fine film", " ", "--bundle", explaining)
    assert ended.status == 2
    assert ended.stderr.splitlines()[-1] == "error: text 2 is blank; leave it out"


def test_the_command_prints_json(run: Run, explaining: Path) -> None:
    ended = run("explain", "A fine film", "dull\x1b[2J", "--bundle", explaining, "--json")
    first, second = json.loads(ended.stdout)
    assert first["text"] == "".join(piece["text"] for piece in first["pieces"]) == "A fine film"
    assert [word["word"] for word in first["words"]] == ["a", "fine", "film"]
    assert list(first["probabilities"]) == list(LABELS)
    assert second["text"] == "dull\x1b[2J"


def test_a_text_comes_from_standard_input(run: Run, explaining: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO("좋다 film\n".encode()))))
    (said,) = json.loads(run("explain", "-", "--bundle", explaining, "--json").stdout)
    assert said["text"] == "좋다 film\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"a \xff"))))
    ended = run("explain", "-", "--bundle", explaining)
    assert ended.status == 2
    assert ended.stderr.splitlines()[-1] == "error: standard input: byte 3 is not UTF-8; name what it is in: --encoding"


def test_a_bundle_without_the_form_is_one_line(run: Run, explaining: Path, tmp_path: Path) -> None:
    ended = run("explain", "a", "--bundle", without_the_form(explaining, tmp_path))
    assert ended.status == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "holds no model.explain.onnx" in ended.stderr


def test_colours_are_of_the_words_and_change_no_character(explaining: Path) -> None:
    text = "A fine film,\n  but \x1b[31mdull\x07 in\tthe end! [bold]"
    (explanation,) = Explainer(explaining).explain([text])
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, color_system="truecolor", width=200, legacy_windows=False)
    console.print(colored(explanation))
    codes = r"\x1b\[[\d;]*m"
    assert "\x07" not in shown.getvalue()
    assert re.sub(codes, "", shown.getvalue()).count("\x1b") == 0
    plain = [line.rstrip() for line in re.sub(codes, "", shown.getvalue()).splitlines()]
    assert plain[2:4] == ["A fine film,", "  but \ufffd[31mdull\ufffd in the end! [bold]"]
    largest = max(explanation.words, key=lambda word: abs(word.share))
    styled = re.findall(r"\x1b\[([\d;]+)m([^\x1b]+)\x1b", shown.getvalue())
    assert largest.word in [word.lower() for _, word in styled]
    underlined = {word.lower() for code, word in styled if code.split(";")[0] == "4"}
    assert underlined - {" against "} <= {word for word, share in explanation.words if share < 0}
    assert "\x1b" not in listed(explanation)
    assert "legend:" in shown.getvalue()
