"""What a killed, stopped or damaged scoring job promises: nothing is lost twice, and the end is the undisturbed one."""

import csv
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

import toolchain.scoring.job
from tests.stopping import stop_after
from toolchain.cli.app import app
from toolchain.corpus.reviews import read_reviews
from toolchain.errors import UsageError
from toolchain.files.outputs import record_path
from toolchain.scoring.job import Interrupted, JobProgress, Options, Summary, score_file
from toolchain.scoring.journal import JOURNAL
from toolchain.scoring.scorer import Scorer, Scores

ROWS = 12_000
WINDOW = 200
# How often a job is killed, by the ending of its input, and when: the windows before, and seconds behind them.
KILLED = {".csv": 4, ".jsonl": 4, ".csv.gz": 4, ".jsonl.gz": 4, ".parquet": 3}
MOMENTS = random.Random(0)
# A job that sends itself a signal: some seconds after its journal names so many windows.
STOPPED_JOB = """
import os, sys, threading, time, toolchain.scoring.job
from pathlib import Path
from toolchain.cli.app import app

def stop(journal, windows, delay, number):
    while not journal.exists() or journal.read_bytes().count(b"\\n") <= windows:
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(os.getpid(), number)

journal, window, windows, delay, number = sys.argv[1:6]
toolchain.scoring.job.WINDOW_ROWS = int(window)
threading.Thread(target=stop, args=(Path(journal), int(windows), float(delay), int(number)), daemon=True).start()
app(["score", *sys.argv[6:]], prog_name="toolchain")
"""

TIME = "1700000000"
"""`SOURCE_DATE_EPOCH` of every run: the time in a record is all in which two of them differ."""


def write_rows(path: Path, texts: list[str], rows: int) -> Path:
    """`rows` rows that repeat the first words of `texts`; every 50th has no text."""
    values = [
        (number, "" if number % 50 == 7 else " ".join(texts[number % len(texts)].split()[:6])) for number in range(rows)
    ]
    if path.suffix == ".parquet":
        table = pyarrow.table(dict(zip(("id", "text"), map(list, zip(*values, strict=True)), strict=True)))
        pyarrow.parquet.write_table(table, path, row_group_size=WINDOW * 7 // 2)
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in path.suffixes:
            csv.writer(file, lineterminator="\n").writerows([("id", "text"), *values])
        else:
            file.writelines(json.dumps({"id": number, "text": text}) + "\n" for number, text in values)
    return path


def score(*arguments: str | Path, window: int = WINDOW) -> Result:
    """`toolchain score` with small windows, from its beginning or from where a process left it to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toolchain.scoring.job, "WINDOW_ROWS", window)
        patch.setenv("SOURCE_DATE_EPOCH", TIME)
        return CliRunner().invoke(app, ["score", *map(str, arguments)])


def stopped(
    source: Path, output: Path, bundle: Path, number: signal.Signals, windows: int, delay: float = 0.0
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, which gets a signal `delay` seconds after that many windows are finished."""
    moment = (parts(output) / JOURNAL, WINDOW, windows, delay, int(number))
    return subprocess.run(
        [sys.executable, "-c", STOPPED_JOB, *map(str, (*moment, source, "-o", output, "--bundle", bundle))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
            "SOURCE_DATE_EPOCH": TIME,
        },
    )


def parts(output: Path) -> Path:
    return output.with_name(output.name + ".parts")


def rejects(output: Path) -> Path:
    return output.with_name(output.name + ".rejected.jsonl")


@pytest.fixture(scope="module")
def texts(sample_csv: Path) -> list[str]:
    return read_reviews(sample_csv).texts


@pytest.fixture(scope="module")
def undisturbed(bundle: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By file ending: a folder with `in`, and with `out` and its rejects as a run that nothing stopped wrote them."""
    folders = {}
    for suffix in KILLED:
        folders[suffix] = tmp_path_factory.mktemp("undisturbed")
        source, output = folders[suffix] / f"in{suffix}", folders[suffix] / f"out{suffix}"
        done = score(write_rows(source, texts, ROWS), "-o", output, "--bundle", bundle)
        assert done.exit_code == 0, done.stderr
        if suffix == ".parquet":
            assert pyarrow.parquet.read_metadata(output).num_rows == ROWS - ROWS // 50
            continue
        scored = gzip.decompress(output.read_bytes()) if suffix.endswith(".gz") else output.read_bytes()
        assert scored.count(b"\n") == ROWS - ROWS // 50 + (".csv" in suffix)
    return folders


@pytest.mark.parametrize(
    ("suffix", "windows", "delay"),
    [
        (suffix, windows, MOMENTS.uniform(0, 0.01))
        for suffix, times in KILLED.items()
        for windows in sorted(MOMENTS.sample(range(1, ROWS // WINDOW * 3 // 4), times))
    ],
)
def test_a_killed_job_goes_on_where_it_was_and_ends_as_an_undisturbed_one(
    suffix: str, windows: int, delay: float, bundle: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    source, output = undisturbed[suffix] / f"in{suffix}", tmp_path / f"out{suffix}"
    killed = stopped(source, output, bundle, signal.SIGKILL, windows, delay)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists()
    assert not rejects(output).exists()

    again = score(source, "-o", output, "--bundle", bundle, "--json")
    assert again.exit_code == 0, again.stderr
    (summary,) = json.loads(again.stdout)
    assert windows * WINDOW <= summary["resumed"] < ROWS
    assert (summary["rows"], summary["scored"], summary["rejected"]) == (ROWS, ROWS - ROWS // 50, ROWS // 50)
    assert output.read_bytes() == (undisturbed[suffix] / output.name).read_bytes()
    assert not parts(output).exists()
    if suffix != ".parquet":
        recorded = [record_path(each).read_bytes() for each in (output, undisturbed[suffix] / output.name)]
        assert recorded[0] == recorded[1]
    lines = [json.loads(line) for line in rejects(output).read_bytes().splitlines()]
    assert lines == [json.loads(line) for line in rejects(undisturbed[suffix] / output.name).read_bytes().splitlines()]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_job_says_how_to_go_on_and_goes_on(
    number: signal.Signals, status: int, bundle: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    source, output = undisturbed[".csv"] / "in.csv", tmp_path / "out.csv"
    ended = stopped(source, output, bundle, number, windows=5)
    assert ended.returncode == status
    assert "interrupted:" in ended.stderr
    assert "run the same command again to continue" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not output.exists()

    again = score(source, "-o", output, "--bundle", bundle)
    assert again.exit_code == 0, again.stderr
    assert "from an interrupted run" in again.stderr
    assert output.read_bytes() == (undisturbed[".csv"] / "out.csv").read_bytes()
    assert not parts(output).exists()


# --- an unfinished run of ten windows, in this process ---------------------------------------------------------------


class Unfinished:
    """A folder with a job of ten windows of which a run has finished five before it was stopped."""

    def __init__(self, folder: Path, bundle: Path, texts: list[str]) -> None:
        self.bundle = shutil.copytree(bundle, folder / "bundle")
        self.source = write_rows(folder / "in.csv", texts, 500)
        self.output = folder / "out.csv"
        self.expected = folder / "expected.csv"
        self.run(output=self.expected)
        self.stop_after(250)
        assert parts(self.output).is_dir()
        assert not self.output.exists()

    def run(self, options: Options | None = None, output: Path | None = None) -> Summary:
        with Scorer(self.bundle, "cpu") as scorer:
            return score_file(scorer, str(self.source), str(output or self.output), options or Options())

    def stop_after(self, rows: int) -> None:
        with Scorer(self.bundle, "cpu") as scorer:
            assert f"{rows} rows" in stop_after(rows, scorer, self.source, self.output)

    def is_as_expected(self) -> bool:
        return self.output.read_bytes() == self.expected.read_bytes() and not parts(self.output).exists()


@pytest.fixture
def unfinished(bundle: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unfinished:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 50)
    return Unfinished(tmp_path, bundle, texts)


def test_a_stopped_run_goes_on_with_the_windows_that_are_missing(unfinished: Unfinished) -> None:
    assert unfinished.run().resumed == 250
    assert unfinished.is_as_expected()


def test_a_run_that_was_stopped_behind_its_last_window_has_only_the_joining_left(unfinished: Unfinished) -> None:
    unfinished.stop_after(500)
    assert not unfinished.output.exists()
    assert unfinished.run().resumed == 500
    assert unfinished.is_as_expected()


def test_a_job_stopped_again_and_again_comes_to_its_end(unfinished: Unfinished) -> None:
    for windows in range(6, 11):
        unfinished.stop_after(windows * 50)
    assert unfinished.run().resumed == 500
    assert unfinished.is_as_expected()


class OneBatch(Scorer):
    """Answers one batch; the others wait until they may."""

    may, begun = threading.Event(), 0

    def _run(self, session: Any, texts: list[str]) -> Scores:
        self.begun += 1
        if self.begun > 1:
            assert self.may.wait(60)
        return super()._run(session, texts)


def test_a_stop_waits_for_batches_and_not_for_windows(
    bundle: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 500)
    source, output = write_rows(tmp_path / "in.csv", texts, 1000), tmp_path / "out.csv"
    seen: list[JobProgress] = []
    scorer = OneBatch(bundle, "cpu", threads=1)
    with scorer:
        # 10 of each window are rejected, which is known at once.
        with pytest.raises(Interrupted, match=r"^0 rows of .* are done and kept"):
            score_file(scorer, str(source), str(output), Options(), seen.append, lambda: seen[-1].rows > 20)
        scorer.may.set()
    assert 0 < seen[-1].done < source.stat().st_size
    assert scorer.begun <= 2  # batches of sixteen
    with Scorer(bundle, "cpu") as again:
        assert score_file(again, str(source), str(output), Options()).scored == 980


def test_a_resumed_run_begins_its_bar_where_it_goes_on(unfinished: Unfinished) -> None:
    seen: list[JobProgress] = []
    with Scorer(unfinished.bundle, "cpu") as scorer:
        score_file(scorer, str(unfinished.source), str(unfinished.output), Options(), seen.append)
    size = unfinished.source.stat().st_size
    assert (seen[0].rows, seen[0].finished, seen[0].resumed) == (250, 250, 250)
    assert 0.4 < seen[0].done / size < 0.6
    assert (seen[-1].done, seen[-1].total, seen[-1].rows) == (size, size, 500)
    assert [each.rows for each in seen] == sorted(each.rows for each in seen)


def _cut_last_line(folder: Path) -> None:
    journal = folder / JOURNAL
    os.truncate(journal, journal.stat().st_size - 10)


def _tear_line(folder: Path) -> None:
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'{"window": 5, "sco')


def _zero_line(folder: Path) -> None:
    with (folder / JOURNAL).open("ab") as file:
        file.write(b"\0" * 100 + b"\n")


def _cut_first_line(folder: Path) -> None:
    os.truncate(folder / JOURNAL, 10)


def _empty_journal(folder: Path) -> None:
    os.truncate(folder / JOURNAL, 0)


def _no_journal(folder: Path) -> None:
    (folder / JOURNAL).unlink()


def _cut_part(folder: Path) -> None:
    part = folder / "000000003.rows"
    os.truncate(part, part.stat().st_size - 5)


def _no_part(folder: Path) -> None:
    (folder / "000000000.rejects").unlink()


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (_cut_last_line, 200),
        (_tear_line, 250),
        (_zero_line, 250),
        (_cut_first_line, 0),
        (_empty_journal, 0),
        (_no_journal, 0),
        (_cut_part, 150),
        (_no_part, 0),
    ],
)
def test_damaged_parts_are_made_again_and_whole_ones_kept(
    unfinished: Unfinished, damage: Callable[[Path], None], kept: int
) -> None:
    damage(parts(unfinished.output))
    unfinished.stop_after(kept + 50)
    assert unfinished.run().resumed == kept + 50
    assert unfinished.is_as_expected()


def _longer_input(unfinished: Unfinished) -> Options:
    with unfinished.source.open("a") as file:
        file.write("500,one more\n")
    return Options()


def _input_of_the_same_length(unfinished: Unfinished) -> Options:
    data = bytearray(unfinished.source.read_bytes())
    data[-3] ^= 1
    unfinished.source.write_bytes(data)
    return Options()


def _other_model(unfinished: Unfinished) -> Options:
    manifest = unfinished.bundle / "manifest.json"
    values: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    values["training"]["recipe"] = "another"
    manifest.write_text(json.dumps(values), encoding="utf-8")
    return Options()


def _other_column(unfinished: Unfinished) -> Options:
    return Options(text_column="id")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_longer_input, "another input contents"),
        (_input_of_the_same_length, "another input contents"),
        (_other_model, "another model"),
        (_other_column, "another text column"),
    ],
)
def test_parts_of_another_job_are_refused_and_kept_until_told_to_start_over(
    unfinished: Unfinished, change: Callable[[Unfinished], Options], reason: str
) -> None:
    options = change(unfinished)
    before = (parts(unfinished.output) / JOURNAL).read_bytes()
    with pytest.raises(UsageError, match=f"{reason}.*--no-resume"):
        unfinished.run(options)
    assert (parts(unfinished.output) / JOURNAL).read_bytes() == before
    assert not unfinished.output.exists()
    fresh = Options(text_column=options.text_column, resume=False)
    assert unfinished.run(fresh).resumed == 0
    unfinished.run(fresh, output=unfinished.expected)
    assert unfinished.is_as_expected()


def test_the_command_refuses_another_job_with_status_2_and_starts_over_when_told(unfinished: Unfinished) -> None:
    _longer_input(unfinished)
    arguments: list[str | Path] = [unfinished.source, "-o", unfinished.output, "--bundle", unfinished.bundle, "--quiet"]
    refused = score(*arguments, window=50)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error:")
    assert refused.stderr.count("\n") == 1
    assert "another input contents" in refused.stderr
    started_over = score(*arguments, "--no-resume", window=50)
    assert (started_over.exit_code, started_over.output) == (0, "")
    assert unfinished.output.read_bytes().count(b"\n") == 1 + 501 - 10
    assert not parts(unfinished.output).exists()
