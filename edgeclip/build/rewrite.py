"""Equal networks that quantize better: a tensor is rescaled or shifted channel by channel, and its neighbours undo it.

`x` becomes `(x - shift) / scale`. What reads it has its weights multiplied by `scale` and takes `weights * shift` into
its bias. Where LayerNorm made x, its gain and bias do the dividing, for nothing; where a GELU made it, the layer before
and the GELU's inner factor do; pixels become whole numbers again. Arithmetic aside, the network stays the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeclip.build.sites import Array, Graph, Layer, Site, constant, gate_of, insert_after, transposed

PIXEL_MIDDLE = 128.0  # pixels 0..255 less this are the whole numbers that int8 holds


def rescale(graph: Graph, site: Site, scale: Array, shift: Array) -> str:
    """Rewrite `graph` in place; returns the tensor that the site's layers read then, (x - shift) / scale.

    scale, shift: [channels] float32, scale above 0. For pixels use `whole_pixels`.
    """
    feed = divide(graph, site, scale)
    if site.origin != "norm" and np.any(shift):
        feed = insert_after(graph, feed, "Add", (-shift / scale).astype(np.float32), f"{site.source}.shifted")
    elif site.origin == "norm" and np.any(shift):
        norm = graph.maker(site.source)
        assert norm is not None
        bias = graph.arrays[norm.input[2]] - shift / scale
        norm.input[2] = constant(graph, f"{site.source}.bias", bias.astype(np.float32))
    for layer in site.layers:
        follow(graph, layer, scale, shift)
    return feed


def divide(graph: Graph, site: Site, scale: Array) -> str:
    """Have the site's tensor come out divided by `scale`; returns its name, which a new node may have changed."""
    if not np.any(scale != 1.0):
        return site.source
    maker = graph.maker(site.source)
    if site.origin == "norm" and maker is not None:
        for position in (1, 2):
            value = graph.arrays[maker.input[position]] / scale
            name = constant(graph, f"{site.source}.{'gain' if position == 1 else 'bias'}", value.astype(np.float32))
            maker.input[position] = name
        return site.source
    if site.origin == "gate":
        makers = {name: node for node in graph.nodes for name in node.output}
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        gate = gate_of(site.source, graph, makers, readers)
        if gate is not None:
            start, inner = gate
            divide_output(graph, makers[start], makers, scale)
            factor = graph.arrays[inner.input[1]].reshape(-1)
            opposite = factor * scale if inner.op_type == "Mul" else factor / scale
            inner.input[1] = constant(graph, f"{inner.output[0]}.factor", opposite.astype(np.float32))
            return site.source
    return insert_after(graph, site.source, "Mul", (1.0 / scale).astype(np.float32), f"{site.source}.scaled")


def divide_output(graph: Graph, maker: onnx.NodeProto, makers: dict[str, onnx.NodeProto], scale: Array) -> None:
    """Divide what a layer with a bias puts out: one factor per column of its weight, which INT8 does not notice."""
    product, bias_at = maker, 2
    if maker.op_type == "Add":
        bias_at = next(i for i, name in enumerate(maker.input) if name in graph.arrays)
        product = makers[maker.input[1 - bias_at]]
    weight = graph.arrays[product.input[1]]
    along = scale[:, None] if product.op_type == "Gemm" and transposed(product) else scale
    product.input[1] = constant(graph, f"{product.output[0]}.divided", (weight / along).astype(np.float32))
    if len(maker.input) > bias_at:
        bias = (graph.arrays[maker.input[bias_at]] / scale).astype(np.float32)
        maker.input[bias_at] = constant(graph, f"{maker.output[0]}.divided-bias", bias)


def follow(graph: Graph, layer: Layer, scale: Array, shift: Array) -> None:
    """Have a layer that reads (x - shift) / scale compute what it did of x."""
    node = product_of(graph, layer)
    weight = graph.arrays[node.input[1]]
    exact, moving = weight.astype(np.float64), shift.astype(np.float64)
    along: Array
    if node.op_type == "Conv":
        along, moved = scale.reshape(1, -1, 1, 1), exact.sum((2, 3)) @ moving
    elif node.op_type == "Gemm" and transposed(node):
        along, moved = scale[None, :], exact @ moving
    else:
        along, moved = scale[:, None], moving @ exact
    if np.any(scale != 1.0):
        node.input[1] = constant(graph, f"{layer.node}.rescaled", (weight * along).astype(np.float32))
    if np.any(shift):
        add_to_bias(graph, layer, moved)


def add_to_bias(graph: Graph, layer: Layer, amount: npt.NDArray[np.float64]) -> None:
    """Add [outputs] to what a layer puts out; it gets a bias where it had none. More may be added later."""
    node = product_of(graph, layer)
    if node.op_type in ("Conv", "Gemm"):
        before = graph.arrays[node.input[2]] if len(node.input) > 2 and node.input[2] else np.float32(0)
        name = constant(graph, f"{layer.node}.moved-bias", (before + amount).astype(np.float32))
        del node.input[2:]
        node.input.append(name)
        return
    adder = graph.maker(layer.biased)
    if layer.bias and adder is not None:
        position = next(i for i, name in enumerate(adder.input) if name in graph.arrays)
        value = (graph.arrays[adder.input[position]] + amount).astype(np.float32)
        adder.input[position] = constant(graph, f"{layer.node}.moved-bias", value)
        return
    own = f"{layer.node}.biased"
    given = graph.maker(own)
    if given is None:
        insert_after(graph, layer.node, "Add", amount.astype(np.float32), own)
    else:
        value = (graph.arrays[given.input[1]] + amount).astype(np.float32)
        given.input[1] = constant(graph, f"{own}.value", value)


def product_of(graph: Graph, layer: Layer) -> onnx.NodeProto:
    node = graph.maker(layer.node)
    if node is None:
        raise KeyError(layer.node)
    return node


def whole_pixels(graph: Graph, site: Site) -> str:
    """Feed the convolution with pixels less 128, whole numbers that int8 holds exactly; returns their tensor."""
    maker = graph.maker(site.source)
    assert maker is not None
    add = graph.maker(maker.input[0])
    assert add is not None
    multiply = graph.maker(add.input[0])
    assert multiply is not None
    gain, shift = graph.arrays[multiply.input[1]].reshape(-1), graph.arrays[add.input[1]].reshape(-1)
    cast = multiply.input[0]
    middle = constant(graph, f"{site.source}.middle", np.array(-PIXEL_MIDDLE, np.float32))
    lower = helper.make_node("Add", [cast, middle], [f"{site.source}.whole"], f"{site.source}.whole")
    graph.nodes.insert(graph.nodes.index(multiply) + 1, lower)
    maker.input[0] = lower.output[0]
    graph.nodes = [node for node in graph.nodes if node is not add and node is not multiply]
    scale = np.broadcast_to(gain, site.channels).astype(np.float32)
    follow(graph, site.layers[0], scale, np.broadcast_to(shift, site.channels) + np.float32(PIXEL_MIDDLE) * scale)
    return site.source
