"""The quantization of one image tower, as data: which tensors become INT8, by which scale, after which rewriting.

It names layers as the checkpoint does, so that it holds for every graph exported from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeclip.build.observers import LEVELS, SMALLEST, Values
from edgeclip.build.onnxgraph import channel_axis, nearest_integers
from edgeclip.build.rewrite import add_to_bias, product_of, rescale, whole_pixels
from edgeclip.build.sites import Graph, Layer, Site, constant, joined, transposed

SPEC, VECTORS = "spec.json", "spec.npz"
INTEGERS = " int8"  # behind a layer's name in VECTORS


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One site: what is done to the tensor that `layers` read.

    threshold: int8 covers -threshold..threshold of the rewritten tensor. greatest: its greatest magnitude seen.
    smooth: SmoothQuant's alpha, or None. shifted: every channel is centred, on its "mean" or the "middle" of its range.
    apart: channels that are computed in float beside the others, which are never rewritten.
    whole: pixels enter as whole numbers.
    corrected: the layers' biases take back the mean error. rounded: their weights are rounded together.
    floating: the layers stay float, and the rest is unused.
    error: of the layers' outputs, squared and relative, on sampled positions.
    """

    source: str
    layers: tuple[str, ...]
    threshold: float
    greatest: float
    observer: str = "min-max"
    smooth: float | None = None
    shifted: Literal["", "mean", "middle"] = ""
    apart: tuple[int, ...] = ()
    whole: bool = False
    corrected: bool = False
    rounded: bool = False
    floating: bool = False
    error: float | None = None

    @property
    def name(self) -> str:
        return joined(self.layers)

    @property
    def plain(self) -> bool:
        """Whether the tensor is the float network's own: all of its channels, neither scaled nor shifted."""
        return self.smooth is None and not self.shifted and not self.whole and not self.apart


@dataclass
class Spec:
    """Entries by source tensor, in the graph's order.

    vectors: "SOURCE scale", "SOURCE shift", [channels]; "LAYER bias", [outputs]. integers: "LAYER", its int8 weight
    [inputs, outputs] after the rewriting, where it is not each weight's nearest.
    """

    entries: dict[str, Entry]
    vectors: dict[str, Values] = field(default_factory=dict)
    integers: dict[str, npt.NDArray[np.int8]] = field(default_factory=dict)

    def floats(self) -> list[str]:
        return [entry.name for entry in self.entries.values() if entry.floating]

    def save(self, directory: Path) -> None:
        data = msgspec.json.encode(list(self.entries.values()))
        (directory / SPEC).write_bytes(msgspec.json.format(data, indent=1) + b"\n")
        stored = {**self.vectors, **{f"{layer}{INTEGERS}": weight for layer, weight in self.integers.items()}}
        np.savez(directory / VECTORS, **stored)  # type: ignore[arg-type]  # numpy's stub takes no str keys


def load_spec(directory: Path) -> Spec:
    entries = msgspec.json.decode((directory / SPEC).read_bytes(), type=list[Entry])
    with np.load(directory / VECTORS) as stored:
        integers = {name: stored[name] for name in stored.files if name.endswith(INTEGERS)}
        return Spec(
            {entry.source: entry for entry in entries},
            {name: stored[name] for name in stored.files if name not in integers},
            {name.removesuffix(INTEGERS): weight for name, weight in integers.items()},
        )


def by_greatest(sites: list[Site], greatest: dict[str, float], keep_float: tuple[str, ...]) -> Spec:
    """Every site over the whole range of its tensor (magnitudes by source), but for layers that are kept float."""
    entries = {}
    for site in sites:
        names, reach = tuple(layer.name for layer in site.layers), greatest[site.source]
        entries[site.source] = Entry(site.source, names, reach, reach, floating=kept_float(site, keep_float))
    return Spec(entries)


def kept_float(site: Site, patterns: tuple[str, ...]) -> bool:
    """Whether the recipe keeps it float: one of its layers' names fits a pattern (`*.fc2`, `patch`, `blocks.1?.*`)."""
    return any(fnmatchcase(layer.name, pattern) for layer in site.layers for pattern in patterns)


def quantized(graph: Graph, sites: list[Site], spec: Spec) -> onnx.ModelProto:
    """The Q/DQ model of a spec."""
    model = quantized_graph(graph, sites, spec).build()
    onnx.checker.check_model(model)
    return model


def quantized_graph(graph: Graph, sites: list[Site], spec: Spec, only: set[str] | None = None) -> Graph:
    """The Q/DQ graph of a spec. only: sources that are quantized, where not all are."""
    result = graph.copy()
    chosen = [
        (site, spec.entries[site.source])
        for site in sites
        if site.source in spec.entries
        and not spec.entries[site.source].floating
        and (only is None or site.source in only)
    ]
    # Corrections first: they are of the float network's outputs, which rewriting then scales along with the rest.
    for site, entry in chosen:
        for layer in site.layers if entry.corrected else ():
            add_to_bias(result, layer, spec.vectors[f"{layer.node} bias"].astype(np.float64))
    feeds = {site.source: rewritten(result, site, entry, spec) for site, entry in chosen}
    for site, entry in chosen:
        for layer in site.layers:
            if entry.apart:
                compute_apart(result, layer, feeds[site.source], list(entry.apart))
            store_weight(result, layer, spec.integers.get(layer.node) if entry.rounded else None)
            widen_bias(result, layer)
        activation_pair(result, site, feeds[site.source], max(entry.threshold, SMALLEST) / LEVELS)
    return result


def rewritten(graph: Graph, site: Site, entry: Entry, spec: Spec) -> str:
    """Apply an entry's rewriting; returns the tensor that is quantized then."""
    if entry.whole:
        return whole_pixels(graph, site)
    if entry.plain:
        return site.source
    ones = np.ones(site.channels, np.float32)
    scale = spec.vectors.get(f"{site.source} scale", ones)
    shift = spec.vectors.get(f"{site.source} shift", 0.0 * ones)
    return rescale(graph, site, scale, shift)


def widen_bias(graph: Graph, layer: Layer) -> None:
    """Give the bias behind a product of rank 3 that rank too. ONNX Runtime would otherwise fuse product and bias into a
    float Gemm before it looks at Q/DQ, and dequantize the weights for every frame: 4 times slower than INT8."""
    for adder in graph.readers(layer.node):
        for i, name in enumerate(adder.input):
            stored = graph.arrays.get(name)
            if adder.op_type == "Add" and stored is not None and stored.ndim == 1 and graph.ranks.get(layer.node) == 3:
                adder.input[i] = constant(graph, f"{layer.node}.wide-bias", stored.reshape(1, 1, -1))


def compute_apart(graph: Graph, layer: Layer, feed: str, channels: list[int]) -> None:
    """Take `channels` of `feed` out of a layer, and add what they contribute in float. Of a few channels it costs next
    to nothing, and int8 need not reach as far as they do (mixed decomposition, Dettmers et al., 2022)."""
    node = product_of(graph, layer)
    turned = node.op_type == "Gemm" and transposed(node)
    weight = graph.arrays[node.input[1]]
    weight = weight.T if turned else weight
    others = weight.copy()
    others[channels] = 0.0  # int8 clips them, and multiplies them by 0
    node.input[1] = constant(graph, f"{layer.node}.others", np.ascontiguousarray(others.T if turned else others))
    own = f"{layer.node}.apart"
    stored = [
        constant(graph, f"{own}.channels", np.array(channels, np.int64)),
        constant(graph, f"{own}.weight", np.ascontiguousarray(weight[channels])),
    ]
    taken = helper.make_node("Gather", [feed, stored[0]], [f"{own}.taken"], f"{own}.taken", axis=-1)
    product = helper.make_node("MatMul", [taken.output[0], stored[1]], [f"{own}.product"], f"{own}.product")
    total = helper.make_node("Add", [layer.biased, product.output[0]], [f"{own}.sum"], f"{own}.sum")
    for reader in graph.readers(layer.biased):
        for i, name in enumerate(reader.input):
            if name == layer.biased:
                reader.input[i] = total.output[0]
    position = next(i for i, other in enumerate(graph.nodes) if layer.biased in other.output) + 1
    graph.nodes[position:position] = [taken, product, total]


def activation_pair(graph: Graph, site: Site, feed: str, scale: float) -> None:
    """QuantizeLinear and DequantizeLinear between `feed` and the site's layers."""
    facts = [
        constant(graph, f"{site.source}.scale", np.array(scale, np.float32)),
        constant(graph, f"{site.source}.zero", np.array(0, np.int8)),
    ]
    readers = {layer.node for layer in site.layers}
    position = next(i for i, node in enumerate(graph.nodes) if readers & set(node.output))
    integers, floats = f"{site.source}.quantized", f"{site.source}.dequantized"
    pair = [
        helper.make_node("QuantizeLinear", [feed, *facts], [integers], f"{site.source}.Q"),
        helper.make_node("DequantizeLinear", [integers, *facts], [floats], f"{site.source}.DQ"),
    ]
    for layer in site.layers:
        product_of(graph, layer).input[0] = floats
    graph.nodes[position:position] = pair


def store_weight(graph: Graph, layer: Layer, rounded: npt.NDArray[np.int8] | None) -> None:
    """Replace a layer's float weight by int8, one scale per output, and a DequantizeLinear.

    rounded: [inputs, outputs], where it is not each weight's nearest.
    """
    node = product_of(graph, layer)
    axis = channel_axis(node)
    integers, scale = nearest_integers(graph.arrays[node.input[1]], axis)
    if rounded is not None:
        integers = rounded if axis == 1 else np.ascontiguousarray(rounded.T)
    own = f"{layer.node}.weight"
    facts = [
        constant(graph, f"{own}.int8", integers),
        constant(graph, f"{own}.scale", scale),
        constant(graph, f"{own}.zero", np.zeros(scale.shape, np.int8)),
    ]
    wide = helper.make_node("DequantizeLinear", facts, [f"{own}.dequantized"], f"{own}.DQ", axis=axis)
    graph.nodes.insert(next(i for i, other in enumerate(graph.nodes) if other is node), wide)
    node.input[1] = wide.output[0]
