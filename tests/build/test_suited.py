"""A model that says nothing of quantization gets the recipe that suits its graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclip.build.suited import recipes, suited


def tower(path: Path, convolved: int, multiplied: int) -> Path:
    """A convolution of 3 x `convolved` weights and a product of `multiplied` x 4."""
    stored = {"k": np.zeros((convolved, 3, 1, 1)), "w": np.zeros((multiplied, 4))}
    nodes = [helper.make_node("Conv", ["x", "k"], ["y"]), helper.make_node("MatMul", ["z", "w"], ["v"])]
    graph = helper.make_graph(
        nodes,
        "tower",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, multiplied]),
        ],
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(graph), str(path))
    return path


@pytest.mark.parametrize(
    ("convolved", "multiplied", "name"), [(400, 30, "conv.yaml"), (40, 30, "conv.yaml"), (10, 3000, "vit.yaml")]
)
def test_where_the_weights_are_decides(tmp_path: Path, convolved: int, multiplied: int, name: str) -> None:
    chosen, quantization = suited(tower(tmp_path / "image.onnx", convolved, multiplied))
    assert chosen == name
    assert ("CONV_2D" in quantization.tflite.multiply) == (name == "conv.yaml")
    assert quantization.search.fallback


def test_a_graph_without_weights_is_no_error(tmp_path: Path) -> None:
    assert suited(tower(tmp_path / "image.onnx", 0, 0))[0] == "vit.yaml"


def test_both_recipes_are_there() -> None:
    assert {"vit.yaml", "conv.yaml"} <= {path.name for path in recipes().iterdir()}
