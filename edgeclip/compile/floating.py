"""A network without its quantizers: what a plan in floating point computes, INT8's rival on the GPU.

Stored weights are what their int8 says, so the bundle needs no float copy; activations are not rounded at all. INT8
that is not faster than this is not worth its rounding. Where Q/DQ stands in the way of a fusion (of attention, of a
residual sum), that is not known before both have been timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.compile.network import Network, layers_of
from edgeclip.errors import DataError
from edgeclip.runtime.backends.trt_library import Library


def without_quantizers(library: Library, network: Network) -> Network:
    """The same network (changed in place) with every Q/DQ pair bridged and stored int8 weights in float32.

    Raises DataError for a DequantizeLinear over something else than a QuantizeLinear or stored weights.
    """
    trt, definition = library.module, network.definition
    layers = layers_of(definition)
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    plain: dict[str, Any] = {}  # what stands for a dequantized tensor, by that tensor's name
    for layer in layers:
        if layer.type.name == "DEQUANTIZE":
            plain[layer.get_output(0).name] = plain_tensor(trt, network, layer, makers)
    for layer in layers:
        for i in range(layer.num_inputs):
            tensor = layer.get_input(i)
            if tensor is not None and tensor.name in plain:
                layer.set_input(i, follow(tensor, plain))
    return Network(definition, network.parser, network.strong, (), (*network.int8, *network.floats), network.kept)


def follow(tensor: Any, plain: dict[str, Any]) -> Any:
    """Through quantizers that follow one another."""
    while tensor.name in plain:
        tensor = plain[tensor.name]
    return tensor


def plain_tensor(trt: Any, network: Network, layer: Any, makers: dict[str, Any]) -> Any:
    """What a DequantizeLinear's output is without rounding: what was quantized, or stored weights as floats."""
    maker = makers.get(layer.get_input(0).name)
    if maker is not None and maker.type.name == "QUANTIZE":
        return maker.get_input(0)
    if maker is None or maker.type.name != "CONSTANT":
        raise DataError(f"{layer.name} dequantizes what was not quantized before", "compile with --precision int8")
    layer.__class__ = trt.IDequantizeLayer
    weights = dequantized(stored(trt, maker), stored(trt, makers[layer.get_input(1).name]), int(layer.axis))
    network.kept.append(weights)
    constant = network.definition.add_constant(weights.shape, trt.Weights(weights))
    constant.name = f"{maker.name}.float"
    return constant.get_output(0)


def stored(trt: Any, layer: Any) -> npt.NDArray[Any]:
    """The array of a constant layer, in its shape."""
    layer.__class__ = trt.IConstantLayer
    return np.asarray(layer.weights).reshape(tuple(layer.shape))


def dequantized(integers: npt.NDArray[Any], scale: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
    """int8 [...], scale [] or [C] along `axis` -> float32 [...]; symmetric, as all of ours are."""
    if scale.size > 1:
        scale = scale.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    return np.ascontiguousarray(integers.astype(np.float32) * scale.astype(np.float32))
