"""What a report counts of a scored file, whatever its format, and what it says of files that it cannot read."""

import csv
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from export.bundle import Bundle, open_bundle, publishing, write_manifest
from export.spec import Specification
from export.text import Tokenizer
from toolchain.cli.app import app
from toolchain.errors import UsageError
from toolchain.files.inputs import output_path
from toolchain.measures.drift import Reference
from toolchain.measures.thresholds import ThresholdCounts
from toolchain.report import kept, scored_rows
from toolchain.report.html_page import Facts, Texts
from toolchain.report.kept import Sample, WordCounts
from toolchain.report.report import read_run, report_page
from toolchain.report.scored_rows import survey_file
from toolchain.scoring.default import BOX
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer

WORDS = ("a", "dull", "fine", "film")
ROWS = [
    {"id": "1", "text": "a fine film", "label": "pos", "prediction": "pos", "confidence": 0.9},
    {"id": "2", "text": "A dull, dull film", "label": "neg", "prediction": "neg", "confidence": 0.8},
    {"id": "3", "text": "dull", "label": "pos", "prediction": "neg", "confidence": 0.7},
    {"id": "4", "text": "stupendous stupendous film", "label": "neg", "prediction": "pos", "confidence": 0.95},
    {"id": "5", "text": "a film", "label": "", "prediction": "pos", "confidence": 0.5},
]


def make_bundle(folder: Path, labels: Sequence[str] = ("neg", "pos"), **about: Any) -> Bundle:
    """A bundle of a vocabulary alone: a report scores nothing."""
    specification = Specification(tuple(labels), "gru", 2, 2, tokenizer=Tokenizer(punctuation="isolated"))
    with publishing(folder) as room:
        (room / "vocab.txt").write_text("".join(f"{word}\n" for word in ("<unk>", "<pad>", *WORDS)), encoding="utf-8")
        write_manifest(room, specification, {"training": {"recipe": "tiny", "data": "made up"}, **about})
    return open_bundle(folder)


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_as(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        write_csv(path, rows)
    return path


@pytest.mark.parametrize("name", ["r.scored.csv", "r.scored.jsonl", "r.scored.parquet"])
def test_every_format_is_counted_alike(name: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    survey = survey_file(str(write_as(tmp_path / name, ROWS)), tiny_bundle)
    assert survey.rows == 5
    assert survey.answers.tolist() == [2, 3]
    assert survey.tokens == 3 + 5 + 1 + 3 + 2  # the comma is a token
    assert survey.unknown_words.most_common(9) == [("stupendous", 2), (",", 1)]
    assert survey.counts.confusion.tolist() == [[1, 1], [1, 1]]
    assert survey.counts.unlabelled == 1
    assert [row.line for row in survey.mistakes.rows()] == ([5, 4] if name.endswith("csv") else [4, 3])
    assert survey.unsure.rows()[0].text == "a film"
    names = [name for name, _ in survey.columns]
    shown = dict(zip(names, survey.sample.rows()[2], strict=True))
    assert shown["text"] == "dull"
    assert shown["answer is"] == "wrong"
    assert shown["id"] == "3"


def test_the_figures_are_those_of_the_run_itself(sample_csv: Path, tmp_path: Path) -> None:
    output = str(tmp_path / output_path(sample_csv.name, None, False))
    with Scorer(BOX, "cpu") as scorer:
        summary = score_file(scorer, str(sample_csv), output, Options(label_column="label", probabilities=True))
        survey = survey_file(output, scorer.bundle)
    assert summary.label_metrics is not None
    assert (survey.rows, survey.tokens, survey.unknown) == (summary.scored, summary.tokens, summary.unknown)
    assert survey.counts.confusion.tolist() == [list(row.values()) for row in summary.label_metrics.confusion.values()]
    assert dict(zip(survey.labels, survey.answers.tolist(), strict=True)) == summary.labels


def test_of_a_file_that_was_scored_twice_the_last_answers_count(tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows = [{**row, "prediction_2": "neg", "confidence_2": 0.6, "p_neg": 0.6, "p_pos": 0.4} for row in ROWS]
    survey = survey_file(str(write_csv(tmp_path / "r.csv", rows)), tiny_bundle)
    assert survey.layout.prediction == "prediction_2"
    assert survey.layout.confidence == "confidence_2"
    assert survey.layout.probabilities == ("p_neg", "p_pos")
    assert survey.layout.others == ("id", "prediction", "confidence")
    assert survey.answers.tolist() == [5, 0]


def test_a_users_own_column_moves_one_name_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows = [
        {"text": row["text"], "confidence": "high", "prediction": row["prediction"], "confidence_2": row["confidence"]}
        for row in ROWS
    ]
    survey = survey_file(str(write_csv(tmp_path / "r.csv", rows)), tiny_bundle)
    assert survey.layout.confidence == "confidence_2"
    assert survey.layout.others == ("confidence",)


def test_without_text_there_is_less_to_tell(tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows = [{name: row[name] for name in ("id", "prediction", "confidence")} for row in ROWS]
    survey = survey_file(str(write_csv(tmp_path / "r.csv", rows)), tiny_bundle)
    assert survey.layout.text is None
    titles = [section.title for section in report_page(survey, tiny_bundle, None).sections]
    assert "Texts" not in titles
    assert "Against the labels" not in titles


def test_rows_that_cannot_be_read_are_counted_and_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bad = [{**ROWS[0], "confidence": value} for value in ("high", "nan", "1.5", "")] + [{**ROWS[0], "prediction": ""}]
    survey = survey_file(str(write_csv(tmp_path / "r.csv", [*bad, *ROWS])), tiny_bundle)
    assert (survey.rows, survey.unreadable) == (5, 5)
    assert survey.reasons[0] == (2, "'high' is no probability")
    assert survey.reasons[4] == (6, "the field 'prediction' holds no label")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"text": "a"}], {}, "no column 'prediction'; its columns: text. Score it first: toolchain score"),
        ([{"text": "a", "prediction": "pos"}], {}, "no column 'confidence' beside 'prediction'"),
        ([{**ROWS[0], "prediction": "joy"}], {}, r"r.csv:2: the prediction 'joy' is not a label of the model \(neg"),
        ([{**ROWS[0], "confidence": "x"}], {}, "holds no scored row; line 2: 'x' is no probability"),
        (ROWS, {"text_column": "body"}, "no column 'body'; its columns: id, text"),
        (ROWS, {"label_column": "stars"}, "no column 'stars'"),
        (ROWS, {"label_column": "id"}, "no label in column 'id' is one of the model's"),
    ],
)
def test_what_is_no_scored_file_is_refused_in_one_line(
    rows: list[dict[str, Any]], options: dict[str, Any], message: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        survey_file(str(write_csv(tmp_path / "r.csv", rows)), tiny_bundle, **options)
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for source in (tmp_path / "no.csv", "-"):
        with pytest.raises(UsageError, match="no such file; expected one that toolchain score wrote"):
            survey_file(str(source), tiny_bundle)
    with pytest.raises(UsageError, match="is a folder; name a file that toolchain score wrote"):
        survey_file(str(tmp_path), tiny_bundle)


def test_a_column_that_only_sounds_like_labels_is_said_to_hold_none(tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows = [{**{name: row[name] for name in ROWS[0] if name != "label"}, "class": "A"} for row in ROWS]
    survey = survey_file(str(write_csv(tmp_path / "r.csv", rows)), tiny_bundle)
    assert survey.labelled == 0
    assert "no label in column 'class' is one of the model's" in page_text(survey, tiny_bundle)


def test_curves_are_those_of_every_pair_and_every_threshold() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 300)
    probabilities = generator.dirichlet([1, 1, 1], 300).round(2)  # many ties
    counts = ThresholdCounts.none(3)
    counts.add(truth[:100], probabilities[:100])
    counts.add(truth[100:], probabilities[100:])
    for label in range(3):
        scores, own = probabilities[:, label], truth == label
        pairs = np.sign(scores[own][:, None] - scores[~own][None, :])
        found = counts.curves(label)
        assert found is not None
        assert found.area == pytest.approx((pairs.mean() + 1) / 2, abs=1e-12)
        thresholds = np.unique(scores)[::-1]
        recall = np.array([own[scores >= at].sum() / own.sum() for at in thresholds])
        precision = np.array([own[scores >= at].mean() for at in thresholds])
        assert found.average_precision == pytest.approx(float(np.diff(recall, prepend=0) @ precision), abs=1e-12)
        assert found.roc[0] == (0, 0)
        assert found.roc[-1] == (1, 1)
        assert found.precision_recall[-1] == pytest.approx((1, own.mean()), abs=1e-4)


def test_a_class_without_rows_has_no_curve() -> None:
    counts = ThresholdCounts.none(2)
    counts.add(np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]]))
    assert counts.curves(0) is None
    assert counts.curves(1) is None


def test_of_many_rows_a_sample_is_kept_and_it_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SAMPLED_ROWS", 50)

    def cells(line: int) -> list[str | int | float | None]:
        return [f"row {line}"]

    def drawn() -> list[Any]:
        sample = Sample()
        for line in range(1000):
            sample.offer(line, partial(cells, line))
        return sample.rows()

    rows = drawn()
    assert rows == drawn()
    assert len(rows) == 50
    assert [f"row {line}" for line, _ in rows] == [cell for _, cell in rows]
    lines = [line for line, _ in rows]
    assert lines == sorted(set(lines))
    assert sum(line >= 500 for line in lines) > 10


def test_words_beyond_memory_are_forgotten_rarest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_WORDS", 100)
    words = WordCounts()
    words.add(["often"] * 50)
    words.add([f"once{number}" for number in range(90)])
    assert not words.forgetful
    words.add([f"late{number}" for number in range(20)])
    assert words.forgetful
    assert words.most_common(1) == [("often", 50)]


def test_three_classes_without_their_probabilities_have_no_roc_and_it_is_said(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "three", ("neg", "pos", "mixed"))
    file = write_csv(tmp_path / "r.csv", ROWS)
    html = page_text(survey_file(str(file), bundle), bundle)
    assert "score --probabilities" in html
    rows = [{**row, "p_neg": 0.1, "p_pos": 0.8, "p_mixed": 0.1} for row in ROWS]
    html = page_text(survey_file(str(write_csv(file, rows)), bundle), bundle)
    assert "Area under the curve" in html


def page_text(survey: scored_rows.Survey, bundle: Bundle) -> str:
    """What the page says, as one string."""
    return repr(report_page(survey, bundle, None))


def test_drift_is_judged_where_the_bundle_has_a_reference(tmp_path: Path) -> None:
    tokens, unknown = np.arange(10, 210), np.zeros(200, np.int64)
    probabilities = np.tile([[0.1, 0.9], [0.9, 0.1]], (100, 1))
    reference = Reference.of("validation", tokens, unknown, probabilities)
    bundle = make_bundle(tmp_path / "b", reference=reference.to_json())
    survey = survey_file(str(write_csv(tmp_path / "r.csv", ROWS * 40)), bundle)
    assert survey.drift is not None
    assert survey.drift.shifts["tokens"].large
    page = page_text(survey, bundle)
    assert survey.drift.warnings[0] in page
    assert "validation texts" in page
    few = survey_file(str(write_csv(tmp_path / "few.csv", ROWS)), bundle)
    assert few.drift is None
    assert "Fewer than 100 texts" in page_text(few, bundle)


def test_the_summary_of_the_run_is_shown_and_must_be_its_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "r.scored.csv", ROWS)
    summary = tmp_path / "s.json"
    run = {"input": "r.csv", "output": "there/r.scored.csv", "model": "model.onnx", "provider": "cuda", "scored": 5}
    summary.write_text(json.dumps([run]), encoding="utf-8")
    survey = survey_file(str(file), tiny_bundle)
    page = repr(report_page(survey, tiny_bundle, read_run(summary, str(file))))
    assert "model.onnx on cuda" in page
    assert "is it that of this file" not in page
    page = repr(report_page(survey, tiny_bundle, {**run, "scored": 7}))
    assert "is it that of this file" in page
    for content, message in (
        ("[]", "has no run that wrote r.scored.csv; its outputs: none"),
        (json.dumps([{**run, "output": "x.csv"}]), "its outputs: x.csv"),
        ("{", "not a summary"),
        ('{"a": 1}', "not a summary"),
    ):
        summary.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            read_run(summary, str(file))


def test_words_are_coloured_where_the_bundle_explains(bundle: Path, sample_csv: Path, tmp_path: Path) -> None:
    explaining = open_bundle(bundle)
    output = str(tmp_path / "r.csv")
    with Scorer(explaining, "cpu") as scorer:
        score_file(scorer, str(sample_csv), output, Options(limit=40))
        survey = survey_file(output, explaining)
    sections = {section.title: section for section in report_page(survey, explaining, None).sections}
    unsure = sections["Least sure answers"].parts[0]
    assert isinstance(unsure, Texts)
    assert unsure.coloured
    for row, text in zip(survey.unsure.rows(), unsure.texts, strict=True):
        assert "".join(piece for piece, _ in text.pieces) == row.text
        assert any(share for _, share in text.pieces)


def test_the_command_writes_the_page_and_says_where(tiny_bundle: Bundle, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "r.scored.csv", ROWS)
    bundle, out = ["--bundle", str(tiny_bundle.folder)], ["-o", str(tmp_path / "r.html")]
    done = CliRunner().invoke(app, ["report", str(file), *bundle, *out])
    assert done.exit_code == 0, done.output
    assert "5 rows; report:" in done.output
    assert (tmp_path / "r.html").read_bytes().endswith(b"</html>\n")
    assert not list(tmp_path.glob("*.partial"))
    for wrong in (
        [*bundle, "-o", str(tmp_path / "no" / "r.html")],
        [*bundle, "-o", str(file)],
        [*out, "--bundle", str(tmp_path)],
    ):
        done = CliRunner().invoke(app, ["report", str(file), *wrong])
        assert done.exit_code == 2
        assert re.search("error: .*(folder|is an input|bundle)", done.output)


def test_a_table_says_how_many_columns_it_leaves_out(tiny_bundle: Bundle, tmp_path: Path) -> None:
    rows = [{**{f"c{number}": number for number in range(12)}, **row} for row in ROWS]
    survey = survey_file(str(write_csv(tmp_path / "r.csv", rows)), tiny_bundle)
    assert survey.columns_left_out == 5
    assert "5 more columns of the file are left out" in page_text(survey, tiny_bundle)
    assert isinstance(report_page(survey, tiny_bundle, None).sections[-1].parts[-1], Facts)
