"""A training never costs an earlier snapshot: it is kept beside the new one, and the better of the two is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny import TINY, settings, write_reviews
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.models.earlier import Earlier, set_aside
from toolchain.models.snapshot import FILE, load_snapshot
from toolchain.training.loops import fit
from toolchain.training.resumption import FILE as RESUME_FILE


def metrics(accuracy: float, data: str = "reviews.csv", test: int = 40) -> dict[str, object]:
    return {"test_accuracy": accuracy, "data": data, "reviews": {"test": test}}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (metrics(97), metrics(60), "test accuracy 97.00 %, the new one 60.00 %; the earlier one is better"),
        (metrics(60), metrics(97), "the new one is better"),
        (metrics(60), metrics(60), "neither is better"),
        (metrics(97, "imdb"), metrics(60), "on other reviews (40 of imdb; 40 of reviews.csv)"),
        ({}, metrics(60), "nothing says which of the two is better"),
    ],
)
def test_the_better_one_is_named_where_that_is_known(
    old: dict[str, object], new: dict[str, object], verdict: str
) -> None:
    said = Earlier(Path("snapshot.previous"), old).verdict(new)
    assert said.startswith("the earlier snapshot is kept in snapshot.previous")
    assert verdict in said


def test_every_earlier_one_is_kept_and_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    out = tmp_path / "snapshot"
    assert set_aside(out) is None
    for number in range(3):
        out.mkdir(exist_ok=True)
        (out / FILE).write_text(str(number))
        (out / "metrics.json").write_text(json.dumps(metrics(number)))
        (out / "notes.txt").write_text("mine")
        earlier = set_aside(out)
        assert earlier is not None
        assert earlier.metrics["test_accuracy"] == number
    kept = [tmp_path / name for name in ("snapshot.previous", "snapshot.previous-2", "snapshot.previous-3")]
    assert [(folder / FILE).read_text() for folder in kept] == ["0", "1", "2"]
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / FILE).write_text("old")
    (tmp_path / "snapshot").symlink_to("there")
    earlier = set_aside(tmp_path / "snapshot")
    assert earlier is not None
    assert (tmp_path / "snapshot").is_symlink()
    assert (tmp_path / "there.previous" / FILE).read_text() == "old"


def test_a_training_sets_the_earlier_one_aside_when_it_has_something_to_leave_there(tmp_path: Path) -> None:
    recipe = replace(TINY, vector_epochs=0)
    corpus = load_corpus(Source(str(write_reviews(tmp_path / "reviews.csv", 80))), recipe, 0)
    out, heard = tmp_path / "snapshot", list[Earlier]()
    first = fit(corpus, recipe, settings(epochs=2), out, on_earlier=heard.append)

    def stop(batches: object, title: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(corpus, recipe, settings(epochs=1), out, progress=stop, on_earlier=heard.append)  # type: ignore[arg-type]
    assert heard == []
    assert load_snapshot(out).training["test_loss"] == first["test_loss"]

    def stop_later(epoch: object, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(corpus, recipe, settings(epochs=2), out, stop_later, on_earlier=heard.append)
    assert [earlier.metrics["test_loss"] for earlier in heard] == [first["test_loss"]]
    assert load_snapshot(tmp_path / "snapshot.previous").training["epoch"] == first["epoch"]
    assert (tmp_path / "snapshot.previous" / "history.csv").exists()

    fit(corpus, recipe, settings(epochs=1), out, on_earlier=heard.append)
    unfinished = heard[1]
    assert "nothing says" in unfinished.verdict({"test_accuracy": 60})
    assert (unfinished.folder / RESUME_FILE).exists()
    fit(corpus, recipe, settings(epochs=2), unfinished.folder, resume=True, on_earlier=heard.append)
    fit(corpus, recipe, settings(epochs=1), out, overwrite=True, on_earlier=heard.append)
    assert len(heard) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "reviews.csv",
        "snapshot",
        "snapshot.previous",
        "snapshot.previous-2",
    ]
