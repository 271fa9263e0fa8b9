"""What scoring promises at night: whatever the file and the disk do, memory is bounded, the end is clear, and every
good row is scored or can be had again."""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

import toolchain.scoring.job
from toolchain.cli.app import app

MEGABYTE = 1 << 20
# What a run may need beyond one over a few short rows.
ROOM = 160 * MEGABYTE
LIMITED = """
import atexit, re, resource, sys, toolchain.scoring.job
from toolchain.cli.app import app

@atexit.register
def say_peak():  # of this process alone: `ru_maxrss` begins with what the process that started it held
    with open("/proc/self/status") as status:
        print("peak", int(re.search(r"VmHWM:\\s*(\\d+)", status.read())[1]) * 1024, file=sys.stderr)

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
toolchain.scoring.job.WINDOW_ROWS = int(sys.argv[2])
app(["score", *sys.argv[3:]], prog_name="toolchain")
"""


@dataclass(frozen=True)
class Ended:
    """How a job ended; `peak` is the largest resident size in bytes of a process of its own."""

    status: int
    messages: str
    peak: int = 0


def start(
    bundle: Path, *arguments: str | Path, window: int = 4096, largest: int = resource.RLIM_INFINITY, stdin: int = -3
) -> subprocess.Popen[bytes]:
    """`toolchain score` in a process of its own that can write files up to `largest` bytes."""
    values = (str(largest), str(window), *map(str, arguments), "--bundle", str(bundle), "--provider", "cpu")
    return subprocess.Popen(
        [sys.executable, "-c", LIMITED, *values],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[bytes]) -> Ended:
    _, output = process.communicate(timeout=120)
    messages, _, peak = output.decode().rpartition("peak ")
    assert "Traceback" not in messages
    return Ended(process.returncode, messages, int(peak))


def score_apart(
    bundle: Path, *arguments: str | Path, window: int = 4096, largest: int = resource.RLIM_INFINITY
) -> Ended:
    return end(start(bundle, *arguments, window=window, largest=largest))


def score(bundle: Path, *arguments: str | Path, window: int = 4096) -> Ended:
    """`toolchain score` in this process."""
    command = ["score", *map(str, arguments), "--bundle", str(bundle), "--provider", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toolchain.scoring.job, "WINDOW_ROWS", window)
        result = CliRunner().invoke(app, command)
    assert "Traceback" not in result.stderr
    return Ended(result.exit_code, result.stderr)


def score_stream(bundle: Path, write: Callable[[IO[bytes]], object], *arguments: str | Path) -> Ended:
    """Score what `write` gives to the standard input while the job runs."""
    process = start(bundle, "-", *arguments, stdin=subprocess.PIPE)
    assert process.stdin is not None
    write(process.stdin)
    return end(process)


def error_line(ended: Ended) -> str:
    (line,) = [line for line in ended.messages.splitlines() if line.startswith("error:")]
    return line


def rejected(path: Path) -> list[tuple[int, str]]:
    """Line and reason of the rejects."""
    values = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [(value["line"], value["reason"]) for value in values]


def texts(output: bytes) -> list[str]:
    """The first column."""
    return [line.split(",")[0] for line in output.decode().splitlines()[1:]]


@pytest.fixture(scope="module")
def usual_peak(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The peak memory of a run over two short rows."""
    source = tmp_path_factory.mktemp("usual") / "in.csv"
    source.write_bytes(b"text\na film\nanother\n")
    ended = score_apart(bundle, source)
    assert ended.status == 0
    return ended.peak


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "row", "tail", "name"),
    [
        (b"text,n\nfirst,1\n", (b"", b"w" * MEGABYTE, b",2\n"), b"last,3\n", "out.csv"),
        (b"text,n\nfirst,1\n", (b'"', (b"quoted " * 585 + b"\n") * 256, b'",2\n'), b"last,3\n", "out.csv"),
        (b'{"text":"first"}\n', (b'{"text":"', b"w" * MEGABYTE, b'"}\n'), b'{"text":"last"}\n', "out.jsonl"),
    ],
    ids=["csv", "csv with line ends in quotes", "jsonl"],
)
def test_a_row_of_200_megabytes_costs_itself_and_no_memory(
    head: bytes, row: Sequence[bytes], tail: bytes, name: str, bundle: Path, usual_peak: int, tmp_path: Path
) -> None:
    def write(stream: IO[bytes]) -> None:
        stream.write(head + row[0])
        for _ in range(200):
            stream.write(row[1])
        stream.write(row[2] + tail)

    output = tmp_path / name
    ended = score_stream(bundle, write, "-o", output, "--max-rejects", "100%", "--max-row-bytes", str(4 * MEGABYTE))
    assert ended.status == 0, ended.messages
    scored = output.read_bytes()
    assert b"first" in scored
    assert b"last" in scored
    with (tmp_path / f"{name}.rejected.jsonl").open() as rejects:
        reject = json.loads(next(rejects))
    assert reject["line"] == head.count(b"\n") + 1
    assert "4194304 bytes" in reject["reason"]
    assert ended.peak - usual_peak < ROOM


def test_a_million_words_in_one_review_are_scored(bundle: Path, usual_peak: int, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"text\nfirst\n" + b"clever film " * 500_000 + b"\nlast\n")
    ended = score_apart(bundle, source, "-o", output)
    assert ended.status == 0, ended.messages
    first, giant, last = texts(output.read_bytes())
    assert (first, last) == ("first", "last")
    assert giant.count("film") == 500_000
    assert ended.peak - usual_peak < 2 * ROOM


def test_a_row_limit_rejects_what_is_over_it(bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"text\n" + b"w" * 2047 + b"\n" + b"w" * 2048 + b"\nlast\n")
    assert score(bundle, source, "-o", output, "--max-row-bytes", "2048", "--max-rejects", "1").status == 0
    assert texts(output.read_bytes()) == ["w" * 2047, "last"]
    assert rejected(tmp_path / "out.csv.rejected.jsonl") == [(3, "longer than 2048 bytes, the limit for a row")]


def test_an_unclosed_quote_on_line_3_costs_line_3_where_quotes_quote(bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b'text,n\n"first",1\n"open,2\n' + b"".join(b"film %d,3\n" % n for n in range(5000)))
    assert score(bundle, source, "-o", output).status == 0
    assert texts(output.read_bytes()) == ['"first"', *(f"film {number}" for number in range(5000))]
    assert [line for line, _ in rejected(tmp_path / "out.csv.rejected.jsonl")] == [3]


def test_u_0000_is_read_as_a_space_and_passes_through(bundle: Path, tmp_path: Path) -> None:
    answers = []
    for name, mark in (("zero.csv", b"\0"), ("space.csv", b" ")):
        source, output = tmp_path / name, tmp_path / f"out-{name}"
        source.write_bytes(b"text,n\na%bclever%bfilm,1\n%b,2\nlast,3\n" % (mark, mark, mark))
        assert score(bundle, source, "-o", output, "--max-rejects", "50%").status == 0
        rows = output.read_bytes().splitlines()[1:]
        assert rows[0].startswith(b"a%bclever%bfilm,1," % (mark, mark))
        answers.append([row.split(b",")[2:] for row in rows])
        assert [line for line, _ in rejected(tmp_path / f"out-{name}.rejected.jsonl")] == [3]
    assert answers[0] == answers[1]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"text":"a\\u0000clever\\u0000film"}\n')
    assert score(bundle, source, "-o", output).status == 0
    assert output.read_bytes().startswith(b'{"text":"a\\u0000clever\\u0000film","prediction":')


def test_json_nested_100_000_deep_is_rejected(bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    deep = [
        b'{"text":"deep","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 100_000,
    ]
    source.write_bytes(b'{"text":"first"}\n' + b"\n".join(deep) + b'\n{"text":"last"}\n')
    ended = score_apart(bundle, source, "-o", output, "--max-rejects", "100%")
    assert ended.status == 0, ended.messages
    assert [json.loads(line)["text"] for line in output.read_bytes().splitlines()] == ["first", "last"]
    assert [line for line, _ in rejected(tmp_path / "out.jsonl.rejected.jsonl")] == [2, 3, 4]


# --- packed files ----------------------------------------------------------------------------------------------------


def zeros(path: Path, head: bytes, megabytes: int, tail: bytes) -> Path:
    """A small file that unpacks to many zeros between `head` and `tail`: gzip members may follow one another."""
    member = gzip.compress(b"\0" * (64 * MEGABYTE), 9)
    path.write_bytes(gzip.compress(head) + member * (megabytes // 64) + gzip.compress(tail))
    assert path.stat().st_size < megabytes * MEGABYTE / 900
    return path


def test_a_gzip_bomb_costs_one_row_and_no_memory(bundle: Path, usual_peak: int, tmp_path: Path) -> None:
    source = zeros(tmp_path / "in.csv.gz", b"text,n\nfirst,1\n", 512, b"\nlast,2\n")
    ended = score_apart(bundle, source, "--max-rejects", "50%")
    assert ended.status == 0, ended.messages
    assert texts(gzip.decompress((tmp_path / "in.scored.csv.gz").read_bytes())) == ["first", "last"]
    ((line, reason),) = rejected(tmp_path / "in.csv.gz.rejected.jsonl")
    assert (line, reason) == (3, "longer than 16777216 bytes, the limit for a row")
    assert ended.peak - usual_peak < ROOM


def test_a_gzip_bomb_without_a_header_is_wrong_use(bundle: Path, usual_peak: int, tmp_path: Path) -> None:
    ended = score_apart(bundle, zeros(tmp_path / "in.csv.gz", b"", 512, b""))
    assert ended.status == 2
    assert "line 1 is not a CSV header" in error_line(ended)
    assert ended.peak - usual_peak < ROOM
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv.gz"]


def test_a_cut_gzip_keeps_its_good_rows_and_says_where_it_breaks(bundle: Path, tmp_path: Path) -> None:
    noise = os.urandom(MEGABYTE).hex()
    lines = [f"film {number},{noise[number * 500 : number * 500 + 500]}" for number in range(4000)]
    packed = gzip.compress("\n".join(["text,noise", *lines, ""]).encode())
    (tmp_path / "in.csv.gz").write_bytes(packed[: len(packed) // 2])
    for _ in range(2):  # again, and nothing is scored twice
        ended = score(bundle, tmp_path / "in.csv.gz", window=500)
        assert ended.status == 2
        line = error_line(ended)
        parts = sorted((tmp_path / "in.scored.csv.gz.parts").glob("*.rows"))
        kept = b"".join(path.read_bytes() for path in parts).decode().splitlines()
        assert f"The {len(kept):,} rows before that, to line {len(kept) + 1:,}, are scored and kept" in line
        assert "gzip -dc" in line
        assert 1800 < len(kept) < 2200
        assert all(row.startswith(start + ",") for row, start in zip(kept, lines, strict=False))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv.gz", "in.scored.csv.gz.parts"]


def test_a_cut_stream_of_gzip_keeps_nothing_and_says_so(bundle: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "in.csv.gz"
    os.mkfifo(pipe)
    process = start(bundle, pipe, "-o", tmp_path / "out.csv")
    pipe.write_bytes(gzip.compress(b"text\n" + os.urandom(MEGABYTE).hex().encode())[:-1000])
    ended = end(process)
    assert ended.status == 2
    assert "this input cannot be resumed" in error_line(ended)
    assert list(tmp_path.iterdir()) == [pipe]


# --- what happens around the file ------------------------------------------------------------------------------------


def test_a_file_that_grows_is_scored_as_it_was_when_it_was_opened(bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"text\n" + b"a film\n" * 20_000)
    process = start(bundle, source, "-o", output, window=500)
    with source.open("ab", buffering=0) as file:
        while process.poll() is None and not output.exists():
            if (tmp_path / "out.csv.parts").exists():
                file.write(b"another\n" * 100)
            time.sleep(0.002)
    ended = end(process)
    assert ended.status == 0, ended.messages
    assert source.stat().st_size > len(b"text\n" + b"a film\n" * 20_000)
    assert texts(output.read_bytes()) == ["a film"] * 20_000
    assert "20,000 rows: 20,000 scored, 0 rejected" in ended.messages


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.csv.xz", "out.csv.zst"])
def test_a_full_disk_ends_in_one_line_and_the_job_goes_on_when_there_is_room(
    name: str, bundle: Path, tmp_path: Path
) -> None:
    noise = os.urandom(60_000).hex()
    rows = [f"film {number},{noise[number * 40 : number * 40 + 40]}" for number in range(3000)]
    source = tmp_path / "in.csv"
    source.write_text("\n".join(["text,noise", *rows, ""]))
    undisturbed, output = tmp_path / f"undisturbed.{name}", tmp_path / name
    assert score(bundle, source, "-o", undisturbed, window=500).status == 0
    # A part of 500 rows has 30 to 40 KB, the output twice as much and more: the first fails in a part, the second in
    # joining them.
    for largest in (20_000, 60_000):
        ended = score_apart(bundle, source, "-o", output, window=500, largest=largest)
        assert ended.status == 2, ended.messages
        assert "File too large" in error_line(ended)
        assert "make room" in error_line(ended)
        assert not output.exists()
    ended = score(bundle, source, "-o", output, window=500)
    assert ended.status == 0, ended.messages
    assert "3,000 of them from an interrupted run" in ended.messages
    assert output.read_bytes() == undisturbed.read_bytes()
    assert not (tmp_path / f"{name}.parts").exists()


def test_a_journal_that_the_disk_cuts_short_is_mended(bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"text\n" + b"a film\n" * 200)
    for largest in (1800, 2300, 2600):
        ended = score_apart(bundle, source, "-o", output, window=10, largest=largest)
        assert ended.status == 2, ended.messages
        assert "File too large" in error_line(ended)
    ended = score(bundle, source, "-o", output, window=10)
    assert ended.status == 0, ended.messages
    assert "from an interrupted run" in ended.messages
    assert texts(output.read_bytes()) == ["a film"] * 200


@pytest.mark.parametrize("folder", ["file/deeper", "/proc/nowhere"])
def test_an_output_folder_that_cannot_be_written_is_named(folder: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    source = tmp_path / "in.csv"
    source.write_bytes(b"text\na film\n")
    ended = score(bundle, source, "-o", tmp_path / folder / "out.csv")
    assert ended.status == 2
    assert f"{tmp_path / folder}: cannot write here" in error_line(ended)
    assert "-o" in error_line(ended)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in.csv"]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    os.mkfifo(path)
    return path


def test_a_fifo_is_scored_as_a_file(bundle: Path, pipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    process = start(bundle, pipe, "-o", output)
    pipe.write_bytes(b"text\n" + b"a film\n" * 10_000)
    ended = end(process)
    assert ended.status == 0, ended.messages
    assert texts(output.read_bytes()) == ["a film"] * 10_000


def test_a_fifo_cannot_be_resumed_and_an_interrupted_job_says_so(bundle: Path, pipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    process = start(bundle, pipe, "-o", output, window=500)
    ended = threading.Event()

    def feed() -> None:
        try:
            with pipe.open("wb") as stream:
                stream.write(b"text\n")
                while not ended.is_set():
                    stream.write(b"a film\n" * 500)
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    journal = tmp_path / "out.csv.parts" / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    result = end(process)
    ended.set()
    feeder.join()
    assert result.status == 130, result.messages
    assert "interrupted:" in result.messages
    assert "nothing was kept, this input cannot be resumed" in result.messages
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
