"""The documented route to scored reviews: torchtext TabularDataset and BucketIterator, and PyTorch on padded batches.

    python benchmarks/documented_route.py SNAPSHOT INPUT.csv OUTPUT.csv

INPUT has the columns id, review and label. The model is the snapshot's, so that the weights are the same.
"""

import csv
import sys
from pathlib import Path

import torch
from torchtext import data

from export.text import PADDING_ID
from toolchain.models.snapshot import load_snapshot


def main(snapshot_folder: str, source: str, target: str) -> None:
    csv.field_size_limit(sys.maxsize)
    snapshot = load_snapshot(Path(snapshot_folder))
    model = snapshot.build()
    number = data.RawField()
    text = data.Field(tokenize=str.split, lower=True, batch_first=True, include_lengths=True)
    fields = {"id": ("id", number), "review": ("text", text)}
    dataset = data.TabularDataset(source, format="csv", fields=fields)
    text.build_vocab([])
    text.vocab.itos = snapshot.vocabulary
    text.vocab.stoi.clear()
    text.vocab.stoi.update({word: index for index, word in enumerate(snapshot.vocabulary)})
    assert text.vocab.stoi[text.pad_token] == PADDING_ID
    batches = data.BucketIterator(
        dataset, batch_size=64, train=False, sort_key=lambda example: len(example.text), sort_within_batch=True
    )
    with open(target, "w", newline="", encoding="utf-8") as file, torch.no_grad():
        writer = csv.writer(file)
        writer.writerow(["id", "prediction", "confidence"])
        for batch in batches:
            ids, lengths = batch.text
            probabilities = torch.softmax(model(ids, lengths), 1)
            for row, best in zip(batch.id, probabilities.max(1).indices.tolist(), strict=True):
                writer.writerow([row, snapshot.specification.labels[best]])


if __name__ == "__main__":
    main(*sys.argv[1:])
