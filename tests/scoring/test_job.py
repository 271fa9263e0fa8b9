"""What scoring a file promises: every row accounted for, its bytes kept, and the model's own answer behind them."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import toolchain.scoring.job
from toolchain.errors import CheckFailed, UsageError
from toolchain.scoring.batch import check_run
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer

TEXTS = [
    "A dull film.",
    "I would certainly describe the acting as elegant, and the songs too. " * 12,
    "It is wrong to call this a charming film.",
    'She said "never boring", and left.',
    "Clever\nfrom start to finish",
    "shallow",
    "Zoë said: 在电影院看的 🎬",
]


@pytest.fixture(scope="module")
def scorer(bundle: Path) -> Iterator[Scorer]:
    with Scorer(bundle, "cpu") as opened:
        yield opened


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 7)


def score(scorer: Scorer, source: Path, data: bytes, options: Options | None = None) -> tuple[bytes, Any]:
    """Write `data` to `source`, score it, and give the output's bytes and the summary."""
    source.write_bytes(data)
    output = source.with_name("out" + source.suffix)
    summary = score_file(scorer, str(source), str(output), options or Options(max_rejects=1.0))
    return output.read_bytes(), summary


def command(
    *arguments: str | Path, cwd: Path | None = None, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """`toolchain score` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "toolchain", "score", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )


def error_line(result: subprocess.CompletedProcess[bytes]) -> str:
    """The one `error:` line on stderr."""
    lines = [line for line in result.stderr.decode().splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr.decode()
    return lines[0]


def appended(after: bytes, before: bytes, end: bytes) -> tuple[str, float]:
    """The two CSV fields that stand between a row as it was and its line end."""
    assert after.startswith(before)
    assert after.endswith(end)
    comma, label, confidence = after[len(before) : len(after) - len(end)].decode().split(",")
    assert comma == ""
    return label, float(confidence)


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_windows")
def test_csv_rows_pass_through_byte_for_byte(scorer: Scorer, tmp_path: Path) -> None:
    rows = [
        (b"1,plain text,1.50", b"\n"),
        (b'2,"quoted, ""doubled""",1e3', b"\r\n"),
        (b'"3","two\r\nlines\nand\rmore","007"', b"\n"),
        (b'4,"sloppy" ,  1234567890123456789012345678901234567890', b"\n"),
        ("5,café 🎬,\u2028".encode(), b"\r"),
        (b'6,in "the middle",""', b"\n"),
        (b"7,tab\there,-0.0", b"\r\n"),
        (b"8,no line end,0x10", b""),
    ]
    head = b"\xef\xbb\xbfid,text,number"
    output, summary = score(scorer, tmp_path / "in.csv", head + b"\r\n" + b"".join(row + end for row, end in rows))
    start = head + b",prediction,confidence\r\n"
    assert output.startswith(start)
    place = len(start)
    for row, end in rows:
        stop = output.index(end or b"\r\n", place + len(row)) + len(end or b"\r\n")
        label, confidence = appended(output[place:stop], row, end or b"\r\n")
        assert label in scorer.labels
        assert 0.5 <= confidence <= 1.0
        place = stop
    assert place == len(output)
    assert (summary.rows, summary.scored, summary.rejected, summary.rejects) == (8, 8, 0, None)


@pytest.mark.usefixtures("small_windows")
def test_jsonl_objects_pass_through_byte_for_byte(scorer: Scorer, tmp_path: Path) -> None:
    rows = [
        (b'{"text": "a dull film", "id": 1234567890123456789012345678901234567890', b"}", b"\n"),
        (b'{ "n" : 1.500e+02,"text":"caf\\u00e9"', b" }  ", b"\r\n"),
        (b'\t{"text":"x","nested":{"a":[1,2,{}]}, "z":-0.0', b"}", b"\n"),
        ('{"text":"🎬 \\"q\\"","prediction_":null'.encode(), b"}", b"\n"),
        (b'{"text": "last"', b"}", b""),
    ]
    output, _ = score(scorer, tmp_path / "in.jsonl", b"".join(row + brace + end for row, brace, end in rows))
    lines = output.split(b"\n")
    assert lines.pop() == b""
    for line, (row, _, end) in zip(lines, rows, strict=True):
        assert line.startswith(row + b',"prediction":')
        assert line.endswith(b"\r") == (end == b"\r\n")
        scored = json.loads(line)
        assert list(scored)[-2:] == ["prediction", "confidence"]
        assert scored["prediction"] in scorer.labels
        assert scored["confidence"] >= 0.5


def test_a_header_in_several_lines_and_a_quoted_last_column_stay_readable(scorer: Scorer, tmp_path: Path) -> None:
    output, _ = score(scorer, tmp_path / "in.csv", b'"te\nxt",text,"last, one"\n1,good,"a\nb"\n')
    (row,) = csv.DictReader(io.StringIO(output.decode(), newline=""))
    assert list(row) == ["te\nxt", "text", "last, one", "prediction", "confidence"]
    assert row["last, one"] == "a\nb"


def test_columns_that_have_our_names_keep_them(scorer: Scorer, tmp_path: Path) -> None:
    output, _ = score(scorer, tmp_path / "in.csv", b"text,prediction,prediction_2\ngood,x,y\n")
    (row,) = csv.DictReader(io.StringIO(output.decode()))
    assert list(row) == ["text", "prediction", "prediction_2", "prediction_3", "confidence"]
    assert (row["prediction"], row["prediction_2"]) == ("x", "y")
    output, _ = score(scorer, tmp_path / "in.jsonl", b'{"text": "good", "confidence": "mine"}\n')
    scored = json.loads(output)
    assert list(scored) == ["text", "confidence", "prediction", "confidence_2"]
    assert scored["confidence"] == "mine"


def test_a_later_object_with_our_field_is_rejected_rather_than_given_it_twice(scorer: Scorer, tmp_path: Path) -> None:
    data = b'{"text": "a"}\n' * 1500 + b'{"text": "b", "prediction": 1}\n'
    output, summary = score(scorer, tmp_path / "in.jsonl", data)
    assert output.count(b"\n") == 1500
    assert "has a field 'prediction', where its answer would stand" in Path(summary.rejects).read_text()


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_every_row_gets_the_answer_its_text_gets_alone(scorer: Scorer, tmp_path: Path, suffix: str) -> None:
    texts = [f"{TEXTS[number % len(TEXTS)]} {number % 11}" for number in range(60)]
    source = io.StringIO(newline="")
    if suffix == ".csv":
        csv.writer(source).writerows([("n", "text"), *enumerate(texts)])
    else:
        source.writelines(json.dumps({"n": number, "text": text}) + "\n" for number, text in enumerate(texts))
    output, summary = score(scorer, tmp_path / f"in{suffix}", source.getvalue().encode())
    rows: list[dict[str, Any]] = (
        list(csv.DictReader(io.StringIO(output.decode(), newline="")))
        if suffix == ".csv"
        else [json.loads(line) for line in output.splitlines()]
    )
    assert [int(row["n"]) for row in rows] == list(range(60))
    assert [row["text"] for row in rows] == texts
    for row in rows:
        (alone,) = scorer.score([row["text"]])
        assert row["prediction"] == alone.label
        assert float(row["confidence"]) == pytest.approx(alone.confidence, abs=1e-6)
    assert summary.labels == {
        label: count for label in scorer.labels if (count := sum(row["prediction"] == label for row in rows))
    }
    assert summary.tokens == sum(prediction.tokens for prediction in scorer.score(texts))
    assert summary.unknown == sum(prediction.unknown for prediction in scorer.score(texts))


@pytest.mark.usefixtures("small_windows")
def test_the_same_file_is_scored_to_the_same_bytes(scorer: Scorer, bundle: Path, tmp_path: Path) -> None:
    data = ("text\n" + "".join(f'"{TEXTS[number % 3]} {number}"\n' for number in range(200))).encode()
    first, _ = score(scorer, tmp_path / "in.csv", data)
    with Scorer(bundle, "cpu") as other:
        assert score(other, tmp_path / "in.csv", data)[0] == first


# --- rejects ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_windows")
def test_rows_in_are_rows_scored_and_rows_rejected_with_their_reason(scorer: Scorer, tmp_path: Path) -> None:
    bad = {
        3: (b"2,\n", "is blank"),
        4: (b"3, \t\n", "is blank"),
        5: (b"4,a,b\n", "3 columns, expected 2"),
        6: (b"5,caf\xe9\n", "not UTF-8"),
        7: (b'6,"open\n', "not a CSV row"),
    }
    good = [b"1,first\n", *(f"{number},again {number}\n".encode() for number in range(7, 40))]
    data = b"id,text\n" + good[0] + b"".join(row for row, _ in bad.values()) + b"".join(good[1:])
    output, summary = score(scorer, tmp_path / "in.csv", data)
    assert (summary.rows, summary.scored, summary.rejected) == (39, 34, 5)
    assert output.count(b"\n") == 1 + 34
    assert summary.rejects == str(tmp_path / "out.csv.rejected.jsonl")
    rejects = [json.loads(line) for line in Path(summary.rejects).read_bytes().splitlines()]
    assert [(reject["file"], reject["line"]) for reject in rejects] == [(str(tmp_path / "in.csv"), n) for n in bad]
    for reject, (row, reason) in zip(rejects, bad.values(), strict=True):
        assert reason in reject["reason"]
        assert (bytes.fromhex(reject["row_hex"]) if "row_hex" in reject else reject["row"].encode()) == row
    assert [sorted(reject) for reject in rejects] == [
        ["bundle", "file", "line", "reason", "row_hex" if b"\xe9" in row else "row"] for row, _ in bad.values()
    ]
    assert {reject["bundle"] for reject in rejects} == {scorer.bundle.identity}


def test_an_object_without_a_text_is_rejected_with_what_it_holds_instead(scorer: Scorer, tmp_path: Path) -> None:
    data = (
        b'{"text": "good"}\n{"id": 2}\n{"text": null}\n{"text": 5}\n{"text": ["a"]}\n{"text": " \\u000b\\n"}\n[]\n{\n'
    )
    _, summary = score(scorer, tmp_path / "in.jsonl", data)
    reasons = [json.loads(line)["reason"] for line in Path(summary.rejects).read_bytes().splitlines()]
    expected = [
        "missing or null",
        "missing or null",
        "holds a number, expected a string",
        "holds a list, expected a string",
        "is blank",
        "not a JSON object",
        "not JSON",
    ]
    assert len(reasons) == len(expected)
    assert all(part in reason for part, reason in zip(expected, reasons, strict=True))


def test_a_first_object_without_a_text_costs_only_itself(scorer: Scorer, tmp_path: Path) -> None:
    data = b'{"id": 1}\n{"id": 2, "text": "good"}\n'
    for options in (Options(), Options(text_column="text")):
        output, summary = score(scorer, tmp_path / "in.jsonl", data, options)
        assert (summary.scored, summary.rejected, summary.text_column) == (1, 1, "text")
        assert json.loads(output)["id"] == 2


def test_the_rejects_of_an_earlier_run_do_not_outlive_a_clean_one(scorer: Scorer, tmp_path: Path) -> None:
    _, summary = score(scorer, tmp_path / "in.csv", b"id,text\n1,good\n2,\n")
    assert Path(summary.rejects).exists()
    _, again = score(scorer, tmp_path / "in.csv", b"id,text\n1,good\n2,better\n")
    assert again.rejects is None
    assert not Path(summary.rejects).exists()


@pytest.mark.usefixtures("small_windows")
def test_on_error_fail_names_the_row_and_leaves_nothing_behind(scorer: Scorer, tmp_path: Path) -> None:
    data = b"id,text\n" + b"1,good\n" * 30 + b"2,\n" + b"3,good\n"
    with pytest.raises(CheckFailed, match=r"in\.csv:32: no text: the field 'text' is blank"):
        score(scorer, tmp_path / "in.csv", data, Options(on_error="fail"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_too_many_rejects_are_a_failed_check_over_the_limit_alone(scorer: Scorer, tmp_path: Path) -> None:
    _, summary = score(scorer, tmp_path / "in.csv", b"id,text\n" + b"1,good\n" * 9 + b"2,\n")
    check_run(summary, Options(max_rejects=0.1))
    with pytest.raises(CheckFailed, match=r"1 of 10 rows rejected \(10\.0%\), more than --max-rejects 9\.0%"):
        check_run(summary, Options(max_rejects=0.09))


def test_an_output_over_its_own_input_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"id,text\n1,good\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is an input"):
        score_file(scorer, str(source), str(tmp_path / "folder" / ".." / "in.csv"), Options())
    assert source.read_bytes() == b"id,text\n1,good\n"


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_puts_the_scored_rows_beside_the_input_and_adds_up(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_bytes(b"id,text\n" + b"1,good\n" * 20 + b"2,\n")
    (tmp_path / "more.jsonl").write_bytes(b'{"text": "a"}\n' * 3)
    result = command("reviews.csv", "more.jsonl", "--bundle", bundle, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    first, second = json.loads(result.stdout)
    assert (first["input"], first["output"], first["rejects"]) == (
        "reviews.csv",
        "reviews.scored.csv",
        "reviews.csv.rejected.jsonl",
    )
    assert first["rows"] == first["scored"] + first["rejected"] == 21
    assert first["scored"] == sum(first["labels"].values()) == 20
    assert (second["rows"], second["scored"], second["rejects"]) == (3, 3, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "more.jsonl",
        "more.scored.jsonl",
        "more.scored.jsonl.meta.json",
        "reviews.csv",
        "reviews.csv.rejected.jsonl",
        "reviews.scored.csv",
        "reviews.scored.csv.meta.json",
    ]


def test_standard_input_goes_to_standard_output(bundle: Path, tmp_path: Path) -> None:
    result = command("-", "--bundle", bundle, cwd=tmp_path, stdin=b"id,text\n1,good\n2,bad\n")
    assert result.returncode == 0
    assert [line.split(b",")[0] for line in result.stdout.splitlines()] == [b"id", b"1", b"2"]
    assert b"2 rows: 2 scored" in result.stderr
    result = command("-", "--bundle", bundle, "-q", cwd=tmp_path, stdin=b'{"text": "good"}\n')
    assert (result.returncode, result.stderr) == (0, b"")
    assert set(json.loads(result.stdout)) == {"text", "prediction", "confidence"}
    assert list(tmp_path.iterdir()) == []


def test_a_file_goes_to_standard_output_as_it_goes_to_a_file(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,text\n1,good\n2,bad\n")
    result = command("in.csv", "-o", "-", "--bundle", bundle, cwd=tmp_path)
    assert command("in.csv", "-o", "deep/er/out.csv", "--bundle", bundle, "--quiet", cwd=tmp_path).returncode == 0
    assert (tmp_path / "deep/er/out.csv").read_bytes() == result.stdout


def test_quiet_prints_nothing(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\ngood\n")
    result = command("in.csv", "--bundle", bundle, "--quiet", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_several_inputs_go_to_a_folder_and_never_to_one_file(bundle: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "in.csv").write_bytes(b"text\ngood\n")
    (tmp_path / "other.csv").write_bytes(b"text\ngood\n")
    result = command("a/in.csv", "other.csv", "-o", "out", "--bundle", bundle, cwd=tmp_path)
    assert result.returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.csv")) == ["in.scored.csv", "other.scored.csv"]
    refused = command("other.csv", "a/in.csv", "a/../a/in.csv", "-o", "new", "--bundle", bundle, cwd=tmp_path)
    assert refused.returncode == 2
    assert "new/a/in.scored.csv" in error_line(refused)
    assert not (tmp_path / "new").exists()
    refused = command("other.csv", "a/in.csv", "-o", "-", "--bundle", bundle, cwd=tmp_path)
    assert refused.returncode == 2
    assert not (tmp_path / "-").exists()


def test_a_failing_check_is_status_1_and_says_which_row_or_how_many(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,text\n1,good\n2,\n")
    failed = command("in.csv", "--bundle", bundle, "--on-error", "fail", cwd=tmp_path)
    assert failed.returncode == 1
    assert "in.csv:3:" in error_line(failed)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    many = command("in.csv", "--bundle", bundle, cwd=tmp_path)
    assert many.returncode == 1
    assert "1 of 2 rows rejected" in error_line(many)
    assert (tmp_path / "in.scored.csv").read_bytes().count(b"\n") == 2
    assert command("in.csv", "--bundle", bundle, "--max-rejects", "50%", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("data", [b"id,text\n1,\n", b"id,text\n"])
def test_no_scorable_row_is_a_failed_check_whatever_the_limit(bundle: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    result = command("in.csv", "--bundle", bundle, "--max-rejects", "100%", cwd=tmp_path)
    assert result.returncode == 1
    assert "no row could be scored" in error_line(result)


@pytest.mark.parametrize("out", ["in.csv/out.csv", "in.csv/deep/out.csv"])
def test_a_place_that_cannot_be_written_is_wrong_use(bundle: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\ngood\n")
    result = command("in.csv", "-o", out, "--bundle", bundle, "--quiet", cwd=tmp_path)
    assert result.returncode == 2
    assert "cannot write here" in error_line(result)
    assert len(result.stderr.splitlines()) == 1


def test_a_provider_that_is_not_installed_is_never_replaced_by_another(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\ngood\n")
    result = command("in.csv", "--bundle", bundle, "--provider", "warp", cwd=tmp_path)
    assert result.returncode == 2
    assert "'warp' is not installed; expected auto, " in error_line(result)
    assert "cpu" in error_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_an_input_that_fails_does_not_stop_the_others(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"text\n\n")
    (tmp_path / "good.csv").write_bytes(b"text\ngood\n")
    result = command("bad.csv", "good.csv", "--bundle", bundle, "--json", cwd=tmp_path)
    assert result.returncode == 1
    assert [summary["scored"] for summary in json.loads(result.stdout)] == [0, 1]
    assert (tmp_path / "good.scored.csv").exists()
