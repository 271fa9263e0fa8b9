"""Training data: IMDB folders, CSV and JSONL files, the embedded sample, and the download."""

import hashlib
import http.server
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolchain.corpus import Source, load_corpus, read_reviews, read_test_reviews, read_texts, sample_folder
from toolchain.errors import UsageError
from toolchain.imdb import imdb_folder
from toolchain.recipes import RECIPES

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


def test_an_imdb_folder_is_read_by_torchtext_in_an_order_of_its_own(tmp_path: Path) -> None:
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
    assert names == ["reviews.csv", "reviews.jsonl", "sample_test.csv", "sample_train.csv"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_sample_is_large_balanced_and_its_parts_share_no_review() -> None:
    train, test = (read_reviews(sample_folder() / name) for name in ("sample_train.csv", "sample_test.csv"))
    assert len(train) + len(test) >= 2000
    for part in (train, test):
        assert part.labels.count("pos") * 2 == len(part)
        assert not part.skipped
    assert not set(train.texts) & set(test.texts)


def test_many_letters_that_are_not_lower_cased_are_said(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = [f"привет кино хорошее {n},pos\nдолгое кино плохое {n},neg\n" for n in range(30)]
    path.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    corpus = load_corpus(Source(str(path)), RECIPES["gru"], 0)
    assert any("of the letters are cased and not ASCII" in warning for warning in corpus.warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n", "holds no labelled review"),
        ("text,label\na,x\nb,x\n", "every review has the label 'x'; expected two or more"),
        ("text,label\na,x\nb,y\n", "too few to split"),
        ("text,label\n" + "".join(f"w{n},l{n}\n" for n in range(200)), "200 different labels"),
        ("text,label\n" + "".join(f"w{n},{'xy'[n % 2]}\n" for n in range(200)), "no word stands 5 times"),
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
    seen: list[int] = []
    digest = hashlib.sha256(archive).hexdigest()
    folder = imdb_folder(tmp_path / "data", serve(archive).url, digest, lambda done, total: seen.append(done))
    assert folder == tmp_path / "data" / "imdb" / "aclImdb"
    assert seen[-1] == len(archive)
    assert len(read_test_reviews(Source(str(folder)))) == 4
    assert [path.name for path in folder.parent.iterdir()] == ["aclImdb"]
    assert imdb_folder(tmp_path / "data", "http://127.0.0.1:1/", "") == folder  # a second time needs no network


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
    reviews = read_reviews(path, "review.body", "review.stars.label")
    assert (reviews.texts, reviews.labels, len(reviews.skipped)) == (["good"], ["pos"], 1)
    assert read_texts(Source(str(path), "review.body")) == ["good", "bad"]
