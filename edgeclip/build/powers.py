"""Third powers as products: how exporters write the tanh form of GELU, and what no engine fuses or computes fast."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, numpy_helper


def multiply_cubes(path: Path) -> int:
    """Rewrite `Pow(x, 3)` in the ONNX file at `path` as two products, in place. Returns how many there were."""
    model = onnx.load(str(path))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = {
        node.output[0]: item.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for item in node.attribute
        if item.name == "value"
    }
    nodes: list[onnx.NodeProto] = []
    found = 0
    for node in model.graph.node:
        exponent = stored.get(node.input[1], constants.get(node.input[1])) if node.op_type == "Pow" else None
        if exponent is None or numpy_helper.to_array(exponent).reshape(-1).tolist() != [3.0]:
            nodes.append(node)
            continue
        found += 1
        square = f"{node.output[0]}.square"
        nodes.append(helper.make_node("Mul", [node.input[0], node.input[0]], [square], f"{node.name}.square"))
        nodes.append(helper.make_node("Mul", [square, node.input[0]], [node.output[0]], node.name))
    if found:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        onnx.save(model, str(path))
    return found
