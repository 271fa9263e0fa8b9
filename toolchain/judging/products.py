"""The rate of matrix products in ONNX Runtime on this machine: what the arithmetic of a recurrence is measured by.

The model is written byte by byte (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), because `onnx` is not there
where scoring is.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from export.sessions import cores, open_session

_ROWS, _WIDTH, _PRODUCTS = 64, 256, 64
_FLOAT, _INT64 = 1, 7


class Products:
    """A chain of [64, 256] x [256, 256] products in single precision, on every core at once."""

    def __init__(self) -> None:
        self._session = open_session(_chain(), threads=1)

    def rate(self, runs: int = 100) -> float:
        """Floating-point operations a second."""
        rows = {"0": np.ones((_ROWS, _WIDTH), np.float32)}
        with ThreadPoolExecutor(cores()) as workers:
            start = time.perf_counter()
            for done in [workers.submit(self._session.run, None, rows) for _ in range(runs * cores())]:
                done.result()
            took = time.perf_counter() - start
        return 2 * _ROWS * _WIDTH * _WIDTH * _PRODUCTS * runs * cores() / took


def _chain() -> bytes:
    """Of `0` [64, 256] the product with a matrix, and of that, up to the last: ONNX opset 17, IR version 8.

    The matrix is a `ConstantOfShape`, which ONNX Runtime folds while the session loads and packs like any weight.
    """
    shape = np.array([_WIDTH, _WIDTH], "<i8").tobytes()
    nodes = [_node("ConstantOfShape", ["shape"], "matrix")]
    nodes += [_node("MatMul", [str(number), "matrix"], str(number + 1)) for number in range(_PRODUCTS)]
    graph = [_part(1, node) for node in nodes]
    graph += [_part(2, b"products")]
    graph += [_part(5, _number(1, 2) + _number(2, _INT64) + _part(8, b"shape") + _part(9, shape))]
    graph += [_part(11, _rows("0")), _part(12, _rows(str(_PRODUCTS)))]
    return _number(1, 8) + _part(7, b"".join(graph)) + _part(8, _number(2, 17))


def _node(operator: str, inputs: list[str], output: str) -> bytes:
    return (
        b"".join(_part(1, name.encode()) for name in inputs) + _part(2, output.encode()) + _part(4, operator.encode())
    )


def _rows(name: str) -> bytes:
    """The name and type of float[64, 256]."""
    shape = b"".join(_part(1, _number(1, size)) for size in (_ROWS, _WIDTH))
    return _part(1, name.encode()) + _part(2, _part(1, _number(1, _FLOAT) + _part(2, shape)))


def _part(field: int, value: bytes) -> bytes:
    """A field of bytes, text or a message in the encoding of protobuf."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    """A field of a whole number."""
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
