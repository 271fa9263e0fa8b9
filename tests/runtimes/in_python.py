"""How many answers of a form are wrong in the ONNX Runtime that is imported first: FOLDER FILE TOLERANCE on|off."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

BATCH = 32


def main(folder: Path, file: str, tolerance: float, patterns: str) -> None:
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
    print(json.dumps({"version": ort.__version__, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4])
