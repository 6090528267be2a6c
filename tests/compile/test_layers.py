"""TensorRT's tables of layers, as different versions write them."""

from __future__ import annotations

import json

from edgeclip.compile.layers import Layer, from_inspector, from_log, is_named, tabulate, type_of

LOG = """\
Name: __myl_CastMulAdd_myl0_0, LayerType: kgen, Inputs: [ { Name: input, Dimensions: [1,96,96,3], Datatype: UInt8, \
Format: (Linear) Row major linear format }], Constants: [ { Name: c0, Dimensions: [1], Datatype: Float, Format: x }], \
Outputs: [ { Name: a, Dimensions: [1,4,96,96], Datatype: Int8, Format: (NHWC) Channel major format }], \
TacticName: __myl_CastMulAdd_0x6d, StreamId: 0, Metadata: [ONNX Layer: node_mul][ONNX Layer: permute.Q]
Name: node_Conv_256_myl0_1, LayerType: correlation, Inputs: [ { Name: a, Datatype: Int8, Format: y }], Constants: \
[ { Name: w, Datatype: Int8, Format: z }, { Name: s, Datatype: Float, Format: z }], Outputs: [ { Name: b, Datatype: \
Half, Format: (NHWC) }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: node_Conv_256][ONNX Layer: permute.DQ]
Name: attend_myl0_2, LayerType: gemm, Inputs: [ { Name: b, Datatype: Half }, { Name: b, Datatype: Half }], Outputs: \
[ { Name: d, Datatype: Half }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: attend]

Engine Metadata:
 Multi-Device: Disabled
"""


def test_the_builders_log() -> None:
    first, conv, attend = from_log(LOG)
    assert first == Layer(
        "__myl_CastMulAdd_myl0_0", "kgen", ("uint8",), ("fp32",), ("int8",), ("node_mul", "permute.Q")
    )
    assert (conv.inputs, conv.constants, conv.outputs) == (("int8",), ("int8", "fp32"), ("fp16",))
    assert conv.multiplies
    assert conv.in_int8
    assert attend.inputs == ("fp16", "fp16")
    assert not attend.in_int8


def test_what_is_not_in_int8_is_named() -> None:
    table = tabulate(from_log(LOG), "builder log", ["node_Conv_256", "node_Conv_999"])
    assert (table.int8, table.floats, table.other) == (1, 1, 1)
    assert table.not_int8 == ("node_Conv_999",)
    assert str(table).endswith("Q/DQ not used by: node_Conv_999")


def test_the_inspector_of_tensorrt_10() -> None:
    text = json.dumps(
        {
            "Layers": [
                {
                    "Name": "node_Conv_1 + relu",
                    "LayerType": "CaskConvolution",
                    "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8"}],
                    "Outputs": [{"Name": "y", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
                    "Metadata": "[ONNX Layer: node_Conv_1][ONNX Layer: relu]",
                },
                "a plan without details",
            ],
            "Bindings": ["x", "y"],
        }
    )
    layers = from_inspector(text)
    assert layers[0].inputs == ("int8",)
    assert layers[0].outputs == ("fp16",)
    assert layers[0].onnx == ("node_Conv_1", "relu")
    assert layers[1] == Layer("a plan without details", "")


def test_convolutions_of_every_kind_are_multiplications() -> None:
    for kind in ("CaskConvolution", "CaskGemmConvolution", "gemm", "correlation", "MatrixMultiply", "Convolution"):
        assert Layer("x", kind).multiplies, kind
    for kind in ("kgen", "PointWiseV2", "Reformat", "NoOp", "Softmax"):
        assert not Layer("x", kind).multiplies, kind


def test_names_of_fused_layers() -> None:
    assert is_named("conv1", "conv1 + relu")
    assert is_named("conv1", "conv1_myl0_3")
    assert not is_named("conv1", "conv10 + relu")


def test_types() -> None:
    for text, expected in (("Int8", "int8"), ("Float", "fp32"), ("Row major linear FP32", "fp32"), ("Half", "fp16")):
        assert type_of(text) == expected
