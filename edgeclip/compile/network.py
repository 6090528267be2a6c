"""From Q/DQ ONNX to a TensorRT network: parsed, its multiplications known, the rest of it in FP16 where that is safe.

INT8 is what the Q/DQ says, no more and no less. What stays FP32: everything before the first multiplication (the mean
and standard deviation of uint8 pixels), everything after the last one (the norm of the embedding), LayerNorm, sums and
the quantizers themselves; their reductions overflow in FP16.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclip.errors import DataError
from edgeclip.runtime.backends.trt_library import Library, LogLines

MULTIPLICATIONS = ("CONVOLUTION", "MATRIX_MULTIPLY")
KEPT_FLOAT = ("NORMALIZATION", "REDUCE", "QUANTIZE", "SCALE")  # SCALE, a batch norm left over, stores FP32 weights
WITHOUT_INPUT_TYPE = ("CONSTANT", "DEQUANTIZE")
OWN_TYPE = ("CONSTANT", "DEQUANTIZE", "CAST", "IDENTITY")  # their output's type is what they are for
MOVES = ("SHUFFLE", "CAST", "IDENTITY")  # what may lie between a DequantizeLinear and its multiplication


@dataclass
class Network:
    """definition: the INetworkDefinition. int8: names of multiplications between dequantized tensors; floats: others.

    strong: types are the network's own; otherwise the builder chooses within what its flags allow.
    """

    definition: Any
    parser: Any  # the definition reads weights that it owns
    strong: bool
    int8: tuple[str, ...]
    floats: tuple[str, ...]
    kept: list[Any]  # arrays that the network points to


def parse(library: Library, builder: Any, logger: Any, lines: LogLines, path: Path) -> Network:
    """Raises DataError with the parser's own words where it does not take the graph."""
    trt = library.module
    strong, flags = creation_flags(trt)
    definition = builder.create_network(flags)
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(path.read_bytes()):
        said = "; ".join(" ".join(str(parser.get_error(i)).split()) for i in range(parser.num_errors)) or lines.why()
        raise DataError(f"{library.runtime} {library.version} does not take {path.name}: {said}", advice(library, said))
    if definition.num_inputs != 1 or definition.num_outputs != 1:
        raise DataError(
            f"{path} has {definition.num_inputs} inputs and {definition.num_outputs} outputs, not one of each",
            "build the bundle again",
        )
    int8, floats = multiplications(definition)
    return Network(definition, parser, strong, int8, floats, [])


def advice(library: Library, said: str) -> str:
    if library.release < (8, 6) and "LayerNormalization" in said:
        return "TensorRT 8.5 has no LayerNormalization: transformers need JetPack 6, convolution towers compile here"
    return "build the bundle again, or update TensorRT"


def creation_flags(trt: Any) -> tuple[bool, int]:
    """(strongly typed?, flags of create_network). Strong typing came with 10 and is all there is in 11 and in RTX."""
    known = trt.NetworkDefinitionCreationFlag.__members__
    if "STRONGLY_TYPED" in known:
        return True, 1 << int(known["STRONGLY_TYPED"])
    if "INT8" not in trt.BuilderFlag.__members__:  # nothing is left to ask for weakly: strong without being named
        return True, 0
    return False, 1 << int(known["EXPLICIT_BATCH"])


def layers_of(definition: Any) -> list[Any]:
    return [definition.get_layer(i) for i in range(definition.num_layers)]


def multiplications(definition: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of multiplications with both factors dequantized, and of the others."""
    layers = layers_of(definition)
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    int8: list[str] = []
    floats: list[str] = []
    for layer in layers:
        if layer.type.name not in MULTIPLICATIONS:
            continue
        factors = [layer.get_input(i) for i in range(min(layer.num_inputs, 2))]
        quantized = len(factors) == 2 and all(is_dequantized(factor, makers) for factor in factors)
        (int8 if quantized else floats).append(layer.name)
    return tuple(int8), tuple(floats)


def is_dequantized(tensor: Any, makers: dict[str, Any]) -> bool:
    layer = makers.get(tensor.name) if tensor is not None else None
    while layer is not None and layer.type.name in MOVES:
        layer = makers.get(layer.get_input(0).name)
    return layer is not None and layer.type.name == "DEQUANTIZE"


def use_half(library: Library, network: Network) -> None:
    """FP16 for what may be FP16: with strong types by casts, with weak ones by precisions that the builder obeys."""
    trt = library.module
    layers = layers_of(network.definition)
    wanted = wanted_types(trt, layers)
    if not network.strong:
        for layer, kind in zip(layers, wanted, strict=True):
            if kind == trt.DataType.FLOAT and layer.type.name not in OWN_TYPE and produces_floats(trt, layer):
                layer.precision = trt.DataType.FLOAT
                for i in range(layer.num_outputs):
                    layer.set_output_type(i, trt.DataType.FLOAT)
        return
    Halves(trt, network).apply(layers, wanted)


def wanted_types(trt: Any, layers: list[Any]) -> list[Any]:
    """FLOAT or HALF for each layer, in the network's order, which is an order of computation."""
    places = [i for i, layer in enumerate(layers) if layer.type.name in MULTIPLICATIONS]
    half = range(places[0], places[-1] + 1) if places else range(0)
    return [
        trt.DataType.HALF if i in half and layer.type.name not in KEPT_FLOAT else trt.DataType.FLOAT
        for i, layer in enumerate(layers)
    ]


def produces_floats(trt: Any, layer: Any) -> bool:
    return all(layer.get_output(i).dtype in (trt.DataType.FLOAT, trt.DataType.HALF) for i in range(layer.num_outputs))


class Halves:
    """Casts between the layers of a strongly typed network; TensorRT fuses them with their neighbours."""

    def __init__(self, trt: Any, network: Network) -> None:
        self._trt = trt
        self._network = network
        self._floats = (trt.DataType.FLOAT, trt.DataType.HALF)
        self._casts: dict[tuple[str, Any], Any] = {}

    def apply(self, layers: list[Any], wanted: list[Any]) -> None:
        for layer, kind in zip(layers, wanted, strict=True):
            if layer.type.name in WITHOUT_INPUT_TYPE:
                continue
            if layer.type.name == "CONVOLUTION" and kind == self._trt.DataType.HALF:
                self._halve_bias(layer)
            for i in range(layer.num_inputs):
                tensor = layer.get_input(i)
                if tensor is not None and tensor.dtype in self._floats and tensor.dtype != kind:
                    layer.set_input(i, self._cast(tensor, kind))

    def _cast(self, tensor: Any, kind: Any) -> Any:
        known = self._casts.get((tensor.name, kind))
        if known is None:
            layer = self._network.definition.add_cast(tensor, kind)
            layer.name = f"{tensor.name}.{kind.name.lower()}"
            known = self._casts[tensor.name, kind] = layer.get_output(0)
        return known

    def _halve_bias(self, layer: Any) -> None:
        """A stored bias has the type of the convolution's input. The parser may have stored kernels likewise."""
        layer.__class__ = self._trt.IConvolutionLayer
        for name in ("bias", "kernel"):
            stored = np.asarray(getattr(layer, name))
            if stored.size and stored.dtype == np.float32:
                halved = stored.astype(np.float16)
                self._network.kept.append(halved)
                setattr(layer, name, self._trt.Weights(halved))
