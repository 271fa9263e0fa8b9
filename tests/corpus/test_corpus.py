"""Training data: IMDB folders, CSV and JSONL files, the embedded sample, and the download."""

import hashlib
import http.server
import io
import json
import random
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolchain.cli.app import app
from toolchain.corpus.corpus import Corpus, grouped_split, load_corpus
from toolchain.corpus.imdb import imdb_folder
from toolchain.corpus.reviews import Source, read_reviews, read_test_reviews, read_texts, sample_folder
from toolchain.errors import UsageError
from toolchain.models.recipes import RECIPES

WORDS = ["fine", "dull", "bright", "slow", "quick", "warm", "cold", "flat"]


def make_imdb(folder: Path, reviews: int = 20) -> Path:
    """A folder laid out as the data set is, with generated reviews."""
    for part in ("train", "test"):
        for label in ("neg", "pos"):
            place = folder / "aclImdb" / part / label
            place.mkdir(parents=True)
            for number in range(reviews):
                words = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(3 + number % 5))
                (place / f"{number}_7.txt").write_text(
                    f"The {part} film is {label}: {words} é\u0085.", encoding="utf-8"
                )
    return folder / "aclImdb"


def test_an_imdb_folder_is_read_in_an_order_of_its_own(tmp_path: Path) -> None:
    folder = make_imdb(tmp_path)
    corpus = load_corpus(Source(str(folder)), RECIPES["gru"], 0)
    assert corpus.labels == ("neg", "pos")
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (32, 8, 40)
    assert corpus.vocabulary[:2] == ["<unk>", "<pad>"]
    again = load_corpus(Source(str(folder)), RECIPES["gru"], 0)
    assert [example.text for example in again.train] == [example.text for example in corpus.train]
    assert len(read_test_reviews(Source(str(folder)))) == 40


def test_the_split_is_stratified_and_the_vocabulary_is_of_the_documented_part(tmp_path: Path) -> None:
    folder = make_imdb(tmp_path)
    corpus = load_corpus(Source(str(folder)), RECIPES["gru"], 0)
    assert [sum(example.label for example in part) for part in (corpus.train, corpus.validation)] == [16, 4]
    # min_freq 10 of 32 training reviews: 16 each have "neg:" and "pos:"; the gru recipe counts the validation part too
    rnn = load_corpus(Source(str(folder)), RECIPES["rnn"], 0)
    assert {"neg:", "pos:"} <= set(rnn.vocabulary)
    assert all(example.text.count("test") == 0 for example in rnn.train)
    assert "test" not in corpus.vocabulary


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"review": "good", "label": 1}\nnot json\n{"review": " ", "label": 1}\n{"review": "bad", "label": null}\n'
        '{"review": "bad", "label": 0}\n',
        encoding="utf-8",
    )
    reviews = read_reviews(path)
    assert reviews.texts == ["good", "bad"]
    assert reviews.labels == ["1", "0"]
    assert [skipped.split(":")[1] for skipped in reviews.skipped] == ["2", "3", "4"]


def test_the_sample_is_what_its_generator_writes(tmp_path: Path) -> None:
    folder = sample_folder()
    subprocess.run([sys.executable, str(folder / "make_sample.py"), str(tmp_path)], check=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["sample_test.csv", "sample_train.csv"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_sample_is_large_balanced_and_its_parts_share_no_review() -> None:
    train, test = (read_reviews(sample_folder() / name) for name in ("sample_train.csv", "sample_test.csv"))
    assert len(train) + len(test) >= 2000
    for part in (train, test):
        assert part.labels.count("pos") * 2 == len(part)
        assert not part.skipped
    assert not set(train.texts) & set(test.texts)


@pytest.mark.parametrize("recipe", RECIPES)
def test_there_is_nothing_to_say_against_the_sample(recipe: str) -> None:
    for seed in (0, 1):
        assert load_corpus(Source("sample"), RECIPES[recipe], seed).warnings == []


def test_many_letters_that_are_not_lower_cased_are_said(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = [f"привет кино хорошее {n},pos\nдолгое кино плохое {n},neg\n" for n in range(30)]
    path.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    corpus = load_corpus(Source(str(path)), RECIPES["gru"], 0)
    assert any("of the letters have capitals beyond A-Z" in warning for warning in corpus.warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n", "holds no labelled review"),
        ("text,label\na,x\nb,x\n", "every review has the label 'x'; expected two or more"),
        ("text,label\na,x\nb,y\n", "too few to split"),
        ("text,label\n" + "".join(f"w{n},l{n}\n" for n in range(200)), "200 different labels"),
        ("text,label\n" + "".join(f"w{n},{'xy'[n % 2]}\n" for n in range(200)), "no word occurs 5 times"),
        ("text,stars\na,1\n", "no column named like label"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_corpus(Source(str(path)), RECIPES["gru"], 0)


def test_a_folder_that_is_not_imdb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not an aclImdb folder"):
        load_corpus(Source(str(tmp_path)), RECIPES["gru"], 0)


def digest_of_split(corpus: Corpus) -> str:
    """Which review stands where, as the parts are read."""
    rows = [(e.label, e.text) for part in (corpus.train, corpus.validation, corpus.test) for e in part.examples]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def test_the_random_split_is_the_one_that_published_figures_were_made_with(tmp_path: Path) -> None:
    assert digest_of_split(load_corpus(Source("sample"), RECIPES["gru"], 0)) == "00c278db3a18edb7"
    own = Source(str(sample_folder() / "sample_train.csv"))
    assert digest_of_split(load_corpus(own, RECIPES["rnn-cell"], 7)) == "1a5663319322ca5b"
    assert digest_of_split(load_corpus(Source(str(make_imdb(tmp_path))), RECIPES["gru"], 0)) == "97974bcc09ab1dba"


def make_products(path: Path, seed: int = 3, products: int = 300) -> Path:
    """Reviews of products, one to forty each, in three unequal labels; some rows name no product."""
    generator = random.Random(seed)
    rows = []
    for product in range(products):
        name: str | float | None = None if product % 20 == 0 else float(product) if product % 2 else f"p{product}"
        liking = generator.random()
        for _ in range(generator.randint(1, 40)):
            label = generator.choices(["good", "mixed", "bad"], [liking, 0.2, 1 - liking])[0]
            text = " ".join(generator.choices(WORDS, k=12))
            rows.append(json.dumps({"text": f"{text} {label}", "label": label, "about": {"product": name}}))
    generator.shuffle(rows)
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def groups_of(corpus: Corpus) -> list[set[str]]:
    parts = (corpus.train, corpus.validation, corpus.test)
    return [{e.group for e in part.examples if e.group is not None} for part in parts]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_group_stands_in_two_parts_and_the_labels_keep_their_shares(tmp_path: Path, seed: int) -> None:
    path = make_products(tmp_path / "products.jsonl")
    source = Source(str(path), group_column="about.product")
    corpus = load_corpus(source, RECIPES["gru"], seed)
    train, validation, test = groups_of(corpus)
    assert len(train | validation | test) == 285
    assert len(train) + len(validation) + len(test) == 285
    total = len(path.read_text().splitlines())
    parts = (corpus.train, corpus.validation, corpus.test)
    of_all = Counter(label for part in parts for label in (e.label for e in part.examples))
    assert sum(of_all.values()) == total
    for part, share in zip(parts, (0.72, 0.18, 0.1), strict=True):
        assert abs(len(part) - share * total) <= 0.01 * total
        counts = Counter(e.label for e in part.examples)
        for label, count in of_all.items():
            assert abs(counts[label] / len(part) - count / total) < 0.02
    assert any("reviews name no group; each is taken as one of its own" in warning for warning in corpus.warnings)
    assert digest_of_split(load_corpus(source, RECIPES["gru"], seed)) == digest_of_split(corpus)
    assert digest_of_split(load_corpus(source, RECIPES["gru"], seed + 10)) != digest_of_split(corpus)


def test_reviews_without_a_group_are_dealt_out_one_by_one() -> None:
    labels = [0] * 80 + [1] * 20
    first, second = grouped_split(labels, [None] * 100, 0.8, 0)
    assert sorted(first + second) == list(range(100))
    assert Counter(labels[index] for index in second) == {0: 16, 1: 4}
    assert grouped_split(labels, [None] * 100, 0.8, 1)[1] != second


def test_large_groups_go_to_the_training_part() -> None:
    groups = ["large"] * 60 + [f"small {number}" for number in range(40)]
    first, second = grouped_split([0, 1] * 50, groups, 0.8, 0)
    assert set(range(60)) <= set(first)
    assert len(second) == 20


def test_films_are_not_split_where_the_recipe_validates_by_group(tmp_path: Path) -> None:
    folder = make_imdb(tmp_path, reviews=40)
    for label in ("neg", "pos"):  # film n has the reviews 2n and 2n + 1 of both labels; the last is not listed
        addresses = [f"http://www.imdb.com/title/tt{number // 2:07}/usercomments" for number in range(39)]
        (folder / "train" / f"urls_{label}.txt").write_text("\n".join(addresses))
    by_film = replace(RECIPES["gru"], validation_by_group=True)
    corpus = load_corpus(Source(str(folder)), by_film, 0)
    train, validation, _ = groups_of(corpus)
    assert train | validation == {f"tt{number:07}" for number in range(20)}
    assert not train & validation
    assert (len(corpus.train), len(corpus.validation)) == (64, 16)
    example = next(e for e in corpus.train.examples + corpus.validation.examples if e.origin == "train/pos/7_7.txt")
    assert (example.group, example.label) == ("tt0000003", 1)
    assert "2 reviews name no group; each is taken as one of its own" in corpus.warnings
    random_split = load_corpus(Source(str(folder)), RECIPES["gru"], 0)
    assert groups_of(random_split)[0] & groups_of(random_split)[1]


def test_a_folder_without_the_lists_of_films_says_that_films_are_shared(tmp_path: Path) -> None:
    by_film = replace(RECIPES["gru"], validation_by_group=True)
    corpus = load_corpus(Source(str(make_imdb(tmp_path))), by_film, 0)
    assert any("urls_pos.txt name no film" in warning for warning in corpus.warnings)


@pytest.mark.parametrize(
    ("groups", "column", "message"),
    [
        (["a", "b"], "shop", "no column 'shop'; its columns: text, label, product"),
        (["", " "], "product", "no review has a value in column 'product'"),
        (["a", "b"], "product", "groups are too few or too large to hold out 10% of the reviews"),
    ],
)
def test_groups_that_cannot_be_kept_together_are_refused(
    tmp_path: Path, groups: list[str], column: str, message: str
) -> None:
    path = tmp_path / "own.csv"
    rows = [f"fine film number {n},{'xy'[n % 2]},{groups[n // 50]}\n" for n in range(100)]
    path.write_text("text,label,product\n" + "".join(rows), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_corpus(Source(str(path), group_column=column), RECIPES["gru"], 0)


def test_train_takes_the_column_to_group_by(tmp_path: Path) -> None:
    arguments = ["train", "--data", "sample", "--group-column", "film", "--out", str(tmp_path / "snapshot")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "no column 'film'; its columns: review, label" in result.stderr


def test_imdb_has_no_column_to_group_by(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--group-column film: .* has no columns; leave it out"):
        load_corpus(Source(str(make_imdb(tmp_path)), group_column="film"), RECIPES["gru"], 0)


def test_copies_of_training_reviews_are_said_until_they_stand_on_one_side(tmp_path: Path) -> None:
    generator = random.Random(0)
    written = [" ".join(generator.choices([f"w{n}" for n in range(60)], k=30)) for _ in range(300)]
    path = tmp_path / "own.csv"
    rows = [f"{text} {word},{'xy'[n % 2]},author {n}\n" for n, text in enumerate(written) for word in ("once", "again")]
    path.write_text("text,label,author\n" + "".join(rows), encoding="utf-8")
    (warning,) = load_corpus(Source(str(path)), RECIPES["gru"], 0).warnings
    assert "test reviews are near copies of training reviews, such as" in warning
    assert "own.csv:" in warning
    assert warning.endswith("--group-column NAME")
    assert load_corpus(Source(str(path), group_column="author"), RECIPES["gru"], 0).warnings == []


def test_what_is_wrong_with_small_data_is_said_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = ["좋은영화입니다 재미있어요,pos\n"] * 60 + ["좋은영화입니다 재미있어요,neg\n"] * 10
    path.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    warnings = load_corpus(Source(str(path)), RECIPES["gru"], 0).warnings
    for part in (
        "50 training reviews are few",
        "the label 'neg' has 7 of 50",
        "half of the training reviews have 2 tokens or fewer",
        "--tokenizer characters",
        "1 text stands in the data with different labels",
        "13 validation and 7 test reviews are near copies",
    ):
        assert sum(part in warning for warning in warnings) == 1, part
    assert all("\n" not in warning for warning in warnings)


class Server:
    """Serves one file on loopback."""

    def __init__(self, content: bytes) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/aclImdb_v1.tar.gz"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    folder = make_imdb(tmp_path / "made", reviews=2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, "aclImdb")
    return buffer.getvalue()


@pytest.fixture
def serve() -> Iterator[type[Server]]:
    servers: list[Server] = []

    class Kept(Server):
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            servers.append(self)

    yield Kept
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def test_the_download_is_checked_and_unpacked_where_torchtext_looks(
    archive: bytes, serve: type[Server], tmp_path: Path
) -> None:
    said: list[str] = []
    digest, url = hashlib.sha256(archive).hexdigest(), serve(archive).url
    folder = imdb_folder(tmp_path / "data", url, digest, said.append)
    assert folder == tmp_path / "data" / "imdb" / "aclImdb"
    assert said == [f"downloading IMDB (84 MB) from {url} to {folder}"]
    assert len(read_test_reviews(Source(str(folder)))) == 4
    assert [path.name for path in folder.parent.iterdir()] == ["aclImdb"]
    assert imdb_folder(tmp_path / "data", "http://127.0.0.1:1/", "", said.append) == folder  # needs no network
    assert len(said) == 1


def test_a_download_with_another_digest_is_not_unpacked(archive: bytes, serve: type[Server], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was unpacked"):
        imdb_folder(tmp_path / "data", serve(archive).url)
    assert list((tmp_path / "data" / "imdb").iterdir()) == []


def test_an_archive_that_leaves_the_folder_is_refused(serve: type[Server], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("../../../escaped.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    content = buffer.getvalue()
    with pytest.raises(tarfile.OutsideDestinationError):
        imdb_folder(tmp_path / "a" / "b" / "data", serve(content).url, hashlib.sha256(content).hexdigest())
    assert not list(tmp_path.rglob("escaped.txt"))


def test_without_a_network_the_place_for_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"put the unpacked data in .*imdb/aclImdb, or name it: --data PATH/aclImdb"):
        imdb_folder(tmp_path, "http://127.0.0.1:1/aclImdb_v1.tar.gz")


def test_a_text_and_its_label_may_stand_in_nested_objects(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"review": {"body": "good", "stars": {"label": "pos"}}}\n{"review": {"body": "bad"}}\n')
    reviews = read_reviews(path, Source(str(path), "review.body", "review.stars.label"))
    assert (reviews.texts, reviews.labels, len(reviews.skipped)) == (["good"], ["pos"], 1)
    assert read_texts(Source(str(path), "review.body")) == ["good", "bad"]
