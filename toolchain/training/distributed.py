"""Training on several devices: torchrun starts a process for each, and together they do what one process would.

Every process reads the same data and builds the same model; DistributedDataParallel makes their gradients one. Each
takes its part of every batch, and only the first writes and reports. Alone, a process does what it always did.
"""

import contextlib
import hashlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchtext import data

from toolchain.errors import UsageError

TIMEOUT = timedelta(days=1)
"""How long a process waits for another, which may be training word vectors alone; of one that died torchrun tells."""
NOTICE = 5.0
"""Seconds in which torchrun's signal follows on the connection that a dying process of this machine breaks."""

Value = TypeVar("Value")


class Ended(Exception):
    """Another process died, or torchrun was told to stop: the training cannot go on."""


@dataclass(frozen=True)
class Part:
    """What a process's part of a batch counts for.

    Its mean loss stands for `weight` reviews of the batch, none where the batch had too few for every process. Times
    `scale` its gradients, averaged over the processes, are those of the whole batch's mean loss.
    """

    weight: float
    scale: float


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started for as long as the context lasts; alone, do nothing.

    On CUDA each takes a device of its own. Raises `UsageError` where there are fewer devices than processes, and
    `Ended` where another process is gone, or torchrun ends the training.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if device.type == "cuda":
        _take_device()
    before = signal.signal(signal.SIGTERM, _end)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        yield
        dist.destroy_process_group()  # not after an error: there may be nobody left to say goodbye to
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        time.sleep(NOTICE)
        raise Ended(f"the connection to another process broke ({str(error).splitlines()[0]})") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _take_device() -> None:
    processes, devices = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if processes > devices:
        raise UsageError(f"{processes} processes have {devices} CUDA devices: torchrun --nproc-per-node {devices}")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise Ended("torchrun ended the training: another process died, or it was told to stop")


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes and reports."""
    return _rank() == 0


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def gather(value: Value) -> list[Value]:
    """The values of all processes, by rank."""
    values = [value] * process_count()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def of_first(compute: Callable[[], Value]) -> Value:
    """What the first process computes, for all of them: a decision that must not differ, a file that one alone has."""
    if not dist.is_initialized():
        return compute()
    values = [compute() if is_first() else None]
    dist.broadcast_object_list(values)
    return cast(Value, values[0])


def add_up(*numbers: float) -> list[float]:
    """The sums of the numbers over all processes."""
    sums = torch.tensor(numbers, dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums.tolist()


def check_same(run: Mapping[str, Any]) -> None:
    """Raise `UsageError` where another process is about to train something else."""
    for rank, other in enumerate(gather(run)):
        if different := sorted(name for name in run.keys() | other.keys() if run.get(name) != other.get(name)):
            raise UsageError(
                f"process {rank} trains something else ({', '.join(different)} differ); give every machine the same "
                "data, options and versions"
            )


def reseed(seed: int, epoch: int) -> None:
    """Let every process drop other units out, in every epoch alike whether or not the training was interrupted."""
    if dist.is_initialized():
        digest = hashlib.sha256(f"{seed} {epoch} {_rank()}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "big"))


def parallel(model: nn.Module) -> nn.Module:
    """The model with gradients that are the mean over all processes, and from now on with the first one's weights."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


class _Parts:
    """This process's part of every batch: every so-manieth review of it, so that the lengths are alike everywhere."""

    def __init__(self, batches: data.Iterator, class_weights: Tensor | None) -> None:
        self._batches = batches
        self._class_weights = None if class_weights is None else class_weights.cpu()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[data.Batch]:
        for batch in self._batches:
            yield take_part(batch, _rank(), process_count(), self._class_weights)


def parts(batches: data.Iterator, class_weights: Tensor | None) -> Iterable[data.Batch]:
    """This process's part of every batch; all of it where the process is alone."""
    return _Parts(batches, class_weights) if dist.is_initialized() else batches


def take_part(batch: data.Batch, rank: int, processes: int, class_weights: Tensor | None) -> data.Batch:
    """The part of a batch of reviews that falls to process `rank`, with a `Part` that says what it counts for.

    It is padded as the batch is. Where nothing falls to the process, a review that counts for nothing stands in: every
    process has to take part in every step. `class_weights` [classes] are those of the loss, which divides by their sum.
    """
    size = len(batch.label)
    rows = list(range(size))[rank::processes]
    own = rows or [0]
    ids, lengths = batch.text
    weights = torch.ones(size) if class_weights is None else class_weights[batch.label].double()
    share = float(weights[rows].sum() / weights.sum())
    part = data.Batch.fromvars(
        batch.dataset,
        len(own),
        text=(ids[own], lengths[own]),
        label=batch.label[own],
        origin=[batch.origin[row] for row in own],
        **({"target": batch.target[own]} if hasattr(batch, "target") else {}),
    )
    part.part = Part(weight=share * size, scale=share * processes)
    return part


def part_of(batch: Any) -> Part:
    """What a batch counts for: one that nobody shares, for itself."""
    whole = Part(weight=len(batch.label), scale=1.0)
    return getattr(batch, "part", whole)


def own_batches(batches: Iterable[Value]) -> Iterable[Value]:
    """Of batches that need no gradient, those that fall to this process, whole."""
    return itertools.islice(batches, _rank(), None, process_count())


def in_order(values: list[Value]) -> list[Value]:
    """A value for each of `own_batches` -> those of all processes, in the order of the batches."""
    by_rank = gather(values)
    return [own[turn] for turn in range(len(by_rank[0])) for own in by_rank if turn < len(own)]
