"""What scoring promises for Parquet: columns and types as they were, and all that holds for text files."""

import datetime
import decimal
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import toolchain.scoring.job
from tests.stopping import stop_after
from toolchain.errors import CheckFailed, UsageError
from toolchain.files.inputs import expand, output_path
from toolchain.scoring.batch import check_run
from toolchain.scoring.job import Options, preview_file, score_file
from toolchain.scoring.scorer import Scorer

ROWS = 60
BLANK = list(range(3, ROWS, 10))
NANOSECONDS = 1_700_000_000_123_456_789


def table(rows: int = ROWS) -> Any:
    """Rows with a column of every kind; every tenth text is null or blank, and every seventh of most others null."""

    def values(make: Callable[[int], Any]) -> list[Any]:
        return [None if number % 7 == 5 else make(number) for number in range(rows)]

    moment = datetime.datetime(2024, 2, 29, 12)
    words = pa.array(values(lambda n: "abc"[n % 3])).dictionary_encode()
    columns = {
        "id": pa.array(range(rows), pa.uint64()),
        "text": pa.array(
            [(None if n % 20 == 3 else "  ") if n % 10 == 3 else f"a clever film no. {n}" for n in range(rows)],
            pa.large_string(),
        ),
        "ns": pa.array(values(lambda n: NANOSECONDS + n), pa.timestamp("ns", "Europe/Berlin")),
        "us": pa.array(values(lambda n: moment), pa.timestamp("us")),
        "day": pa.array(values(lambda n: moment.date()), pa.date32()),
        "time": pa.array(values(lambda n: n), pa.time64("ns")),
        "duration": pa.array(values(lambda n: n), pa.duration("ns")),
        "price": pa.array(values(lambda n: decimal.Decimal(f"{n}.10")), pa.decimal128(30, 2)),
        "blob": pa.array(values(lambda n: b"\xff\x00" * n), pa.binary()),
        "fixed": pa.array(values(lambda n: b"\xfe%03d" % n), pa.binary(4)),
        "word": words,
        "half": pa.array(np.arange(rows, dtype=np.float16)),
        "nothing": pa.nulls(rows),
        "tags": pa.array(values(lambda n: ["x", None] * (n % 3)), pa.list_(pa.string())),
        "map": pa.array(values(lambda n: [("k", n)]), pa.map_(pa.string(), pa.int8())),
        "label": pa.array([("pos", "neg", None)[n % 3] for n in range(rows)]),
        "nested": pa.array(
            values(lambda n: {"body": f"a dull film {n}", "seen": [{"at": n}]}),
            pa.struct([("body", pa.string()), ("seen", pa.list_(pa.struct([("at", pa.timestamp("ns"))])))]),
        ),
    }
    made = pa.table(columns)
    field = pa.field("id", pa.uint64(), nullable=False, metadata={"unit": "one"})
    return made.cast(made.schema.set(0, field)).replace_schema_metadata({"owner": "us"})


@pytest.fixture(scope="module")
def scorer(bundle: Path) -> Iterator[Scorer]:
    with Scorer(bundle, "cpu") as opened:
        yield opened


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 7)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """`table` in four row groups, cut elsewhere than the windows."""
    pq.write_table(table(), tmp_path / "in.parquet", row_group_size=17)
    return tmp_path / "in.parquet"


def score(scorer: Scorer, source: Path, options: Options | None = None) -> Any:
    """Score to where the command would -> the output's table."""
    output = output_path(str(source), None, many=False)
    score_file(scorer, str(source), output, options or Options())
    return pq.read_table(output)


def rejects(source: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in source.with_name(f"{source.name}.rejected.jsonl").read_bytes().splitlines()]


def scored_rows(made: Any) -> Any:
    return made.take([number for number in range(made.num_rows) if number not in BLANK])


def test_the_columns_pass_through_untouched_and_ours_stand_behind(scorer: Scorer, source: Path) -> None:
    summary = score_file(scorer, str(source), str(source.with_name("out.parquet")), Options(max_rejects=0.1))
    check_run(summary, Options(max_rejects=0.1))
    output = pq.read_table(source.with_name("out.parquet"))
    before = pq.read_table(source)
    own = output.select(before.column_names)
    metadata = dict(own.schema.metadata)
    assert json.loads(metadata.pop(b"toolchain"))["bundle"] == scorer.bundle.identity
    assert own.schema.with_metadata(metadata).equals(before.schema, check_metadata=True)
    assert own.equals(scored_rows(before))
    assert output.schema.names[-2:] == ["prediction", "confidence"]
    assert output.schema.types[-2:] == [pa.string(), pa.float32()]
    texts = [text.as_py() for text in own["text"]]
    for expected, row in zip(scorer.score(texts), output.select(["prediction", "confidence"]).to_pylist(), strict=True):
        assert row["prediction"] == expected.label
        assert row["confidence"] == pytest.approx(expected.confidence, abs=1e-5)
    assert (summary.rows, summary.scored, summary.rejected) == (ROWS, ROWS - 6, 6)
    assert pq.ParquetFile(source.with_name("out.parquet")).num_row_groups == 9
    assert sorted(path.name for path in source.parent.iterdir()) == [
        *("in.parquet", "out.parquet", "out.parquet.rejected.jsonl")
    ]


def test_rows_without_a_text_are_rejected_as_json(scorer: Scorer, source: Path) -> None:
    score(scorer, source)
    lines = rejects(source)
    assert [line["line"] for line in lines] == [number + 1 for number in BLANK]
    assert lines[0]["reason"] == "no text: the field 'text' is missing or null"
    assert lines[1]["reason"] == "no text: the field 'text' is blank"
    row = json.loads(lines[0]["row"])
    assert row["id"] == 3
    assert row["text"] is None
    assert "123456792" in row["ns"]
    assert row["us"].startswith("2024-02-29 12:00:00")
    assert (row["day"], row["price"], row["blob"]) == ("2024-02-29", "3.10", "ff00" * 3)
    assert (row["word"], row["half"], row["nothing"], row["tags"]) == ("a", 3.0, None, [])
    assert row["map"] == [{"key": "k", "value": 3}]
    assert row["nested"]["seen"] == [{"at": "1970-01-01 00:00:00.000000003"}]
    assert set(row) == set(table().column_names)


def test_options_add_fields_and_choose_columns(scorer: Scorer, source: Path) -> None:
    options = Options(probabilities=True, min_confidence=0.9, id_column="id", keep=("ns", "nested.body"))
    output = score(scorer, source, options)
    assert output.schema.names == [
        *("id", "ns", "nested.body", "prediction", "confidence", "p_neg", "p_pos", "abstain")
    ]
    assert output.schema.types[1:] == [
        *(pa.timestamp("ns", "Europe/Berlin"), pa.string(), pa.string()),
        *(pa.float32(), pa.float32(), pa.float32(), pa.bool_()),
    ]
    assert output["nested.body"][0].as_py() == "a dull film 0"
    assert output["nested.body"][4].as_py() is None
    for row in output.drop_columns(["ns"]).to_pylist():
        assert row["p_neg"] + row["p_pos"] == pytest.approx(1, abs=1e-5)
        assert row["confidence"] == max(row["p_neg"], row["p_pos"]) == row[f"p_{row['prediction']}"]
        assert row["abstain"] == (round(row["confidence"], 6) < 0.9)
    assert [line["id"] for line in rejects(source)] == BLANK


def test_columns_can_be_dropped_and_a_taken_name_gets_a_number(scorer: Scorer, source: Path) -> None:
    pq.write_table(table().append_column("prediction", pa.array(["old"] * ROWS)), source)
    output = score(scorer, source, Options(drop=("text", "ns", "blob")))
    names = [name for name in table().column_names if name not in ("text", "ns", "blob")]
    assert output.schema.names == [*names, "prediction", "prediction_2", "confidence"]
    with pytest.raises(UsageError, match="no column 'gone'"):
        score(scorer, source, Options(drop=("gone",)))


def test_a_text_and_a_label_can_be_nested_or_in_a_dictionary(scorer: Scorer, source: Path) -> None:
    made = table()
    made = made.set_column(made.column_names.index("label"), "label", made["label"].dictionary_encode())
    pq.write_table(made, source, row_group_size=17)
    output = source.with_name("out.parquet")
    options = Options(text_column="nested.body", label_column="label", limit=30)
    summary = score_file(scorer, str(source), str(output), options)
    assert (summary.rows, summary.rejected) == (30, 4)
    assert summary.label_metrics is not None
    assert pq.read_table(output)["label"].type == made["label"].type
    expected = scorer.score(["a dull film 0"])[0]
    assert pq.read_table(output)["prediction"][0].as_py() == expected.label
    words = score_file(scorer, str(source), str(output), Options(text_column="word"))
    assert words.rejected == ROWS // 7


def test_a_stopped_job_ends_as_an_undisturbed_one(
    scorer: Scorer, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # the time in the record is all in which two runs differ
    undisturbed = source.with_name("whole.parquet")
    score_file(scorer, str(source), str(undisturbed), Options())
    for windows in range(1, 9):
        output = source.with_name(f"out{windows}.parquet")
        assert "run the same command again" in stop_after(7 * windows, scorer, source, output)
        assert not output.exists()
        assert score_file(scorer, str(source), str(output), Options()).resumed == 7 * windows
        assert output.read_bytes() == undisturbed.read_bytes()
        assert not source.with_name(f"{output.name}.parts").exists()


def test_windows_are_cut_by_bytes_too(scorer: Scorer, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_BYTES", 1)
    score(scorer, source)
    assert pq.ParquetFile(source.with_name("in.scored.parquet")).num_row_groups == ROWS - len(BLANK)


def test_a_preview_shows_the_first_rows_and_writes_nothing(scorer: Scorer, source: Path) -> None:
    output = str(source.with_name("out.parquet"))
    preview = preview_file(scorer, str(source), output, Options(drop=("ns",)))
    assert preview.format == "parquet"
    assert preview.columns == tuple(table().column_names)
    assert preview.output_columns[-3:] == ("nested", "prediction", "confidence")
    assert [(row.line, row.text) for row in preview.rows[2:4]] == [(3, "a clever film no. 2"), (4, None)]
    assert list(source.parent.iterdir()) == [source]


def test_a_row_can_fail_the_job(scorer: Scorer, source: Path) -> None:
    with pytest.raises(CheckFailed, match=r"in\.parquet:4: no text.*nothing was written"):
        score(scorer, source, Options(on_error="fail"))
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.parametrize("texts", [[], [None, " "]])
def test_a_file_without_scored_rows_keeps_its_schema(texts: list[str | None], scorer: Scorer, tmp_path: Path) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": pa.array(texts, pa.string()), "n": pa.nulls(len(texts), pa.int8())}), source)
    summary = score_file(scorer, str(source), str(output), Options())
    assert (summary.rows, summary.scored) == (len(texts), 0)
    assert pq.read_table(output).num_rows == 0
    assert pq.read_schema(output) == pa.schema(
        [("text", pa.string()), ("n", pa.int8()), ("prediction", pa.string()), ("confidence", pa.float32())]
    )
    with pytest.raises(CheckFailed, match="no row could be scored"):
        check_run(summary, Options())


def test_a_text_that_is_not_utf8_or_too_long_costs_its_row_alone(scorer: Scorer, tmp_path: Path) -> None:
    offsets = np.array([0, 4, 7, 11, 2011], np.int32)
    data = b"good" + b"b\xffd" + b"fine" + b"x" * 2000
    texts = pa.StringArray.from_buffers(4, pa.py_buffer(offsets), pa.py_buffer(data))
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": texts}), source)
    output = score(scorer, source, Options(max_row_bytes=1024))
    assert output["text"].to_pylist() == ["good", "fine"]
    bad, long = rejects(source)
    assert bad["reason"] == "not UTF-8: byte 0xff at 1 (invalid start byte)"
    assert json.loads(bad["row"]) == {"text": "b\\xffd"}
    assert (long["line"], long["reason"]) == (4, "longer than 1024 bytes, the limit for a row")


def _cut_off(source: Path) -> None:
    os.truncate(source, source.stat().st_size - 10)


def _noise(source: Path) -> None:
    source.write_bytes(b"text\nno Parquet at all\n" * 10)


def _nothing(source: Path) -> None:
    source.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut_off, _noise, _nothing])
def test_a_damaged_file_is_one_line(damage: Callable[[Path], None], scorer: Scorer, source: Path) -> None:
    damage(source)
    with pytest.raises(UsageError, match=r"in\.parquet: cannot be read as Parquet \(.*expected a whole file") as raised:
        score(scorer, source)
    assert "\n" not in str(raised.value)
    assert list(source.parent.iterdir()) == [source]


def test_a_damaged_page_keeps_what_was_before(scorer: Scorer, source: Path) -> None:
    column = pq.ParquetFile(source).metadata.row_group(2).column(1)
    data = bytearray(source.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    source.write_bytes(data)
    with pytest.raises(UsageError, match=r"damaged after row 34 .* The 34 rows before that.*are scored and kept"):
        score(scorer, source)
    assert not source.with_name("in.scored.parquet").exists()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("in.parquet", "out.csv"), Options(), "is scored into Parquet, not .*out.csv"),
        (("in.parquet", "-"), Options(), "is scored into Parquet, not -"),
        (("in.csv", "out.parquet"), Options(), "in.csv: is scored into CSV, not .*out.parquet"),
        (("in.parquet.gz", "out.parquet"), Options(), r"in\.parquet\.gz: Parquet is compressed already"),
        (("in.parquet", "out.parquet.gz"), Options(), r"out\.parquet\.gz: Parquet is compressed already"),
        (
            ("renamed.csv", "out.csv"),
            Options(),
            "is scored into Parquet, not .*out.csv; name an output that ends in .parquet",
        ),
        (("in.parquet", "out.parquet"), Options(text_column="gone"), "no column 'gone'; its columns: id, text, ns"),
        (("in.parquet", "out.parquet"), Options(text_column="nested.gone"), "no column 'nested.gone'"),
        (("in.parquet", "out.parquet"), Options(text_column="id.x"), "no column 'id.x'"),
        (("in.parquet", "out.parquet"), Options(text_column="price"), r"'price' holds decimal128.*expected strings"),
        (("in.parquet", "in.parquet"), Options(), "is an input"),
    ],
)
def test_wrong_use_is_named(
    names: tuple[str, str], options: Options, message: str, scorer: Scorer, source: Path
) -> None:
    source.with_name("renamed.csv").write_bytes(source.read_bytes())
    source.with_name("in.parquet.gz").write_bytes(gzip.compress(source.read_bytes()))
    source.with_name("in.csv").write_bytes(b"text\na film\n")
    before = sorted(source.parent.iterdir())
    given, output = (name if name == "-" else str(source.with_name(name)) for name in names)
    with pytest.raises(UsageError, match=message):
        score_file(scorer, given, output, options)
    assert sorted(source.parent.iterdir()) == before


def test_without_pyarrow_it_says_what_to_install(scorer: Scorer, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"Parquet needs pyarrow; install it: pip install 'toolchain\[parquet\]'"):
        score_file(scorer, str(source), str(source.with_name("out.parquet")), Options())


def test_the_command_scores_a_folder_with_parquet_in_it(bundle: Path, source: Path) -> None:
    (source.parent / "a.csv").write_text("text\na film\n", encoding="utf-8")
    command = [sys.executable, "-m", "toolchain", "score", str(source.parent), "--bundle", str(bundle), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, env=environment, capture_output=True)
    assert [summary["scored"] for summary in json.loads(done.stdout)] == [1, ROWS - len(BLANK)]
    assert expand([str(source.parent)]) == [str(source.with_name("a.csv")), str(source)]
    piped = subprocess.run(
        [*command[:4], "-", "--bundle", str(bundle)], input=source.read_bytes(), env=environment,
        capture_output=True, check=False,
    )  # fmt: skip
    assert piped.returncode == 2
    assert piped.stderr.splitlines()[-1].startswith(b"error: standard input: Parquet")


def test_training_reads_parquet_as_scoring_does(source: Path) -> None:
    from toolchain.corpus.reviews import read_reviews

    reviews = read_reviews(source)
    assert len(reviews) + len(reviews.skipped) == ROWS
    assert set(reviews.labels) == {"pos", "neg"}
    assert f"a clever film no. {ROWS - 2}" in reviews.texts
