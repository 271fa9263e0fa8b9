"""A training run for TensorBoard: `tensorboard --logdir snapshot/tensorboard`."""

import functools
from dataclasses import asdict
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from toolchain.training.loops import Epoch

FOLDER = "tensorboard"


class EventLog:
    """Event files in `out/tensorboard`, flushed after every epoch."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        """Opened with the first epoch, of which only the process that writes hears."""
        return SummaryWriter(str(self._folder))

    def add(self, epoch: Epoch) -> None:
        """Every figure of the epoch, as `train/loss`, `validation/accuracy` and so on."""
        figures = asdict(epoch)
        step = figures.pop("epoch")
        for name, value in figures.items():
            self._writer.add_scalar(name.replace("_", "/"), value, step)
        self._writer.flush()
