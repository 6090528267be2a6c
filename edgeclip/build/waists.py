"""Where a network is narrow: tensors that everything behind them is computed from. A change behind such a tensor can be
tried out from there on, and not from the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from edgeclip.build.sites import Graph, Site


def waists(graph: Graph) -> list[str]:
    """In order; the input is the first."""
    computed = {graph.input}
    last: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        for name in node.input:
            last[name] = i
        if computed.intersection(node.input):
            computed.update(node.output)
    found = [graph.input]
    alive = {graph.input}
    for i, node in enumerate(graph.nodes):
        alive.update(name for name in node.output if name in computed and last.get(name, -1) > i)
        alive = {name for name in alive if last[name] > i}
        if len(alive) == 1:
            (name,) = alive
            if name != found[-1]:
                found.append(name)
    return found


def waist_before(graph: Graph, narrow: Sequence[str], site: Site) -> str:
    """The last waist that the site's tensor comes from, no rewriting of the site reaching behind it.

    Rewriting a site changes what made its tensor, back to the layer before a GELU.
    """
    order = {name: i for i, node in enumerate(graph.nodes) for name in node.output}
    order[graph.input] = -1
    makers = {name: node for node in graph.nodes for name in node.output}
    edited = site.source
    if site.origin in ("gate", "pixels"):
        for _ in range(6):
            node = makers.get(edited)
            if node is None:
                break
            stored = [name for name in node.input if name not in graph.arrays]
            edited = min(stored, key=lambda name: order.get(name, -1))
            if node.op_type in ("MatMul", "Gemm", "Cast"):
                break
    elif site.origin == "norm":
        edited = makers[site.source].input[0]
    fitting = [name for name in narrow if order[name] <= order.get(edited, -1)]
    return fitting[-1] if fitting else graph.input


def behind(graph: Graph, waist: str, shape: Sequence[int]) -> Graph:
    """The part of a graph that computes its output from `waist`, which becomes a float32 input of `shape`."""
    if waist == graph.input:
        return graph
    wanted = {graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output) and waist not in node.output:
            nodes.append(node)
            wanted.update(node.input)
    part = graph.copy()
    part.nodes = nodes[::-1]
    part.shell = onnx.ModelProto()
    part.shell.CopyFrom(graph.shell)
    del part.shell.graph.input[:]
    part.shell.graph.input.append(helper.make_tensor_value_info(waist, TensorProto.FLOAT, shape))
    return part
