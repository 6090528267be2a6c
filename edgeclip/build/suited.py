"""Which of the quantization recipes in calibration/ suits a graph that came with none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import edgeclip
from edgeclip.build.recipe import Quantization
from edgeclip.yamlfile import load_yaml

CONVOLUTIONAL = 0.3  # share of the weights that are in convolutions, from which on a tower is one of convolutions


def suited(image: Path) -> tuple[str, Quantization]:
    """(file name, recipe) for an exported image tower: vit.yaml, or conv.yaml where convolutions hold the weights."""
    model = onnx.load(str(image))
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    weights = {"Conv": 0, "other": 0}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1:
            weights["Conv" if node.op_type == "Conv" else "other"] += sizes.get(node.input[1], 0)
    share = weights["Conv"] / max(sum(weights.values()), 1)
    name = "conv.yaml" if share >= CONVOLUTIONAL else "vit.yaml"
    return name, load_yaml(recipes() / name, Quantization)


def recipes() -> Path:
    """calibration/: inside the installed package, or beside it in a source checkout."""
    package = Path(edgeclip.__file__).resolve().parent
    inside = package / "calibration"
    return inside if inside.is_dir() else package.parent / "calibration"
