"""Exit 1 on the first vector that the model does not reproduce here: python check.py BUNDLE [VECTORS]"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

bundle = Path(sys.argv[1])
vectors = Path(sys.argv[2]) if len(sys.argv) > 2 else bundle / "vectors.jsonl"
tolerance = json.loads((bundle / "manifest.json").read_bytes())["tolerance"]
session = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])

count, worst = 0, 0.0
for count, line in enumerate(vectors.read_bytes().splitlines(), start=1):
    vector = json.loads(line)
    label, probabilities = session.run(["label", "probabilities"], {"text": np.array([vector["text"]], dtype=object)})
    difference = float(np.abs(probabilities[0] - np.array(vector["probabilities"])).max())
    if label[0] != vector["label"] or not difference <= tolerance:  # a NaN disagrees
        sys.exit(f"{vectors}, line {count}: {label[0]} {probabilities[0]} is beyond {tolerance} of the vector")
    worst = max(worst, difference)
if not count:
    sys.exit(f"{vectors}: holds no vectors; export the bundle anew")
print(f"{count} vectors agree, the worst within {worst:.1e}")
