"""The model in the box: what `toolchain score` takes before anyone has trained anything."""

import csv
import shutil
from pathlib import Path

import pytest

from export.bundle import open_bundle
from tests.conftest import score_command
from toolchain.release.release import verify_bundle
from toolchain.scoring.default import BOX, find_bundle
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.scorer import Scorer

ROOT = Path(__file__).parents[2]
MAX_BYTES = 10_000_000


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text("review\nA wonderful and moving film.\nA boring mess; what a waste of time.\n", encoding="utf-8")
    return path


def test_score_takes_it_where_there_is_no_bundle_and_says_so(reviews: Path) -> None:
    done = score_command(reviews.name, cwd=reviews.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("model in the box (auto trained on IMDB)")
    rows = (reviews.parent / "reviews.scored.csv").read_text(encoding="utf-8").splitlines()
    assert ",pos," in rows[1]
    assert ",neg," in rows[2]


def test_a_bundle_of_ones_own_goes_first(reviews: Path, onnx_bundle: Path) -> None:
    shutil.copytree(onnx_bundle, reviews.parent / "bundle")
    done = score_command(reviews.name, cwd=reviews.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("model bundle/model.cpu.onnx on cpu")


def test_its_name_is_box_unless_a_folder_has_it(
    reviews: Path, onnx_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reviews.parent)
    shutil.copytree(onnx_bundle, "bundle")
    assert find_bundle() == Path("bundle")
    assert find_bundle("box") == find_bundle(Path("box")) == BOX
    done = score_command(reviews.name, "--bundle", "box", cwd=reviews.parent)
    assert done.stderr.startswith("model in the box (auto trained on IMDB)")
    Path("box").mkdir()
    assert find_bundle("box") == Path("box")


def test_a_missing_bundle_that_was_named_is_not_replaced_by_it(reviews: Path) -> None:
    done = score_command(reviews.name, "--bundle", "mine", cwd=reviews.parent)
    assert done.returncode == 2
    assert "mine" in done.stderr


def test_python_finds_it_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Scorer() as scorer:
        assert scorer.bundle.folder == BOX
        assert [prediction.label for prediction in scorer.score(["Superb.", "Awful."])] == ["pos", "neg"]


def test_it_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good, bad = Explainer().explain(["A wonderful and moving film.", "A boring mess; what a waste of time."])
    assert (good.label, bad.label) == ("pos", "neg")
    assert {word.word for word in good.strongest(3)} & {"wonderful", "moving"}
    assert {word.word for word in bad.strongest(3)} & {"boring", "mess", "waste"}


def test_score_explains_with_it(reviews: Path) -> None:
    done = score_command(reviews.name, "--explain", "2", cwd=reviews.parent)
    assert done.returncode == 0, done.stderr
    rows = (reviews.parent / "reviews.scored.csv").read_text(encoding="utf-8").splitlines()
    assert "for: " in rows[1]


def test_the_first_rows_a_person_sees_are_right_and_sure(tmp_path: Path) -> None:
    shutil.copy(ROOT / "data" / "reviews.csv", tmp_path)
    assert score_command("reviews.csv", cwd=tmp_path).returncode == 0
    with (tmp_path / "reviews.scored.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:16]  # praise and blame take turns
    assert [row["prediction"] for row in rows] == ["pos", "neg"] * 8
    assert sum(float(row["confidence"]) for row in rows) / len(rows) > 0.9


def test_it_is_small_and_still_says_what_pytorch_said() -> None:
    assert sum(path.stat().st_size for path in BOX.iterdir()) < MAX_BYTES
    verification = verify_bundle(open_bundle(BOX), None)
    assert verification.passed
    assert [comparison.form for comparison in verification.comparisons] == ["onnx-cpu", "onnx-explain"]


def test_its_card_says_where_it_comes_from() -> None:
    card = (BOX / "README.md").read_text(encoding="utf-8")
    for fact in ("IMDB", "accuracy", "settings", "versions", "SHA-256"):
        assert fact in card
    about = (BOX / "ABOUT.md").read_text(encoding="utf-8")
    for fact in ("toolchain train", "toolchain export", "Maas", "research"):
        assert fact in about
