"""Score every line of standard input with onnxruntime and numpy alone: python score.py BUNDLE < reviews.txt"""

import json
import sys

import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(f"{sys.argv[1]}/model.onnx", providers=["CPUExecutionProvider"])
for line in sys.stdin.buffer:  # bytes, so that the locale has no say in how they are read
    text = line.decode("utf-8", "replace").rstrip("\r\n").replace("\0", " ")
    label, probabilities = session.run(["label", "probabilities"], {"text": np.array([text], dtype=object)})
    print(json.dumps({"label": label[0], "probabilities": probabilities[0].tolist()}), flush=True)
