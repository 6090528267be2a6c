"""Training curves as one PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from edgeclip.atomic import atomic_write


def draw_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Loss, and dev top-1, top-5 and retrieval R@1, against epochs; a line where a phase begins."""
    from matplotlib.figure import Figure

    epochs = range(1, len(history) + 1)
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["loss"] for row in history], marker=".")
    left.set(title="training loss", xlabel="epoch")
    for name, text in (("top1", "top-1"), ("top5", "top-5"), ("r1", "R@1")):
        right.plot(epochs, [100 * row[name] for row in history], marker=".", label=text)
    right.set(title="dev set, zero-shot", xlabel="epoch", ylabel="%", ylim=(0, 100))
    right.legend(loc="lower right")
    for index, row in enumerate(history):
        if index == 0 or history[index - 1]["phase"] != row["phase"]:
            for axes in (left, right):
                axes.axvline(index + 0.5, color="0.8", linewidth=0.8)
            left.text(index + 0.6, left.get_ylim()[1], row["phase"], fontsize=7, va="top", color="0.4")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with atomic_write(path) as stream:
        stream.write(picture.getvalue())
