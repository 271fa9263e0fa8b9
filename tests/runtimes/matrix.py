"""Every text form in several versions of ONNX Runtime, in Python and in Node: the matrix behind each "since version".

`make test-runtimes` runs it. A session answers all vectors in batches, all again, and each alone; once with the options
that a session has by itself, once with memory patterns off. The runtimes are kept in build/runtimes.

Below it is which versions keep a folded graph of the model in the box, and that none writes at every opening.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from export import bundle as bundles
from export import parity
from export.cases import edge_cases, vocabulary_cases
from export.forms import FORMS
from tests.conftest import untrained_snapshot
from toolchain.scoring.default import BOX

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "runtimes"
PYTHON = ("1.18.1", "1.23.2", "1.32.0")
NODE = ("1.12.1", "1.18.0", "1.19.2", "1.30.0")
PATTERN_RIGHT = (1, 19, 2)
NUMPY_2 = (1, 19, 0)

MODELS = {"gru": 1, "gru of two layers": 2, "rnn-cell": 1}
TEXT_FORMS = ("onnx", "onnx-cpu", "onnx-int8", "onnx-explain")
FOLDED = ("onnx-cpu", "onnx-int8", "onnx-explain")
OPENED = ("onnx-cpu", "onnx-explain")
LONGEST = 2_000  # characters: each further step costs every version its time


def main() -> int:
    """Print the matrix. Exit status 1 where an answer is wrong that the documentation promises."""
    floor = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["cpu"]
    assert floor == [f"onnxruntime>={PYTHON[0]}"], f"pyproject.toml names another oldest version: {floor}"
    folders = [*(make_bundle(name, layers) for name, layers in MODELS.items()), copy_box()]
    failures: list[str] = []
    print(f"{'runtime':22}{'memory patterns':17}" + "".join(f"{form:15}" for form in TEXT_FORMS))
    for runtime, version in [*(("python", each) for each in PYTHON), *(("node", each) for each in NODE)]:
        place = installed(runtime, version)
        for patterns in (True, False):
            cells = answers(runtime, place, patterns, folders)
            print(f"{runtime + ' ' + version:22}{'as they are' if patterns else 'off':17}", end="")
            print("".join(f"{cells[form] or 'right':15}" for form in TEXT_FORMS), flush=True)
            promised = [form for form in TEXT_FORMS if not (patterns and form in FOLDED and _unsafe(version))]
            failures += [f"{runtime} {version}: {form}, {cells[form]}" for form in promised if cells[form]]
    print(f"\n{'kept in the cache':39}" + "".join(f"{form:15}" for form in OPENED))
    for version in PYTHON:
        left = openings(installed("python", version))
        print(f"{'python ' + version:39}" + "".join(f"{said:15}" for said in left), flush=True)
        promised_here = ("kept",) if version == PYTHON[-1] else ("kept", "not kept")
        failures += [f"python {version}: {said}" for said in left if said not in promised_here]
    print("\n".join(failures) or "every promised answer is right")
    return 1 if failures else 0


def _unsafe(version: str) -> bool:
    return _numbers(version) < PATTERN_RIGHT


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def make_bundle(recipe: str, layers: int) -> Path:
    """A bundle of untrained weights with the text forms and the vectors that are quick to run."""
    folder = KEPT / f"bundle {recipe}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    snapshot = untrained_snapshot(recipe.partition(" ")[0], layers)
    classifier, specification, words = snapshot.classifier(), snapshot.specification, snapshot.vocabulary
    for name in TEXT_FORMS:
        (folder / FORMS[name].file).write_bytes(FORMS[name].build(classifier, {}))
    texts = [text for text in edge_cases(words, specification.max_tokens) if len(text) <= LONGEST]
    texts += vocabulary_cases(words, 16)[:200]
    expected = parity.expect(snapshot.answer_tokens(), specification, words, texts).decided(1e-4)
    lines = (json.dumps(row) + "\n" for row in parity.vectors(expected))
    (folder / bundles.VECTORS).write_text("".join(lines), encoding="utf-8")
    bundles.write_manifest(folder, specification, {})
    return folder


def copy_box() -> Path:
    """The model in the box, whose explaining form reads its tables out of the other, with a part of its vectors."""
    folder = KEPT / "bundle box"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(BOX, folder)
    lines = (BOX / bundles.VECTORS).read_bytes().splitlines(keepends=True)
    (folder / bundles.VECTORS).write_bytes(b"".join(line for line in lines[::16] if len(line) <= LONGEST))
    return folder


def installed(runtime: str, version: str) -> Path:
    """The folder with that version, installed where it is not there yet."""
    place = KEPT / f"{runtime}-{version}"
    if place.is_dir():
        return place
    unfinished = place.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if runtime == "python":
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        older = ["numpy<2"] if _numbers(version) < NUMPY_2 else []  # which is not the one of this environment
        command = [*pip, "--disable-pip-version-check", "--target", str(unfinished), f"onnxruntime=={version}", *older]
    else:
        npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        command = [*npm, "--prefix", str(unfinished), f"onnxruntime-node@{version}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    unfinished.rename(place)
    return place


def answers(runtime: str, place: Path, patterns: bool, folders: Sequence[Path]) -> dict[str, str]:
    """What is wrong with each form, over all models: empty where nothing is."""
    if runtime == "python":
        command = [sys.executable, "-m", "tests.runtimes.in_python"]
        environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}
    else:
        command = ["node", str(ROOT / "tests" / "runtimes" / "in_node.mjs")]
        environment = {**os.environ, "RUNTIME": str(place)}
    wrong = dict.fromkeys(TEXT_FORMS, 0)
    failed = dict.fromkeys(TEXT_FORMS, "")
    asked = [(folder, form) for folder in folders for form in TEXT_FORMS if (folder / FORMS[form].file).exists()]
    while asked:  # in one process, and behind one that ends it in another
        named = [(str(folder), FORMS[form].file, str(FORMS[form].tolerance)) for folder, form in asked]
        whole = [*command, "on" if patterns else "off", *(value for values in named for value in values)]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for (_, form), answer in zip(asked, said, strict=done.returncode == 0):
            wrong[form] += answer["wrong"]
        if done.returncode:
            ended = min(len(said), len(asked) - 1)
            failed[asked[ended][1]] = f"fails ({done.returncode})"
        asked = asked[ended + 1 :] if done.returncode else []
    return {form: failed[form] or (f"{wrong[form]} wrong" if wrong[form] else "") for form in TEXT_FORMS}


def openings(place: Path) -> list[str]:
    """What a version leaves in the user's cache of each form of the model in the box."""
    command = [sys.executable, "-m", "tests.runtimes.openings", str(BOX), *(FORMS[form].file for form in OPENED)]
    environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return [*done.stdout.splitlines(), *([f"fails ({done.returncode})"] if done.returncode else [])]


if __name__ == "__main__":
    sys.exit(main())
