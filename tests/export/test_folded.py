"""A kept graph gives the same bits, one that is damaged or not ours is not used, and none is written in vain."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export import folded
from export.bundle import open_bundle
from export.selfcheck import open_for_scoring
from export.sessions import PROBE, RuntimeUnavailable, open_session, run_text
from toolchain.scoring.default import BOX

TEXTS = ["a fine film", "dull", "", "not a word of it is true, and it is too long by an hour"] * 5
SCORE = """
import sys
from pathlib import Path
from export import folded
from toolchain.scoring.scorer import Scorer
folded.WORTH_KEEPING = 0
print(Scorer(Path(sys.argv[1]), "cpu").predict_proba(["a fine film", "dull"]).tolist())
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the entries; the smallest model is worth one."""
    monkeypatch.setattr(folded, "WORTH_KEEPING", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "toolchain" / "folded"


def answers(folder: Path, form: str = "model.cpu.onnx") -> NDArray[np.float32]:
    session = open_for_scoring(open_bundle(folder), form, threads=1)
    probabilities: NDArray[np.float32] = run_text(session, ["probabilities"], TEXTS)[0]
    return probabilities


def is_mapped(folder: Path, form: str = "model.cpu.onnx") -> bool:
    bundle = open_bundle(folder)
    files = [form, *(["model.cpu.onnx"] if form == "model.explain.onnx" else [])]
    digests = [bundle.manifest["files"][file]["sha256"] for file in files]
    return folded.open_mapped(digests, threads=1) is not None


def only_entry(cache: Path) -> Path:
    """The one folder that there is, and nothing unfinished beside it."""
    (entry,) = cache.iterdir()
    return entry


@pytest.mark.parametrize("form", ["model.cpu.onnx", "model.explain.onnx"])
def test_every_answer_has_the_same_bits(
    bundle: Path, cache: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answers(bundle, form)
    assert is_mapped(bundle, form)
    mapped = answers(bundle, form)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(folded, "WORTH_KEEPING", 1 << 40)
    plain = answers(bundle, form)
    assert first.tobytes() == mapped.tobytes() == plain.tobytes()


@pytest.mark.parametrize("form", ["model.cpu.onnx", "model.explain.onnx"])
def test_the_model_in_the_box_answers_with_the_same_bits(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    first = answers(BOX, form)
    assert is_mapped(BOX, form)
    mapped = answers(BOX, form)
    monkeypatch.setattr(folded, "WORTH_KEEPING", 1 << 40)
    assert first.tobytes() == mapped.tobytes() == answers(BOX, form).tobytes()


@pytest.mark.parametrize("file", ["tables.bin", "model.onnx", "entry.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_entry_is_not_used_and_is_written_anew(bundle: Path, cache: Path, file: str, damage: str) -> None:
    right = answers(bundle)
    path = only_entry(cache) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    assert not is_mapped(bundle)
    assert answers(bundle).tobytes() == right.tobytes()
    assert {path.name for path in only_entry(cache).rglob("*")} == {"tables.bin", "model.onnx", "entry.json"}
    assert is_mapped(bundle)


class Runtime:
    """One that does not write a graph, or does not read what it has written, or answers wrongly then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
        self.fails = fails
        self.opened: list[str] = []
        monkeypatch.setattr(folded, "open_session", self.open)

    def open(self, model: Path, *others: Any, **options: Any) -> Any:
        (does,) = {"keep", "optimized"} & options.keys() or {"plain"}
        self.opened.append(does)
        if (does, self.fails) in (("keep", "to write"), ("optimized", "to read")):
            raise RuntimeUnavailable(f"it fails {self.fails}")
        wrong = (does, self.fails) == ("optimized", "to answer")
        return open_session(PROBE if wrong else model, *others, **options)


@pytest.mark.parametrize("fails", ["to write", "to read", "to answer"])
def test_where_the_runtime_cannot_keep_a_graph_it_is_tried_once_and_nothing_stays(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    runtime = Runtime(monkeypatch, fails)
    first = answers(bundle)
    assert list(only_entry(cache).iterdir()) == []
    for _ in range(2):
        runtime.opened.clear()
        assert answers(bundle).tobytes() == first.tobytes()
        assert runtime.opened == ["plain"]
    assert list(only_entry(cache).iterdir()) == []


def test_what_could_not_be_kept_is_tried_again_after_a_week(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch, fails="to write")
    answers(bundle)
    runtime.fails = ""
    almost, over = time.time() - 6 * 86400, time.time() - 8 * 86400
    os.utime(only_entry(cache), (almost, almost))
    answers(bundle)
    assert not is_mapped(bundle)
    os.utime(only_entry(cache), (over, over))
    answers(bundle)
    assert is_mapped(bundle)


def test_an_entry_that_cannot_be_read_any_more_makes_room_for_an_empty_one(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = answers(bundle)
    Runtime(monkeypatch, fails="to read")
    assert answers(bundle).tobytes() == right.tobytes()
    assert list(only_entry(cache).iterdir()) == []


def test_an_entry_that_answers_for_another_model_is_not_used(bundle: Path, cache: Path) -> None:
    right = answers(bundle)
    entry = only_entry(cache)
    other = bundle / "model.ids.onnx"
    (entry / "model.onnx").write_bytes(other.read_bytes())
    digests = json.loads((entry / "entry.json").read_bytes())
    digests["model.onnx"] = open_bundle(bundle).manifest["files"]["model.ids.onnx"]["sha256"]
    (entry / "entry.json").write_text(json.dumps(digests), encoding="utf-8")
    assert is_mapped(bundle)
    assert answers(bundle).tobytes() == right.tobytes()


def test_what_others_could_have_written_is_not_used(bundle: Path, cache: Path, tmp_path: Path) -> None:
    right = answers(bundle)
    entry = only_entry(cache)
    entry.chmod(0o777)
    assert not is_mapped(bundle)
    entry.chmod(0o700)
    cache.chmod(0o770)
    assert not is_mapped(bundle)
    assert answers(bundle).tobytes() == right.tobytes()
    cache.chmod(0o700)
    assert is_mapped(bundle)
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    assert not is_mapped(bundle)
    entry.unlink()
    (tmp_path / "elsewhere").rename(entry)
    (entry / "tables.bin").rename(tmp_path / "tables.bin")
    (entry / "tables.bin").symlink_to(tmp_path / "tables.bin")
    assert not is_mapped(bundle)


def test_an_entry_is_of_one_model_one_runtime_and_one_processor(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(bundle)
    digests = [open_bundle(bundle).manifest["files"]["model.cpu.onnx"]["sha256"]]
    assert folded.open_mapped(["0" * 64], threads=1) is None
    assert folded.open_mapped([*digests, "0" * 64], threads=1) is None
    with monkeypatch.context() as patched:
        patched.setattr(folded, "runtime_version", lambda: "1.0.0")
        assert folded.open_mapped(digests, threads=1) is None
    monkeypatch.setattr(folded, "_processor", lambda: "another")
    assert folded.open_mapped(digests, threads=1) is None


def test_the_entries_that_were_used_last_stay(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded, "KEPT", 2)
    for name, last_used in (("first", 1), ("second", 2), (".writing-long-ago", 3), ("third", 4)):
        (cache / name).mkdir(parents=True, mode=0o700)
        (cache / name / "entry.json").touch()
        os.utime(cache / name, (last_used, last_used))
    (cache / "empty").mkdir()
    cache.chmod(0o700)
    answers(bundle)
    kept = {path.name for path in cache.iterdir()}
    assert len(kept) == 3
    assert {"third", "empty"} < kept
    assert is_mapped(bundle)


def test_without_a_place_to_keep_it_a_model_scores_all_the_same(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = answers(bundle)
    (tmp_path / "file").touch()
    for place in (str(tmp_path / "file"), "relative", "/proc/nowhere"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert answers(bundle).tobytes() == right.tobytes()
        assert not is_mapped(bundle)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert answers(bundle).tobytes() == right.tobytes()


def test_several_that_write_it_at_once_leave_one_whole_entry(bundle: Path, cache: Path) -> None:
    command = [sys.executable, "-c", SCORE, str(bundle)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(3)]
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(said) == 1
    only_entry(cache)
    assert is_mapped(bundle)
