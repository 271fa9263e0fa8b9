"""What anyone would write in twenty lines: onnxruntime over model.onnx, batches of 64.

python benchmarks/plain_onnxruntime.py MODEL.onnx INPUT.csv OUTPUT.csv [--sorted]
"""

import csv
import sys

import numpy as np
import onnxruntime as ort

model, source, target = sys.argv[1:4]
csv.field_size_limit(sys.maxsize)
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
with open(source, newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
if "--sorted" in sys.argv:
    rows.sort(key=lambda row: len(row["review"]))
with open(target, "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow([*rows[0], "prediction", "confidence"])
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        texts = np.array([row["review"] for row in batch], dtype=object)
        labels, probabilities = session.run(["label", "probabilities"], {"text": texts})
        for row, label, each in zip(batch, labels, probabilities.max(axis=1), strict=True):
            writer.writerow([*row.values(), label, f"{each:.6f}"])
