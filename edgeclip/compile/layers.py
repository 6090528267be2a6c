"""What became of each layer: TensorRT's own account of the plan, as a table that says what computes in INT8.

Where the plan can be loaded, the engine inspector gives it; ahead of time, the builder's log does: the same facts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

GEMM = re.compile(r"gemm|correlation|conv(?!ert)|mat(rix)?_?mul", re.IGNORECASE)  # in a LayerType
TYPES = {
    "int8": "int8",
    "uint8": "uint8",
    "half": "fp16",
    "fp16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
    "bfloat16": "bf16",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
ROW = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*)")
SECTIONS = re.compile(r"(?:^|, )(Inputs|Constants|Outputs|TacticName|TacticValue|StreamId|Metadata): ")
DATATYPE = re.compile(r"(?:Format/)?Datatype: ([^,}]*)")
ONNX_NAME = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


class Layer(msgspec.Struct, frozen=True):
    """One kernel of the plan. inputs, constants, outputs: types, in order. onnx: the ONNX nodes it came from."""

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    onnx: tuple[str, ...] = ()

    @property
    def multiplies(self) -> bool:
        return GEMM.search(self.kind) is not None

    @property
    def in_int8(self) -> bool:
        """Whether its first factor is int8, and its weights are where it has any in a type of their own."""
        return bool(self.inputs) and self.inputs[0] == "int8"


class Table(msgspec.Struct, frozen=True):
    """The layers of one plan, and what they come to.

    source: "inspector" or "builder log". int8: multiplications in INT8. float_: multiplications in floating point.
    not_int8: nodes that the ONNX has between Q/DQ and that do not compute in INT8: their Q/DQ is left dangling.
    """

    source: str
    int8: int
    floats: int
    other: int
    not_int8: tuple[str, ...]
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        text = f"{self.int8} multiplications in INT8, {self.floats} in floating point, {self.other} other layers"
        if self.not_int8:
            return f"{text}; Q/DQ not used by: {', '.join(self.not_int8)}"
        return text + ("; every Q/DQ is used" if self.int8 else "")


def tabulate(layers: Sequence[Layer], source: str, wanted: Sequence[str]) -> Table:
    """wanted: names of the ONNX nodes that are to compute in INT8."""
    gemms = [layer for layer in layers if layer.multiplies]
    int8 = [layer for layer in gemms if layer.in_int8]
    done = {name for layer in int8 for name in (*layer.onnx, layer.name)}
    return Table(
        source=source,
        int8=len(int8),
        floats=len(gemms) - len(int8),
        other=len(layers) - len(gemms),
        not_int8=tuple(name for name in wanted if not any(is_named(name, known) for known in done)),
        layers=tuple(layers),
    )


def is_named(node: str, layer: str) -> bool:
    """Whether `layer` is a node's name, alone or among those fused: "a + b", with the builder's suffixes."""
    return node in re.split(r" \+ |\|\||_myl\d", layer)


def from_log(text: str) -> list[Layer]:
    """The table that a builder prints at ProfilingVerbosity.DETAILED."""
    return [layer for line in text.splitlines() if (layer := from_line(line)) is not None]


def from_line(line: str) -> Layer | None:
    head = ROW.match(line.strip())
    if head is None:
        return None
    parts = SECTIONS.split(line.strip()[head.end() :])
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return Layer(
        name=head["name"],
        kind=head["kind"].strip(),
        inputs=types(found.get("Inputs", "")),
        constants=types(found.get("Constants", "")),
        outputs=types(found.get("Outputs", "")),
        onnx=tuple(ONNX_NAME.findall(found.get("Metadata", ""))),
    )


def from_inspector(text: str) -> list[Layer]:
    """engine_inspector.get_engine_information(JSON). A plan without detail names its layers only."""
    layers = []
    for row in json.loads(text).get("Layers", []):
        if isinstance(row, str):
            layers.append(Layer(row, ""))
            continue
        layers.append(
            Layer(
                name=str(row.get("Name", "")),
                kind=str(row.get("LayerType", "")),
                inputs=tensor_types(row.get("Inputs", [])),
                constants=tensor_types(row.get("Constants", [])),
                outputs=tensor_types(row.get("Outputs", [])),
                onnx=tuple(ONNX_NAME.findall(str(row.get("Metadata", "")))),
            )
        )
    return layers


def tensor_types(tensors: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(type_of(str(t.get("Datatype") or t.get("Format/Datatype") or "")) for t in tensors)


def types(section: str) -> tuple[str, ...]:
    return tuple(type_of(text) for text in DATATYPE.findall(section))


def type_of(text: str) -> str:
    """Int8, FP16, "Thirty-two wide channel vectorized row major Int8 format" -> int8, fp16, int8."""
    for word in text.lower().replace("/", " ").split():
        if word in TYPES:
            return TYPES[word]
    return text.strip().lower()
