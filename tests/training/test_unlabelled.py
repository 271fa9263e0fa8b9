"""What is learned from text without labels: word vectors, and what teachers answer."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.text import TOKENIZERS
from tests.tiny import SIGNS, TINY, review, settings, write_reviews
from toolchain.corpus.corpus import Corpus, batch_tensors, iterators, load_corpus
from toolchain.corpus.reviews import Source, read_unlabelled
from toolchain.errors import UsageError
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.training.distillation import BEGINNINGS, TRUTH, Answer, beginnings, taught, teach
from toolchain.training.loops import Epoch, fit
from toolchain.training.pruning import prune
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


def test_an_imdb_folder_without_them_is_refused(tmp_path: Path) -> None:
    """The other reviews in it are labelled, and some are to be tested on."""
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "0_0.txt").write_text(f"of {part}")
    with pytest.raises(UsageError, match="an aclImdb folder without train/unsup; unpack its unlabelled reviews"):
        read_unlabelled(Source("imdb", unlabelled=str(tmp_path)))


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


def no_progress(passes: Any, title: str) -> Any:
    return passes


class Titles:
    """A progress that remembers the titles of all passes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, passes: Any, title: str) -> Any:
        self.seen.append(title)
        return passes


def certain(label: int) -> Answer:
    """A teacher that says the same of every text, with a probability of 0.9."""
    logits = np.log(np.array([0.1, 0.9], np.float32))
    return lambda texts: np.tile(logits if label else logits[::-1], (len(texts), len(BEGINNINGS), 1))


def test_the_mean_of_the_teachers_is_learned_and_of_a_labelled_review_half_its_label(corpus: Corpus) -> None:
    titles = []

    def progress(passes: Any, title: str) -> Any:
        titles.append((title, len(passes)))
        return passes

    targets = teach(corpus, [certain(1), certain(1), certain(0)], progress)
    assert titles == [(f"teacher {number} of 3", 1) for number in (1, 2, 3)]
    mean = np.array([1.1 / 3, 1.9 / 3])
    assert targets.shape == (len(corpus.train) + 120, len(BEGINNINGS), 2)
    assert np.allclose(targets[len(corpus.train) :], mean, atol=1e-6)
    for example, (*begun, whole) in zip(corpus.train, targets, strict=False):
        assert np.allclose(begun, mean, atol=1e-6)
        assert np.allclose(whole, TRUTH * np.eye(2)[example.label] + (1 - TRUTH) * mean, atol=1e-6)


def test_a_beginning_is_answered_as_a_text_that_ends_there(corpus: Corpus, teacher: Snapshot) -> None:
    assert beginnings(torch.tensor([0, 1, 2, 7, 100])).tolist() == [
        [0, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 2, 2],
        [2, 4, 6, 7],
        [25, 50, 75, 100],
    ]
    texts = [*corpus.unlabelled[:20], []]
    answers = teacher.answer_tokens(beginnings)(texts)
    assert answers.shape == (21, len(BEGINNINGS), 2)
    for text, own in zip(texts, answers, strict=True):
        ends = beginnings(torch.tensor([len(text)]))[0].tolist()
        assert np.allclose(own, teacher.answer_tokens()([text[:end] for end in ends]), atol=1e-6)


def test_the_loss_sees_what_the_teachers_answer(corpus: Corpus, teacher: Snapshot) -> None:
    targets = teach(corpus, [teacher.answer_tokens(beginnings)], no_progress)
    more = taught(corpus, targets)
    seen: dict[str, list[float]] = {}
    for batch in iterators(more, 16, 0)[0]:
        ids, lengths, _ = batch_tensors(batch, torch.device("cpu"))
        for row, length, target in zip(ids, lengths, batch.target, strict=True):
            seen[" ".join(more.vocabulary[number] for number in row[:length])] = target.tolist()
    expected = {
        " ".join(word if word in more.vocabulary else "<unk>" for word in example.text): target.tolist()
        for example, target in zip(more.train, targets, strict=True)
    }
    assert seen == expected
    added = more.train.examples[len(corpus.train) :]
    assert [example.text for example in added] == corpus.unlabelled
    assert {example.origin for example in added} == {None}
    assert more.validation is corpus.validation
    assert more.test is corpus.test
    sure = [example for example in added if max(example.target[-1]) > 0.9]
    assert len(sure) > 40
    for example in sure:
        named = {label for label, words in enumerate(SIGNS.values()) if set(words) & set(example.text)}
        assert named <= {example.label}


def test_a_teacher_that_does_not_fit_is_refused(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    other = replace(teacher, specification=replace(teacher.specification, labels=("bad", "good")))
    with pytest.raises(UsageError, match="--teacher: its labels are bad, good, the data's neg, pos; name a"):
        fit(corpus, TINY, settings(), tmp_path, teachers=[teacher, other])
    recipe = replace(TINY, tokenizer=TOKENIZERS["characters"])
    with pytest.raises(UsageError, match="--teacher: it cuts text into other tokens than the recipe"):
        fit(corpus, recipe, settings(), tmp_path, teachers=[teacher])
    assert not list(tmp_path.iterdir())


def test_a_smaller_student_starts_as_what_is_left_of_its_teacher(
    corpus: Corpus, teacher: Snapshot, tmp_path: Path
) -> None:
    texts = [example.text for example in corpus.train] + corpus.unlabelled
    left = prune(teacher, 6, 5, texts)
    fit(corpus, replace(TINY, hidden=6, embedding=5), settings(1, learning_rate=1e-9), tmp_path, teachers=[teacher])
    student = load_snapshot(tmp_path)
    for name, weight in left.state.items():
        if name.startswith("gru."):
            assert torch.allclose(student.state[name], weight, atol=1e-6)
    known = [word for word in corpus.vocabulary[2:] if word in teacher.vocabulary]
    for word in known:
        row = student.state["embed.weight"][corpus.vocabulary.index(word)]
        assert torch.allclose(row, left.state["embed.weight"][teacher.vocabulary.index(word)], atol=1e-6)


def test_a_larger_student_starts_from_word_vectors(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    progress = Titles()
    fit(corpus, replace(TINY, hidden=9), settings(1), tmp_path, progress=progress, teachers=[teacher])
    assert "word vectors, pass 1 of 5" in progress.seen


def test_a_student_learns_and_says_who_taught_it(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    smaller = replace(TINY, hidden=6, bag=64)
    metrics = fit(corpus, smaller, settings(epochs=3), tmp_path, teachers=[teacher, teacher])
    assert metrics["reviews"]["train"] == len(corpus.train)
    assert metrics["reviews"]["taught"] == metrics["unlabelled"] == 120
    about = {"identity": teacher.identity, "recipe": "auto", "data": "reviews.csv", "reviews": len(corpus.train)}
    about["training_digest"] = metrics["training_digest"]
    assert not any("too, but not on this training part" in warning for warning in metrics["warnings"])
    assert metrics["teachers"] == [about, about]
    assert load_snapshot(tmp_path).training == metrics
    assert metrics["test_accuracy"] > 90.0


def test_a_teacher_of_another_split_of_the_same_reviews_is_said(data: Path, teacher: Snapshot, tmp_path: Path) -> None:
    """Nine of ten of the reviews that the student is tested on are those that the teacher was trained on."""
    other = load_corpus(Source(str(data)), TINY, seed=1)
    warnings = fit(other, TINY, settings(2), tmp_path, teachers=[teacher, teacher])["warnings"]
    (warning,) = [line for line in warnings if line.startswith("a teacher was trained on reviews.csv too, but not on")]
    assert "--seed" in warning
    assert "--test-data" in warning


def test_the_linear_part_teaches_only_where_no_teacher_has_one(
    corpus: Corpus, teacher: Snapshot, tmp_path: Path
) -> None:
    progress = Titles()
    with_bag = replace(TINY, hidden=6, bag=64)
    fit(corpus, with_bag, settings(1), tmp_path, progress=progress, teachers=[teacher])
    assert "teacher 2 of 2" in progress.seen
    progress.seen.clear()
    fit(corpus, with_bag, settings(1), tmp_path / "next", progress=progress, teachers=[load_snapshot(tmp_path)])
    assert "teacher 1 of 1" in progress.seen


def test_a_killed_student_goes_on_to_the_same_weights(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    def killed(epoch: Epoch, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(corpus, TINY, settings(epochs=3), tmp_path / "a", killed, teachers=[teacher])
    with pytest.raises(UsageError):  # without its teacher it is another run
        fit(corpus, TINY, settings(epochs=3), tmp_path / "a", resume=True)
    fit(corpus, TINY, settings(epochs=3), tmp_path / "a", resume=True, teachers=[teacher])
    fit(corpus, TINY, settings(epochs=3), tmp_path / "b", teachers=[teacher])
    assert load_snapshot(tmp_path / "a").identity == load_snapshot(tmp_path / "b").identity


def test_a_text_that_only_the_teacher_knows_is_no_suspect(corpus: Corpus, teacher: Snapshot, tmp_path: Path) -> None:
    """Not even where the student gets all of them wrong, as with a teacher that says the opposite."""
    opposite = {name: -tensor if name.startswith("out.") else tensor for name, tensor in teacher.state.items()}
    metrics = fit(corpus, TINY, settings(epochs=3), tmp_path, teachers=[replace(teacher, state=opposite)])
    lines = (tmp_path / "suspects.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + metrics["suspects"]
    origins = {example.origin for example in corpus.train}
    assert all(line.split(",")[0] in origins for line in lines[1:])
