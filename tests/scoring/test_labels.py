"""What scoring says where the labels are known: figures that anyone can compute again, resumed or not."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolchain.scoring.job
from tests.conftest import score_command
from tests.stopping import stop_after
from toolchain.errors import UsageError
from toolchain.measures.labels import Truth
from toolchain.measures.metrics import LabelCounts, count_labels, label_metrics
from toolchain.scoring.job import Options, Summary, score_file
from toolchain.scoring.scorer import Scorer

WORDS = ["dull", "charming", "elegant", "wrong", "never", "boring", "clever", "shallow", "film", "songs", "acting"]


@pytest.fixture(scope="module")
def scorer(onnx_bundle: Path) -> Iterator[Scorer]:
    with Scorer(onnx_bundle, "cpu") as opened:
        yield opened


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 16)


def labelled_rows(rows: int) -> list[dict[str, Any]]:
    """Rows whose labels are random, some missing and some not the model's."""
    random = np.random.default_rng(0)
    labels = ["neg", "pos", " pos ", "", "neutral", "NEG"]
    return [
        {
            "id": number,
            "text": " ".join(random.choice(WORDS, size=1 + number % 13)),
            "label": labels[int(random.choice(6, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]))],
        }
        for number in range(rows)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        lines = ["id,text,label", *(f"{row['id']},{row['text']},{row['label']}" for row in rows)]
    else:
        lines = [json.dumps({**row, "label": row["label"] or None}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def score(scorer: Scorer, source: Path, options: Options) -> Summary:
    return score_file(scorer, str(source), str(source.with_name("out" + source.suffix)), options)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_figures_are_those_of_the_definitions(scorer: Scorer, tmp_path: Path, suffix: str) -> None:
    rows = labelled_rows(150)
    rows[40]["text"] = ""  # rejected, and so neither labelled nor unlabelled
    summary = score(scorer, write(tmp_path / f"in{suffix}", rows), Options(label_column="label"))
    metrics = summary.label_metrics
    assert metrics is not None
    known = [row for row in rows if row["text"] and row["label"].strip() in scorer.labels]
    scores = scorer.submit([row["text"] for row in known]).result()
    truth = np.array([scorer.labels.index(row["label"].strip()) for row in known])
    own = scores.probabilities[np.arange(len(known)), truth].astype(np.float64)
    assert metrics.column == "label"
    assert metrics.labelled == len(known)
    assert metrics.unlabelled == 149 - len(known)
    assert metrics.accuracy == pytest.approx((scores.best == truth).mean(), abs=1e-12)
    assert metrics.log_loss == pytest.approx(-np.log(own).mean(), abs=1e-6)
    for number, label in enumerate(scorer.labels):
        hits = int(((truth == number) & (scores.best == number)).sum())
        figures = metrics.classes[label]
        assert figures.support == (truth == number).sum()
        assert figures.recall == pytest.approx(hits / figures.support)
        assert figures.precision is not None
        assert figures.recall is not None
        assert figures.precision == pytest.approx(hits / (scores.best == number).sum())
        assert figures.f1 == pytest.approx(
            2 * figures.precision * figures.recall / (figures.precision + figures.recall)
        )
        for other, name in enumerate(scorer.labels):
            assert metrics.confusion[label][name] == ((truth == number) & (scores.best == other)).sum()


def test_a_sure_and_wrong_answer_costs_a_large_loss_and_not_an_infinite_one() -> None:
    probabilities = np.array([[1.0, 0.0], [0.25, 0.75]], np.float32)
    counts = count_labels(Truth(np.array([1, 1])), np.array([0, 1]), probabilities)
    assert counts.log_loss == pytest.approx(-np.log(float(np.finfo(np.float32).tiny)) - np.log(0.75))


def test_figures_that_divide_by_nothing_are_none() -> None:
    counts = count_labels(Truth(np.array([0, -1])), np.array([0, 0]), np.array([[0.75, 0.25], [0.5, 0.5]], np.float32))
    metrics = label_metrics(counts, ("neg", "pos"), "label")
    assert (metrics.labelled, metrics.unlabelled, metrics.accuracy) == (1, 1, 1.0)
    assert asdict(metrics.classes["pos"]) == {"precision": None, "recall": None, "f1": None, "support": 0}
    nothing = label_metrics(LabelCounts.none(2), ("neg", "pos"), "label")
    assert (nothing.labelled, nothing.accuracy, nothing.log_loss) == (0, None, None)


def test_labels_are_read_as_training_reads_them(scorer: Scorer, tmp_path: Path) -> None:
    values = ["pos", " neg\n", None, 1, 0.5, True, ["pos"], {"a": "pos"}, "Pos"]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": "good", "truth": value}) + "\n" for value in values) + '{"text":"x"}')
    metrics = score(scorer, source, Options(label_column="truth")).label_metrics
    assert metrics is not None
    assert (metrics.labelled, metrics.unlabelled) == (2, 8)


def test_a_label_may_stand_in_a_nested_object(scorer: Scorer, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"review": {"body": "good", "meta": {"label": "pos"}}}\n{"review": {"body": "x", "meta": 3}}\n')
    summary = score(scorer, source, Options(text_column="review.body", label_column="review.meta.label"))
    assert summary.scored == 2
    assert summary.label_metrics is not None
    assert (summary.label_metrics.labelled, summary.label_metrics.unlabelled) == (1, 1)


def test_a_label_column_that_is_not_there_is_wrong_use(scorer: Scorer, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", labelled_rows(3))
    with pytest.raises(UsageError, match=r"in\.csv: no column 'truth'; its columns: id, text, label"):
        score(scorer, source, Options(label_column="truth"))


@pytest.mark.parametrize("windows", [1, 3, 5])
def test_a_resumed_run_reports_the_numbers_of_an_undisturbed_one(scorer: Scorer, tmp_path: Path, windows: int) -> None:
    source = write(tmp_path / "in.csv", labelled_rows(120))
    options = Options(label_column="label", min_confidence=0.8, probabilities=True)
    undisturbed = score(scorer, source, options)
    expected = (tmp_path / "out.csv").read_bytes()
    output = str(tmp_path / "out.csv")
    stop_after(16 * windows, scorer, source, output, options)
    resumed = score_file(scorer, str(source), output, options)
    assert resumed.resumed == 16 * windows
    assert resumed.label_metrics == undisturbed.label_metrics
    assert resumed.abstained == undisturbed.abstained
    assert (tmp_path / "out.csv").read_bytes() == expected


def test_the_command_prints_a_table_and_writes_the_summary(onnx_bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.csv", labelled_rows(60))
    write(tmp_path / "more.jsonl", labelled_rows(20))
    result = score_command(
        *("in.csv", "more.jsonl", "--bundle", onnx_bundle, "--label-column", "label", "--min-confidence", "0.9"),
        *("--summary", "summary.json", "--json"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    summaries = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summaries == json.loads(result.stdout)
    assert [summary["rows"] for summary in summaries] == [60, 20]
    assert set(summaries[0]["label_metrics"]) == {
        *("column", "labelled", "unlabelled", "accuracy", "log_loss", "classes", "confusion", "unknown_labels")
    }
    assert f"accuracy {summaries[0]['label_metrics']['accuracy']:.2%}" in result.stderr
    assert f"abstained: {summaries[0]['abstained']} of 60 rows" in result.stderr
    (heading,) = {line for line in result.stderr.splitlines() if "precision" in line}
    assert all(name in heading for name in ("as neg", "as pos", "support", "recall", "F1"))
    assert not (tmp_path / "summary.json.partial").exists()


def test_the_summary_is_written_where_a_check_fails_as_well(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,text\n1,good\n2,\n")
    result = score_command("in.csv", "--bundle", onnx_bundle, "--summary", "summary.json", "-q", cwd=tmp_path)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    (summary,) = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["scored"], summary["rejected"], summary["label_metrics"]) == (1, 1, None)


def test_a_summary_that_cannot_be_written_is_known_before_the_run(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\ngood\n")
    result = score_command("in.csv", "--bundle", onnx_bundle, "--summary", "no/where.json", cwd=tmp_path)
    assert result.returncode == 2
    assert "error: no/where.json: no is not a folder; name another place: --summary" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("rows", "label_map", "known"),
    [
        ([1, 0, 1], "1=pos,0=neg", 3),
        ([1.0, 0.0, 5], "1=pos,0=neg", 2),
        (["5", "4", "1", "3"], "4,5=pos,1-2=neg,3=", 3),
        ([True, False], "true=pos,false=neg", 2),
        (["Positive", "NEG"], "positive=pos,neg=neg", 2),
        ([["pos"], {"a": 1}, None, "pos"], None, 1),
    ],
)
def test_a_label_map_gives_the_labels_of_the_file_the_model_s_names(
    rows: list[Any], label_map: str | None, known: int, scorer: Scorer, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": "good", "label": value}) + "\n" for value in rows), encoding="utf-8")
    metrics = score(scorer, source, Options(label_column="label", label_map=label_map)).label_metrics
    assert metrics is not None
    assert (metrics.labelled, metrics.unlabelled) == (known, len(rows) - known)


def test_a_label_map_alone_finds_its_column_by_name(scorer: Scorer, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,sentiment\ngood,1\ndull,0\n", encoding="utf-8")
    metrics = score(scorer, source, Options(label_map="1=pos,0=neg")).label_metrics
    assert metrics is not None
    assert (metrics.column, metrics.labelled) == ("sentiment", 2)
    with pytest.raises(UsageError, match="'good' is not a label of the model, which has neg, pos"):
        score(scorer, source, Options(label_map="1=good"))


def test_labels_that_are_none_of_the_model_s_are_counted_across_windows(scorer: Scorer, tmp_path: Path) -> None:
    rows = labelled_rows(150)
    metrics = score(scorer, write(tmp_path / "in.csv", rows), Options(label_column="label")).label_metrics
    assert metrics is not None
    counts = {label: sum(row["label"] == label for row in rows) for label in ("neutral", "NEG")}
    assert metrics.unknown_labels == counts
    others, labels = sum(counts.values()), sum(bool(row["label"]) for row in rows)
    warning = metrics.warning("in.csv")
    assert warning is not None
    assert warning.startswith(
        f"in.csv: {others} of {labels} labels in column 'label' are none of the model's (neg, pos)"
    )
    assert warning.endswith("Map them: --label-map neutral=,NEG=neg")


def test_a_run_whose_labels_are_all_strange_fails_and_shows_the_map(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,label\ngood,1\ndull,0\n", encoding="utf-8")
    result = score_command("in.csv", "--bundle", onnx_bundle, "--label-column", "label", "-q", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "error: in.csv: no label in column 'label' is one of the model's (neg, pos); found 1 (1), 0 (1). Map them: "
        "--label-map 0=neg,1=pos. The scored rows are in in.scored.csv\n"
    )
    assert (tmp_path / "in.scored.csv").exists()
