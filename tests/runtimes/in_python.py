"""How many answers of each form are wrong in the ONNX Runtime that is imported first: on|off FOLDER FILE TOLERANCE ...

A line for each, in order.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

BATCH = 32


def wrong_answers(folder: Path, file: str, tolerance: float, patterns: str) -> int:
    """All vectors in batches, all again, each alone, and a batch of blank texts; in one session."""
    rows = [json.loads(line) for line in (folder / "vectors.jsonl").read_bytes().splitlines()]
    expected = np.array([row["probabilities"] for row in rows])
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = patterns == "on"
    session = ort.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
    wrong = 0
    for size in (BATCH, BATCH, 1):
        for start in range(0, len(rows), size):
            batch = slice(start, start + size)
            texts = np.array([row["text"] for row in rows[batch]], dtype=object)
            _, answers = session.run(["label", "probabilities"], {"text": texts})
            wrong += int((~(np.abs(answers - expected[batch]).max(axis=1) <= tolerance)).sum())
    session.run(["label"], {"text": np.array(["", " ", "\n"], dtype=object)})
    return wrong


if __name__ == "__main__":
    patterns, *named = sys.argv[1:]
    for folder, file, tolerance in zip(named[::3], named[1::3], named[2::3], strict=True):
        print(json.dumps({"wrong": wrong_answers(Path(folder), file, float(tolerance), patterns)}), flush=True)
