"""What a user installs: a wheel with the sample inside, scoring without torch, a word where a runtime is missing."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Distribution
from toolchain.scoring.default import BOX


def run(code: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a folder that is not the repository's, with `path` before everything else that is installed."""
    before = f"import sys; sys.path.insert(0, {str(path or ROOT)!r})\n"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # a pipe has no width
    return subprocess.run(
        [sys.executable, "-c", before + code], capture_output=True, text=True, cwd="/", env=environment
    )


@pytest.fixture(scope="module")
def wheel(dist: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(dist.wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_sample_is_found_in_an_installed_wheel(wheel: Path) -> None:
    done = run(
        "from toolchain.corpus.reviews import Source, read_test_reviews, sample_folder\n"
        "print(sample_folder(), len(read_test_reviews(Source('sample'))))",
        wheel,
    )
    folder, count = done.stdout.split()
    assert Path(folder) == wheel / "toolchain" / "data", done.stderr
    assert int(count) >= 600


def test_a_wheel_holds_both_packages_and_their_types_and_no_tests(wheel: Path) -> None:
    names = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*")}
    assert {"toolchain/py.typed", "export/py.typed", "toolchain/cli/app.py", "export/text.py"} <= names
    assert "toolchain/box/manifest.json" in names
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)


def test_scoring_from_python_needs_no_torch(onnx_bundle: Path) -> None:
    done = run(
        "import sys\n"
        "for name in ('torch', 'torchtext', 'onnx'): sys.modules[name] = None\n"
        "from toolchain import Scorer\n"
        f"with Scorer({str(onnx_bundle)!r}) as scorer: print(scorer.score(['a fine film', 'dull'])[0].label)"
    )
    assert done.stdout.strip() in ("neg", "pos"), done.stderr


def judged(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command where only `toolchain[cpu]` is installed."""
    return run(
        "import sys\n"
        "for name in ('torch', 'torchtext', 'onnx'): sys.modules[name] = None\n"
        "from toolchain.cli.app import app\n"
        f"app({list(arguments)!r})"
    )


@pytest.mark.parametrize("box", [False, True])
def test_whoever_receives_a_bundle_repeats_the_proof_without_torch(bundle: Path, box: bool) -> None:
    done = judged("verify", str(BOX if box else bundle), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["passed"]
    assert result["against"] == "the bundle's vectors"
    ran = [form["form"] for form in result["forms"]]
    assert ran == (["onnx-cpu", "onnx-explain"] if box else ["onnx", "onnx-cpu", "onnx-explain", "onnx-ids"])
    missing = {"form": "torchscript", "reason": "torch is not installed; install it: pip install 'toolchain[train]'"}
    assert result["not_checked"] == ([] if box else [missing])


def test_verify_names_what_it_did_not_check(bundle: Path) -> None:
    done = judged("verify", str(bundle))
    (line,) = (line for line in done.stdout.splitlines() if "torchscript" in line)
    assert "not checked" in line


def test_a_bundle_of_nothing_but_torchscript_is_not_called_right_without_torch(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())
    manifest["files"] = {name: file for name, file in manifest["files"].items() if not name.endswith(".onnx")}
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = judged("verify", str(tmp_path / "bundle"))
    assert done.returncode == 1
    assert "no form could be checked (torchscript: torch is not installed" in done.stderr


@pytest.mark.parametrize("box", [False, True])
def test_a_bundle_is_evaluated_and_measured_without_torch(onnx_bundle: Path, box: bool, tmp_path: Path) -> None:
    named = () if box else ("--bundle", str(onnx_bundle))  # run in a folder that holds neither a snapshot nor a bundle
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("text,label\na fine film,pos\ndull and weak,neg\n", encoding="utf-8")
    done = judged("evaluate", "--data", str(reviews), "--json", *named)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reviews"] == 2
    done = judged("bench", "--data", str(reviews), "--rows", "8", "--rounds", "1", "--json", *named)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["gflop_per_second"] > 0
    routes = [route["name"] for route in measured["routes"]]
    assert routes == ["onnxruntime, as they come", "onnxruntime, sorted", "toolchain fp32"]


def test_without_a_runtime_score_says_which_extra_to_install(onnx_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "reviews.csv"
    source.write_text("review\ngood\n", encoding="utf-8")
    done = run(
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "from toolchain.cli.app import app\n"
        f"app(['score', {str(source)!r}, '--bundle', {str(onnx_bundle)!r}])"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ONNX Runtime is not installed; install it: pip install 'toolchain[cpu]'")
    assert done.stderr.count("\n") == 1


def test_pip_adds_to_an_installed_toolchain_what_a_hint_names() -> None:
    """No index has to know the name: it is not published."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "toolchain[report]"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Requirement already satisfied: toolchain[report]" in done.stdout, done.stderr


def test_every_extra_that_a_hint_names_is_one() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    sources = [
        path.read_text(encoding="utf-8") for name in ("toolchain", "export") for path in (ROOT / name).rglob("*.py")
    ]
    named = {extra for source in sources for extra in re.findall(r"toolchain\[([a-z]+)\]", source)}
    assert {"cpu", "gpu", "train"} <= named <= set(extras)


def test_without_torch_train_says_which_extra_to_install() -> None:
    done = run(
        "import sys\nsys.modules['torch'] = None\nfrom toolchain.cli.app import app\napp(['train', '--data', 'sample'])"
    )
    assert done.returncode == 2
    said = "torch, which is not installed; install all it needs: pip install 'toolchain[train]'"
    assert done.stderr == f"error: train needs {said}\n"
