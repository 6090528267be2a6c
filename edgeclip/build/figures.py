"""Pictures for the report: what each layer costs in INT8, and the frames on which INT8 is farthest from float."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.build.findings import Sensitivity

COLUMNS = 4
LEAST_ERROR = 1e-7  # shown; nothing smaller is told apart


@dataclass(frozen=True)
class Worst:
    """A frame [H, W, 3] uint8 RGB, its centred cosine to float, and what float and INT8 said ("" without labels)."""

    frame: npt.NDArray[np.uint8]
    centred: float
    floating: str
    int8: str
    truth: str = ""


def draw_sensitivity(found: Sequence[Sensitivity]) -> bytes:
    """PNG: a bar per layer, in the order given, from one power of ten to another; those that stayed float are paler."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    errors = np.maximum([item.error for item in found], LEAST_ERROR)
    figure = Figure(figsize=(8, 0.9 + 0.2 * len(found)), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [item.layers for item in found],
        errors,
        color=["#c9ccd6" if item.floating else "#3b6ea5" for item in found],
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    # Whole decades: bars begin at a round figure, and no labels between are needed, which run into each other.
    axes.set_xlim(10.0 ** np.floor(np.log10(errors.min()) - 1e-9), 10.0 ** np.ceil(np.log10(errors.max()) + 1e-9))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="#d5d8e0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("1 - mean-centred cosine to float")
    figure.suptitle("one layer alone in INT8 (pale: left float)", fontsize=10)
    axes.margins(y=0.01)
    return png(figure)


def draw_worst(frames: Sequence[Worst]) -> bytes:
    """PNG: the frames side by side, with what each engine said of them."""
    from matplotlib.figure import Figure

    rows = -(-len(frames) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 3.1 * rows), dpi=90, layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, worst in zip(grid.flat, frames, strict=False):
        axes.imshow(worst.frame)
        title = f"centred cosine {worst.centred:.3f}"
        if worst.floating:
            title += f"\nfloat: {worst.floating}\nINT8: {worst.int8}"
        if worst.truth:
            title += f"\nis: {worst.truth}"
        same = worst.floating == worst.int8
        axes.set_title(title, fontsize=8, color="black" if same else "#b00020")
    return png(figure)


def png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
