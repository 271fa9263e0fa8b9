"""The two figures, as PNG: a training run epoch by epoch, and whether a model's confidence can be believed.

Drawn on a `Figure` of their own, without pyplot: no window system and no global state. Colours by Okabe and Ito,
told apart by the colour-blind; line styles and markers differ as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolchain import __version__
from toolchain.files.outputs import Product, writing
from toolchain.measures.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#5F6368"
DOTS_PER_INCH = 100
_SOFTWARE = b"tEXtSoftware\0toolchain "
_HEAD = 4096


def is_figure(path: Path) -> bool:
    """Whether a file is a figure of ours, which says so where PNG names its software."""
    with path.open("rb") as file:
        return _SOFTWARE in file.read(_HEAD)


RELIABILITY = Product("reliability.png", is_figure)


def training_curves(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Loss and accuracy by epoch, training and validation, the best epoch marked: 1200 × 500 pixels.

    `history` holds the lines of `history.csv`, at least one; the best epoch is that of the lowest validation loss.
    """
    figure = _figure(12, 5)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [int(line["epoch"]) for line in history]
    best = min(range(len(history)), key=lambda index: history[index]["validation_loss"])
    for axes, name, unit in ((loss, "loss", "cross-entropy, nats"), (accuracy, "accuracy", "reviews, %")):
        validation = [line[f"validation_{name}"] for line in history]
        axes.plot(epochs, [line[f"train_{name}"] for line in history], "s--", color=VERMILION, label="training")
        axes.plot(epochs, validation, "o-", color=BLUE, label="validation")
        axes.axvline(epochs[best], color=GREY, linewidth=1, linestyle=":", zorder=0)
        value = f"{validation[best]:.3f}" if name == "loss" else f"{validation[best]:.1f} %"
        axes.plot(
            *(epochs[best], validation[best]),
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=BLUE,
            linestyle="none",
            label=f"best epoch, {epochs[best]}: {value}",
        )
        axes.set(title=name.capitalize(), xlabel="epoch", ylabel=unit)
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        _tidy(axes)
        axes.legend(frameon=False)
    _save(figure, path)


def reliability_diagram(before: Reliability, after: Reliability | None, path: str | Path) -> None:
    """Accuracy by confidence, above how many answers have it; beside each other before and after a calibration.

    On the diagonal a model that says 80 % is right in 80 of 100 cases; below it, it is too sure of itself.
    """
    panels = {"Before calibration": before, "After calibration": after} if after else {"Reliability": before}
    figure = _figure(6 * len(panels), 6.5)
    columns = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)).T
    for (above, below), (title, bins) in zip(columns, panels.items(), strict=True):
        _draw_reliability(above, bins)
        above.set_title(f"{title}: expected calibration error {bins.expected_calibration_error:.1%}")
        edges = np.linspace(0, 1, len(bins.count) + 1)
        below.stairs(bins.count / bins.count.sum(), edges, fill=True, color=GREY, alpha=0.6)
        below.set(xlabel="confidence, the probability of the answer", xlim=(0, 1))
        below.yaxis.set_major_formatter("{x:.0%}")
        below.xaxis.set_major_formatter("{x:.0%}")
        _tidy(below)
    columns[0][0].set_ylabel("accuracy")
    columns[0][1].set_ylabel("share of answers")
    _save(figure, path)


def _draw_reliability(axes: "Axes", bins: Reliability) -> None:
    edges = np.linspace(0, 1, len(bins.count) + 1)
    used = bins.count > 0
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.bar(
        edges[:-1][used],
        bins.accuracy[used],
        np.diff(edges)[used],
        align="edge",
        color=BLUE,
        alpha=0.35,
        edgecolor="white",
        label="accuracy of the bin",
    )
    axes.plot(
        bins.confidence[used], bins.accuracy[used], "o", color=VERMILION, label="accuracy at the bin's mean confidence"
    )
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter("{x:.0%}")
    _tidy(axes)
    axes.legend(frameon=False, loc="upper left")


def _figure(width: float, height: float) -> "Figure":
    """Sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DADCE0", linewidth=0.6)
    axes.set_axisbelow(True)


def _save(figure: "Figure", path: str | Path) -> None:
    with writing(path) as file:
        figure.savefig(file, format="png", metadata={"Software": f"toolchain {__version__}"})
