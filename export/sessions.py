"""ONNX Runtime sessions on the provider that was asked for, or an error; never a silent fall back to the CPU."""

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from ctypes import CDLL
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from export.errors import ExportError

if TYPE_CHECKING:
    import onnxruntime

_SUFFIX = "ExecutionProvider"
INSTALL_CUDA = "for an NVIDIA GPU: pip uninstall onnxruntime, then pip install 'toolchain[gpu]'"
"""The two builds of ONNX Runtime are one module: side by side they overwrite each other."""

_TF32_OFF = {"CUDAExecutionProvider": {"use_tf32": "0"}}

_FATAL, _WARNING = 4, 2
"""Severities of ONNX Runtime's log; it begins with warnings."""

_SIGNATURE = re.compile(r"/\S+:\d+ .*[)\]] (?=[A-Z])")
"""The place in the source and the signature in C++ that stand before what was wrong. ` ; ` begins the rest."""

_MEMORY_PATTERN_RIGHT = (1, 19, 2)
"""With memory patterns ONNX Runtime 1.14 to 1.18 answer wrongly from the second batch of a size on, in graphs with a
`Scan` (https://github.com/microsoft/onnxruntime/issues/18672; `make test-runtimes`)."""

_WRONG = {"openvino": "it takes these models and answers wrongly, and it is slower than the CPU provider"}
"""Providers that are refused by name. OpenVINO 2025.4 (onnxruntime-openvino 1.24.1) is off by 0.1 to 0.7 of a
probability over `GRU`, for a text that is alone as well."""

_KEPT_TABLES = "session.optimized_model_external_initializers"

TABLE_BYTES = 1 << 10
"""Constants of fewer bytes stay in a graph whose tables are in another file."""

# x -> Relu -> y, float[1]: the smallest model every provider can run.
PROBE = (
    b"\x08\x07:7\n\x0c\n\x01x\x12\x01y\x22\x04Relu\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


class RuntimeUnavailable(ExportError):
    """ONNX Runtime is not installed, or the provider cannot be had."""


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runtime_version() -> str:
    """The version of the installed ONNX Runtime. Raises `RuntimeUnavailable` where there is none."""
    return str(_onnxruntime().__version__)


def installed_providers() -> list[str]:
    """The short names (`cpu`, `cuda`) of the providers that the installed ONNX Runtime was built with.

    Being listed does not mean that a session can be built on it; `open_session` finds out. Azure's is left out: it
    calls a service and runs no model. So are those that answer wrongly.
    """
    return [name for name in _full_names(_onnxruntime()) if name != "azure" and name not in _WRONG]


def require_provider(name: str) -> None:
    """Raise `RuntimeUnavailable` where the provider `name` is not installed, with what to install, or is refused."""
    if name in _WRONG:
        raise RuntimeUnavailable(f"the provider {name!r} is not used: {_WRONG[name]}; use --provider cpu")
    installed = installed_providers()
    if name != "auto" and name not in installed:
        way_out = f"; {INSTALL_CUDA}" if name == "cuda" else ""
        raise RuntimeUnavailable(
            f"the provider {name!r} is not installed; expected auto, {', '.join(installed)}{way_out}"
        )


def _full_names(ort: Any) -> dict[str, str]:
    """`cpu` -> `CPUExecutionProvider`, and so on."""
    return {name.removesuffix(_SUFFIX).lower(): name for name in ort.get_available_providers()}


def open_session(
    model: Path | bytes,
    provider: str = "cpu",
    threads: int = 0,
    options: Mapping[str, str] | None = None,
    keep: tuple[Path, str] | None = None,
    optimized: bool = False,
) -> "onnxruntime.InferenceSession":
    """A session of `model` whose first provider is `provider`, with `threads` intra-op threads (0: one a core).

    `options` are the provider's own (https://onnxruntime.ai/docs/execution-providers). Reduced-precision TF32 is off on
    CUDA unless they turn it on. `keep` is a file for the graph that ONNX Runtime has made of the model, and the name of
    another one beside it for its tables; a model that is such a graph is `optimized` already. Raises
    `RuntimeUnavailable` where the provider is not installed or does not take the session: ONNX Runtime itself only logs
    a line and uses the CPU. So it does when the provider fails in a run, which raises here what ONNX Runtime raises.
    """
    ort = _onnxruntime()
    names = _full_names(ort)
    if provider not in names or provider in _WRONG:
        require_provider(provider)
    full_name = names[provider]
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = _FATAL  # what goes wrong is raised below
    settings.enable_mem_pattern = _release(ort.__version__) >= _MEMORY_PATTERN_RIGHT
    if keep:
        settings.optimized_model_filepath = str(keep[0])
        settings.add_session_config_entry(f"{_KEPT_TABLES}_file_name", keep[1])
        settings.add_session_config_entry(f"{_KEPT_TABLES}_min_size_in_bytes", str(TABLE_BYTES))
    if optimized:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen = [(full_name, {**_TF32_OFF.get(full_name, {}), **(options or {})})]
    if provider != "cpu":
        chosen.append((names["cpu"], {}))  # the string operators run there
        _require_work(ort, provider, chosen[0])
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, settings, providers=chosen, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
        raise RuntimeUnavailable(f"no session on the provider {provider!r}: {reason(error)}") from error
    session.disable_fallback()  # ONNX Runtime 1.18 does not know the argument
    if session.get_providers()[0] != full_name:
        raise RuntimeUnavailable(
            f"the provider {provider!r} is installed and did not work; use --provider cpu, or see: toolchain doctor"
        )
    return session


def _require_work(ort: Any, name: str, provider: tuple[str, Mapping[str, str]]) -> None:
    """Raise where a provider cannot run even the smallest model by itself; some take a session and run none."""
    missing = _load_cuda(ort) if name == "cuda" else ""
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    ort.set_default_logger_severity(_FATAL)  # the session's does not reach the lines on libraries that are missing
    try:
        ort.InferenceSession(PROBE, settings, providers=[provider], enable_fallback=0)
    except Exception as error:
        raise RuntimeUnavailable(
            f"the provider {name!r} is installed and cannot run a model here (drivers or libraries missing?); "
            f"use --provider cpu, or see: toolchain doctor. ONNX Runtime says: {missing or reason(error)}"
        ) from error
    finally:
        ort.set_default_logger_severity(_WARNING)


@cache
def _load_cuda(ort: Any) -> str:
    """Load CUDA and cuDNN from where pip puts them, and say which library is nowhere. The provider looks elsewhere."""
    if sys.platform == "linux":
        try:
            CDLL("libcuda.so.1")
        except OSError as error:
            return f"{error}; it comes with the NVIDIA driver"
    if not hasattr(ort, "preload_dlls"):  # before 1.21
        return ""
    with redirect_stdout(io.StringIO()) as said:
        ort.preload_dlls()
    missing = said.getvalue().partition("\n")[0]
    return missing and f"{missing}; pip install 'onnxruntime-gpu[cuda,cudnn]' brings it"


def choose_provider(model: Path | bytes, provider: str) -> str:
    """`auto` is `cuda` where a session of `model` can be built on it, else `cpu`; any other name is itself.

    Raises `RuntimeUnavailable` where the provider is not installed.
    """
    require_provider(provider)
    if provider != "auto":
        return provider
    if "cuda" in installed_providers():
        try:
            open_session(model, "cuda")
            return "cuda"
        except RuntimeUnavailable:
            pass
    return "cpu"


def run_text(session: "onnxruntime.InferenceSession", names: Sequence[str], texts: Sequence[str]) -> list[Any]:
    """The outputs `names` of a session whose input is `text`; Ctrl-C raises `KeyboardInterrupt` after it.

    To read a text ONNX Runtime (1.31) calls `PyObject_Str`, in which the main thread runs signal handlers; where one
    raises, ONNX Runtime goes on with a null: a segmentation fault.
    """
    feed = {"text": np.array(texts, dtype=object)}
    on_main_thread = threading.current_thread() is threading.main_thread()
    with _signals_held_back() if on_main_thread else nullcontext():
        return list(session.run(names, feed))


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Signals that come during the block reach their handlers after it. For the main thread, where handlers run."""
    came: list[tuple[Callable[[int, FrameType | None], Any], int, FrameType | None]] = []
    numbers = sorted(signal.valid_signals())
    handlers = {int(number): handler for number in numbers if callable(handler := signal.getsignal(number))}

    def hold_back(number: int, frame: FrameType | None) -> None:
        came.append((handlers[number], number, frame))

    for number in handlers:
        signal.signal(number, hold_back)
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for handler, number, frame in came:
            handler(number, frame)


def _onnxruntime() -> Any:
    # From 1.29 on it would report every session (model file, graph, hashes) to Microsoft from a thread of its own.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RuntimeUnavailable(
            "ONNX Runtime is not installed; install it: pip install 'toolchain[cpu]' (or 'toolchain[gpu]')"
        ) from error
    except Exception as error:  # a SystemError as well, where it was built for another numpy
        raise RuntimeUnavailable(
            f"ONNX Runtime is installed and cannot be imported ({reason(error)}); before 1.19 it needs "
            "numpy below 2: pip install 'numpy<2', or pip install --upgrade onnxruntime"
        ) from error
    return onnxruntime


def _release(version: str) -> tuple[int, ...]:
    """`1.24.0.dev20251031` -> (1, 24, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def reason(error: Exception) -> str:
    """What ONNX Runtime says that was wrong, in a line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return _SIGNATURE.sub("", line).partition(" ; ")[0]
