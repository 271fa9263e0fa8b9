"""SQL with the model in it: python score.py BUNDLE < query.sql

In the query `score(text)` gives STRUCT(label VARCHAR, probabilities FLOAT[]), and NULL for NULL.
"""

import sys
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.compute as pc

DUCKDB_ANSWER = "STRUCT(label VARCHAR, probabilities FLOAT[])"
ANSWER = pa.struct([("label", pa.string()), ("probabilities", pa.list_(pa.float32()))])
CHARACTERS_A_BATCH = 1 << 16


def batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """The indices of texts of about one length, as many as keep a batch and its padding small."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        if batch and (len(batch) + 1) * len(texts[index]) > CHARACTERS_A_BATCH:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def register(connection: duckdb.DuckDBPyConnection, bundle: str) -> None:
    """Make `score` a function of the connection. DuckDB calls it with up to 2,048 rows at a time, as Arrow arrays."""
    session = ort.InferenceSession(f"{bundle}/model.onnx", providers=["CPUExecutionProvider"])

    def score(column: pa.ChunkedArray) -> pa.Array:
        texts = pc.replace_substring(column, "\0", " ").to_pylist()
        answers: list[tuple[str, Sequence[float]]] = [("", ())] * len(texts)
        for batch in batches(texts):
            text = np.array([texts[index] for index in batch], dtype=object)
            labels, probabilities = session.run(["label", "probabilities"], {"text": text})
            for index, label, row in zip(batch, labels, probabilities, strict=True):
                answers[index] = (label, row)
        return pa.array(answers, ANSWER)

    # The stubs of DuckDB lack the name "arrow", which its documentation has.
    connection.create_function("score", score, ["VARCHAR"], DUCKDB_ANSWER, type="arrow")  # type: ignore[call-overload]


def main(bundle: str, query: str) -> None:
    """Run `query`, which finds the bundle's path in getvariable('bundle'), and print its rows."""
    with duckdb.connect() as connection:
        register(connection, bundle)
        connection.execute("SET VARIABLE bundle = $1", [bundle])
        try:
            if rows := connection.sql(query):
                rows.show(max_rows=100)
        except duckdb.Error as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer.read().decode())
