"""Characters as tokens, from Korean reviews to every exported form: learned, proven, and counted right."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from data.make_korean_sample import BAD, GOOD, write_reviews
from export.bundle import open_bundle
from export.forms import FORMATS, TOLERANCE
from export.text import TOKENIZERS, Tokenizer, TokenizerName
from toolchain.cli.app import app
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source, read_reviews
from toolchain.models.recipes import RECIPES
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import export_snapshot, verify_bundle
from toolchain.release.verification import Verification
from toolchain.training.loops import Settings, fit

MAX_TOKENS = 64


@dataclass(frozen=True)
class KoreanReviews:
    """Reviews to train on, and others whose adjectives have endings that they have in none of the former."""

    train: Path
    test: Path


@dataclass(frozen=True)
class Exported:
    """A trained snapshot, its accuracy on the test part in percent, its bundle of every form, and the proof of it."""

    snapshot: Snapshot
    accuracy: float
    bundle: Path
    verification: Verification


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> KoreanReviews:
    folder = tmp_path_factory.mktemp("korean")
    reviews = KoreanReviews(folder / "train.csv", folder / "test.csv")
    write_reviews(reviews.train, 800, held_out=False)
    write_reviews(reviews.test, 200, held_out=True)
    return reviews


@pytest.fixture(scope="module")
def exported(korean: KoreanReviews, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("characters")
    accuracy = train_small_gru(korean, "characters", folder / "snapshot")
    snapshot = load_snapshot(folder / "snapshot")
    verification = export_snapshot(snapshot, folder / "bundle", ["all"], read_reviews(korean.test).texts)
    return Exported(snapshot, accuracy, folder / "bundle", verification)


def train_small_gru(korean: KoreanReviews, tokenizer: TokenizerName, folder: Path) -> float:
    """The `gru` recipe with fewer units, trained for a few epochs -> its accuracy on the test part, in percent."""
    recipe = dataclasses.replace(
        RECIPES["gru"], embedding=24, hidden=32, max_tokens=MAX_TOKENS, tokenizer=TOKENIZERS[tokenizer]
    )
    settings = Settings(epochs=5, batch_size=16, learning_rate=5e-3, layers=1, seed=0, device="cpu")
    corpus = load_corpus(Source(str(korean.train), test=korean.test), recipe, seed=0)
    accuracy: float = fit(corpus, recipe, settings, folder)["test_accuracy"]
    return accuracy


def test_characters_are_learned_where_words_are_all_unknown(
    korean: KoreanReviews, exported: Exported, tmp_path: Path
) -> None:
    assert exported.accuracy >= 85.0
    assert train_small_gru(korean, "attached", tmp_path) <= 65.0


def test_every_form_says_what_pytorch_says(exported: Exported) -> None:
    for verification in (exported.verification, verify_bundle(open_bundle(exported.bundle), None)):
        assert [comparison.form for comparison in verification.comparisons] == list(FORMATS["all"])
        for comparison in verification.comparisons:
            assert comparison.passed, comparison.failure()
            assert comparison.max_difference <= TOLERANCE


def test_the_bundle_counts_and_cuts_characters(exported: Exported) -> None:
    opened = open_bundle(exported.bundle)
    assert opened.specification.tokenizer == Tokenizer(unit="characters")
    assert all(len(word) == 1 for word in opened.vocabulary()[2:])
    review = "연기가 지루할 줄 알았는데 훌륭했다."
    texts = [review, "電影 😀\u3000!", " \t\r\n", review * 5, (review * 5).replace(" ", "")[:MAX_TOKENS]]
    for file in ("model.onnx", "model.cpu.onnx"):
        session = ort.InferenceSession(exported.bundle / file, providers=["CPUExecutionProvider"])
        probabilities, tokens, unknown = session.run(
            ["probabilities", "tokens", "unknown"], {"text": np.array(texts, dtype=object)}
        )
        assert tokens.tolist() == [16, 5, 0, 80, MAX_TOKENS]
        assert unknown.tolist() == [0, 5, 0, 0, 0]
        assert np.abs(probabilities[3] - probabilities[4]).max() <= 1e-6  # what is beyond MAX_TOKENS counts for nothing


def test_train_takes_a_tokenizer_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reviews(tmp_path / "reviews.csv", 60, held_out=False)
    arguments = ["train", "--data", str(tmp_path / "reviews.csv"), "--recipe", "gru", "--epochs", "1"]
    for name, tokenizer in TOKENIZERS.items():
        with pytest.raises(SystemExit) as stop:
            app([*arguments, "--tokenizer", name, "--out", str(tmp_path / name)], prog_name="toolchain")
        assert stop.value.code == 0, capsys.readouterr().err
        assert load_snapshot(tmp_path / name).specification.tokenizer == tokenizer
    with pytest.raises(SystemExit) as stop:
        app([*arguments, "--tokenizer", "bpe"], prog_name="toolchain")
    assert stop.value.code == 2
    assert "--tokenizer" in capsys.readouterr().err


def test_the_korean_reviews_are_what_these_tests_take_them_for(tmp_path: Path) -> None:
    """Repeatable, half of them good, and no adjective of the held-out ones stands in the others."""
    adjectives = []
    for held_out in (False, True):
        for name in ("once.csv", "twice.csv"):
            write_reviews(tmp_path / name, 200, held_out)
        assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "twice.csv").read_bytes()
        with (tmp_path / "once.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(row["label"] == "pos" for row in rows) == 100
        words = {word for row in rows for word in row["review"].split()}
        adjectives.append({word for word in words if word.startswith((*GOOD, *BAD))})
    known, held_back = adjectives
    assert held_back
    assert not known & held_back
