"""NVIDIA's parser and builder take every shape of tower we build: exported by torch, Q/DQ by the build's own code.

The weights are random and the ranges made up: what is under test is the graph.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from qdq import KINDS, quantize
from shapes import SHAPES

from edgeclip.build.exporter import write_onnx
from edgeclip.build.graphs import ImageGraph
from edgeclip.build.onnxgraph import multiplications
from edgeclip.bundle import Preprocess
from edgeclip.compile.builder import Options, build_plan
from edgeclip.compile.layers import Table
from edgeclip.progress import Silent
from edgeclip.runtime.backends.trt_library import Library

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@pytest.fixture(scope="module", params=SHAPES)
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q/DQ ONNX of a full-size tower."""
    torch.manual_seed(0)
    tower, size = SHAPES[request.param]()
    path = tmp_path_factory.mktemp("shape") / "image.onnx"
    module = ImageGraph(tower, Preprocess((size, size), "shortest", "bicubic", MEAN, STD)).eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, while it exports
        write_onnx(module, np.zeros((1, size, size, 3), np.uint8), path)
    quantize(path)
    return path


@pytest.fixture(scope="module")
def table(rtx: Library, graph: Path) -> Table:
    return build_plan(rtx, graph, Options(archs=((8, 6),)), Silent()).table


def test_its_rival_in_floating_point_is_taken_too(rtx: Library, graph: Path) -> None:
    rival = build_plan(rtx, graph, Options(precision="float", archs=((8, 6),)), Silent()).table
    assert rival.int8 == 0
    assert rival.floats > 0
    assert not [layer.name for layer in rival.layers if "int8" in (*layer.inputs, *layer.constants, *layer.outputs)]


def weighted(graph: Path) -> list[onnx.NodeProto]:
    """Multiplications whose weight is stored as int8."""
    return [
        n for n in onnx.load(str(graph)).graph.node if n.op_type in KINDS and n.input[1].endswith(".weight.dequantized")
    ]


def test_every_multiplication_with_weights_computes_in_int8(graph: Path, table: Table) -> None:
    assert not multiplications(onnx.load(str(graph)), KINDS)  # none was left without Q/DQ
    named = {node.name for node in weighted(graph)}
    int8 = {name for layer in table.layers if layer.multiplies and layer.in_int8 for name in layer.onnx}
    assert named
    assert named <= int8
    assert table.not_int8 == ()


def test_no_weight_is_dequantized_for_a_float_product(table: Table) -> None:
    for layer in table.layers:
        if layer.multiplies and "int8" in layer.constants:
            assert layer.in_int8, layer.name


def test_the_norms_are_native_and_what_leaves_is_float(graph: Path, table: Table) -> None:
    kinds = Counter(node.op_type for node in onnx.load(str(graph)).graph.node)
    assert "Pow" not in kinds
    assert table.layers[0].inputs[0] == "uint8"
    assert table.layers[-1].outputs[0] == "fp32"
