"""What the tests of distributed training run both alone and, by torchrun, as one of two processes."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny import TINY, settings
from toolchain.corpus.corpus import Corpus, iterators, load_corpus
from toolchain.corpus.reviews import Source
from toolchain.errors import UsageError
from toolchain.models.classifiers import build_model
from toolchain.training.adversarial import Adversary
from toolchain.training.distributed import check_same, parallel, parts, process_group
from toolchain.training.loops import Epoch, fit, predict, train

STEADY = replace(TINY, dropout=0.0, input_dropout=0.0, word_dropout=0.0)
"""What chance has no part in, so that one process and two must agree."""
CLASS_WEIGHTS = torch.tensor([0.25, 4.0])


@dataclass
class Recorder:
    """Stands where the optimizer does: keeps the gradients of every step, and leaves the weights as they are."""

    model: nn.Module
    steps: list[list[Tensor]]

    def zero_grad(self) -> None:
        self.model.zero_grad()

    def step(self) -> None:
        gradients = [parameter.grad for parameter in self.model.parameters()]
        self.steps.append([gradient.clone() for gradient in gradients if gradient is not None])


def read(path: str) -> Corpus:
    return load_corpus(Source(path), STEADY, 0)


def one_epoch(
    corpus: Corpus,
    batch_size: int,
    class_weights: Tensor | None = None,
    precision: torch.dtype = torch.float32,
    adversarial: bool = False,
) -> dict[str, Any]:
    """The gradients of every step, the figures, which reviews were seen and whether they were answered right."""
    torch.manual_seed(0)
    model = build_model(STEADY.model, STEADY.specification(corpus.labels, 1), len(corpus.vocabulary), dropout=0.0)
    recorder = Recorder(model, [])
    batches, validation, _ = iterators(corpus, batch_size, seed=0)
    seen: list[tuple[str, int]] = []

    def watch(batch: Any, logits: Tensor) -> None:
        seen.extend(zip(batch.origin, logits.argmax(1).tolist(), strict=True))

    figures = train(
        parallel(model),
        recorder,  # type: ignore[arg-type]
        parts(batches, class_weights),
        nn.CrossEntropyLoss(class_weights, label_smoothing=0.05),
        precision,
        watch,
        Adversary(size=1.0, embedding=STEADY.embedding) if adversarial else None,
    )
    return {"gradients": recorder.steps, "figures": figures, "seen": seen, "logits": predict(model, validation)[0]}


EPOCHS: dict[str, dict[str, Any]] = {
    "even": {"batch_size": 16},
    "odd, and one review in the last": {"batch_size": 11},
    "one review a batch": {"batch_size": 1},
    "class weights": {"batch_size": 15, "class_weights": CLASS_WEIGHTS},
    "bf16": {"batch_size": 15, "precision": torch.bfloat16},
    "adversary": {"batch_size": 15, "adversarial": True},
}


def run(data: str, out: Path) -> dict[str, Any]:
    """Everything that one process and two are compared by: epochs without a step, and a whole training in `out`."""
    corpus = read(data)
    epochs = {name: one_epoch(corpus, **options) for name, options in EPOCHS.items()}
    ended: list[Epoch] = []
    metrics = fit(
        corpus,
        replace(STEADY, bag=256),
        settings(epochs=4, batch_size=15, class_weights="balanced"),
        out,
        on_epoch=lambda epoch, best: ended.append(epoch),
    )
    return {"epochs": epochs, "metrics": metrics, "ended": len(ended)}


if __name__ == "__main__":
    data, folder = sys.argv[1:]
    with process_group(torch.device("cpu")):
        rank = torch.distributed.get_rank()
        results = run(data, Path(folder) / "snapshot")
        try:
            check_same({"data": "reviews.csv", "precision": ("bf16", "fp32")[rank]})
        except UsageError as error:
            results["refused"] = str(error)
        torch.save(results, Path(folder) / f"{rank}.pt")
