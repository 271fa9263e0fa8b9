"""What scoring writes where more is asked for than the label, or less than every column; what it shows beforehand."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import toolchain.scoring.job
from tests.conftest import score_command
from tests.stopping import stop_after
from toolchain.errors import UsageError
from toolchain.files.csv_records import CsvReader
from toolchain.files.dialect import Dialect, Escape, Quoting
from toolchain.files.json_records import JsonlReader
from toolchain.scoring.job import Options, Summary, preview_file, score_file
from toolchain.scoring.rendering import Appended, render_header, row_renderer, select_columns
from toolchain.scoring.scorer import Scorer, Scores

DATA = b'id,text,note\n1,good film,"a, b"\n2,"dull\nand wrong",\n3,clever,c\n'


@pytest.fixture(scope="module")
def scorer(onnx_bundle: Path) -> Iterator[Scorer]:
    with Scorer(onnx_bundle, "cpu") as opened:
        yield opened


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 7)


def score(scorer: Scorer, source: Path, data: bytes, options: Options) -> tuple[bytes, Summary]:
    source.write_bytes(data)
    output = source.with_name("out" + source.suffix)
    summary = score_file(scorer, str(source), str(output), options)
    return output.read_bytes(), summary


def rows_of(output: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output.decode(), newline="")))


# --- more fields -----------------------------------------------------------------------------------------------------


def test_probabilities_stand_behind_the_confidence_one_a_class(scorer: Scorer, tmp_path: Path) -> None:
    output, _ = score(scorer, tmp_path / "in.csv", DATA, Options(probabilities=True))
    for row in rows_of(output):
        (alone,) = scorer.score([row["text"]])
        assert list(row) == ["id", "text", "note", "prediction", "confidence", "p_neg", "p_pos"]
        assert row[f"p_{row['prediction']}"] == row["confidence"]
        assert [float(row["p_neg"]), float(row["p_pos"])] == pytest.approx(alone.probabilities, abs=2e-6)
    data = b'{"text": "good film", "p_pos": 1}\n'
    (scored,) = map(json.loads, score(scorer, tmp_path / "in.jsonl", data, Options(probabilities=True))[0].splitlines())
    assert list(scored) == ["text", "p_pos", "prediction", "confidence", "p_neg", "p_pos_2"]
    assert scored["p_neg"] + scored["p_pos_2"] == pytest.approx(1, abs=2e-6)


def test_rows_below_the_confidence_limit_abstain_and_are_counted(scorer: Scorer, tmp_path: Path) -> None:
    data = b"id,text\n" + b"".join(b"%d,%s\n" % (n, b"good dull " * n + b"film") for n in range(20))
    first, _ = score(scorer, tmp_path / "in.csv", data, Options())
    limit = sorted(float(row["confidence"]) for row in rows_of(first))[10]
    output, summary = score(scorer, tmp_path / "in.csv", data, Options(min_confidence=limit))
    rows = rows_of(output)
    assert [row["abstain"] for row in rows] == [str(float(row["confidence"]) < limit).lower() for row in rows]
    assert summary.abstained == sum(row["abstain"] == "true" for row in rows) > 0
    data = b"".join(json.dumps({"text": row["text"]}).encode() + b"\n" for row in rows)
    output, again = score(scorer, tmp_path / "in.jsonl", data, Options(min_confidence=limit, probabilities=True))
    assert [json.loads(line)["abstain"] for line in output.splitlines()] == [row["abstain"] == "true" for row in rows]
    assert again.abstained == summary.abstained


@pytest.mark.parametrize("escape", ["double", "backslash"])
@pytest.mark.parametrize("quoting", ["minimal", "none"])
def test_what_is_written_reads_back_in_the_dialect_of_the_file(quoting: Quoting, escape: Escape) -> None:
    data = b'n;text\n1;"a \\\\\\"b\n2;c\n' if quoting == "none" else b'n;text\n1;"a \\\\ ""b;"\n2;c\n'
    dialect = Dialect(";", quoting, escape)
    reader = CsvReader(io.BytesIO(data), "in.csv", dialect=dialect)
    appended = Appended(('5" and \\\\, "or"', "back\\"))
    scores = Scores(np.array([0, 1]), np.eye(2, dtype=np.float32), np.ones(2, np.int64), np.zeros(2, np.int64))
    selection = select_columns(reader, ("text",), ())
    names = appended.names(("text",))
    render = row_renderer(reader, appended, names, selection)
    records = list(reader)
    written = render_header(reader, names, selection) + b"".join(
        map(render, records, scores.best.tolist(), appended.values(scores))
    )
    again = list(CsvReader(io.BytesIO(written), "out.csv", dialect=dialect))
    assert [record.error for record in again] == [None, None]
    assert [record.fields["text"] for record in again] == [record.fields["text"] for record in records]
    assert [record.fields["prediction"] for record in again] == list(appended.labels)


@pytest.mark.parametrize("label", ["a;b", "two\nlines"])
def test_what_cannot_be_one_cell_where_quotes_do_not_quote_is_refused(label: str) -> None:
    reader = CsvReader(io.BytesIO(b"text;n\na;1\n"), "in.csv", dialect=Dialect(";", "none"))
    with pytest.raises(UsageError, match=r"in\.csv: quotes are plain characters in it, so that .* cannot be written"):
        row_renderer(reader, Appended((label, "b")), ["prediction"], None)
    with pytest.raises(UsageError, match=r"cannot be written as one cell"):
        render_header(reader, ["prediction", f"p_{label}"], None)


@pytest.mark.parametrize("kept", [("text", "n"), ("n",), ()])
def test_labels_and_values_that_need_quotes_get_them(kept: tuple[str, ...]) -> None:
    labels = ('50% "off", or', "a;b", "plain")
    scores = Scores(
        best=np.array([0, 1, 2]),
        probabilities=np.array([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25], [0.0, 0.0, 1.0]], np.float32),
        tokens=np.ones(3, np.int64),
        unknown=np.zeros(3, np.int64),
    )
    appended = Appended(labels, probabilities=True, min_confidence=0.6)
    for reader in (
        CsvReader(io.BytesIO(b'text;n\n"a;b";1\nb;2\nc;3\n'), "in.csv", dialect=Dialect(";")),
        JsonlReader(
            io.BytesIO(b'{"text": "a;b", "n": "1"}\n{"text": "b", "n": "2"}\n{"text":"c","n": "3"}\n'), "in.jsonl"
        ),
    ):
        selection = select_columns(reader, kept, ())
        names = appended.names(reader.columns if selection is None else selection.kept)
        render = row_renderer(reader, appended, names, selection)
        data = render_header(reader, names, selection) + b"".join(
            render(record, best, values)
            for record, best, values in zip(reader, scores.best.tolist(), appended.values(scores), strict=True)
        )
        if reader.format == "csv":
            rows = list(csv.DictReader(io.StringIO(data.decode(), newline=""), delimiter=";"))
        else:
            rows = [{name: str(value) for name, value in json.loads(line).items()} for line in data.splitlines()]
        assert list(rows[0]) == [
            *(kept or ("text", "n")),
            *("prediction", "confidence", 'p_50% "off", or', "p_a;b", "p_plain", "abstain"),
        ]
        assert [row["prediction"] for row in rows] == list(labels)
        assert [row["n"] for row in rows] == ["1", "2", "3"]
        assert [float(row["p_a;b"]) for row in rows] == [0.25, 0.625, 0.0]
        assert [row["abstain"].lower() for row in rows] == ["true", "false", "false"]


# --- fewer columns ---------------------------------------------------------------------------------------------------


def test_csv_columns_are_kept_by_name_with_the_line_ends_and_the_order_asked_for(
    scorer: Scorer, tmp_path: Path
) -> None:
    data = b'\xef\xbb\xbf"id",text,note\r\n"1",good film,"a, b"\r\n"2","dull\nand wrong","say ""no"""\n3,clever,x'
    output, _ = score(scorer, tmp_path / "in.csv", data, Options(keep=("note", "id")))
    lines = output.split(b"\n")
    assert lines[0] == b"\xef\xbb\xbfnote,id,prediction,confidence\r"
    assert lines[1].startswith(b'"a, b",1,')
    assert lines[1].endswith(b"\r")
    assert lines[2].startswith(b'"say ""no""",2,')
    assert not lines[2].endswith(b"\r")
    assert lines[3].startswith(b"x,3,")
    assert lines[3].endswith(b"\r")
    output, _ = score(scorer, tmp_path / "in.csv", data, Options(drop=("id", "note")))
    assert output.split(b"\n")[2:4] == [b'"dull', output.split(b"\n")[3]]
    assert [row["text"] for row in rows_of(output.removeprefix(b"\xef\xbb\xbf"))] == [
        *("good film", "dull\nand wrong", "clever")
    ]


def test_a_dropped_column_frees_its_name(scorer: Scorer, tmp_path: Path) -> None:
    output, _ = score(scorer, tmp_path / "in.csv", b"text,prediction\ngood,old\n", Options(drop=("prediction",)))
    assert output.startswith(b"text,prediction,confidence\ngood,")
    data = b'{"text": "good", "prediction": "old"}\n'
    output, summary = score(scorer, tmp_path / "in.jsonl", data, Options(drop=("prediction",)))
    assert list(json.loads(output)) == ["text", "prediction", "confidence"]
    assert summary.rejected == 0


def test_kept_fields_stand_in_every_object_and_dropped_ones_in_none(scorer: Scorer, tmp_path: Path) -> None:
    data = b'{"id": 1, "text": "good", "n": 1.50}\n{"text": "dull", "extra": [1]}\n{"id": {"a": null}, "text": "x"}\n'
    output, _ = score(scorer, tmp_path / "in.jsonl", data, Options(keep=("id",)))
    kept = [json.loads(line) for line in output.splitlines()]
    assert [list(row) for row in kept] == [["id", "prediction", "confidence"]] * 3
    assert [row["id"] for row in kept] == [1, None, {"a": None}]
    output, _ = score(scorer, tmp_path / "in.jsonl", data, Options(drop=("text", "id")))
    assert [sorted(json.loads(line)) for line in output.splitlines()] == [
        ["confidence", "n", "prediction"],
        ["confidence", "extra", "prediction"],
        ["confidence", "prediction"],
    ]


def test_an_object_too_deep_to_be_written_anew_is_rejected(scorer: Scorer, tmp_path: Path) -> None:
    data = b'{"id": 1, "text": "good"}\n{"id": ' + b"[" * 400 + b"]" * 400 + b', "text": "good"}\n'
    assert score(scorer, tmp_path / "in.jsonl", data, Options())[1].scored == 2
    output, summary = score(scorer, tmp_path / "in.jsonl", data, Options(id_column="id"))
    assert (output.count(b"\n"), summary.rejected) == (1, 1)
    (reject,) = Path(summary.rejects or "").read_bytes().splitlines()
    assert "cannot be written anew" in json.loads(reject)["reason"]


def test_the_id_column_stays_alone_and_names_the_rejects(scorer: Scorer, tmp_path: Path) -> None:
    data = b"id,text,note\n1,good,\n2,,\n3,a\n"
    output, summary = score(scorer, tmp_path / "in.csv", data, Options(id_column="id"))
    assert output.startswith(b"id,prediction,confidence\n1,")
    rejects = [json.loads(line) for line in Path(summary.rejects or "").read_bytes().splitlines()]
    assert [reject["id"] for reject in rejects] == ["2", None]
    output, _ = score(scorer, tmp_path / "in.csv", data, Options(id_column="id", keep=("note",)))
    assert output.startswith(b"id,note,prediction,confidence\n")
    data = b'{"meta": {"id": 7}, "text": "good"}\n{"meta": {"id": 8}}\n'
    output, summary = score(scorer, tmp_path / "in.jsonl", data, Options(id_column="meta.id"))
    assert json.loads(output)["meta.id"] == 7
    assert json.loads(Path(summary.rejects or "").read_bytes())["id"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(keep=("nope",)), "no column 'nope'; its columns: id, text, note"),
        (Options(drop=("nope",)), "no column 'nope'; its columns: id, text, note"),
        (Options(id_column="nope"), "no column 'nope'; its columns: id, text, note"),
        (Options(drop=("id", "text", "note")), "--drop leaves no column"),
    ],
)
def test_columns_that_are_not_there_are_wrong_use(
    scorer: Scorer, tmp_path: Path, options: Options, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        score(scorer, tmp_path / "in.csv", DATA, options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_column_that_stands_twice_cannot_be_kept_by_name_and_can_be_dropped(scorer: Scorer, tmp_path: Path) -> None:
    data = b"a,text,a\n1,good,2\n"
    with pytest.raises(UsageError, match="the header has the column 'a' twice"):
        score(scorer, tmp_path / "in.csv", data, Options(keep=("a",)))
    assert score(scorer, tmp_path / "in.csv", data, Options(drop=("a",)))[0].startswith(b"text,prediction,")


@pytest.mark.parametrize("other", [Options(keep=("id",)), Options(id_column="id")])
def test_keep_and_drop_exclude_each_other(other: Options) -> None:
    with pytest.raises(UsageError, match="--drop and --"):
        Options(drop=("text",), keep=other.keep, id_column=other.id_column)


# --- fewer rows, nested texts ----------------------------------------------------------------------------------------


def test_only_the_first_records_are_scored_under_a_limit(scorer: Scorer, tmp_path: Path) -> None:
    data = b"id,text\n" + b"".join(b"%d,%s\n" % (n, b"" if n == 3 else b"good") for n in range(30))
    output, summary = score(scorer, tmp_path / "in.csv", data, Options(limit=10))
    assert [row["id"] for row in rows_of(output)] == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
    assert (summary.rows, summary.scored, summary.rejected) == (10, 9, 1)
    expected, out = output, str(tmp_path / "out.csv")
    stop_after(7, scorer, tmp_path / "in.csv", out, Options(limit=10))
    assert score_file(scorer, str(tmp_path / "in.csv"), out, Options(limit=10)).resumed == 7
    assert Path(out).read_bytes() == expected


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Options(limit=20), "--limit"),
        (Options(probabilities=True), "--probabilities"),
        (Options(min_confidence=0.5), "--min-confidence"),
        (Options(keep=("id",)), "--keep"),
        (Options(drop=("id",)), "--drop"),
        (Options(id_column="id"), "--id-column"),
        (Options(label_column="id"), "--label-column"),
    ],
)
def test_a_run_is_not_continued_with_other_options(scorer: Scorer, tmp_path: Path, other: Options, named: str) -> None:
    source, out = tmp_path / "in.csv", str(tmp_path / "out.csv")
    source.write_bytes(b"id,text\n" + b"1,good\n" * 30)
    stop_after(7, scorer, source, out)
    with pytest.raises(UsageError, match=f"an unfinished run with another {named};"):
        score_file(scorer, str(source), out, other)
    assert score_file(scorer, str(source), out, Options()).resumed == 7


def test_a_text_may_stand_in_a_nested_object(scorer: Scorer, tmp_path: Path) -> None:
    data = (
        b'{"id": 1, "review": {"body": "good"}}\n{"id": 2, "review": null}\n{"id": 3, "review": {"body": 5}}\n'
        b'{"id": 4, "review": {"body": "dull"}, "review.body": "not this"}\n'
    )
    options = Options(text_column="review.body", max_rejects=1.0)
    output, summary = score(scorer, tmp_path / "in.jsonl", data[: data.rindex(b'{"id": 4')], options)
    assert (summary.scored, summary.rejected, summary.text_column) == (1, 2, "review.body")
    assert output.startswith(b'{"id": 1, "review": {"body": "good"},"prediction":')
    _, summary = score(scorer, tmp_path / "in.jsonl", data, options)
    assert (summary.scored, summary.rejected) == (1, 3)  # the field with the dot in its name is the column
    with pytest.raises(UsageError, match=r"no column 'review\.text'; its columns: id, review"):
        score(scorer, tmp_path / "in.jsonl", data, Options(text_column="review.text"))


# --- before the run --------------------------------------------------------------------------------------------------


def test_a_preview_says_what_would_be_read_and_writes_nothing(scorer: Scorer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"id,text\n1,good\n2,\n" + b"3,dull\n" * 20)
    preview = preview_file(scorer, str(source), str(tmp_path / "out.csv"), Options(probabilities=True))
    assert (preview.format, preview.columns, preview.text_column) == ("csv", ("id", "text"), "text")
    assert preview.output_columns == ("id", "text", "prediction", "confidence", "p_neg", "p_pos")
    assert (preview.records, preview.rejected) == (7, 1)
    assert [row.line for row in preview.rows] == [2, 3, 4, 5, 6]
    (alone,) = scorer.score(["good"])
    assert (preview.rows[0].prediction, preview.rows[0].text) == (alone.label, "good")
    assert "is blank" in str(preview.rows[1].reason)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_dry_run_prints_what_would_be_done(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(DATA)
    result = score_command("in.csv", "--bundle", onnx_bundle, "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for expected in (
        "id, text, note",
        "in.scored.csv",
        "model.cpu.onnx on cpu",
        "good film",
        "dull and wrong",
        "3 rows",
    ):
        assert expected in result.stdout
    as_json = score_command("in.csv", "--bundle", onnx_bundle, "--dry-run", "--json", cwd=tmp_path)
    assert [row["line"] for row in json.loads(as_json.stdout)[0]["rows"]] == [2, 3, 5]
    refused = score_command("in.csv", "--bundle", onnx_bundle, "--dry-run", "--summary", "s.json", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--dry-run writes nothing" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_the_command_takes_names_with_commas_between_them_or_repeated(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'id,text,"a,b",c\n1,good,x,y\n')
    for arguments, header in (
        (("--keep", "id, c"), "id,c,prediction,confidence"),
        (("--keep", "c", "--keep", "id"), "c,id,prediction,confidence"),
        (("--drop", '"a,b",text', "--drop", "c"), "id,prediction,confidence"),
    ):
        result = score_command("in.csv", "-o", "-", "-q", "--bundle", onnx_bundle, *arguments, cwd=tmp_path)
        assert result.stdout.splitlines()[0] == header, result.stderr
    refused = score_command("in.csv", "--bundle", onnx_bundle, "--keep", "id", "--drop", "c", cwd=tmp_path)
    assert refused.returncode == 2
    assert "error: --drop and --keep: give one of them, not both" in refused.stderr
