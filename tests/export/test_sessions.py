"""What a session does beside answering: it comes through Ctrl-C, and reports to nobody."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from export import sessions
from export.sessions import PROBE, RuntimeUnavailable, choose_provider, installed_providers, open_session
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


CUDA_FAILURE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, Status> "
    "onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cudaError; bool THRW = true] "
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 std::conditional_t<THRW, void, Status> "
    "onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cudaError; bool THRW = true] "
    "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=here ; "
    "file=cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice(info_.device_id); "
)


def test_a_provider_that_fails_while_a_session_is_opened_is_an_error_in_a_line_and_not_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    def fail(*_: object) -> NoReturn:
        raise RuntimeError(CUDA_FAILURE)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(RuntimeUnavailable) as refusal:
        open_session(PROBE)
    said = "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
    assert str(refusal.value) == f"no session on the provider 'cpu': {said}"
    assert capsys.readouterr().out == ""  # where a command writes its data


def test_a_provider_that_fails_in_a_run_is_an_error_and_not_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(working, name)

        def run(self, *_: object) -> NoReturn:
            raise EPFail("CUDA failure 2: out of memory")

    session = open_session(PROBE)
    working = session._sess
    monkeypatch.setattr(session, "_sess", Failing())
    with pytest.raises(EPFail, match="out of memory"):
        session.run(None, {"x": np.ones(1, np.float32)})


def test_a_library_of_cuda_that_is_missing_is_named_and_auto_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    said = "Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file"
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(said, "More of it", sep="\n"))
    monkeypatch.setattr(sessions, "_load_cuda", sessions._load_cuda.__wrapped__)  # without what it remembers

    def refused() -> str:
        with pytest.raises(RuntimeUnavailable, match="'cuda' is installed and cannot run a model here") as refusal:
            open_session(BOX / CPU, "cuda")
        return str(refusal.value)

    def no_driver(name: str) -> NoReturn:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("export.sessions.CDLL", lambda name: None)
    assert refused().endswith(f"says: {said}; pip install 'onnxruntime-gpu[cuda,cudnn]' brings it")
    assert choose_provider(BOX / CPU, "auto") == "cpu"
    monkeypatch.setattr("export.sessions.CDLL", no_driver)
    assert refused().endswith("cannot open shared object file; it comes with the NVIDIA driver")
    assert capfd.readouterr() == ("", "")
