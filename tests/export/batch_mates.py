"""The same texts beside batch mates of other lengths: what the padding must not change."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray


def answers_beside(model: onnx.ModelProto, texts: Sequence[str], mates: Sequence[str]) -> list[NDArray[np.float32]]:
    """The probabilities of `texts`, [texts, classes], once in a batch with each of `mates`, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = []
    for mate in mates:
        (answers,) = session.run(["probabilities"], {"text": np.array([*texts, mate], dtype=object)})
        results.append(answers[: len(texts)])
    return results
