"""Layers of an ONNX graph keep the names that its library gave them."""

from __future__ import annotations

import pytest
from onnx import helper
from torch import nn

from edgeclip.build.checkpoints.part_names import name_of, named, tree
from edgeclip.build.sites import joined


@pytest.mark.parametrize(
    ("node", "inputs", "bias", "name"),
    [
        ("/vision/encoder/layers.0/mlp/fc1/MatMul", "onnx::MatMul_7", "b", "vision.encoder.layers.0.mlp.fc1"),
        ("MatMul_12", "onnx::MatMul_7", "visual.blocks.1.mlp.c_fc.bias", "visual.blocks.1.mlp.c_fc"),
        ("node_linear_3", "image.head.weight", "b", "image.head"),
        ("MatMul_12", "val_3", "b", ""),
    ],
)  # fmt: skip
def test_a_layer_is_called_as_its_library_calls_it(node: str, inputs: str, bias: str, name: str) -> None:
    product = helper.make_node("MatMul", ["x", inputs], ["y"], node)
    assert name_of(product, helper.make_node("Add", [bias, "y"], ["z"])) == name


def test_names_are_short_unique_and_possible() -> None:
    assert named(["vision.blocks.0.fc1", "vision.blocks.0.fc2", "vision.head"]) == [
        "blocks.0.fc1",
        "blocks.0.fc2",
        "head",
    ]
    assert named(["a.fc", "", "a.fc", "a.fc.inner", "a.type"]) == ["a.fc", "layer1", "layer2", "layer3", "layer4"]


def test_modules_lie_under_their_names() -> None:
    names = ["blocks.0.fc1", "blocks.0.fc2", "head"]
    layers = [nn.Linear(2, 2) for _ in names]
    root = tree(layers, names)
    assert [root.get_submodule(name) for name in names] == layers


def test_what_layers_share_of_their_names_is_said_once() -> None:
    assert joined(["blocks.0.attn.q", "blocks.0.attn.k"]) == "blocks.0.attn.q+k"
    assert joined(["patch"]) == "patch"
    assert joined(["fc.a", "head"]) == "fc.a+head"
