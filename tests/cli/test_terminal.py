"""What a person sees in a terminal, and what a log or a script gets instead."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from toolchain.cli import progress, terminal
from toolchain.cli.app import app
from toolchain.look import opening
from toolchain.scoring.default import BOX
from toolchain.scoring.job import JobProgress

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
COLOR = re.compile(r"\x1b\[[\d;]*3[0-7]")
PASS = """
import time
from toolchain.cli.progress import progress
for _ in progress(range(200), "a pass"):
    time.sleep(0.01)
"""


def environment(**variables: str) -> dict[str, str]:
    """That of a process which asks for nothing in particular, and these."""
    unasked = {"COLUMNS", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS"}
    kept = {name: value for name, value in os.environ.items() if name not in unasked}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **variables}


def _take_terminal() -> None:
    """Of a new process: the terminal is its own, and Ctrl-C reaches it even where the tests run in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command on a pseudo-terminal, with what it has shown so far."""

    def __init__(self, *command: str | Path, columns: int = 80, cwd: Path | None = None, **variables: str) -> None:
        self._screen, keyboard = pty.openpty()
        self.resize(columns)
        self._process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            cwd=cwd,
            env=environment(**variables),
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(keyboard)
        self.shown = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def wait_for(self, text: str) -> None:
        while text not in self.shown:
            part = self._read()
            assert part, f"it ended without {text!r}: {self.shown}"

    def finish(self) -> int:
        """Its exit status, after everything was shown."""
        while self._read():
            pass
        os.close(self._screen)
        return self._process.wait()

    def _read(self) -> str:
        try:
            part = os.read(self._screen, 65536).decode(errors="replace")
        except OSError:  # Linux: the other side is closed
            part = ""
        self.shown += part
        return part


def piped(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command whose output nobody watches."""
    return subprocess.run(
        [sys.executable, "-m", "toolchain", *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """A command in this process: exit status, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            app([str(argument) for argument in arguments], prog_name="toolchain")
        assert isinstance(stop.value.code, int)
        return stop.value.code, *capsys.readouterr()

    yield run
    terminal.be_quiet(False)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text("review,label\na dull film,neg\nan elegant film,pos\n", encoding="utf-8")
    return path


# --- in a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "colored", "bare"),
    [({}, True, False), ({"NO_COLOR": "1"}, False, False), ({"TERM": "dumb"}, False, True)],
    ids=["as it is", "NO_COLOR", "a dumb one"],
)
def test_colour_is_for_a_terminal_that_wants_it(
    tmp_path: Path, variables: dict[str, Any], colored: bool, bare: bool
) -> None:
    terminal = Terminal("-m", "toolchain", "inspect", tmp_path / "none", **variables)
    assert terminal.finish() == 2
    assert "error:" in terminal.shown
    assert bool(COLOR.search(terminal.shown)) == colored
    assert ("\x1b" not in terminal.shown) == bare


def test_a_bar_shows_how_far_it_is_and_leaves_nothing_behind() -> None:
    terminal = Terminal("-c", f"{PASS}\nfrom toolchain.cli.terminal import say\nsay('2 rows: 2 scored')")
    assert terminal.finish() == 0
    hidden, back = terminal.shown.find("\x1b[?25l"), terminal.shown.rfind("\x1b[?25h")
    assert 0 <= hidden < terminal.shown.find("━") < back
    assert "━" not in terminal.shown[back:]
    assert "2 rows: 2 scored" in terminal.shown[back:]


def test_a_pass_that_is_over_at_once_draws_no_bar(reviews: Path) -> None:
    terminal = Terminal("-m", "toolchain", "score", reviews)
    assert terminal.finish() == 0
    assert "2 rows: 2 scored" in terminal.shown
    assert "\x1b" not in terminal.shown


def test_a_bar_erases_the_line_that_a_narrower_terminal_folded() -> None:
    terminal = Terminal("-c", PASS, columns=70)
    terminal.wait_for("━")
    terminal.resize(24)
    assert terminal.finish() == 0
    assert "\x1b[1A\x1b[2K" in terminal.shown


@pytest.mark.parametrize("arguments", [["inspect", BOX], ["score", "reviews.csv", "--dry-run"], ["score", "--help"]])
def test_a_narrow_terminal_is_enough(reviews: Path, arguments: list[str | Path]) -> None:
    terminal = Terminal("-m", "toolchain", *arguments, columns=40, cwd=reviews.parent)
    assert terminal.finish() == 0
    assert "Traceback" not in terminal.shown
    lines = terminal.shown.split("Options:")[-1].splitlines()  # of the help, what stands behind the examples
    tables = [line for line in lines if "│" in line or "--help" in arguments]
    assert tables
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in tables) <= 40


def test_ctrl_c_during_an_export_leaves_the_bundle_as_it_was(snapshot_folder: Path, tmp_path: Path) -> None:
    terminal = Terminal("-m", "toolchain", "export", "--snapshot", snapshot_folder, cwd=tmp_path)
    terminal.wait_for("agrees")
    terminal.type(b"\x03")
    assert terminal.finish() == 130
    assert "interrupted:" in terminal.shown
    assert "nothing was published, bundle is as it was" in terminal.shown
    assert list(tmp_path.iterdir()) == []


TWICE = """
import os, signal
from toolchain.cli.stopping import StopSignals
with StopSignals() as stop:
    stop.kept = "4,096 rows are done and kept"
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        print("asked to stop:", stop.requested(), flush=True)
"""


def test_a_second_ctrl_c_ends_at_once_and_says_what_was_kept() -> None:
    terminal = Terminal("-c", TWICE)
    assert terminal.finish() == -signal.SIGINT
    assert terminal.shown.count("asked to stop: True") == 1
    assert "4,096 rows are done and kept" in terminal.shown


def test_ctrl_c_during_a_command_that_writes_nothing_says_so(onnx_bundle: Path) -> None:
    terminal = Terminal("-m", "toolchain", "bench", "--bundle", onnx_bundle, "--rows", "100", "--rounds", "1000")
    terminal.wait_for("round 1 of 1000")
    terminal.type(b"\x03")
    assert terminal.finish() == 130
    assert "interrupted:" in terminal.shown
    assert "nothing was written" in terminal.shown


# --- in a log or a script --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["inspect", BOX], ["score", "reviews.csv", "--label-column", "label"]])
def test_a_log_gets_whole_lines_and_no_control_sequences(reviews: Path, arguments: list[str | Path]) -> None:
    done = piped(*arguments, cwd=reviews.parent)
    assert done.returncode == 0, done.stderr
    assert not CONTROL.search(done.stdout + done.stderr)


def test_a_table_in_a_pipe_is_as_wide_as_what_is_in_it() -> None:
    shown = piped("inspect", BOX).stdout.splitlines()
    assert max(map(len, shown)) > 80
    names = [line.split("│")[1].strip() for line in shown if line.startswith("│")]
    assert len(names) >= 10
    assert all(names)  # a line that was folded has no name


def test_a_long_job_says_how_far_it_is_now_and_then(run: Run, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.0)
    status, _, said = run("score", reviews, "--bundle", BOX)
    assert status == 0
    assert re.search(rf"^{re.escape(str(reviews))}: 100%, 2 rows, \d+ s$", said, re.MULTILINE)
    assert list(progress.progress([1, 2], "epoch 1")) == [1, 2]


def test_an_estimate_is_of_what_this_run_has_done(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.0)
    clock = iter([100.0, 100.0, 110.0, *[120.0] * 99])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    shown = progress.Progress("in.csv")
    shown.update_scoring(JobProgress(done=50, total=100, rows=5, finished=5, resumed=5, kept=""))
    shown.update_scoring(JobProgress(done=60, total=100, rows=6, finished=5, resumed=5, kept=""))
    assert capsys.readouterr().err.splitlines() == [
        "in.csv: goes on after 5 rows of an interrupted run",
        "in.csv: 50%, 5 rows, 0 s",
        "in.csv: 60%, 6 rows, 10 s, about 40 s left",
    ]


def test_a_short_job_says_nothing_of_it(run: Run, reviews: Path) -> None:
    assert "100%" not in run("score", reviews, "--bundle", BOX)[2]


def test_an_encoding_without_our_characters_is_no_error() -> None:
    done = piped("inspect", BOX, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "vocabulary" in done.stdout
    assert json.loads(piped("inspect", BOX, "--json", PYTHONIOENCODING="ascii").stdout)["labels"] == ["neg", "pos"]


def test_a_name_does_not_steer_the_terminal(run: Run) -> None:
    status, _, said = run("score", "gone\x1b[2J[red].csv", "--bundle", BOX)
    assert status == 2
    assert r"gone\x1b[2J[red].csv" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("command", ["verify", "evaluate", "bench", "score"])
def test_quiet_and_json_leave_the_result_alone(run: Run, reviews: Path, onnx_bundle: Path, command: str) -> None:
    arguments: dict[str, list[str | Path]] = {
        "verify": [onnx_bundle],
        "evaluate": ["--data", reviews, "--bundle", BOX],
        "bench": ["--bundle", onnx_bundle, "--data", reviews, "--rows", "2", "--rounds", "1"],
        "score": [reviews, "--bundle", BOX],
    }
    status, stdout, stderr = run(command, *arguments[command], "--quiet", "--json")
    assert status == 0, stderr
    assert json.loads(stdout)
    assert stderr == ""


def test_an_export_prints_the_manifest_as_json(run: Run, snapshot_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    status, stdout, stderr = run(
        "export", "--format", "onnx-cpu", "--snapshot", snapshot_folder, "--out", out, "--quiet", "--json"
    )
    assert status == 0, stderr
    assert json.loads(stdout) == json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert stderr == ""


def test_quiet_ends_with_its_command(run: Run, reviews: Path) -> None:
    run("score", reviews, "--bundle", BOX, "--quiet")
    assert "2 rows" in run("score", reviews, "--bundle", BOX)[2]


# --- help and completion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_one_that_the_command_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = COMMANDS[command].help.partition("Example")[2].partition(":")[2].strip().splitlines()
    assert examples
    for example in examples:
        called = re.search(rf"\btoolchain {command}\b([^|<]*)", example)
        assert called, example
        for name in re.findall(r"\b[\w.]+\.csv\b", called[1]):  # an option may ask for a file that exists
            (tmp_path / name).touch()
        COMMANDS[command].make_context(command, shlex.split(called[1]))
        assert len(example) < 79, f"a terminal of 80 columns folds it: {example}"


@pytest.mark.parametrize("command", [name for name, command in COMMANDS.items() if len(command.params) > 8])
def test_many_options_stand_in_panels(command: str) -> None:
    options = [each for each in COMMANDS[command].params if each.param_type_name == "option"]
    assert [option.name for option in options if not option.rich_help_panel] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_shows_what_people_need_and_no_types(run: Run, command: str) -> None:
    _, shown, _ = run(command, "--help")
    assert not re.search(r"<\w|\[default|\[required|\[x|x[<>]=|INTEGER", shown)
    of_first = re.search(r"^Options:\n(.*?)(?:\n\n|\Z)", shown, re.MULTILINE | re.DOTALL)
    assert of_first
    names = re.findall(r"^  (?:-\w, )?(--[\w-]+)", of_first[1], re.MULTILINE)
    assert len(names) <= 11  # ten, and --help
    assert names[-1] == "--help"
    assert ("More: " in shown) == (len(names) > 2)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("toolchain exp", {"export", "explain"}),
        ("toolchain train --recipe ", {"auto", "gru", "rnn", "rnn-cell"}),
        ("toolchain train --recipe r", {"rnn", "rnn-cell"}),
        ("toolchain train --data s", {"sample"}),
        ("toolchain train --data reviews", set()),
        ("toolchain export --format onnx-c", {"onnx-cpu"}),
        ("toolchain score in.csv --provider c", {"cpu"}),
        ("toolchain score in.csv --precision ", {"fp32", "int8"}),
        ("toolchain score in.csv --on-error ", {"reject", "fail"}),
        ("toolchain score in.csv --max-rej", {"--max-rejects"}),
    ],
)
def test_the_shell_completes(run: Run, monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]) -> None:
    monkeypatch.setenv("_TOOLCHAIN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    status, stdout, _ = run()
    assert status == 0
    assert set(stdout.split()) == offered


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a fine film", "a fine film"),
        ("a fine film, and more", "a fine film,"),
        ("a fine\nfilmmaker", "a fine"),
        ("an incomprehensible plot", "an incomprehe"),
        ("x" * 20, "x" * 13),
    ],
)
def test_the_start_of_a_text_ends_between_words_where_it_can(text: str, shown: str) -> None:
    assert opening(text, 13) == shown
