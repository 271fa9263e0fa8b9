"""What the command line promises: help with an example, a quick start, and one line for everything that goes wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
import torch

from export.sessions import INSTALL_CUDA
from toolchain.cli.app import app
from toolchain.models.snapshot import FILE, Snapshot
from toolchain.scoring.default import BOX

COMMANDS = ("train", "evaluate", "import", "export", "verify", "score", "inspect", "doctor")
ROOT = Path(__file__).parents[2]
PLAIN_PROVIDERS = ["AzureExecutionProvider", "CPUExecutionProvider"]  # of the ordinary package


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: object
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as stop:
            app([str(argument) for argument in arguments], prog_name="toolchain")
        stdout, stderr = capsys.readouterr()
        return Ended(stop.value.code, stdout, stderr)

    return run


def in_a_process(
    *arguments: str | Path, flags: tuple[str, ...] = (), stdout: int = subprocess.PIPE, cwd: Path | None = None
) -> Ended:
    """Run a command in a process of its own, as a user does."""
    result = subprocess.run(
        [sys.executable, *flags, "-m", "toolchain", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    return Ended(result.returncode, result.stdout or "", result.stderr)


def error_line(ended: Ended, status: int = 2) -> str:
    """The one `error:` line of a command that ended badly, and nothing that a program leaves behind."""
    assert ended.status == status, ended.stderr
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, ended.stderr
    assert ended.stderr.endswith(lines[0] + "\n")
    return lines[0]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"id,review,label\n1,a dull film,neg\n2,an elegant film,pos\n")
    return path


# --- help and start-up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert ended.status == 0
    assert re.search(rf"Examples?: toolchain {command}\b", " ".join(ended.stdout.split()))


def test_the_help_lists_every_command(run: Run) -> None:
    ended = run("--help")
    assert ended.status == 0
    assert all(f" {command} " in ended.stdout for command in COMMANDS)


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout.startswith("toolchain ")


def _loaded(ended: Ended) -> set[str]:
    """The top-level packages in a `-X importtime` report."""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_help_and_scoring_load_nothing_of_the_training_side(bundle: Path, reviews: Path) -> None:
    training = {"torch", "torchtext", "onnx"}
    ended = in_a_process("--help", flags=("-X", "importtime"))
    assert ended.status == 0
    assert "typer" in _loaded(ended)
    assert not _loaded(ended) & (training | {"onnxruntime"})
    ended = in_a_process("score", reviews, "--bundle", bundle, flags=("-X", "importtime"))
    assert ended.status == 0
    assert "onnxruntime" in _loaded(ended)
    assert not _loaded(ended) & training


def test_scoring_loads_neither_what_draws_nor_what_converts_nor_another_command(reviews: Path) -> None:
    program = (
        "import sys\nfrom toolchain.cli.app import app\n"
        f"try: app(['score', {str(reviews)!r}, '--probabilities'])\n"
        "finally: print(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert {"toolchain.cli.score", "onnxruntime"} <= loaded
    unwanted = {"rich", "pydantic", "importlib.metadata", "toolchain.cli.train", "toolchain.cli.class_table"}
    assert loaded & unwanted == set()


@pytest.mark.parametrize(
    ("command", "given", "threads"), [("score", None, "1"), ("train", None, "None"), ("score", "3", "3")]
)
def test_numpy_starts_no_threads_for_a_command_that_leaves_products_to_the_runtime(
    command: str, given: str | None, threads: str
) -> None:
    asked = f"import os; from toolchain.cli.app import app; app(['{command}', '--help'], standalone_mode=False); "
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {"OPENBLAS_NUM_THREADS": given} if given else {}
    code = [sys.executable, "-c", asked + "print(os.environ.get('OPENBLAS_NUM_THREADS'))"]
    done = subprocess.run(code, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == threads


def test_options_are_converted_as_typer_does(run: Run, bundle: Path, reviews: Path, tmp_path: Path) -> None:
    ended = run("score", reviews, "--bundle", bundle, "--limit", "1", "--json", "--quiet", "-o", tmp_path / "out.csv")
    assert ended.status == 0
    assert json.loads(ended.stdout)[0]["rows"] == 1
    for option, value in (("--limit", "one"), ("--limit", "0"), ("--quoting", "all")):
        assert option in error_line(run("score", reviews, "--bundle", bundle, option, value))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "two.csv"], "'two.csv' needs its option: toolchain train --data two.csv"),
        (["export", "snapshot"], "'snapshot' needs its option: toolchain export --snapshot snapshot"),
        (["verify", "bundle", "snapshot"], "'snapshot' needs its option: toolchain verify --snapshot snapshot"),
        (["train", "--data", "a", "b"], "'b' is one too many; train takes only options; see toolchain train --help"),
        (["report", "a", "b"], "'b' is one too many; report takes FILE; see toolchain report --help"),
        (["scor", "a"], "no such command 'scor'. Did you mean 'score', 'doctor'? See toolchain --help"),
        (["score", "a", "--output", "b"], "no such option: --output. Did you mean --out? See toolchain score --help"),
        (["train", "--bundle", "a"], "no such option: --bundle; see toolchain train --help"),
        (["serve", "--bundle", "a"], "--bundle: write BUNDLE without it; see toolchain serve --help"),
        (["score", "a", "--explain"], "--explain needs a value; see toolchain score --help"),
        (["score", "a", "--limit", "ten"], "--limit: expected a whole number; see toolchain score --help"),
        (["score", "a", "--min-confidence", "x"], "--min-confidence: expected a number; see toolchain score --help"),
        (
            ["score", "a", "--bundle", "b", "--bundle", "c"],
            "--bundle takes one value, and stands there 2 times; see toolchain score --help",
        ),
        (
            ["inspect", "pyproject.toml"],
            "pyproject.toml: a file, not a bundle; name the folder that toolchain export wrote",
        ),
        (["compare", str(BOX), str(BOX), "data"], "data: is a folder; name a file in it"),
        (["report", "data"], "data: is a folder; name a file that toolchain score wrote"),
        (["explain", " "], "text 1 is blank; leave it out"),
        (
            ["export", "--snapshot", "data/reviews.csv"],
            "data/reviews.csv: not a snapshot, or damaged; name the folder that toolchain train wrote, or train anew",
        ),
        (
            ["train", "--data", "sample", "--out", "README.md"],
            "--out README.md: is a file; name a folder for the snapshot",
        ),
        (
            ["train", "--data", "sample", "--test-data", "mine.csv"],
            "--test-data mine.csv: sample has its own test reviews; leave --test-data out",
        ),
        (["score", str(BOX)], f"{BOX}: a bundle, not reviews; to score with it: --bundle {BOX}"),
        (
            ["score", "https://example.com/a.csv"],
            "https://example.com: toolchain downloads nothing; download the file, and name it here",
        ),
    ],
)
def test_wrong_use_ends_in_what_to_type(
    run: Run, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert error_line(run(*arguments)) == f"error: {said}"


def test_an_option_that_may_be_repeated_is_taken_as_often_as_it_stands_there(run: Run, reviews: Path) -> None:
    ended = run("score", reviews, "-o", "-", "--keep", "id", "--keep", "label", "-q", "-q")
    assert ended.stdout.startswith("id,label,prediction,confidence\n")


def test_help_is_help_whatever_stands_beside_it(run: Run) -> None:
    assert run("export", "snapshot", "--help").stdout == run("export", "--help").stdout


# --- input files -----------------------------------------------------------------------------------------------------


def test_a_missing_input_is_named(bundle: Path, tmp_path: Path) -> None:
    line = error_line(in_a_process("score", "no.csv", "--bundle", bundle, cwd=tmp_path))
    assert "no.csv: No such file" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ["the file is empty", "header"]),
        (b"\n1,a\n", ["line 1 is blank", "header"]),
        (b"id,words\n1,a\n", ["no column named like text", "its columns: id, words", "--text-column"]),
        ("text\na\n".encode("utf-16-le"), ["UTF-16", "UTF-8", "--encoding"]),
        ("text,größe\na,b\n".encode("latin-1"), ["is not UTF-8", "probably cp1252", "--encoding cp1252"]),
        (bytes(range(1, 256)) * 20, ["holds no text", "of another kind of file"]),
        (b"id;words\n1;a\n", ["its columns: id, words", "--text-column"]),
    ],
    ids=["empty", "blank header", "no text column", "UTF-16", "Latin-1", "binary", "semicolons"],
)
def test_an_input_that_cannot_be_read_is_wrong_use(
    run: Run, bundle: Path, tmp_path: Path, data: bytes, said: list[str]
) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    line = error_line(run("score", tmp_path / "in.csv", "--bundle", bundle, "--quiet"))
    assert all(part in line for part in [str(tmp_path / "in.csv"), *said])
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_header_in_one_piece_raises_the_question_of_the_delimiter(run: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,words\n1,a\n")
    line = error_line(run("score", tmp_path / "in.csv", "--bundle", bundle, "--delimiter", ";"))
    assert line.endswith(
        "its columns: id,words. Name it: --text-column NAME; or is it cut at the wrong mark? --delimiter"
    )


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_a_column_that_is_not_there_is_answered_with_those_that_are(
    run: Run, bundle: Path, reviews: Path, command: str
) -> None:
    data: list[str | Path] = [reviews] if command == "score" else ["--data", reviews]
    line = error_line(run(command, *data, "--bundle", bundle, "--text-column", "words"))
    assert "no column 'words'; its columns: id, review, label" in line


@pytest.mark.parametrize("share", ["lots", "-1", "120%", ""])
def test_a_share_of_rejects_that_is_none_is_wrong_use(run: Run, bundle: Path, reviews: Path, share: str) -> None:
    assert "--max-rejects" in error_line(run("score", reviews, "--bundle", bundle, f"--max-rejects={share}"))


# --- snapshots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "export", "verify"])
def test_a_missing_snapshot_is_answered_with_the_command_that_makes_one(
    run: Run, bundle: Path, tmp_path: Path, command: str
) -> None:
    place = {
        "evaluate": ["--data", "sample"],
        "export": ["--out", str(tmp_path / "bundle")],
        "verify": [str(bundle)],
    }[command]
    line = error_line(run(command, *place, "--snapshot", tmp_path / "none"))
    assert "no snapshot here; make one: toolchain train --out" in line
    assert list(tmp_path.iterdir()) == []


def test_a_missing_snapshot_is_one_line_for_a_user_too(tmp_path: Path) -> None:
    assert "toolchain train" in error_line(in_a_process("export", cwd=tmp_path))


def test_a_bare_state_dict_under_the_same_name_is_recognised(run: Run, snapshot: Snapshot, tmp_path: Path) -> None:
    torch.save(dict(snapshot.state), tmp_path / FILE)
    line = error_line(run("export", "--snapshot", tmp_path, "--out", tmp_path / "bundle"))
    assert "a bare state_dict" in line
    assert "toolchain train" in line


@pytest.mark.parametrize("kind", ["text", "nothing", "zeros", "cut", "other values", "program"])
def test_a_file_that_is_no_snapshot_is_refused(run: Run, snapshot_folder: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / FILE
    if kind == "other values":
        torch.save({"format": 1, "model": "BasicGRU"}, file)
    elif kind == "program":
        torch.save({"format": 1, "model": Path("x")}, file)
    else:
        whole = (snapshot_folder / FILE).read_bytes()
        file.write_bytes({"text": b"not a snapshot\n", "nothing": b"", "zeros": bytes(500), "cut": whole[:-999]}[kind])
    line = error_line(run("export", "--snapshot", tmp_path, "--out", tmp_path / "bundle"))
    assert str(file) in line
    assert "snapshot" in line
    assert not (tmp_path / "bundle").exists()


# --- bundles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["score", "inspect", "verify", "evaluate"])
def test_a_missing_bundle_is_answered_with_the_command_that_makes_one(
    run: Run, reviews: Path, tmp_path: Path, command: str
) -> None:
    none = tmp_path / "none"
    arguments = {
        "score": [reviews, "--bundle", none],
        "evaluate": ["--data", reviews, "--bundle", none],
    }.get(command, [none])
    assert "no bundle here; make one: toolchain export" in error_line(run(command, *arguments))


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(bundle, tmp_path / "bundle")


def _change_manifest(bundle: Path, old: str, new: str) -> None:
    manifest = bundle / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("command", ["score", "inspect", "verify"])
def test_a_bundle_of_a_newer_format_asks_for_a_newer_program(
    run: Run, own_bundle: Path, reviews: Path, command: str
) -> None:
    _change_manifest(own_bundle, '"format_version": 1', '"format_version": 2')
    arguments = [reviews, "--bundle", own_bundle] if command == "score" else [own_bundle]
    assert "bundle format 2, newer than this program reads; upgrade" in error_line(run(command, *arguments))


@pytest.mark.parametrize("command", ["score", "inspect", "verify"])
def test_one_flipped_byte_of_a_model_is_found_by_its_digest(
    run: Run, own_bundle: Path, reviews: Path, command: str
) -> None:
    model = own_bundle / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    arguments = [reviews, "--bundle", own_bundle] if command == "score" else [own_bundle]
    line = error_line(run(command, *arguments))
    assert f"{model}: its SHA-256 is not the one in the manifest" in line


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "a\\\\b"])
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(run: Run, own_bundle: Path, name: str) -> None:
    _change_manifest(own_bundle, '"vocab.txt": {', f'"{name}": {{')
    assert "leaves the bundle's folder" in error_line(run("inspect", own_bundle))


def test_a_link_in_place_of_a_file_is_refused(run: Run, own_bundle: Path, bundle: Path) -> None:
    (own_bundle / "vocab.txt").unlink()
    (own_bundle / "vocab.txt").symlink_to(bundle / "vocab.txt")
    assert "vocab.txt" in error_line(run("inspect", own_bundle))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format_version": "1"}', '{"format_version": 1}'])
def test_a_manifest_that_is_none_is_refused(run: Run, own_bundle: Path, text: str) -> None:
    (own_bundle / "manifest.json").write_text(text)
    assert "manifest.json: damaged" in error_line(run("inspect", own_bundle))


@pytest.mark.parametrize("command", ["score", "evaluate", "verify"])
def test_a_provider_that_is_not_installed_is_answered_with_those_that_are(
    run: Run, bundle: Path, reviews: Path, command: str
) -> None:
    arguments: dict[str, list[str | Path]] = {
        "score": [reviews, "--bundle", bundle],
        "evaluate": ["--data", reviews, "--bundle", bundle],
        "verify": [bundle],
    }
    line = error_line(run(command, *arguments[command], "--provider", "warp"))
    assert "the provider 'warp' is not installed; expected auto, " in line
    assert "cpu" in line.split("expected auto, ")[1]


def test_cuda_that_is_not_installed_comes_with_what_to_install(
    run: Run, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PLAIN_PROVIDERS)
    line = error_line(run("score", reviews, "--bundle", BOX, "--provider", "cuda"))
    assert f"'cuda' is not installed; expected auto, cpu; {INSTALL_CUDA}" in line


def test_a_snapshot_given_as_a_bundle_is_named(run: Run, reviews: Path, snapshot_folder: Path) -> None:
    line = error_line(run("score", reviews, "--bundle", snapshot_folder))
    assert (
        f"a snapshot, not a bundle; export it, and name the bundle: toolchain export --snapshot {snapshot_folder}"
        in line
    )


def test_a_confidence_in_percent_is_refused_with_what_is_expected(run: Run, reviews: Path) -> None:
    line = error_line(run("score", reviews, "--bundle", BOX, "--min-confidence", "60"))
    assert "--min-confidence 60: expected a number from 0 to 1, such as 0.6" in line


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_file_given_as_a_text_is_named(run: Run, reviews: Path, command: str) -> None:
    line = error_line(run(command, reviews))
    assert f"{reviews}: this is a file, not a text" in line
    assert "toolchain score FILE" in line


def test_a_bundle_given_as_a_snapshot_is_named(run: Run, bundle: Path, reviews: Path) -> None:
    line = error_line(run("evaluate", "--data", reviews, "--snapshot", bundle))
    assert f"{bundle}: a bundle, not a snapshot; name the folder that toolchain train wrote" in line


def test_what_is_missing_is_named_with_what_it_is(run: Run) -> None:
    assert "error: --data is missing: a CSV/JSONL file, an aclImdb folder" in error_line(run("train"))
    assert "error: INPUT is missing: files to score" in error_line(run("score"))


# --- training and exporting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"review,label\n,neg\n \t,pos\na,\n", "holds no labelled review; the first row that was left out: "),
        (b"review,label\n", "holds no labelled review"),
        (b"review,label\n" + b"a dull film,neg\n" * 30, "every review has the label 'neg'; expected two or more"),
        (b"review,label\na,neg\nb,pos\n", "too few to split"),
        (b"review,stars\na,1\n", "no column named like label"),
        ("review,label\na,neg\n".encode("utf-16"), "label 'neg'"),  # read by its mark, then refused for what it says
    ],
    ids=["no usable row", "no row", "one label", "too few", "no label column", "UTF-16"],
)
def test_data_that_cannot_be_trained_on_is_refused(run: Run, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "train.csv").write_bytes(data)
    line = error_line(run("train", "--data", tmp_path / "train.csv", "--epochs", "1", "--out", tmp_path / "snapshot"))
    assert said in line
    assert str(tmp_path / "train.csv") in line
    assert not (tmp_path / "snapshot").exists()


def test_an_unknown_recipe_is_answered_with_those_there_are(run: Run, tmp_path: Path) -> None:
    line = error_line(run("train", "--recipe", "lstm", "--data", "sample", "--out", tmp_path / "snapshot"))
    assert "--recipe lstm: expected one of auto, gru, rnn, rnn-cell" in line


def test_an_unknown_format_is_answered_with_those_there_are(run: Run, snapshot_folder: Path, tmp_path: Path) -> None:
    line = error_line(run("export", "--format", "tflite", "--snapshot", snapshot_folder, "--out", tmp_path / "bundle"))
    said, named = line.split(": expected one of ")
    assert said == "error: --format tflite"
    assert {"onnx", "onnx-cpu", "onnx-explain", "torchscript", "onnx-ids", "pt2", "all"} == set(named.split(", "))
    assert list(tmp_path.iterdir()) == []


def test_an_export_never_replaces_a_folder_that_is_no_bundle(run: Run, snapshot_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    line = error_line(run("export", "--format", "onnx", "--snapshot", snapshot_folder, "--out", tmp_path / "mine"))
    assert "is not a bundle" in line
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "three years"


@pytest.mark.parametrize("side", ["bundle", "snapshot"])
def test_a_label_that_the_model_does_not_know_is_named_beside_those_it_knows(
    run: Run, bundle: Path, snapshot_folder: Path, tmp_path: Path, side: str
) -> None:
    (tmp_path / "in.csv").write_bytes(b"review,label\ngood,pos\nso so,meh\n")
    model = bundle if side == "bundle" else snapshot_folder
    line = error_line(run("evaluate", "--data", tmp_path / "in.csv", f"--{side}", model))
    assert "1 of 2 labels in column 'label' are none of the model's (neg, pos); found meh (1)" in line


# --- places that cannot be written -----------------------------------------------------------------------------------


def test_predictions_in_a_folder_that_is_not_there_are_wrong_use(
    run: Run, bundle: Path, reviews: Path, tmp_path: Path
) -> None:
    place = tmp_path / "none" / "predictions.csv"
    assert str(place) in error_line(run("evaluate", "--data", reviews, "--bundle", bundle, "--predictions", place))


@pytest.mark.parametrize("command", ["train", "export"])
def test_a_result_below_a_file_is_wrong_use(run: Run, reviews: Path, snapshot_folder: Path, command: str) -> None:
    arguments: dict[str, list[str | Path]] = {
        "train": ["--data", "sample", "--recipe", "rnn-cell", "--epochs", "1"],
        "export": ["--snapshot", snapshot_folder, "--format", "onnx"],
    }
    assert str(reviews) in error_line(run(command, *arguments[command], "--out", reviews / "result"))


def test_a_full_disk_is_one_line(bundle: Path, reviews: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = in_a_process("score", reviews, "-o", "-", "--bundle", bundle, "-q", stdout=full.fileno())
    assert "No space left on device" in error_line(ended)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_the_debug_option_shows_the_traceback_instead() -> None:
    ended = in_a_process("--debug", "inspect", "/none")
    assert ended.status == 1
    assert "Traceback" in ended.stderr


def test_doctor_says_what_takes_a_session(run: Run) -> None:
    findings = {finding["what"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["provider cpu"]["ok"] is True
    assert findings["training and export"]["ok"] is True
    assert int(findings["cores"]["state"]) >= 1
    ended = run("doctor")
    assert ended.status == 0
    assert all(what in ended.stdout for what in findings)


def test_inspect_shows_what_a_bundle_is(run: Run, bundle: Path) -> None:
    manifest = json.loads(run("inspect", bundle, "--json").stdout)
    assert manifest == json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["labels"] == ["neg", "pos"]
    ended = run("inspect", bundle)
    assert ended.status == 0
    assert "neg, pos" in ended.stdout
    assert all(name in ended.stdout for name in manifest["files"])


def test_evaluate_says_the_loss_and_the_accuracy_and_writes_every_prediction(
    run: Run, bundle: Path, snapshot_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    place = tmp_path / "predictions.csv"
    exported = json.loads(
        run("evaluate", "--data", reviews, "--bundle", bundle, "--predictions", place, "--json").stdout
    )
    original = json.loads(run("evaluate", "--data", reviews, "--snapshot", snapshot_folder, "--json").stdout)
    assert exported["reviews"] == original["reviews"] == 2
    assert exported["accuracy"] == original["accuracy"]
    assert exported["loss"] == pytest.approx(original["loss"], abs=1e-4)
    lines = place.read_text().splitlines()
    assert lines[0] == "row,label,prediction,confidence"
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "neg"], ["2", "pos"]]


def test_ray_without_pyarrow_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "toolchain.scoring.ray.engine" or name.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "in.csv").write_text("text\nfine\n", encoding="utf-8")
    line = error_line(run("score", tmp_path / "in.csv", "--engine", "ray"))
    said = "pyarrow, which is not installed; install all it needs: pip install 'toolchain[ray]'"
    assert line == f"error: score --engine ray needs {said}"
