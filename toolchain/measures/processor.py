"""Which processor a speed was measured on: without it the figure says little."""

import platform
from pathlib import Path

_FAST = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "VNNI", "amx_tile": "AMX"}


def processor() -> str:
    """The processor by its name, and which of the instructions it has that make products fast; empty where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    about = dict(line.partition(":")[::2] for line in reversed(lines))  # of the first processor
    found = {name.strip(): value.strip() for name, value in about.items()}
    flags = set(found.get("flags", "").split())
    fast = [name for flag, name in _FAST.items() if flag in flags]
    return f"{found.get('model name', platform.machine())} ({', '.join(fast) or 'no AVX2'})"
