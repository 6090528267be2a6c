"""One site at a time: which observer, which smoothing and which centre cost its layers' outputs the least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeclip.build.capture import Seen
from edgeclip.build.observers import fake_quantize, fake_quantize_columns, threshold
from edgeclip.build.rounding import column_scales, second_order
from edgeclip.build.sites import Array, Graph, Site
from edgeclip.build.spec import Entry

Centre = Literal["", "mean", "middle"]
QUICK_OBSERVERS = ("min-max", "mse")  # with which every rewriting is tried; the others only with the best of them
LEAST_CHANNEL = 1e-5  # of the widest channel: what never moves is not blown up
ROWS = 384
MOST_APART = 0.01  # of the channels
FAR = 2.0
WORTH = 0.1  # weights are rounded together where their part of a site's error is more than this


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

    def __init__(self, graph: Graph, site: Site, seen: Seen, apart: tuple[int, ...] = ()) -> None:
        """apart: channels that are computed in float beside the others; all that follows is of the others."""
        self.site, self.apart = site, apart
        self.kept = np.delete(np.arange(site.channels), apart)
        self.seen = Seen(seen.low[self.kept], seen.high[self.kept], seen.rows[:, self.kept]) if apart else seen
        self._layers = tuple(layer.name for layer in site.layers)
        self.measurable = all(layer.kind != "Conv" for layer in site.layers)
        if not self.measurable:
            return
        stride = max(1, len(seen.rows) // ROWS)
        weight = np.concatenate([matrix(graph, site, i) for i in range(len(site.layers))], 1)
        counts = shares(seen.rows @ weight)
        self.rows, self.share = self.seen.rows[::stride], counts[::stride]  # [R, channels], [R]
        # The other positions, for what is fitted rather than tried.
        others = np.ones(len(counts), bool)
        others[::stride] = stride == 1
        self.others, self.others_share = others, counts[others]
        self.weight = weight[self.kept] if apart else weight
        self.wanted = self.rows @ self.weight
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
        shift = np.zeros(len(self.kept), np.float32)
        if centre == "mean":
            shift = seen.rows.mean(0)
        elif centre == "middle":
            shift = 0.5 * (seen.low + seen.high)
        scale = np.ones(len(self.kept), np.float32)
        if alpha is not None:
            reach = np.maximum(seen.high - shift, shift - seen.low)
            reach = np.maximum(reach, LEAST_CHANNEL * reach.max())
            weight = np.abs(self.weight).max(1)
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
            inputs = (self.rows - shift) / scale if alpha is not None or centre else self.rows
            missed = self.missed(inputs, limit, scale, shift)
            error = self.error(missed)
        entry = Entry(self.site.source, self._layers, limit, greatest, observer, alpha, centre, self.apart, error=error)
        whole = self.whole(scale, 1.0), self.whole(shift, 0.0)
        return Choice(entry, whole[0] if alpha is not None else None, whole[1] if centre else None)

    def whole(self, vector: npt.NDArray[Any], apart: float) -> npt.NDArray[Any]:
        """[kept channels, ...] -> [channels, ...], with `apart` for the channels that are computed apart."""
        if not self.apart:
            return vector
        full = np.full((self.site.channels, *vector.shape[1:]), apart, vector.dtype)
        full[self.kept] = vector
        return full

    def missed(self, inputs: Array, limit: float, scale: Array, shift: Array, weight: Array | None = None) -> Array:
        """[R, outputs]: by how much INT8 misses the float outputs. weight: its rounded ones, or each one's nearest."""
        if weight is None:
            if self._rounded is None or not np.array_equal(self._rounded[0], scale):
                self._rounded = scale, fake_quantize_columns(self.weight * scale[:, None])
            weight = self._rounded[1]
        return np.asarray(fake_quantize(inputs, limit) @ weight + shift @ self.weight - self.wanted, np.float32)

    def error(self, missed: Array) -> float:
        """missed: [R, outputs] of `rows`."""
        return float((np.square(missed).sum(1) * self.share).mean())

    def sample(self) -> tuple[Array, Array]:
        """(sampled positions [S, channels] other than `rows`, what each one's squared error counts for [S])."""
        return self.seen.rows[self.others], self.others_share

    def rounded(self, choice: Choice) -> list[npt.NDArray[np.int8]] | None:
        """Per layer its int8 weight [channels, outputs], rounded for the outputs' sake; None where it is no use."""
        scale, shift = self.vectors(choice)
        limit = choice.entry.threshold
        inputs = (self.rows - shift) / scale
        weight = self.weight * scale[:, None]
        nearest = self.error(self.missed(inputs, limit, scale, shift))
        if self.error(self.missed(inputs, limit, scale, shift, weight)) > (1.0 - WORTH) * nearest:
            return None  # it is the activations that cost
        scales = column_scales(weight)
        rows, counts = self.sample()
        integers = second_order(weight, scales, fake_quantize((rows - shift) / scale, limit), counts)
        if self.error(self.missed(inputs, limit, scale, shift, integers * scales)) >= nearest:
            return None
        return np.split(self.whole(integers, 0), self.ends(), 1)

    def correction(self, choice: Choice, integers: Sequence[npt.NDArray[np.int8]] = ()) -> list[Array]:
        """Per layer [outputs], what its bias takes back: the mean error over positions, large ones counting less.

        integers: the layers' int8 weights, where they are not each weight's nearest.
        """
        scale, shift = self.vectors(choice)
        weight = None
        if integers:
            weight = np.concatenate(integers, 1)[self.kept] * column_scales(self.weight * scale[:, None])
        missed = self.missed((self.rows - shift) / scale, choice.entry.threshold, scale, shift, weight)
        mean = (missed * self.share[:, None]).sum(0) / self.share.sum()
        return [-part for part in np.split(mean.astype(np.float32), self.ends())]

    def ends(self) -> npt.NDArray[np.intp]:
        """Where one layer's outputs end and the next one's begin."""
        return np.cumsum([layer.shape[1] for layer in self.site.layers])[:-1]

    def vectors(self, choice: Choice) -> tuple[Array, Array]:
        """(scale, shift), [kept channels] each."""
        scale = choice.scale[self.kept] if choice.scale is not None else np.ones(len(self.kept), np.float32)
        shift = choice.shift[self.kept] if choice.shift is not None else np.zeros(len(self.kept), np.float32)
        return scale, shift


def outliers(seen: Seen) -> tuple[int, ...]:
    """Channels that reach several times as far as nearly all others, at most one in a hundred."""
    reach = np.maximum(seen.high, -seen.low)
    most = max(1, round(MOST_APART * len(reach)))
    found = np.flatnonzero(reach > FAR * np.sort(reach)[::-1][min(most, len(reach) - 1)])
    return tuple(int(channel) for channel in found)


def shares(outputs: Array) -> Array:
    """[R, outputs] -> [R]: the reciprocal of each row's power, but for rows that are next to nothing."""
    power = np.square(outputs).sum(1)
    return np.asarray(1.0 / (power + np.median(power) + 1e-12), np.float32)


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
