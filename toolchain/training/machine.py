"""What a training asks of the machine: its device and precision, the same sums every time, and memory given back."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from toolchain.errors import UsageError
from toolchain.measures.processor import processor

# Huge pages for large tensors, whose first touch otherwise costs a page fault every 4 KiB. PyTorch reads this before
# its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_SECONDS_A_TRIM = 5.0
"""Between two calls of `malloc_trim`."""

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises `UsageError` where the device that was asked for is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 on CUDA and on a CPU with matrix units for it (Intel AMX); on any other it would be slower.

    Raises `UsageError` on any other name than auto, fp32 and bf16.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise UsageError(f"--precision {name}: expected auto, fp32 or bf16")
    if name == "auto":
        name = "bf16" if device.type == "cuda" or torch.cpu._is_amx_tile_supported() else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32


def device_and_threads(device: torch.device) -> dict[str, Any]:
    """What a speed depends on: the name of the processor, or of the GPU, and PyTorch's threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"processor": name, "threads": torch.get_num_threads()}


def make_repeatable(seed: int) -> None:
    """Let the same seed give the same weights, bit for bit, in every process on this machine's CPU.

    A GPU adds up the gradients of an embedding in whatever order its threads come.
    """
    # MKL otherwise chooses code, threads and so the order of a sum anew in every process ("conditional numerical
    # reproducibility" in the oneMKL developer guide). It reads these at its first product.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    torch.manual_seed(seed)


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """Vanishing gradients become subnormal, and the CPU crawls through those. The caller's setting comes back after."""
    flushed_before = bool(torch.tensor(torch.finfo().tiny) / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)


def giving_memory_back(progress: Progress) -> Progress:
    """`progress`, under which memory of past batches goes back to the system. Hardly two batches have the same sizes.

    oneDNN keeps kernels for the last 1,024 sizes; the limit here is read at the first product. glibc keeps freed blocks
    of all sizes: it gives them back every few seconds (musl has no `malloc_trim`).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

    def trimmed(batches: Iterable[Any], title: str) -> Iterator[Any]:
        last = time.monotonic()
        for batch in progress(batches, title):
            yield batch
            if trim and time.monotonic() - last > _SECONDS_A_TRIM:
                trim(0)
                last = time.monotonic()

    return trimmed
