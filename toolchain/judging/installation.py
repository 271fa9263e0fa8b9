"""What is installed, which providers really take a session, and what to install for what is missing."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from export.sessions import INSTALL_CUDA, PROBE, RuntimeUnavailable, cores, installed_providers, open_session
from toolchain import __version__

_EXTRAS = {
    "scoring": ("toolchain[cpu]", ("onnxruntime", "onnxruntime-gpu"), 1),
    "training and export": ("toolchain[train]", ("torch", "torchtext", "onnx"), 3),
    "Parquet": ("toolchain[parquet]", ("pyarrow",), 1),
    "Excel and zstd": ("toolchain[files]", ("openpyxl", "zstandard", "charset-normalizer"), 3),
    "reports": ("toolchain[report]", ("jinja2",), 1),
    "the service": ("toolchain[serve]", ("fastapi", "uvicorn", "prometheus-client"), 3),
    "Ray": ("toolchain[ray]", ("ray",), 1),
}
"""A purpose -> the extra that brings it, its packages, and how many of these it needs."""

_NEEDED = ("scoring",)
"""Without these nothing works. The others are for those who want them."""

_BESIDE_CUDA = "tensorrt"
"""`onnxruntime-gpu` lists it as well, and brings none of its libraries. Only who wants it misses them."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `ok` is None for what is neither good nor bad."""

    what: str
    state: str
    ok: bool | None = None


def examine() -> list[Finding]:
    """Look at this machine. Never raises for what is missing; that is a finding."""
    findings = [
        Finding("toolchain", __version__),
        Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        Finding("cores", str(cores())),
    ]
    for purpose, (extra, packages, needed) in _EXTRAS.items():
        versions = {package: found for package in packages if (found := _version(package))}
        listed = ", ".join(f"{package} {number}" for package, number in versions.items())
        if len(versions) >= needed:
            findings.append(Finding(purpose, listed, True))
        else:
            missing = f"{listed or 'not installed'}; install it: pip install '{extra}'"
            findings.append(Finding(purpose, missing, False if purpose in _NEEDED else None))
    if all(_version(package) for package in _EXTRAS["scoring"][1]):
        clash = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; uninstall one"
        findings.append(Finding("conflict", clash, False))
    try:
        names = installed_providers()
    except RuntimeUnavailable:
        names = []
    for name in names:
        try:
            open_session(PROBE, name)
            findings.append(Finding(f"provider {name}", "takes a session", True))
        except RuntimeUnavailable as error:
            findings.append(Finding(f"provider {name}", str(error), None if name == _BESIDE_CUDA else False))
    if names and "cuda" not in names:
        findings.append(Finding("provider cuda", f"not installed; {INSTALL_CUDA}"))
    return findings


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
