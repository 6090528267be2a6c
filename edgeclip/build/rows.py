"""TFLite's dynamic-range form, in which every position is quantized by a range of its own.

What a layer reads is smoothed for that, and its weights are rounded for it. The converter has folded LayerNorm's gain
and bias into the layers behind it, so that int8 sees the normalised tensor, outliers and all; a factor and an offset
per channel in front of those layers take them out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.build.local import Centre, Local, matrix
from edgeclip.build.observers import SMALLEST, fake_quantize_columns
from edgeclip.build.rounding import column_scales, second_order
from edgeclip.build.sites import Array, Graph, Site
from edgeclip.build.tflite import Operator
from edgeclip.build.tflite_rewrite import Feed, Rewriting

LEVELS = 255
WORTH = 0.1  # a site is touched for this share of its error; less is not worth an operator
RECOVERED = 0.7  # of what rounding weights costs, by rounding them together: 0.6 to 0.9 on CLIP ViT-B/16
SAME = 1e-3  # of the largest weight: two graphs' weights that differ by less are the same


@dataclass(frozen=True)
class Chosen:
    """Of one site. feed: None where the tensor stays as it is.

    rounded: int8 weights [outputs, channels] and scales [outputs] by the operator's output; empty where rounding each
    weight by itself is as good. before, after: error of the outputs, squared and relative, on sampled positions.
    """

    site: Site
    feed: Feed | None
    rounded: dict[str, tuple[npt.NDArray[np.int8], Array]]
    before: float
    after: float


def fake_quantize_rows(rows: Array) -> Array:
    """Through int8 and back; every row has a scale and a zero point of its own, as LiteRT's XNNPACK gives it."""
    low, high = np.minimum(rows.min(1, keepdims=True), 0.0), np.maximum(rows.max(1, keepdims=True), 0.0)
    scale = np.maximum((high - low) / LEVELS, SMALLEST)
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(rows / scale) + zero, 0, LEVELS) - zero) * scale, np.float32)


def choose(
    graph: Graph,
    sites: Sequence[Site],
    local: Callable[[Site], Local],
    matched: Mapping[str, Operator],
    model: bytes,
    alphas: Sequence[float],
    centres: Sequence[Centre],
    rounding: bool,
    late: Callable[[str], bool],
) -> list[Chosen]:
    """For every site whose layers are fully-connected operators of the float `model`, what pays.

    matched: operators by layer. late: whether there is no time left for what is named.
    """
    stored = Rewriting(model)
    found = []
    for site in sites:
        operators = [matched[layer.node] for layer in site.layers if layer.node in matched]
        if len(operators) != len(site.layers) or any(operator.kind != "FULLY_CONNECTED" for operator in operators):
            continue
        if late(f"dynamic-range {site.name}"):
            break
        folded = folding(graph, site, operators, stored)
        if folded is not None:
            found.append(of_site(graph, local(site), folded, alphas, centres, rounding))
    return found


@dataclass(frozen=True)
class Folded:
    """How a converter wrote a site down: its tensor is what the operators read times gain plus bias, [channels] each.

    operators: in the order of the site's layers. factors: by which it multiplied each layer's weight (attention's scale
    goes into the queries). biases: [outputs] each, as they stand there.
    """

    gain: Array
    bias: Array
    operators: tuple[Operator, ...]
    factors: tuple[float, ...]
    biases: tuple[Array, ...]


def folding(graph: Graph, site: Site, operators: Sequence[Operator], stored: Rewriting) -> Folded | None:
    """None where the operators do not hold the site's weights in any form that is known here."""
    options = [(np.ones(site.channels, np.float32), np.zeros(site.channels, np.float32))]
    maker = graph.maker(site.source)
    if site.origin == "norm" and maker is not None:
        options.append((graph.arrays[maker.input[1]], graph.arrays[maker.input[2]]))
    for gain, bias in options:
        left, taken, factors = list(operators), [], []
        for i in range(len(site.layers)):
            wanted = matrix(graph, site, i) * gain[:, None]
            fits = [(operator, multiple(stored.weight(operator.output).T, wanted)) for operator in left]
            fit = next(((operator, factor) for operator, factor in fits if factor), None)
            if fit is None:
                break
            left.remove(fit[0])
            taken.append(fit[0])
            factors.append(fit[1])
        else:
            biases = tuple(stored.bias(operator.output) for operator in taken)
            return Folded(gain, bias, tuple(taken), tuple(factors), biases)
    return None


def multiple(one: Array, other: Array) -> float:
    """The factor by which `one` is a multiple of `other`; 0 where it is none."""
    if one.shape != other.shape:
        return 0.0
    factor = float((one * other).sum() / max(float(np.square(other).sum()), SMALLEST))
    return factor if np.abs(one - factor * other).max() <= SAME * np.abs(one).max() else 0.0


def of_site(
    graph: Graph,
    local: Local,
    folded: Folded,
    alphas: Sequence[float],
    centres: Sequence[Centre],
    rounding: bool,
) -> Chosen:
    site, gain, bias = local.site, folded.gain, folded.bias
    options = [local.rewriting(alpha, centre) for alpha in (None, *alphas) for centre in ("", *centres)]
    share = RECOVERED if rounding else 0.0
    before = expected(local, gain, bias, share)
    scale, shift = min(options, key=lambda option: expected(local, option[0], option[1], share))
    smoothed = expected(local, scale, shift, share) < (1.0 - WORTH) * before
    if not smoothed:
        scale, shift = gain, bias
    before, after = error(local, gain, bias), error(local, scale, shift)
    layers = [matrix(graph, site, i) * np.float32(factor) for i, factor in enumerate(folded.factors)]
    feed = None
    if smoothed:
        feed = Feed(
            tuple(operator.output for operator in folded.operators),
            np.asarray(gain / scale, np.float32),
            np.asarray((bias - shift) / scale, np.float32),
            tuple(np.ascontiguousarray((layer * scale[:, None]).T) for layer in layers),
            tuple(
                np.asarray(old + (shift - bias).astype(np.float64) @ layer, np.float32)
                for old, layer in zip(folded.biases, layers, strict=True)
            ),
        )
    rounded: dict[str, tuple[npt.NDArray[np.int8], Array]] = {}
    weight = local.weight * scale[:, None]
    # What exact weights would leave is what the activations cost; rounding together cannot take more than the rest.
    if rounding and error(local, scale, shift, weight) < (1.0 - WORTH) * after:
        scales = column_scales(weight)
        rows, shares = local.sample()
        integers = second_order(weight, scales, fake_quantize_rows((rows - shift) / scale), shares)
        reached = error(local, scale, shift, integers * scales)
        if reached < after:
            after = reached
            ends = np.cumsum([layer.shape[1] for layer in layers])[:-1]
            parts = zip(np.split(integers, ends, 1), np.split(scales, ends), strict=True)
            for (whole, steps), operator, factor in zip(parts, folded.operators, folded.factors, strict=True):
                # int8 knows no negative scale
                signed = np.ascontiguousarray(np.sign(factor) * whole.T).astype(np.int8)
                rounded[operator.output] = signed, np.asarray(steps * abs(factor), np.float32)
    return Chosen(site, feed, rounded, before, after)


def expected(local: Local, scale: Array, shift: Array, share: float) -> float:
    """The error once rounding weights together has taken back this share of what rounding each by itself costs."""
    nearest = error(local, scale, shift)
    if not share:
        return nearest
    return (1.0 - share) * nearest + share * error(local, scale, shift, local.weight * scale[:, None])


def error(local: Local, scale: Array, shift: Array, weight: Array | None = None) -> float:
    """Of the layers' outputs when they read (x - shift) / scale row by row in int8, their weights by themselves."""
    if weight is None:
        weight = fake_quantize_columns(local.weight * scale[:, None])
    got = fake_quantize_rows((local.rows - shift) / scale) @ weight + shift @ local.weight
    return local.error(got - local.wanted)
