"""A session for scoring: one that has just given the probabilities that its bundle records.

A runtime can load a graph, raise nothing, and be wrong: from the second batch of a size on, or for blank texts alone.
So a few of the bundle's vectors are run twice, in a batch, and the empty text twice by itself.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from export import folded
from export.bundle import VECTORS, Bundle
from export.errors import ExportError
from export.forms import FORMS, QUANTIZED_TOLERANCE
from export.sessions import open_session, reason, run_text, runtime_version

if TYPE_CHECKING:
    import onnxruntime

_TEXTS = 8
_LONGEST = 400  # bytes of a line of vectors.jsonl: the check takes milliseconds
_SHOWN = 160  # characters of what ONNX Runtime says
_EXACT = ("cpu", "cuda")
_SAME_DIGITS = {"device_id"}
"""Options of a provider that do not change how it computes."""


class WrongAnswers(ExportError):
    """The installed ONNX Runtime does not give the probabilities that the bundle records."""


def open_for_scoring(
    bundle: Bundle, name: str, provider: str = "cpu", threads: int = 0, options: Mapping[str, str] | None = None
) -> "onnxruntime.InferenceSession":
    """A session of the bundle's text form `name`, as `open_session` gives it, after it was checked.

    The tolerance is the form's, where nothing lets the provider compute with fewer digits; that is what the options of
    a provider are for, and what other providers than `cpu` and `cuda` do by themselves. Raises `WrongAnswers` where a
    probability is farther off or a run fails, `RuntimeUnavailable` and `InvalidBundle` as opening does.
    """
    model = bundle.file(name)
    (form,) = (form for form in FORMS.values() if form.file == name)
    read = [name, *([form.tables_in] if form.tables_in in bundle.files else [])]
    for other in read[1:]:
        bundle.file(other)
    exact = provider in _EXACT and set(options or {}) <= _SAME_DIGITS
    tolerance = form.tolerance if exact else max(form.tolerance, QUANTIZED_TOLERANCE)
    files = [bundle.manifest["files"][each] for each in read]
    if provider != "cpu" or options or sum(each["bytes"] for each in files) < folded.WORTH_KEEPING:
        session = open_session(model, provider, threads, options)
        _check(session, bundle, name, tolerance, provider)
        return session
    digests = [each["sha256"] for each in files]
    check = partial(_check, bundle=bundle, name=name, tolerance=tolerance)
    if mapped := folded.open_mapped(digests, threads):
        with suppress(WrongAnswers):
            check(mapped)
            return mapped
    session = folded.open_and_keep(model, digests, threads, check)
    check(session)
    return session


def _check(
    session: "onnxruntime.InferenceSession", bundle: Bundle, name: str, tolerance: float, provider: str = "cpu"
) -> None:
    rows = _some_vectors(bundle)
    blank = [row for row in rows if not row["tokens"]][:1]
    for batch in (rows, rows, blank, blank):
        texts = [row["text"] for row in batch] or [""]
        try:
            (answers,) = run_text(session, ["probabilities"], texts)
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            said = f"fails on {texts[0]!r} ({reason(error)[:_SHOWN]})"
            raise WrongAnswers(_refusal(bundle, name, provider, said)) from error
        if not batch:
            continue
        off = np.abs(answers - np.array([row["probabilities"] for row in batch])).max(axis=1)
        if wrong := int((~(off <= tolerance)).sum()):
            by = f"by up to {off.max():.2g}, tolerance {tolerance:g}"
            said = f"answers {wrong} of {len(batch)} checked texts wrongly ({by})"
            raise WrongAnswers(_refusal(bundle, name, provider, said))


def _some_vectors(bundle: Bundle) -> list[Mapping[str, Any]]:
    """Short ones from all over the file, without reading the others. It begins with the empty text."""
    lines = [line for line in bundle.file(VECTORS).read_bytes().splitlines() if len(line) <= _LONGEST]
    return [json.loads(line) for line in lines[:: max(1, len(lines) // _TEXTS)][:_TEXTS]]


def _refusal(bundle: Bundle, name: str, provider: str, said: str) -> str:
    told = f"{bundle.folder / name}: ONNX Runtime {runtime_version()}"
    if provider != "cpu":
        return f"{told} on the provider {provider!r} {said}; use --provider cpu"
    way_out = "Install another version: pip install --upgrade onnxruntime (or onnxruntime-gpu)"
    return f"{told} {said}; this form is not used. {way_out}"
