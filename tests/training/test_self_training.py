"""What `gru-pool` takes from text: word vectors, and a teacher's labels for text that has none."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.forms import softmax
from export.text import TOKENIZERS
from tests.tiny import SIGNS, TINY, review, settings, write_reviews
from toolchain.corpus.corpus import Corpus, load_corpus
from toolchain.corpus.reviews import Source, read_unlabelled
from toolchain.errors import UsageError
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.training.loops import fit
from toolchain.training.self_training import MIN_CONFIDENCE, teacher_vectors, with_pseudo_labels
from toolchain.training.word_vectors import word_vectors

# --- word vectors ----------------------------------------------------------------------------------------------------


CINEMA = [f"c{number}" for number in range(150)]
KITCHEN = [f"k{number}" for number in range(150)]
VOCABULARY = ["<unk>", "<pad>", "film", "movie", "soup", *CINEMA, *KITCHEN, "never"]


def sentences(count: int) -> list[list[str]]:
    """`film` and `movie` stand among the same words; `soup` among others."""
    generator = random.Random(0)
    kinds = [("film", CINEMA), ("soup", KITCHEN), ("movie", CINEMA), ("soup", KITCHEN)]
    return [generator.sample([word, *generator.sample(others, 6)], 7) for word, others in kinds * (count // 4)]


def cosine(vectors: NDArray[np.float32], first: str, second: str) -> float:
    one, other = (vectors[VOCABULARY.index(word)] for word in (first, second))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_seed_gives_the_same_vectors_twice_and_another_seed_others() -> None:
    first, second, other = (word_vectors(sentences(200), VOCABULARY, 12, seed, epochs=5) for seed in (3, 3, 4))
    assert first.shape == (len(VOCABULARY), 12)
    assert first.dtype == np.float32
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_specials_and_words_that_do_not_occur_have_no_vector() -> None:
    vectors = word_vectors([[*sentence, "<unk>"] for sentence in sentences(2000)], VOCABULARY, 12, 0, epochs=5)
    zero = [word for word, vector in zip(VOCABULARY, vectors, strict=True) if not vector.any()]
    assert zero == ["<unk>", "<pad>", "never"]


def test_words_that_stand_among_the_same_words_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    # In so little text every word would be a frequent one.
    monkeypatch.setattr("toolchain.training.word_vectors.SUBSAMPLING", 0)
    vectors = word_vectors(sentences(2000), VOCABULARY, 16, 0, epochs=5)
    assert cosine(vectors, "film", "movie") > cosine(vectors, "film", "soup") + 0.1
    assert cosine(vectors, "film", "movie") > cosine(vectors, "movie", "soup") + 0.1


def test_every_pass_is_reported() -> None:
    titles = []

    def progress(passed: object, title: str) -> object:
        titles.append(title)
        return passed

    word_vectors(sentences(200), VOCABULARY, 4, 0, 5, progress)  # type: ignore[arg-type]
    assert titles == [f"word vectors, pass {number} of 5" for number in range(1, 6)]


# --- unlabelled text -------------------------------------------------------------------------------------------------


def test_unlabelled_text_is_read_from_a_folder_or_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    (folder / "b.txt").write_text("second\0text")
    (folder / "a.txt").write_text("first text")
    (folder / "more" / "c.txt").write_bytes(b"third \xff text")
    (folder / "notes.md").write_text("no review")
    (tmp_path / "texts.csv").write_text("id,text\n1,one text\n2,another\n")
    (tmp_path / "texts.jsonl").write_text('{"body": "a text"}\n')

    def read(name: str, column: str | None = None) -> list[str]:
        return read_unlabelled(Source("sample", text_column=column, unlabelled=str(tmp_path / name)))

    assert read("texts") == ["first text", "second text", "third \ufffd text"]
    assert read("texts.csv") == ["one text", "another"]
    assert read("texts.jsonl", "body") == ["a text"]


def test_an_imdb_folder_gives_the_reviews_that_have_no_label(tmp_path: Path) -> None:
    for part in ("train/pos", "train/unsup", "test/neg"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "0_0.txt").write_text(f"of {part}")
    assert read_unlabelled(Source("imdb", unlabelled=str(tmp_path))) == ["of train/unsup"]


def test_no_unlabelled_text_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "head.csv").write_text("text\n")
    for name in ("empty", "head.csv"):
        with pytest.raises(UsageError, match=rf"--unlabelled .*{name}: holds no text; expected a folder of \.txt"):
            read_unlabelled(Source("sample", unlabelled=str(tmp_path / name)))
    with pytest.raises(UsageError, match="No such file"):
        read_unlabelled(Source("sample", unlabelled=str(tmp_path / "none.csv")))


# --- a teacher -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the reviews, texts that are as clear, and texts that give no label away."""
    folder = tmp_path_factory.mktemp("data")
    generator = random.Random(1)
    texts = [review(label, generator) + " unheard" for label in ("neg", "pos", "neither") for _ in range(40)]
    (folder / "texts.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    return write_reviews(folder / "reviews.csv", 240)


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("teacher")
    fit(load_corpus(Source(str(data)), TINY, 0), TINY, settings(epochs=6), folder)
    return load_snapshot(folder)


@pytest.fixture(scope="module")
def corpus(data: Path) -> Corpus:
    return load_corpus(Source(str(data), unlabelled=str(data.with_name("texts.csv"))), TINY, 0)


def test_unlabelled_words_are_in_the_vocabulary(corpus: Corpus) -> None:
    assert len(corpus.unlabelled) == 120
    assert "unheard" in corpus.vocabulary


def test_what_the_teacher_is_sure_of_is_trained_on_with_its_answer(corpus: Corpus, teacher: Snapshot) -> None:
    more = with_pseudo_labels(corpus, teacher, TINY)
    added = more.train.examples[len(corpus.train) :]
    probabilities = softmax(teacher.reference()([" ".join(tokens) for tokens in corpus.unlabelled]))
    sure = [
        (tokens, int(row.argmax()))
        for tokens, row in zip(corpus.unlabelled, probabilities, strict=True)
        if row.max() >= MIN_CONFIDENCE
    ]
    assert [(example.text, example.label) for example in added] == sure
    assert {example.origin for example in added} == {None}
    assert 40 < len(added) < len(corpus.unlabelled)
    for example in added:
        named = {label for label, words in enumerate(SIGNS.values()) if set(words) & set(example.text)}
        assert named <= {example.label}
    assert more.train.examples[: len(corpus.train)] == corpus.train.examples
    assert more.validation is corpus.validation
    assert more.test is corpus.test


def test_a_teacher_that_does_not_fit_is_refused(data: Path, corpus: Corpus, teacher: Snapshot) -> None:
    with pytest.raises(UsageError, match=r"--teacher: its labels are \['neg', 'pos'\], the data's \['bad', 'good'\]"):
        with_pseudo_labels(replace(corpus, labels=("bad", "good")), teacher, TINY)
    with pytest.raises(UsageError, match="--teacher: its tokenizer is "):
        with_pseudo_labels(corpus, teacher, replace(TINY, tokenizer=TOKENIZERS["characters"]))
    with pytest.raises(UsageError, match="--teacher: its embedding has 8 numbers a word, the recipe's 9"):
        with_pseudo_labels(corpus, teacher, replace(TINY, embedding=9))
    with pytest.raises(UsageError, match="it has no text to label; add --unlabelled PATH"):
        with_pseudo_labels(load_corpus(Source(str(data)), TINY, 0), teacher, TINY)


def test_the_embedding_of_the_student_starts_from_the_teachers_rows(
    corpus: Corpus, teacher: Snapshot, tmp_path: Path
) -> None:
    assert corpus.vocabulary != teacher.vocabulary
    rows = teacher_vectors(teacher, corpus.vocabulary)
    table = teacher.state["embed.weight"].numpy()
    for word, row in zip(corpus.vocabulary, rows, strict=True):
        known = word in teacher.vocabulary
        assert np.array_equal(row, table[teacher.vocabulary.index(word)] if known else np.zeros(8)), word
    assert not rows[corpus.vocabulary.index("unheard")].any()
    fit(corpus, TINY, settings(epochs=1, learning_rate=1e-9), tmp_path, teacher=teacher)
    assert np.allclose(load_snapshot(tmp_path).state["embed.weight"].numpy(), rows, atol=1e-6)


def test_a_student_learns_from_both_and_says_who_taught_it(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    metrics = fit(corpus, TINY, settings(epochs=3), tmp_path, teacher=teacher)
    added = len(with_pseudo_labels(corpus, teacher, TINY).train) - len(corpus.train)
    assert metrics["reviews"]["train"] == len(corpus.train)
    assert metrics["reviews"]["pseudo-labelled"] == added > 0
    assert metrics["unlabelled"] == 120
    assert metrics["teacher"] == teacher.training
    assert load_snapshot(tmp_path).training == metrics
    assert metrics["test_accuracy"] > 90.0


def test_a_text_that_the_teacher_labelled_is_no_suspect(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    """Not even where the student gets all of them wrong, as with a teacher that says the opposite."""
    opposite = {name: -tensor if name.startswith("out.") else tensor for name, tensor in teacher.state.items()}
    wrong = replace(teacher, state=opposite)
    added = with_pseudo_labels(corpus, wrong, TINY).train.examples[len(corpus.train) :]
    assert len(added) > 40
    metrics = fit(corpus, TINY, settings(epochs=3), tmp_path, teacher=wrong)
    lines = (tmp_path / "suspects.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + metrics["suspects"]
    origins = {example.origin for example in corpus.train}
    assert all(line.split(",")[0] in origins for line in lines[1:])
