"""`--recipe auto`: what it chooses for which data, and that it says why."""

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests import tiny
from toolchain.cli.app import app
from toolchain.corpus.reviews import Source
from toolchain.errors import UsageError
from toolchain.measures.processor import processor
from toolchain.models.recipes import AUTO, RECIPES
from toolchain.models.snapshot import load_snapshot, save_snapshot
from toolchain.training import automatic
from toolchain.training.automatic import Plan, Sizes, plan
from toolchain.training.loops import fit

ENGLISH = "the battery of this phone was dead after one week and nobody at the shop would help me"
GERMAN = "der Akku dieses Telefons war nach einer Woche leer und niemand im Laden wollte mir helfen"
KOREAN = "배터리가일주일만에죽었고 가게에서는아무도도와주지않았어요 정말로실망스러운물건이었습니다"


def write(path: Path, text: str, count: int = 200) -> Path:
    generator, words = random.Random(0), text.split()
    rows = [f"{' '.join(generator.choices(words, k=10))},{('bad', 'good')[number % 2]}" for number in range(count)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def planned(path: Path, **options: object) -> Plan:
    return plan(Source(str(path)), **options)  # type: ignore[arg-type]


def test_english_starts_from_the_box(tmp_path: Path) -> None:
    found = planned(write(tmp_path / "a.csv", ENGLISH))
    assert found.recipe.name == "auto"
    assert found.start is not None
    assert "from the model in the box, which knows 100% of the words" in found.reason
    assert set(found.start.vocabulary) <= set(found.corpus.vocabulary)
    assert found.recipe.specification(found.corpus.labels, found.layers) == replace(
        found.start.specification, labels=("bad", "good"), bag=found.recipe.bag
    )


def test_another_language_starts_from_nothing(tmp_path: Path) -> None:
    found = planned(write(tmp_path / "a.csv", GERMAN))
    assert found.start is None
    assert "from nothing: the model in the box, which reads English, knows" in found.reason
    assert found.recipe.tokenizer.unit == "words"


def test_words_that_no_space_separates_are_characters(tmp_path: Path) -> None:
    found = planned(write(tmp_path / "a.csv", KOREAN))
    assert found.recipe.tokenizer.unit == "characters"
    assert "every character is a token" in found.reason
    asked = planned(write(tmp_path / "a.csv", KOREAN), tokenizer="isolated")
    assert asked.recipe.tokenizer.unit == "words"


def test_none_is_no_start_and_a_taught_model_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ENGLISH)
    assert planned(path, start="none").start is None
    assert planned(path, taught=True).start is None


def test_few_reviews_are_read_more_often_than_many() -> None:
    few, many, long = (
        automatic._from_nothing(AUTO.tokenizer, rows, tokens)
        for rows, tokens in ((500, 20), (20_000, 20), (20_000, 1_000))
    )
    assert few.batch_size < many.batch_size
    assert 3 <= long.epochs < many.epochs < few.epochs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "gru", "start": "box"}, "--start: the recipe gru starts from nothing"),
        ({"recipe": "grü"}, "expected one of auto, gru,"),
        ({"start": "nowhere"}, "nowhere: no snapshot here"),
        ({"start": "box", "tokenizer": "characters"}, "--tokenizer characters: box cuts text another way"),
        ({"start": "box", "sizes": Sizes(layers=2)}, "--layers 2: the model to start from has 1"),
        ({"start": "box", "sizes": Sizes(hidden=9)}, "--hidden 9: the model to start from has 128; leave --hidden out"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(write(tmp_path / "a.csv", ENGLISH), **options)


def test_a_model_that_starts_from_nothing_has_the_sizes_that_were_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ENGLISH)
    for options in ({"start": "none"}, {"taught": True}, {"recipe": "gru"}):
        found = planned(path, sizes=Sizes(hidden=9, embedding=7), **options)
        assert (found.recipe.hidden, found.recipe.embedding, found.start) == (9, 7, None)
    assert planned(path, sizes=Sizes(embedding=7), start="none").recipe.hidden == 256


def test_the_documented_recipe_is_that_of_the_documented_data() -> None:
    assert plan(Source("sample")).recipe == RECIPES["gru"]


def test_a_training_goes_on_from_a_snapshot_with_other_labels(tmp_path: Path, tiny_bundle: Path) -> None:
    """The whole way: the command, its line, the snapshot, the bundle's card."""
    begun = load_snapshot(tiny_bundle.parent / "snapshot")
    save_snapshot(begun, tmp_path / "begun")
    path = tiny.write_reviews(tmp_path / "reviews.csv", 300)
    path.write_text(path.read_text().replace(",neg,", ",bad,"))
    run = CliRunner().invoke
    options = ["--data", str(path), "--start", str(tmp_path / "begun"), "--epochs", "3", "--lr", "0.03", "--json"]
    result = run(app, ["train", *options, "--device", "cpu", "--out", str(tmp_path / "snapshot")])
    assert result.exit_code == 0, result.stderr
    assert f"recipe auto: from {tmp_path / 'begun'}"[:40] in result.stderr
    metrics = json.loads(result.stdout)
    assert metrics["start"]["identity"] == begun.identity
    assert load_snapshot(tmp_path / "snapshot").specification.labels == ("bad", "pos")
    assert metrics["test_accuracy"] > 90
    bundle = str(tmp_path / "bundle")
    assert (
        run(app, ["export", "--snapshot", str(tmp_path / "snapshot"), "--format", "onnx", "--out", bundle]).exit_code
        == 0
    )
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert (
        f"started from | auto, trained on reviews.csv, 324 reviews; SHA-256 of its weights {begun.identity[:12]}"
        in card
    )
    for part in ("always `", "| size |", "test reviews a second in PyTorch", processor()):
        assert part in card
    shown = run(app, ["inspect", bundle]).stdout
    for part in ("started from", "TF-IDF with logistic", "always", "speed"):
        assert part in shown


def test_text_without_labels_is_read_from_nothing_with_the_settings_that_suit_it(tmp_path: Path) -> None:
    """And only then: a start is enough, and a teacher answers that text."""
    path = write(tmp_path / "a.csv", ENGLISH)
    (tmp_path / "more.csv").write_text("text\n" + f"{ENGLISH}\n" * 30)
    source = Source(str(path), unlabelled=str(tmp_path / "more.csv"))
    read = plan(source, start="none")
    assert "then 2 passes as a language model over all text" in read.reason
    assert read.recipe == replace(
        AUTO,
        min_freq=5,
        learning_rate=1.5e-3,
        weight_decay=0.02,
        average_decay=0.998,
        patience=2,
        vector_epochs=2,
        language_model_epochs=2,
        adversarial=0.03,
        bag=read.recipe.bag,
    )
    assert read.recipe.bag
    large = plan(source, start="none", sizes=Sizes(hidden=1_024)).recipe
    assert (large.language_model_epochs, large.vector_epochs) == (4, 0)
    for other in (plan(source, start="box"), plan(source, taught=True)):
        assert other.recipe.min_freq == AUTO.min_freq
        assert not other.recipe.adversarial
        assert len(other.corpus.unlabelled) == 30


def test_much_labelled_text_is_read_from_nothing_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more passes, for there is less of it, and fewer epochs; a start and a teacher are enough."""
    source = Source(str(write(tmp_path / "a.csv", ENGLISH)))
    assert not plan(source, start="none").recipe.language_model_epochs
    monkeypatch.setattr(automatic, "MUCH", 1_000)
    read = plan(source, start="none")
    assert "then 4 passes as a language model over all text; up to 3 epochs" in read.reason
    assert (read.recipe.vector_epochs, read.recipe.adversarial, read.recipe.min_freq) == (0, 0.03, 5)
    for other in (plan(source, start="box"), plan(source, taught=True)):
        assert not other.recipe.language_model_epochs
        assert not other.recipe.adversarial


def test_text_without_labels_makes_a_language_model_first(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tiny.write_reviews(tmp_path / "reviews.csv", 100)
    (tmp_path / "more.csv").write_text("text\n" + "a superb and lovely w1 w2\n" * 30)
    source = Source(str(path), unlabelled=str(tmp_path / "more.csv"))
    found = plan(source, start=str(tiny_bundle.parent / "snapshot"))
    assert "then 1 pass as a language model over all text" in found.reason
    assert len(found.corpus.unlabelled) == 30
    titles: list[str] = []

    def progress(batches: Iterable[Any], title: str) -> Iterable[Any]:
        titles.append(title)
        return batches

    fit(found.corpus, found.recipe, tiny.settings(1), tmp_path / "out", progress=progress, start=found.start)
    assert "language model, pass 1 of 1" in titles
    assert not any("word vectors" in title for title in titles)
