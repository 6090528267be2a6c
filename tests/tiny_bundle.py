"""A small real bundle, made in milliseconds: the same encoders as TFLite and as ONNX, written operator by operator.

Image: uint8 -> 0..1 -> 3x3 convolution, stride 4, ReLU -> mean over the picture -> projection -> unit length.
Text: token vectors -> mean -> projection -> unit length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import msgspec
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgeclip.bundle import (
    Calibration,
    EngineEntry,
    Manifest,
    Preprocess,
    Scoring,
    Target,
    Text,
    write_digests,
)

SIZE, CHANNELS, DIM, LENGTH, VOCABULARY = 32, 12, 16, 8, 15
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "photo",
    "of",
    "dog",
    "cat",
    "red",
    "cup",
    "car",
    "tree",
    "house",
    "##s",
]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Weights:
    """One set for both formats."""

    kernel: Array = field(default_factory=lambda: _normal(0, CHANNELS, 3, 3, 3))  # [out, h, w, in]
    bias: Array = field(default_factory=lambda: _normal(1, CHANNELS) * 0.1)
    image: Array = field(default_factory=lambda: _normal(2, DIM, CHANNELS))
    image_bias: Array = field(default_factory=lambda: np.zeros(DIM, np.float32))
    tokens: Array = field(default_factory=lambda: _normal(3, VOCABULARY, CHANNELS))
    text: Array = field(default_factory=lambda: _normal(4, DIM, CHANNELS))


def _normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class TFLiteWriter:
    """Tensors and operators of one subgraph, in the order they are added."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.name = b"main"
        self.model.subgraphs = [self.graph]

    def tensor(self, shape: tuple[int, ...], dtype: type, values: Array | None = None) -> int:
        types = {
            np.float32: schema.TensorType.FLOAT32,
            np.uint8: schema.TensorType.UINT8,
            np.int32: schema.TensorType.INT32,
            np.int8: schema.TensorType.INT8,
        }
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), types[dtype], 0
        tensor.name = f"t{len(self.graph.tensors)}".encode()
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values: Array) -> int:
        return self.tensor(values.shape, values.dtype.type, values)

    def add(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = None, dtype: type = np.float32
    ) -> int:
        """An operator with one output of `shape`; options: one of the schema's ...OptionsT."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        output = self.tensor(shape, dtype)
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)
        return output

    def save(self, path: Path, source: int, result: int) -> None:
        self.graph.inputs, self.graph.outputs = [source], [result]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))


def write_image_tflite(path: Path, weights: Weights, size: int = SIZE, batch: int = 1) -> None:
    writer, small = TFLiteWriter(), size // 4
    dim = len(weights.image)
    pixels = writer.tensor((batch, size, size, 3), np.uint8)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.UINT8, schema.TensorType.FLOAT32
    floats = writer.add("CAST", [pixels], (batch, size, size, 3), cast)
    scale = writer.constant(np.full(1, 1 / 255, np.float32))
    scaled = writer.add("MUL", [floats, scale], (batch, size, size, 3), schema.MulOptionsT())
    convolution = schema.Conv2DOptionsT()
    convolution.padding, convolution.strideH, convolution.strideW = schema.Padding.VALID, 4, 4
    convolution.dilationHFactor = convolution.dilationWFactor = 1
    convolution.fusedActivationFunction = schema.ActivationFunctionType.RELU
    kernel, bias = writer.constant(weights.kernel), writer.constant(weights.bias)
    features = writer.add("CONV_2D", [scaled, kernel, bias], (batch, small, small, CHANNELS), convolution)
    pooled = writer.add(
        "MEAN", [features, writer.constant(np.array([1, 2], np.int32))], (batch, CHANNELS), schema.ReducerOptionsT()
    )
    projected = _project(writer, pooled, weights.image, weights.image_bias, batch)
    result = writer.add("L2_NORMALIZATION", [projected], (batch, dim), schema.L2NormOptionsT())
    writer.save(path, pixels, result)


def write_text_tflite(path: Path, weights: Weights) -> None:
    writer = TFLiteWriter()
    ids = writer.tensor((1, LENGTH), np.int32)
    vectors = writer.add(
        "GATHER", [writer.constant(weights.tokens), ids], (1, LENGTH, CHANNELS), schema.GatherOptionsT()
    )
    pooled = writer.add(
        "MEAN", [vectors, writer.constant(np.array([1], np.int32))], (1, CHANNELS), schema.ReducerOptionsT()
    )
    projected = _project(writer, pooled, weights.text, np.zeros(DIM, np.float32), 1)
    writer.save(path, ids, writer.add("L2_NORMALIZATION", [projected], (1, DIM), schema.L2NormOptionsT()))


def _project(writer: TFLiteWriter, source: int, matrix: Array, bias: Array, batch: int) -> int:
    inputs = [source, writer.constant(matrix), writer.constant(bias)]
    return writer.add("FULLY_CONNECTED", inputs, (batch, len(matrix)), schema.FullyConnectedOptionsT())


def write_image_onnx(path: Path, weights: Weights, size: int = SIZE, batch: int = 1) -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["convolved"], strides=[4, 4]),
        helper.make_node("Relu", ["convolved"], ["features"]),
        helper.make_node("ReduceMean", ["features", "plane_axes"], ["pooled"], keepdims=0),
        *_projection(),
    ]
    constants = {
        "scale": np.full(1, 1 / 255, np.float32),
        "kernel": weights.kernel.transpose(0, 3, 1, 2),
        "bias": weights.bias,
        "plane_axes": np.array([2, 3]),
        "matrix": weights.image,
        "offset": weights.image_bias,
    }
    _save_onnx(path, nodes, constants, TensorProto.UINT8, [batch, size, size, 3], [batch, len(weights.image)])


def write_text_onnx(path: Path, weights: Weights) -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["tokens", "input"], ["vectors"]),
        helper.make_node("ReduceMean", ["vectors", "word_axis"], ["pooled"], keepdims=0),
        *_projection(),
    ]
    constants = {
        "tokens": weights.tokens,
        "word_axis": np.array([1]),
        "matrix": weights.text,
        "offset": np.zeros(DIM, np.float32),
    }
    _save_onnx(path, nodes, constants, TensorProto.INT32, [1, LENGTH], [1, DIM])


def _projection() -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Gemm", ["pooled", "matrix", "offset"], ["projected"], transB=1),
        helper.make_node("ReduceL2", ["projected", "last_axis"], ["length"], keepdims=1),
        helper.make_node("Div", ["projected", "length"], ["vector"]),
    ]


def _save_onnx(
    path: Path, nodes: list[Any], constants: dict[str, Array], dtype: int, shape: list[int], result: list[int]
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    constants = {**constants, "last_axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", dtype, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def reference(weights: Weights, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The image encoder in NumPy: [N, SIZE, SIZE, 3] uint8 -> [N, DIM]."""
    scaled = frames.astype(np.float64) / 255
    small = frames.shape[1] // 4
    patches = np.stack(
        [
            scaled[:, 4 * y : 4 * y + 3, 4 * x : 4 * x + 3].reshape(len(frames), -1)
            for y in range(small)
            for x in range(small)
        ],
        axis=1,
    )
    features = np.maximum(patches @ weights.kernel.reshape(CHANNELS, -1).T.astype(np.float64) + weights.bias, 0)
    projected = features.mean(axis=1) @ weights.image.T + weights.image_bias
    return (projected / np.linalg.norm(projected, axis=1, keepdims=True)).astype(np.float32)


def golden_frames(count: int = 6) -> npt.NDArray[np.uint8]:
    """Smooth colour fields with grain, each different."""
    import cv2

    random = np.random.default_rng(7)
    coarse = random.integers(0, 256, (count, 4, 4, 3), np.uint8)
    fields = np.stack([cv2.resize(field, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for field in coarse])
    grain = random.integers(-12, 13, fields.shape, np.int16)
    return np.clip(fields.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def tokenizer_json() -> str:
    return json.dumps(
        {
            "version": "1.0",
            "model": {"type": "WordPiece", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
            "normalizer": {"type": "BertNormalizer"},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        }
    )


def engine(role: str, form: str, runtime: str = "") -> EngineEntry:
    target = Target(runtime or {"tflite": "tflite", "onnx": "onnxruntime"}.get(form, form))
    return EngineEntry(role, f"{role}.{form}", form, "float32", target)  # type: ignore[arg-type]


ALL_ENGINES = tuple(engine(role, form) for role in ("image", "text") for form in ("tflite", "onnx"))


def write_bundle(
    directory: Path, weights: Weights | None = None, engines: tuple[EngineEntry, ...] = ALL_ENGINES
) -> Path:
    """A bundle with the engines named. golden.npz holds what Weights() gives, whatever `weights` the engines have."""
    weights = weights or Weights()
    directory.mkdir(parents=True, exist_ok=True)
    writers = {
        "image.tflite": write_image_tflite,
        "image.onnx": write_image_onnx,
        "text.tflite": write_text_tflite,
        "text.onnx": write_text_onnx,
    }
    for entry in engines:
        if entry.file in writers:
            writers[entry.file](directory / entry.file, weights)
        else:
            (directory / entry.file).write_bytes(b"not an engine")
    frames = golden_frames()
    np.savez_compressed(directory / "golden.npz", frames=frames, embeddings=reference(Weights(), frames))
    (directory / "tokenizer.json").write_text(tokenizer_json())
    manifest = Manifest(
        schema=1,
        name="tiny",
        created="2026-01-01T00:00:00Z",
        space="sha256:" + "1" * 64,
        dim=DIM,
        scoring=Scoring("softmax", 20.0),
        preprocess=Preprocess((SIZE, SIZE), "shortest", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        text=Text("tokenizer.json", LENGTH, 0, ("a photo of a {}", "{}")),
        engines=engines,
        golden="golden.npz",
        checkpoint="sha256:" + "2" * 64,
        calibration=Calibration("sha256:" + "3" * 64, 64),
        recipe={},
    )
    (directory / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    write_digests(directory)
    return directory
