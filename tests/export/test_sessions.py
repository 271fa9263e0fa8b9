"""What a session does beside answering: it comes through Ctrl-C, and reports to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.sessions import RuntimeUnavailable, choose_provider, installed_providers, open_session
from toolchain.scoring.default import BOX
from toolchain.scoring.scorer import CPU

INTERRUPTED = """
import signal, sys
from pathlib import Path
from export.sessions import open_session, run_text

session = open_session(Path(sys.argv[1]))
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
for microseconds in range(20, 420, 20):  # about as long as it takes to read the texts
    try:
        signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
        run_text(session, ["label"], ["good"] * 5_000)
    except KeyboardInterrupt:
        interrupted += 1
print(interrupted)
"""
SCORE = "from toolchain import Scorer; print(Scorer().score(['A fine film.'])[0].label)"


def python(*arguments: str | Path, **variables: str) -> str:
    """What a Python process prints that was not told that it runs in CI, where ONNX Runtime is silent by itself."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "GITHUB_ACTIONS"}}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    return done.stdout.strip()


def test_ctrl_c_while_texts_are_read_is_a_keyboard_interrupt() -> None:
    assert python("-c", INTERRUPTED, BOX / CPU) == "20"


@pytest.mark.skipif(sys.platform != "linux", reason="did not run: it knows where Linux keeps caches")
def test_scoring_leaves_folded_tables_and_nothing_else(tmp_path: Path) -> None:
    assert python("-c", SCORE, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache")) == "pos"
    kept = [path.relative_to(tmp_path / "cache") for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parts[:2] for path in kept} == {("toolchain", "folded")}


def test_a_provider_that_answers_wrongly_is_refused_by_its_name_and_offered_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["OpenVINOExecutionProvider", "CPUExecutionProvider"]
    )
    assert installed_providers() == ["cpu"]
    assert choose_provider(BOX / CPU, "auto") == "cpu"
    for refused in (lambda: choose_provider(BOX / CPU, "openvino"), lambda: open_session(BOX / CPU, "openvino")):
        with pytest.raises(RuntimeUnavailable, match=r"'openvino' is not used: .* wrongly.*; use --provider cpu"):
            refused()
