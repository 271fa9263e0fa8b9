"""Labels of a file that are none of the model's: every command has the same words, and takes the map that it shows."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.tiny import TINY, write_reviews
from toolchain.cli.app import app
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source, read_reviews
from toolchain.errors import UsageError

STARS = {"neg": "1.0", "pos": "5"}
WORDS = (
    "no label in column 'label' is one of the model's (neg, pos); found 1 (60), 5 (60). Map them: "
    "--label-map 1=neg,5=pos"
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "500"})


def relabelled(path: Path, names: dict[str, str], count: int = 120) -> Path:
    """Reviews whose labels have other names."""
    write_reviews(path, count)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "label": names[row["label"]]} for row in rows)
    return path


@pytest.fixture
def stars(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A file of stars; and beside it what `score` made of it."""
    path = relabelled(tmp_path / "in.csv", STARS)
    scored = run("score", path, "-o", tmp_path / "in.scored.csv", "--bundle", tiny_bundle)
    assert scored.exit_code == 0, scored.stderr
    return path


def commands(stars: Path, bundle: Path) -> dict[str, Sequence[str | Path]]:
    scored, page = stars.with_name("in.scored.csv"), stars.with_name("report.html")
    return {
        "evaluate": ("evaluate", "--data", stars, "--bundle", bundle),
        "score": ("score", stars, "--bundle", bundle, "--label-column", "label"),
        "compare": ("compare", bundle, bundle, stars, "--label-column", "label"),
        "report": ("report", scored, "--bundle", bundle, "-o", page, "--label-column", "label"),
    }


@pytest.mark.parametrize(("command", "status"), [("evaluate", 2), ("score", 1), ("compare", 2), ("report", 2)])
def test_every_command_says_the_same(command: str, status: int, stars: Path, tiny_bundle: Path) -> None:
    result = run(*commands(stars, tiny_bundle)[command])
    assert result.exit_code == status
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert WORDS in error


@pytest.mark.parametrize("command", ["evaluate", "score", "compare", "report"])
def test_every_command_takes_the_map_that_it_shows(command: str, stars: Path, tiny_bundle: Path) -> None:
    result = run(*commands(stars, tiny_bundle)[command], "--label-map", "1=neg,5=pos")
    assert result.exit_code == 0, result.stderr
    assert "none of the model's" not in result.stderr
    assert "one of the model's" not in result.stderr


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_label_column_that_nobody_named_is_a_warning(command: str, stars: Path, tiny_bundle: Path) -> None:
    *arguments, _, _ = commands(stars, tiny_bundle)[command]
    result = run(*arguments)
    assert result.exit_code == 0
    assert WORDS in result.stderr
    assert "accuracy" not in result.stdout


def test_a_label_in_json_may_be_a_number(tmp_path: Path, tiny_bundle: Path) -> None:
    labels = [1.0, 0.0, 1, "0", True, [1], None, {"a": 1}]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": "fine", "label": label}) + "\n" for label in labels))
    reviews = read_reviews(source)
    assert reviews.labels == ["1", "0", "1", "0", "true"]
    assert [skipped.partition(": ")[2] for skipped in reviews.skipped] == [
        "the label in column 'label' is a list, expected one label",
        "no label in column 'label'",
        "the label in column 'label' is an object, expected one label",
    ]
    result = run("evaluate", "--data", source, "--bundle", tiny_bundle, "--label-map", "1=pos,0=neg,true=pos")
    assert result.exit_code == 0, result.stderr
    assert "3 rows were left out, 5 evaluated" in result.stderr


def test_labels_of_which_some_are_strange_are_no_basis_for_an_accuracy(tmp_path: Path, tiny_bundle: Path) -> None:
    source = relabelled(tmp_path / "in.csv", {"neg": "Negative", "pos": "pos"})
    result = run("evaluate", "--data", source, "--bundle", tiny_bundle)
    assert result.exit_code == 2
    assert (
        "60 of 120 labels in column 'label' are none of the model's (neg, pos); found Negative (60). Map them: "
        "--label-map Negative=neg" in result.stderr
    )


def test_compare_has_the_limit_of_rejects_and_says_where_reviews_are_few(tmp_path: Path, tiny_bundle: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "I loved it", "label": "pos"}\n{broken\n')
    rejected = run("compare", tiny_bundle, tiny_bundle, source, "--max-changed", "1%", "--max-rejects", "0")
    assert rejected.exit_code == 1
    assert "rows cannot be scored" in rejected.stderr
    assert "more than --max-rejects 0.0%" in rejected.stderr
    source.write_text('{"text": "I loved it", "label": "pos"}\n{"text": "Awful", "label": "neg"}\n')
    few = run("compare", tiny_bundle, tiny_bundle, source, "--max-changed", "1%", "--quiet")
    assert few.exit_code == 0
    assert "warning: 2 reviews are few: each is 50.0% of a share; compare on 100 or more" in few.stderr


# --- training --------------------------------------------------------------------------------------------------------


def test_training_maps_the_labels_and_leaves_some_out(tmp_path: Path) -> None:
    names = {"neg": "1", "pos": "4"}
    source = relabelled(tmp_path / "in.csv", names, 240)
    with source.open("a", encoding="utf-8") as file:
        file.writelines(f"w{number} w1 w2,3\nw3 w{number},5\n" for number in range(20))
    corpus = load_corpus(Source(str(source), label_map="4,5=pos,1-2=neg,3="), TINY, 0)
    assert corpus.labels == ("neg", "pos")
    assert sum(len(part) for part in (corpus.train, corpus.validation, corpus.test)) == 260
    assert not any("--label-map" in warning for warning in corpus.warnings)
    forgetful = load_corpus(Source(str(source), label_map="4,5=pos,1-2=neg"), TINY, 0)
    assert forgetful.labels == ("3", "neg", "pos")
    assert (
        "--label-map says nothing of 3 (20 rows), which stays a label of its own; leave such rows out: "
        "--label-map 4,5=pos,1-2=neg,3=" in forgetful.warnings
    )
    with pytest.raises(UsageError, match="holds no labelled review; --label-map leaves out 280 rows"):
        load_corpus(Source(str(source), label_map="1-5="), TINY, 0)


def test_test_data_with_other_labels_is_refused_in_the_same_words(tmp_path: Path) -> None:
    train = write_reviews(tmp_path / "train.csv", 240)
    test = relabelled(tmp_path / "test.csv", STARS)
    with pytest.raises(UsageError) as refused:
        load_corpus(Source(str(train), test=test), TINY, 0)
    assert WORDS.replace("the model's", "those trained on") in str(refused.value)
    assert load_corpus(Source(str(train), test=test, label_map="1=neg,5=pos"), TINY, 0).labels == ("neg", "pos")
