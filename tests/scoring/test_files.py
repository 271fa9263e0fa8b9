"""What scoring promises for files as people have them: packed, in any encoding, with any delimiter, many at once."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest

import toolchain.scoring.job
from tests.stopping import stop_after
from toolchain.errors import UsageError
from toolchain.files.inputs import expand, output_path, rejects_path
from toolchain.files.kind import Kind
from toolchain.scoring.job import Options, Summary, score_file
from toolchain.scoring.scorer import Scorer

ROWS = [f"{number},{'' if number % 10 == 3 else f'a clever film no. {number}'},größe" for number in range(60)]
PLAIN = ("id,text,note\n" + "\n".join(ROWS) + "\n").encode()


def zstd(data: bytes) -> bytes:
    sink = io.BytesIO()
    with pyarrow.CompressedOutputStream(pyarrow.PythonFile(_Open(sink)), "zstd") as stream:
        stream.write(data)
    return sink.getvalue()


def unzstd(data: bytes) -> bytes:
    with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


class _Open(io.RawIOBase):
    """Keeps what was written when it is closed."""

    def __init__(self, sink: io.BytesIO) -> None:
        self.sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self.sink.write(data)  # type: ignore[arg-type]


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": unzstd,
}
suffixes = pytest.mark.parametrize("suffix", list(PACK))


@pytest.fixture(scope="module")
def scorer(bundle: Path) -> Iterator[Scorer]:
    with Scorer(bundle, "cpu") as opened:
        yield opened


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 7)


@pytest.fixture(scope="module")
def plain(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The output for `PLAIN`."""
    source = tmp_path_factory.mktemp("plain") / "in.csv"
    source.write_bytes(PLAIN)
    output = source.with_name("out.csv")
    score_file(scorer, str(source), str(output), Options())
    return output.read_bytes()


def score(scorer: Scorer, source: Path, data: bytes, options: Options | None = None) -> Path:
    """Write `data` to `source` and score it to where the command would -> the output."""
    source.write_bytes(data)
    output = output_path(str(source), None, many=False)
    score_file(scorer, str(source), output, options or Options())
    return Path(output)


def rows(output: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output.decode(), newline=""), delimiter=delimiter))


# --- packed files ----------------------------------------------------------------------------------------------------


@suffixes
def test_a_packed_file_gives_the_packed_output_of_the_plain_one(
    suffix: str, scorer: Scorer, plain: bytes, tmp_path: Path
) -> None:
    output = score(scorer, tmp_path / f"reviews.csv{suffix}", PACK[suffix](PLAIN))
    assert output == tmp_path / f"reviews.scored.csv{suffix}"
    assert UNPACK[suffix](output.read_bytes()) == plain
    rejects = (tmp_path / f"reviews.csv{suffix}.rejected.jsonl").read_bytes()
    assert [json.loads(line)["line"] for line in rejects.splitlines()] == [5, 15, 25, 35, 45, 55]
    assert len(list(tmp_path.iterdir())) == 4


@suffixes
def test_the_output_is_packed_as_its_own_name_says(suffix: str, scorer: Scorer, plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(PLAIN)
    (tmp_path / f"in.csv{suffix}").write_bytes(PACK[suffix](PLAIN))
    score_file(scorer, str(tmp_path / "in.csv"), str(tmp_path / f"out.csv{suffix}"), Options())
    score_file(scorer, str(tmp_path / f"in.csv{suffix}"), str(tmp_path / "out.csv"), Options())
    assert UNPACK[suffix]((tmp_path / f"out.csv{suffix}").read_bytes()) == plain
    assert (tmp_path / "out.csv").read_bytes() == plain


@suffixes
def test_a_packed_job_that_was_stopped_ends_as_an_undisturbed_one(suffix: str, scorer: Scorer, tmp_path: Path) -> None:
    undisturbed = score(scorer, tmp_path / f"in.csv{suffix}", PACK[suffix](PLAIN)).read_bytes()
    for windows in (1, 4, 8):
        output = tmp_path / f"out{windows}.csv{suffix}"
        assert "run the same command again" in stop_after(7 * windows, scorer, tmp_path / f"in.csv{suffix}", output)
        assert not output.exists()
        summary = score_file(scorer, str(tmp_path / f"in.csv{suffix}"), str(output), Options())
        assert (summary.resumed, summary.rows) == (windows * 7, 60)
        assert output.read_bytes() == undisturbed


@suffixes
def test_packed_jsonl_is_known_by_the_ending_before(suffix: str, scorer: Scorer, tmp_path: Path) -> None:
    output = score(scorer, tmp_path / f"in.jsonl{suffix}", PACK[suffix](b'{"text": "a film"}\n'))
    assert json.loads(UNPACK[suffix](output.read_bytes()))["prediction"] in scorer.labels


@suffixes
def test_files_packed_one_behind_the_other_are_one_file(
    suffix: str, scorer: Scorer, plain: bytes, tmp_path: Path
) -> None:
    data = PACK[suffix](PLAIN[:1000]) + PACK[suffix](PLAIN[1000:])
    assert UNPACK[suffix](score(scorer, tmp_path / f"in.csv{suffix}", data).read_bytes()) == plain


@suffixes
def test_what_is_not_packed_under_a_packed_name_is_read_as_it_is(
    suffix: str, scorer: Scorer, plain: bytes, tmp_path: Path
) -> None:
    output = score(scorer, tmp_path / f"in.csv{suffix}", PLAIN)
    assert UNPACK[suffix](output.read_bytes()) == plain


@suffixes
def test_what_is_packed_under_a_plain_name_is_unpacked(
    suffix: str, scorer: Scorer, plain: bytes, tmp_path: Path
) -> None:
    assert score(scorer, tmp_path / "in.csv", PACK[suffix](PLAIN)).read_bytes() == plain


@suffixes
def test_rows_before_a_break_are_kept_and_the_break_is_named(suffix: str, scorer: Scorer, tmp_path: Path) -> None:
    noise = os.urandom(1 << 20).hex().encode()
    many = b"text,noise\n" + b"".join(b"a film,%b\n" % noise[at : at + 4096] for at in range(0, len(noise), 4096))
    packed = PACK[suffix](many)
    source = tmp_path / f"in.csv{suffix}"
    source.write_bytes(packed[: len(packed) * 3 // 4])
    output = tmp_path / f"out.csv{suffix}"
    kept = []
    for _ in range(2):
        with pytest.raises(
            UsageError, match=r"damaged or cut off .* -dc .*rows before that, .*kept: .*/\*\.rows"
        ) as error:
            score_file(scorer, str(source), str(output), Options())
        assert not output.exists()
        parts = sorted((tmp_path / f"out.csv{suffix}.parts").glob("*.rows"))
        kept.append(b"".join(part.read_bytes() for part in parts))
        assert f"The {kept[-1].count(b'film'):,} rows" in str(error.value)
    assert kept[0] == kept[1]
    assert kept[0].count(b"film") > 100
    for row, line in zip(kept[0].splitlines(), many.splitlines()[1:], strict=False):
        assert row.startswith(line + b",")


def test_a_packed_file_without_pyarrow_says_what_to_install(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match=r"in\.csv\.zst: .*pip install 'toolchain\[parquet\]'"):
        score(scorer, tmp_path / "in.csv.zst", zstd(PLAIN))
    (tmp_path / "in.csv").write_bytes(PLAIN)
    with pytest.raises(UsageError, match=r"out\.csv\.zst: .*pip install 'toolchain\[parquet\]'"):
        score_file(scorer, str(tmp_path / "in.csv"), str(tmp_path / "out.csv.zst"), Options())
    assert not (tmp_path / "out.csv.zst.parts").exists()


def test_scoring_imports_pyarrow_only_where_it_needs_it(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(PLAIN))
    script = """
import sys
from toolchain.scoring.scorer import Scorer
from toolchain.scoring.job import Options, score_file
with Scorer(sys.argv[1], "cpu") as scorer:
    score_file(scorer, "in.csv.gz", "out.csv.xz", Options())
print(sorted({"pyarrow", "torch", "torchtext", "onnx"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, str(bundle)]
    assert subprocess.check_output(command, cwd=tmp_path, env=environment) == b"[]\n"


# --- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "UTF8"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_another_encoding_comes_out_as_utf_8(
    encoding: str, suffix: str, scorer: Scorer, plain: bytes, tmp_path: Path
) -> None:
    data = PLAIN.decode().encode(encoding)
    source = tmp_path / f"in.csv{suffix}"
    output = score(scorer, source, gzip.compress(data) if suffix else data, Options(encoding=encoding))
    scored = output.read_bytes()
    assert (gzip.decompress(scored) if suffix else scored) == plain


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_known_by_its_mark(encoding: str, scorer: Scorer, plain: bytes, tmp_path: Path) -> None:
    data = ("\ufeff" + PLAIN.decode()).encode(encoding)
    assert score(scorer, tmp_path / "in.csv", data).read_bytes() == plain
    line = '\ufeff{"text": "größe 🎬"}\n'
    scored = score(scorer, tmp_path / "in.jsonl", line.encode(encoding)).read_bytes()
    assert json.loads(scored)["text"] == "größe 🎬"


def test_a_stopped_job_in_another_encoding_goes_on(scorer: Scorer, plain: bytes, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(PLAIN.decode().encode("utf-16"))
    for windows in range(1, 5):
        assert f"{windows * 7} rows" in stop_after(windows * 7, scorer, source, output)
    assert score_file(scorer, str(source), str(output), Options()).resumed == 28
    assert output.read_bytes() == plain


@pytest.mark.parametrize(
    ("encoding", "data", "bad"),
    [
        ("cp1252", b"text\nfine\nbad \x81 byte\ncaf\xe9\n", [3]),
        ("ascii", b"text\nfine\nbad \xe9 byte\nfine\n", [3]),
        ("utf-16", "text\nfine\nbad".encode("utf-16") + b"\x00\xd8" + "\nfine\n".encode("utf-16-le"), [3]),
    ],
)
def test_bytes_that_the_encoding_does_not_know_cost_their_row(
    encoding: str, data: bytes, bad: list[int], scorer: Scorer, tmp_path: Path
) -> None:
    output = score(scorer, tmp_path / "in.csv", data, Options(encoding=encoding))
    assert len(rows(output.read_bytes())) == 2
    rejected = [json.loads(line) for line in (tmp_path / "in.csv.rejected.jsonl").read_bytes().splitlines()]
    assert [reject["line"] for reject in rejected] == bad


def test_an_unknown_encoding_is_wrong_use(scorer: Scorer, tmp_path: Path) -> None:
    for name in ("klingon", "rot13"):
        with pytest.raises(UsageError, match=f"--encoding {name}: .*expected utf-8"):
            score(scorer, tmp_path / "in.csv", PLAIN, Options(encoding=name))


# --- delimiters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("given", [True, False])
def test_the_delimiter_is_found_in_the_header_and_kept(
    delimiter: str, given: bool, scorer: Scorer, tmp_path: Path
) -> None:
    data = f'id{delimiter}text{delimiter}a,b;c\r\n1{delimiter}"a, b; c\t|d"{delimiter}x\r\n'
    if delimiter in ",;":
        data = data.replace("a,b;c", "n")
    output = score(scorer, tmp_path / "in.csv", data.encode(), Options(delimiter=delimiter if given else None))
    head, row, end = output.read_bytes().decode().split("\r\n")
    (scored,) = rows(output.read_bytes(), delimiter)
    assert scored["text"] == "a, b; c\t|d"
    assert head == data.split("\r\n")[0] + delimiter.join(["", "prediction", "confidence"])
    assert row == data.split("\r\n")[1] + delimiter + scored["prediction"] + delimiter + scored["confidence"]
    assert end == ""


def test_the_delimiter_is_the_one_that_shows_the_column_asked_for(scorer: Scorer, tmp_path: Path) -> None:
    output = score(scorer, tmp_path / "in.csv", b"a,b;Rezension\n1;schlecht\n", Options(text_column="Rezension"))
    assert output.read_bytes().startswith(b"a,b;Rezension;prediction;confidence\n1;schlecht;")


def test_a_tsv_has_tabs(scorer: Scorer, tmp_path: Path) -> None:
    output = score(scorer, tmp_path / "in.tsv.gz", gzip.compress(b"a,text\tbody\n1\tfine\n"))
    assert output.name == "in.scored.tsv.gz"
    assert gzip.decompress(output.read_bytes()).startswith(b"a,text\tbody\tprediction\tconfidence\n1\tfine\t")


def test_the_command_takes_an_encoding_and_a_tab(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("a,text\tbody\nx\tcafé\n".encode("latin-1"))
    command = [sys.executable, "-m", "toolchain", "score", "in.csv", "--encoding", "latin-1", "--delimiter", "\\t"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--bundle", str(bundle)], check=True, cwd=tmp_path, env=environment, capture_output=True)
    head, row, _ = (tmp_path / "in.scored.csv").read_text(encoding="utf-8").split("\n")
    assert head == "a,text\tbody\tprediction\tconfidence"
    assert row.startswith("x\tcafé\t")


def test_another_delimiter_is_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"--delimiter xx: expected one character"):
        Options(delimiter="xx")
    for written_in_numbers in (".", "0", "e"):
        with pytest.raises(UsageError, match=r"expected one character, such as"):
            Options(delimiter=written_in_numbers)


# --- many files ------------------------------------------------------------------------------------------------------


def test_folders_and_patterns_stand_for_the_files_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b.csv", "a.jsonl.gz", "c.TSV", "b.scored.csv", "a.scored.jsonl.gz", "b.csv.rejected.jsonl", "notes.md"]
    names += ["e.xlsx", "~$e.xlsx", ".f.txt", "f.txt", "g.pq", "h.txt.gz", "i.csv.zip", "j.tar.gz", "k.tgz"]
    names += ["b.scored.csv.meta.json", "a.scored.jsonl.gz.meta.json"]
    for name in [*names, "deep/d.csv", "[odd].csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b.scored.csv.parts").mkdir()
    monkeypatch.chdir(tmp_path)
    others = ["e.xlsx", "f.txt", "g.pq", "h.txt.gz", "i.csv.zip", "j.tar.gz", "k.tgz"]
    assert expand(["."]) == ["[odd].csv", "a.jsonl.gz", "b.csv", "c.TSV", *others]
    assert expand(["*.csv", "-", "no.csv"]) == ["[odd].csv", "b.csv", "-", "no.csv"]
    assert expand(["**/*.csv"]) == ["[odd].csv", "b.csv", "deep/d.csv"]
    assert expand(["[odd].csv", "b.scored.csv"]) == ["[odd].csv", "b.scored.csv"]
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "*.parquet", "*.scored.csv"):
        with pytest.raises(UsageError, match=r"no file to score in it; expected \.csv"):
            expand([nothing])


def test_a_folder_is_scored_file_by_file_into_a_folder(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.csv").write_bytes(PLAIN)
    (source / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a film"}\n'))
    command = [sys.executable, "-m", "toolchain", "score", str(source), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # the second time beside the first one's outputs
        subprocess.run([*command, "--bundle", str(bundle), "--json"], check=True, env=environment, capture_output=True)
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert [name for name in names if not name.endswith(".meta.json")] == [
            *("a.csv.rejected.jsonl", "a.scored.csv", "b.scored.jsonl.gz")
        ]
        assert len(names) == 5


@pytest.mark.parametrize(
    ("source", "out", "output", "rejects"),
    [
        ("d/r.csv.gz", None, "d/r.scored.csv.gz", "d/r.csv.gz.rejected.jsonl"),
        ("r.tar.csv", None, "r.tar.scored.csv", "r.tar.csv.rejected.jsonl"),
        ("r.csv", "o.csv.xz", "o.csv.xz", "o.csv.xz.rejected.jsonl"),
        ("r.CSV.GZ", None, "r.scored.CSV.GZ", "r.CSV.GZ.rejected.jsonl"),
        ("-", "o.jsonl.zst", "o.jsonl.zst", "o.jsonl.zst.rejected.jsonl"),
    ],
)
def test_outputs_are_named_after_their_inputs(source: str, out: str | None, output: str, rejects: str) -> None:
    assert output_path(source, out, many=False) == output
    assert str(rejects_path(Kind.of(source), Kind.of(output))) == rejects


def test_a_summary_names_the_packed_files(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(PLAIN))
    output = str(tmp_path / "in.scored.csv.gz")
    summary: Summary = score_file(scorer, str(tmp_path / "in.csv.gz"), output, Options())
    assert (summary.rows, summary.scored, summary.rejected) == (60, 54, 6)
    assert summary.rejects == str(tmp_path / "in.csv.gz.rejected.jsonl")
