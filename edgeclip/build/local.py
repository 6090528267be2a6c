"""One site at a time: which observer, which smoothing and which centre cost its layers' outputs the least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeclip.build.capture import Seen
from edgeclip.build.observers import fake_quantize, fake_quantize_columns, threshold
from edgeclip.build.sites import Array, Graph, Site
from edgeclip.build.spec import Entry

Centre = Literal["", "mean", "middle"]
QUICK_OBSERVERS = ("min-max", "mse")  # with which every rewriting is tried; the others only with the best of them
LEAST_CHANNEL = 1e-5  # of the widest channel: what never moves is not blown up
ROWS = 384


@dataclass(frozen=True)
class Choice:
    """An entry with the vectors of its rewriting; None where it has none."""

    entry: Entry
    scale: Array | None = None
    shift: Array | None = None

    @property
    def error(self) -> float:
        return np.inf if self.entry.error is None else self.entry.error


class Local:
    """Tries entries for one site on sampled positions, against its layers' float outputs.

    Errors are squared, relative to each position's output: a few positions of a trained transformer are a hundred
    times larger than the others, and matter no more.
    """

    def __init__(self, graph: Graph, site: Site, seen: Seen) -> None:
        self.site, self.seen = site, seen
        self._layers = tuple(layer.name for layer in site.layers)
        self.measurable = all(layer.kind != "Conv" for layer in site.layers)
        if not self.measurable:
            return
        stride = max(1, len(seen.rows) // ROWS)
        self._rows = seen.rows[::stride]
        self._weight = np.concatenate([matrix(graph, site, i) for i in range(len(site.layers))], 1)
        self._wanted = self._rows @ self._weight
        power = np.square(self._wanted).sum(1)
        self._share = 1.0 / (power + np.median(power) + 1e-12)
        self._rounded: tuple[Array, Array] | None = None  # the last scale, and the weight that was rounded for it

    def plain(self, observers: Iterable[str]) -> Choice:
        """The best observer for the tensor as it is. Where outputs cannot be compared, the first."""
        found = [self.tried(observer, None, "", *self.rewriting(None, "")) for observer in observers]
        return min(found, key=lambda choice: choice.error)

    def rewritten(self, observers: Sequence[str], alphas: Iterable[float], centres: Iterable[Centre]) -> Choice:
        """The best of every alpha with every centre, then the best observer for that."""
        quick = [observer for observer in observers if observer in QUICK_OBSERVERS] or observers[:1]
        found: list[Choice] = []
        for alpha in (None, *alphas):
            for centre in ("", *centres):
                if alpha is not None or centre:
                    rewriting = self.rewriting(alpha, centre)
                    found += [self.tried(observer, alpha, centre, *rewriting) for observer in quick]
        best = min(found, key=lambda choice: choice.error)
        alpha, centre = best.entry.smooth, best.entry.shifted
        rewriting = self.rewriting(alpha, centre)
        found += [self.tried(other, alpha, centre, *rewriting) for other in observers if other not in quick]
        return min(found, key=lambda choice: choice.error)

    def rewriting(self, alpha: float | None, centre: Centre) -> tuple[Array, Array]:
        """(scale, shift), [channels] each. SmoothQuant (Xiao et al., 2023), per channel centred first."""
        seen = self.seen
        shift = np.zeros(self.site.channels, np.float32)
        if centre == "mean":
            shift = seen.rows.mean(0)
        elif centre == "middle":
            shift = 0.5 * (seen.low + seen.high)
        scale = np.ones(self.site.channels, np.float32)
        if alpha is not None:
            reach = np.maximum(seen.high - shift, shift - seen.low)
            reach = np.maximum(reach, LEAST_CHANNEL * reach.max())
            weight = np.abs(self._weight).max(1)
            weight = np.maximum(weight, LEAST_CHANNEL * weight.max())
            scale = reach**alpha / weight ** (1.0 - alpha)
            scale = scale / np.exp(np.log(scale).mean())
        return scale.astype(np.float32), shift.astype(np.float32)

    def tried(self, observer: str, alpha: float | None, centre: Centre, scale: Array, shift: Array) -> Choice:
        seen = self.seen
        greatest = float((np.maximum(seen.high - shift, shift - seen.low) / scale).max())
        rows = (seen.rows - shift) / scale if alpha is not None or centre else seen.rows
        limit = threshold(observer, rows, greatest)
        error = None
        if self.measurable:
            inputs = (self._rows - shift) / scale if alpha is not None or centre else self._rows
            missed = self.missed(inputs, limit, scale, shift)
            error = float((np.square(missed).sum(1) * self._share).mean())
        entry = Entry(self.site.source, self._layers, limit, greatest, observer, alpha, centre, error=error)
        return Choice(entry, scale if alpha is not None else None, shift if centre else None)

    def missed(self, inputs: Array, limit: float, scale: Array, shift: Array) -> Array:
        """[R, outputs]: by how much INT8 misses the float outputs."""
        if self._rounded is None or not np.array_equal(self._rounded[0], scale):
            self._rounded = scale, fake_quantize_columns(self._weight * scale[:, None])
        weight = self._rounded[1]
        return np.asarray(fake_quantize(inputs, limit) @ weight + shift @ self._weight - self._wanted, np.float32)

    def correction(self, choice: Choice) -> list[Array]:
        """Per layer [outputs], what its bias takes back: the mean error over positions, large ones counting less."""
        scale = choice.scale if choice.scale is not None else np.ones(self.site.channels, np.float32)
        shift = choice.shift if choice.shift is not None else np.zeros(self.site.channels, np.float32)
        missed = self.missed((self._rows - shift) / scale, choice.entry.threshold, scale, shift)
        mean = (missed * self._share[:, None]).sum(0) / self._share.sum()
        ends = np.cumsum([layer.shape[1] for layer in self.site.layers])[:-1]
        return [-part for part in np.split(mean.astype(np.float32), ends)]


def matrix(graph: Graph, site: Site, index: int) -> Array:
    """A layer's weight as [inputs, outputs]."""
    layer = site.layers[index]
    weight = graph.arrays[layer.weight]
    return weight if weight.shape == layer.shape and not _turned(layer.kind, weight, layer.weight, graph) else weight.T


def _turned(kind: str, weight: Array, name: str, graph: Graph) -> bool:
    """A square Gemm weight does not show by its shape whether it is transposed; its node says so."""
    from edgeclip.build.sites import transposed

    if kind != "Gemm" or weight.shape[0] != weight.shape[1]:
        return False
    return any(node.op_type == "Gemm" and node.input[1] == name and transposed(node) for node in graph.nodes)
