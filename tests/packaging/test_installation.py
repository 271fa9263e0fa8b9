"""What a user installs: a wheel with the sample inside, scoring without torch, a word where a runtime is missing."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Distribution


def run(code: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a folder that is not the repository's, with `path` before everything else that is installed."""
    before = f"import sys; sys.path.insert(0, {str(path or ROOT)!r})\n"
    return subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, cwd="/")


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


def test_without_torch_train_says_which_extra_to_install() -> None:
    done = run(
        "import sys\nsys.modules['torch'] = None\nfrom toolchain.cli.app import app\napp(['train', '--data', 'sample'])"
    )
    assert done.returncode == 2
    assert "torch is not installed; install it: pip install 'toolchain[train]'" in done.stderr
