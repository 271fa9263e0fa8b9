"""Every command that reads files of rows reads the same ones, by the one way in, and has the same options for it."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.tiny import TINY, write_reviews
from toolchain.cli import options
from toolchain.cli.app import app
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source, read_reviews, read_test_reviews, read_texts, read_unlabelled
from toolchain.files.tables import ReadOptions

ROWS = [("I loved it, größer", "pos"), ("Awful", "neg"), ("superb\nwitty", "pos"), ("dull", "neg")]
CSV = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)

READERS = ("bench", "compare", "evaluate", "export", "import", "report", "score", "train", "verify")


def write_parquet(path: Path) -> None:
    texts, labels = zip(*ROWS, strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)


def write_zstd(path: Path) -> None:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(CSV.encode())


FILES: dict[str, Callable[[Path], object]] = {
    "t.csv": lambda path: path.write_bytes(CSV.encode()),
    "t.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "t.csv.bz2": lambda path: path.write_bytes(bz2.compress(CSV.encode())),
    "t.csv.xz": lambda path: path.write_bytes(lzma.compress(CSV.encode())),
    "t.csv.zst": write_zstd,
    "utf16.csv": lambda path: path.write_bytes(CSV.encode("utf-16")),
    "t.tsv": lambda path: path.write_bytes(CSV.replace('",', '"\t').replace("text,", "text\t").encode()),
    "t.parquet": write_parquet,
    "packed.csv": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "plain.csv.gz": lambda path: path.write_bytes(CSV.encode()),
    "t.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS).encode())
    ),
}


@pytest.fixture(params=list(FILES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = tmp_path / request.param
    FILES[request.param](path)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "500"})


def test_every_command_that_reads_rows_has_the_same_options() -> None:
    commands = typer.main.get_group(app).commands
    wanted = {f"--{name.replace('_', '-')}" for name in options.READ_BY}
    for name in READERS:
        assert wanted <= {option for parameter in commands[name].params for option in parameter.opts}, name
    assert {"--encoding", "--delimiter", "--text-column"} <= {
        option for name in READERS for parameter in commands[name].params for option in parameter.opts
    }


def test_reviews_and_texts_are_read_the_same(source: Path) -> None:
    expected = [text for text, _ in ROWS]
    for reviews in (read_reviews(source), read_test_reviews(Source(str(source)))):
        assert reviews.texts == expected
        assert reviews.labels == [label for _, label in ROWS]
        assert reviews.skipped == []
    assert read_texts(Source(str(source))) == expected  # for verify, export, bench and import
    assert read_unlabelled(Source("sample", unlabelled=str(source))) == expected


def test_the_commands_read_it(source: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    evaluated = run("evaluate", "--data", source, "--bundle", tiny_bundle, "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["reviews"] == len(ROWS)
    compared = run("compare", tiny_bundle, tiny_bundle, source, "--json")
    assert compared.exit_code == 0, compared.stderr
    assert json.loads(compared.stdout)["scored"] == len(ROWS)
    scored = run("score", source, "--bundle", tiny_bundle, "--json")
    assert scored.exit_code == 0, scored.stderr
    (summary,) = json.loads(scored.stdout)
    assert summary["scored"] == len(ROWS)
    reported = run("report", summary["output"], "--bundle", tiny_bundle, "-o", tmp_path / "report.html")
    assert reported.exit_code == 0, reported.stderr
    assert f"{len(ROWS)} rows; report" in reported.stderr


@pytest.mark.parametrize("packed", [False, True])
def test_training_reads_its_three_files_alike(packed: bool, tmp_path: Path) -> None:
    def write(name: str, count: int) -> Path:
        path = write_reviews(tmp_path / name, count)
        if packed:
            data = path.read_text(encoding="utf-8").encode("utf-16")
            path = path.with_name(f"{name}.gz")
            path.write_bytes(gzip.compress(data))
        return path

    data, test, more = write("train.csv", 200), write("test.csv", 40), write("more.csv", 30)
    corpus = load_corpus(Source(str(data), test=test, unlabelled=str(more)), TINY, 0)
    assert (len(corpus.train) + len(corpus.validation), len(corpus.test)) == (200, 40)
    assert len(corpus.unlabelled) == 30


def test_the_options_reach_every_reader(tmp_path: Path, tiny_bundle: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes(CSV.encode("latin-1"))
    source = Source(str(latin), reading=ReadOptions(encoding="latin-1"), unlabelled=str(latin))
    assert read_reviews(latin, source).texts == [text for text, _ in ROWS]
    assert read_texts(source) == read_unlabelled(source) == [text for text, _ in ROWS]
    for command in (
        ("evaluate", "--data", latin, "--bundle", tiny_bundle),
        ("compare", tiny_bundle, tiny_bundle, latin),
        ("score", latin, "--bundle", tiny_bundle, "-o", tmp_path / "out.csv"),
    ):
        assert run(*command, "--encoding", "latin-1").exit_code == 0
        wrong = run(*command, "--encoding", "klingon")
        assert wrong.exit_code == 2
        assert "--encoding klingon: not known" in wrong.stderr


def test_another_delimiter_reaches_every_reader(tmp_path: Path, tiny_bundle: Path) -> None:
    piped = tmp_path / "in.txt"
    piped.write_text("id|text|label\n1|fine lovely|pos\n2|dull, awful|neg\n", encoding="utf-8")
    assert read_texts(Source(str(piped), reading=ReadOptions(delimiter="|"))) == ["fine lovely", "dull, awful"]
    result = run("evaluate", "--data", piped, "--bundle", tiny_bundle, "--delimiter", "|", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["reviews"] == 2


def test_another_encoding_is_named_once_and_not_a_reject_a_row(tmp_path: Path, tiny_bundle: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes(("text,label\n" + "schöner Film für größere Kinder,pos\n" * 50).encode("latin-1"))
    for command in (
        ("evaluate", "--data", latin, "--bundle", tiny_bundle),
        ("compare", tiny_bundle, tiny_bundle, latin),
        ("score", latin, "--bundle", tiny_bundle, "-o", tmp_path / "out.csv"),
        ("train", "--recipe", "auto", "--data", latin, "--out", tmp_path / "snapshot"),
    ):
        result = run(*command)
        assert result.exit_code == 2
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
        assert "is not UTF-8" in error
        assert "--encoding cp1252" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latin.csv"]


def test_a_file_without_a_header_is_read_by_number(tmp_path: Path, tiny_bundle: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("1,fine lovely,pos\n2,dull awful,neg\n", encoding="utf-8")
    result = run(
        *("evaluate", "--data", bare, "--bundle", tiny_bundle, "--json"),
        *("--no-header", "--text-column", "2", "--label-column", "3"),
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["reviews"] == 2


def test_what_was_found_out_is_said_by_every_command(tmp_path: Path, tiny_bundle: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(gzip.compress(b'review;body;sentiment\n5;"I loved it, really";pos\n1;"Awful; dull";neg\n'))
    for command in (
        ("evaluate", "--data", source, "--bundle", tiny_bundle),
        ("compare", tiny_bundle, tiny_bundle, source),
        ("score", source, "--bundle", tiny_bundle),
    ):
        result = run(*command)
        assert result.exit_code == 0, result.stderr
        (read,) = (line for line in result.stderr.splitlines() if line.startswith("read"))
        assert "text column 'body'" in read
        assert "gzip" in read
        assert "the column 'review' holds only numbers; the text is taken from 'body'" in read
