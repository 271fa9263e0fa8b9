"""`toolchain compare`: two models over the same reviews, with figures that anyone can compute again."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

import toolchain.judging.comparison
from tests import tiny
from toolchain.cli.app import app
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.errors import UsageError
from toolchain.judging.comparison import MOST_CHANGED, SPEED_TURNS, Comparison, compare_models, mcnemar
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import export_snapshot
from toolchain.report.comparison_page import comparison_page
from toolchain.report.html_page import render_page
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.windows import Options
from toolchain.training.loops import fit


@dataclass(frozen=True)
class Release:
    """A model in use and the one that is to replace it, their bundles, and labelled reviews that neither has seen."""

    snapshot: Snapshot
    old: Path
    new: Path
    reviews: Path


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """One epoch and three of the same training; every seventh label of the reviews is wrong."""
    folder = tmp_path_factory.mktemp("release")
    corpus = load_corpus(Source(str(tiny.write_reviews(folder / "train.csv", 400))), tiny.TINY, 0)
    for name, epochs in (("old", 1), ("new", 3)):
        fit(corpus, tiny.TINY, tiny.settings(epochs), folder / f"snapshot-{name}")
        export_snapshot(load_snapshot(folder / f"snapshot-{name}"), folder / name, ["onnx-cpu"])
    reviews = tiny.write_reviews(folder / "reviews.csv", 300, wrong=range(0, 300, 7))
    return Release(load_snapshot(folder / "snapshot-new"), folder / "old", folder / "new", reviews)


@pytest.fixture(scope="module")
def scorers(release: Release) -> Iterator[tuple[Scorer, Scorer]]:
    with Scorer(release.old, "cpu") as old, Scorer(release.new, "cpu") as new:
        yield old, new


@pytest.fixture(autouse=True)
def small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.judging.comparison, "TURN_ROWS", 64)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "200"})


def without_speed(comparison: Comparison) -> Comparison:
    """What does not depend on the minute."""
    return replace(
        comparison,
        old=replace(comparison.old, rows_per_second=None),
        new=replace(comparison.new, rows_per_second=None),
    )


@pytest.mark.parametrize(
    ("old_only", "new_only", "p_value"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
        (0, 6, 2 / 2**6),
        (19, 6, 0.0163951),  # (13 - 1)² / 25 = 2.4²; a standard normal is beyond 2.4 with probability 0.00819754
        (6, 19, 0.0163951),
        (40, 40, 1.0),
        (30, 10, 0.0026635),  # 19² / 40 = 9.025
    ],
)
def test_mcnemar_is_that_of_the_tables(old_only: int, new_only: int, p_value: float) -> None:
    test = mcnemar(old_only, new_only)
    assert test.p_value == pytest.approx(p_value, abs=1e-6)
    assert test.method == ("exact binomial" if old_only + new_only < 25 else "chi-square with continuity correction")


def test_the_figures_are_those_of_both_models_answers(release: Release, scorers: tuple[Scorer, Scorer]) -> None:
    rows = rows_of(release.reviews)
    old, new = (scorer.submit([row["text"] for row in rows]).result() for scorer in scorers)
    truth = np.array([scorers[0].labels.index(row["label"]) for row in rows])
    comparison = compare_models(*scorers, str(release.reviews), Options())
    assert (comparison.text_column, comparison.label_column) == ("text", "label")
    assert (comparison.rows, comparison.scored, comparison.rejected) == (300, 300, 0)
    assert 0 < comparison.changed == int((old.best != new.best).sum())
    assert comparison.changed_share == comparison.changed / 300
    assert comparison.flips["neg"]["pos"] == int(((old.best == 0) & (new.best == 1)).sum())
    assert sum(sum(counts.values()) for counts in comparison.flips.values()) == 300
    shifts = np.abs(old.probabilities[:, 1] - new.probabilities[:, 1])
    assert comparison.shift.mean == pytest.approx(shifts.mean(), abs=1e-6)
    assert comparison.shift.max == pytest.approx(shifts.max(), abs=1e-6)
    assert comparison.shift.quantiles["90%"] == pytest.approx(np.quantile(shifts, 0.9), abs=1e-6)
    assert sum(comparison.shift.histogram) == 300
    for side, scores in ((comparison.old, old), (comparison.new, new)):
        metrics = side.label_metrics
        assert metrics is not None
        assert metrics.accuracy == (scores.best == truth).mean()
        own = scores.probabilities[np.arange(300), truth].astype(np.float64)
        assert metrics.log_loss == pytest.approx(-np.log(own).mean(), abs=1e-5)
        assert sum(side.labels.values()) == 300
        assert side.rows_per_second is not None
        assert side.rows_per_second > 0
    assert comparison.mcnemar == mcnemar(
        int(((old.best == truth) & (new.best != truth)).sum()), int(((old.best != truth) & (new.best == truth)).sum())
    )
    assert comparison.new.model_bytes == (release.new / "model.cpu.onnx").stat().st_size


def test_the_most_changed_reviews_come_first(release: Release, scorers: tuple[Scorer, Scorer]) -> None:
    rows = rows_of(release.reviews)
    old, new = (scorer.submit([row["text"] for row in rows]).result().probabilities for scorer in scorers)
    comparison = compare_models(*scorers, str(release.reviews), Options())
    shifts = [change.shift for change in comparison.most_changed]
    assert len(shifts) == MOST_CHANGED
    assert shifts == sorted(shifts, reverse=True)
    assert shifts == pytest.approx(np.sort(np.abs(old[:, 1] - new[:, 1]))[::-1][:MOST_CHANGED], abs=1e-6)
    for change in comparison.most_changed:
        row = rows[change.line - 2]  # the header is line 1
        assert (change.text, change.label) == (row["text"], row["label"])
        assert change.old_confidence == pytest.approx(old[change.line - 2].max(), abs=1e-6)
        assert change.new == scorers[1].labels[int(new[change.line - 2].argmax())]


def test_a_model_beside_itself_changes_nothing(release: Release) -> None:
    with Scorer(release.new, "cpu") as one, Scorer(release.new, "cpu") as other:
        comparison = compare_models(one, other, str(release.reviews), Options())
    assert (comparison.changed, comparison.shift.max, comparison.most_changed) == (0, 0.0, [])
    assert comparison.mcnemar is not None
    assert comparison.mcnemar.p_value == 1.0
    comparison.check(0.0)
    assert "same probabilities" in render_page(comparison_page(comparison))


def test_the_order_of_the_labels_is_no_difference(
    release: Release, scorers: tuple[Scorer, Scorer], tmp_path: Path
) -> None:
    turned = replace(
        release.snapshot,
        specification=replace(release.snapshot.specification, labels=("pos", "neg")),
        state={
            name: tensor.flip(0) if name.startswith("out.") else tensor
            for name, tensor in release.snapshot.state.items()
        },
        training={"recipe": "auto"},
    )
    export_snapshot(turned, tmp_path / "turned", ["onnx-cpu"])
    with Scorer(tmp_path / "turned", "cpu") as other:
        assert other.labels == ("pos", "neg")
        comparison = compare_models(scorers[1], other, str(release.reviews), Options())
    assert comparison.changed == 0
    assert comparison.shift.max < 1e-6
    assert comparison.new.label_metrics is not None
    assert comparison.old.label_metrics is not None
    assert comparison.new.label_metrics.accuracy == comparison.old.label_metrics.accuracy


def test_other_labels_cannot_be_compared(release: Release, tmp_path: Path) -> None:
    other = replace(
        release.snapshot,
        specification=replace(release.snapshot.specification, labels=("bad", "good")),
        training={"recipe": "auto"},
    )
    export_snapshot(other, tmp_path / "other", ["onnx-cpu"])
    result = command(release.old, tmp_path / "other", release.reviews)
    assert result.exit_code == 2
    assert "old answers neg, pos and " in " ".join(result.stderr.split())
    assert "other bad, good; expected two models with the same labels" in " ".join(result.stderr.split())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_format_gives_the_same_comparison(
    release: Release, scorers: tuple[Scorer, Scorer], tmp_path: Path, suffix: str
) -> None:
    rows = rows_of(release.reviews)
    source = tmp_path / f"reviews{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    else:
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    expected = without_speed(compare_models(*scorers, str(release.reviews), Options()))
    found = without_speed(compare_models(*scorers, str(source), Options()))
    most_changed = [replace(change, line=change.line - 1) for change in expected.most_changed]  # there is no header
    assert found == replace(expected, input=str(source), most_changed=most_changed)


def test_rows_that_cannot_be_scored_are_counted(scorers: tuple[Scorer, Scorer], tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = ['{"text": "fine w1 w2", "label": "pos"}', '{"text": " "}', "{broken", '{"text": "dull w3", "label": "?"}']
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    comparison = compare_models(*scorers, str(source), Options())
    assert (comparison.rows, comparison.scored, comparison.rejected) == (4, 2, 2)
    assert comparison.old.label_metrics is not None
    assert (comparison.old.label_metrics.labelled, comparison.old.label_metrics.unlabelled) == (1, 1)


def test_a_handful_of_rows_gives_no_verdict_on_the_speed(release: Release, scorers: tuple[Scorer, Scorer]) -> None:
    turns = SPEED_TURNS * toolchain.judging.comparison.TURN_ROWS
    few = compare_models(*scorers, str(release.reviews), Options(limit=turns - 1))
    assert (few.old.rows_per_second, few.new.rows_per_second) == (None, None)
    page = render_page(comparison_page(few))
    assert "too few to tell" in page
    assert "Speed, new by old" not in page
    enough = compare_models(*scorers, str(release.reviews), Options(limit=turns))
    assert enough.new.rows_per_second is not None
    assert "Speed, new by old" in render_page(comparison_page(enough))
    result = command(release.old, release.new, release.reviews, "--limit", "20")
    assert re.search(r"reviews a second .*too few to tell .*too few to tell", result.stdout)


def test_without_labels_there_is_no_accuracy(scorers: tuple[Scorer, Scorer], tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\nfine w1 w2\ndull w3\n", encoding="utf-8")
    comparison = compare_models(*scorers, str(source), Options())
    assert (comparison.label_column, comparison.mcnemar, comparison.old.label_metrics) == (None, None, None)
    assert "Against the labels" not in render_page(comparison_page(comparison))
    with pytest.raises(UsageError, match="no column 'truth'"):
        compare_models(*scorers, str(source), Options(label_column="truth"))


def test_a_label_column_with_other_labels_gives_no_accuracy(scorers: tuple[Scorer, Scorer], tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,label\nfine w1 w2,5\ndull w3,1\n", encoding="utf-8")
    comparison = compare_models(*scorers, str(source), Options())
    assert comparison.mcnemar is None
    assert comparison.old.label_metrics is not None
    assert comparison.old.label_metrics.accuracy is None
    assert "Against the labels" not in render_page(comparison_page(comparison))


def test_the_command_is_a_gate(release: Release) -> None:
    with Scorer(release.old, "cpu") as old, Scorer(release.new, "cpu") as new:
        share = compare_models(old, new, str(release.reviews), Options()).changed_share
    passed = command(release.old, release.new, release.reviews, "--max-changed", f"{share + 0.001:.4f}")
    assert passed.exit_code == 0, passed.stderr
    assert f"of 300 labels change ({share:.2%})" in passed.stdout
    assert "McNemar's test" in passed.stdout
    refused = command(release.old, release.new, release.reviews, "--max-changed", f"{100 * share - 0.1:.2f}%")
    assert refused.exit_code == 1
    assert refused.stdout.splitlines()[0] == passed.stdout.splitlines()[0]
    assert f"labels change ({share:.2%}), more than --max-changed" in " ".join(refused.stderr.split())
    wrong = command(release.old, release.new, release.reviews, "--max-changed", "many")
    assert wrong.exit_code == 2
    assert "--max-changed many: expected a share" in wrong.stderr


def test_the_json_is_the_comparison(release: Release) -> None:
    result = command(release.old, release.new, release.reviews, "--json", "--limit", "120", "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""
    values: dict[str, Any] = json.loads(result.stdout)
    assert values["rows"] == values["scored"] == 120
    assert {"changed", "changed_share", "flips", "shift", "mcnemar", "old", "new", "most_changed"} <= values.keys()
    assert values["old"]["label_metrics"]["labelled"] == 120


def test_nothing_is_said_to_be_written_of_an_array_that_is_compared(release: Release, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('[\n{"text": "fine"},\n{"text": "dull"}\n]\n', encoding="utf-8")
    result = command(release.old, release.new, tmp_path / "in.json")
    assert result.exit_code == 0
    assert "an array of objects" in result.stderr
    assert "written" not in result.stderr


def test_a_file_that_holds_nothing_to_score_is_a_failed_check(release: Release, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\n\n  \n", encoding="utf-8")
    result = command(release.old, release.new, tmp_path / "in.csv")
    assert result.exit_code == 1
    assert "no row can be scored" in result.stderr


def test_the_page_shows_texts_and_runs_none(release: Release, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    source = tmp_path / "in.csv"
    texts = [f"fine w{number} {hostile} superb lovely" for number in range(30)]
    source.write_text("text\n" + "".join(f'"{text}"\n' for text in texts), encoding="utf-8")
    page = tmp_path / "compare.html"
    result = command(release.old, release.new, source, "-o", page)
    assert result.exit_code == 0, result.stderr
    html = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img" in html
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "Most changed reviews" in html


def test_a_page_that_cannot_be_written_is_known_before_the_run(release: Release, tmp_path: Path) -> None:
    result = command(release.old, release.new, release.reviews, "-o", tmp_path / "no" / "compare.html")
    assert result.exit_code == 2
    assert "is not a folder" in " ".join(result.stderr.split())
    assert result.stdout == ""
