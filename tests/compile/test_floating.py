"""A network without its quantizers, by NVIDIA's own parser and builder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from qdq import write_block

from edgeclip.compile.builder import Options, Plan, build_plan
from edgeclip.compile.floating import dequantized, stored, without_quantizers
from edgeclip.compile.network import Network, layers_of, parse
from edgeclip.progress import Silent
from edgeclip.runtime.backends.trt_library import Library, LogLines, make_logger, uncollected


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_block(tmp_path_factory.mktemp("onnx") / "image.onnx")


@pytest.fixture(scope="module")
def plan(rtx: Library, block: Path) -> Plan:
    return build_plan(rtx, block, Options(precision="float", archs=((8, 6),)), Silent())


def test_nothing_computes_in_int8_and_everything_is_there(plan: Plan) -> None:
    assert not plan.quantized
    assert plan.table.int8 == 0
    assert not [layer for layer in plan.table.layers if "int8" in (*layer.inputs, *layer.constants, *layer.outputs)]
    named = {name for layer in plan.table.layers for name in layer.onnx}
    assert {"patch", "project", "attend", "mix", "widen", "project out", "norm"} <= named
    assert plan.table.layers[0].inputs[0] == "uint8"
    assert plan.table.layers[-1].outputs == ("fp32",)


def test_products_are_fp16_or_as_asked(rtx: Library, block: Path, plan: Plan) -> None:
    assert all(layer.inputs[0] == "fp16" for layer in plan.table.layers if layer.multiplies)
    full = build_plan(rtx, block, Options(precision="float", floats="fp32", archs=((8, 6),)), Silent())
    kinds = {kind for layer in full.table.layers for kind in (*layer.inputs, *layer.constants, *layer.outputs)}
    assert kinds == {"uint8", "fp32"}


def test_factors_are_what_was_quantized_and_what_the_stored_int8_says(rtx: Library, block: Path) -> None:
    trt, lines = rtx.module, LogLines()
    with uncollected():
        logger = make_logger(rtx, lines)
        builder = trt.Builder(logger)
        network = without_quantizers(rtx, parse(rtx, builder, logger, lines, block))
        read = constants_of(trt, network)
        assert network.int8 == ()
        assert set(network.floats) == {"patch", "project", "attend", "mix", "widen", "project out"}
    model = onnx.load(str(block)).graph
    held = {value.name: numpy_helper.to_array(value) for value in model.initializer}
    nodes = [n for n in model.node if n.op_type == "DequantizeLinear" and n.input[0] in held]
    assert len(nodes) == len(read) == 4
    for node in nodes:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        scale = held[node.input[1]]
        shape = [-1 if i == axis else 1 for i in range(held[node.input[0]].ndim)]
        wanted = held[node.input[0]].astype(np.float32) * (scale.reshape(shape) if scale.size > 1 else scale)
        np.testing.assert_array_equal(read[f"{node.input[0]}.float"], wanted)


def constants_of(trt: object, network: Network) -> dict[str, np.ndarray]:
    """Float weights that a multiplication reads (some behind a transposition), by name."""
    layers = layers_of(network.definition)
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    found = {}
    for name in network.floats:
        layer = next(layer for layer in layers if layer.name == name)
        for factor in (layer.get_input(0), layer.get_input(1)):
            maker = makers[factor.name]
            while maker.type.name == "SHUFFLE":
                maker = makers[maker.get_input(0).name]
            assert maker.type.name != "DEQUANTIZE", f"{name} still reads a quantizer"
            if maker.type.name == "CONSTANT":
                found[maker.name] = stored(trt, maker).copy()
    return found


def test_a_scale_for_each_channel_goes_along_its_axis() -> None:
    integers = np.array([[1, -2], [3, 4]], np.int8)
    scale = np.array([0.5, 2.0], np.float32)
    assert dequantized(integers, scale, 0).tolist() == [[0.5, -1.0], [6.0, 8.0]]
    assert dequantized(integers, scale, 1).tolist() == [[0.5, -4.0], [1.5, 8.0]]
    assert dequantized(integers, np.array(0.5, np.float32), 1).tolist() == [[0.5, -1.0], [1.5, 2.0]]
