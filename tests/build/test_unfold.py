"""Dynamic INT8 comes undone into the float network; a CLIP tower is rebuilt from such a file."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeclip.build.onnx_vit import ClipViT, QuickGELU, load_clip_vit, rebuild
from edgeclip.build.onnxgraph import session
from edgeclip.build.unfold import is_dynamic_int8, unfold_dynamic_int8
from edgeclip.errors import DataError


def product(path: Path) -> Path:
    """[N, 8] -> [N, 4] with a stored weight and a bias, and a MatMul of two activations."""
    random = np.random.default_rng(0)
    stored = {"w": random.normal(size=(8, 4)), "b": random.normal(size=4)}
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["y"], "fc"),
        helper.make_node("Add", ["y", "b"], ["vector"], "bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_come_back_to_int8_precision(tmp_path: Path, per_channel: bool) -> None:
    source = product(tmp_path / "float.onnx")
    quantize_dynamic(str(source), str(tmp_path / "int8.onnx"), per_channel=per_channel, weight_type=QuantType.QInt8)
    int8 = onnx.load(str(tmp_path / "int8.onnx"))
    assert is_dynamic_int8(int8)
    floats = unfold_dynamic_int8(int8)
    assert not is_dynamic_int8(floats)
    assert {node.op_type for node in floats.graph.node} == {"MatMul", "Add"}
    onnx.checker.check_model(floats)
    x = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    got = session(floats.SerializeToString()).run(None, {"input": x})[0]
    want = session(source).run(None, {"input": x})[0]
    assert np.abs(got - want).max() < 0.05
    assert is_dynamic_int8(int8)  # what was given stays as it was


def test_a_float_graph_comes_back_equal(tmp_path: Path) -> None:
    model = onnx.load(str(product(tmp_path / "float.onnx")))
    assert unfold_dynamic_int8(model).SerializeToString() == model.SerializeToString()


def test_an_unknown_form_is_refused_by_name() -> None:
    nodes = [helper.make_node("MatMulInteger", ["a", "b"], ["vector"], "odd")]
    info = [helper.make_tensor_value_info(name, TensorProto.INT8, [2, 2]) for name in "ab"]
    out = [helper.make_tensor_value_info("vector", TensorProto.INT32, [2, 2])]
    with pytest.raises(DataError, match="MatMulInteger odd"):
        unfold_dynamic_int8(helper.make_model(helper.make_graph(nodes, "odd", info, out)))


def as_transformers_exports(tower: ClipViT, path: Path) -> Path:
    """The tower as ONNX with the module names that transformers gives: weights of products under their nodes' names."""
    example = torch.zeros(1, 3, tower.size, tower.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(tower, (example,), dynamo=True, opset_version=18)
    assert program is not None
    program.save(str(path))
    model = onnx.load(str(path))
    theirs = {
        "patch.weight": "embeddings.patch_embedding.weight",
        "position": "embeddings.position_embedding.weight",
        "pre.weight": "pre_layrnorm.weight",
        "pre.bias": "pre_layrnorm.bias",
        "norm.weight": "post_layernorm.weight",
        "norm.bias": "post_layernorm.bias",
    }
    state = {name: value.numpy() for name, value in tower.state_dict().items()}
    named = {f"vision_model.{name}": state[ours].squeeze(0) if ours == "position" else state[ours]
             for ours, name in theirs.items()}  # fmt: skip
    named["vision_model.embeddings.class_embedding"] = state["token"].reshape(-1)
    named["visual_projection.weight"] = state["head.weight"]
    parts = {
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "out": "self_attn.out_proj",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    }
    for name, value in state.items():
        found = re.fullmatch(r"blocks\.(\d+)\.(\w+)\.(weight|bias)", name)
        if not found:
            continue
        inside = f"vision_model.encoder.layers.{found[1]}"
        if found[2] == "qkv":
            for letter, part in zip("qkv", np.split(value, 3), strict=True):
                named[f"{inside}.self_attn.{letter}_proj.{found[3]}"] = part
        else:
            named[f"{inside}.{parts[found[2]]}.{found[3]}"] = value
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in named.items())
    small = {tensor.name for tensor in model.graph.initializer if np.prod(tensor.dims) == 1}
    factors = [node for node in model.graph.node if node.op_type == "Mul" and node.input[1] in small]
    for number, node in enumerate(factors[:2]):  # queries and keys of the first block
        node.name = f"/vision_model/encoder/layers.0/self_attn/Mul_{number}"
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def tower() -> ClipViT:
    torch.manual_seed(0)
    tower = ClipViT(32, 16, 32, 4, 64, 2, 16, QuickGELU()).eval().requires_grad_(False)
    for parameter in tower.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return tower


def test_a_clip_tower_is_rebuilt_from_its_onnx(tower: ClipViT, tmp_path: Path) -> None:
    path = as_transformers_exports(tower, tmp_path / "clip.onnx")
    rebuilt = load_clip_vit(path)
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(rebuilt(x), tower(x), atol=1e-4)
    assert (rebuilt.size, rebuilt.dim, rebuilt.blocks[0].heads) == (32, 16, 4)


def test_what_is_missing_is_named_and_what_differs_is_refused(tower: ClipViT, tmp_path: Path) -> None:
    path = as_transformers_exports(tower, tmp_path / "clip.onnx")
    model = onnx.load(str(path))
    kept = [tensor for tensor in model.graph.initializer if "post_layernorm" not in tensor.name]
    without = onnx.ModelProto()
    without.CopyFrom(model)
    del without.graph.initializer[:]
    without.graph.initializer.extend(kept)
    with pytest.raises(DataError, match=r"no tensor post_layernorm\.weight"):
        rebuild(without)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("layers.1.mlp.fc1.weight"):
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, str(path))
    with pytest.raises(DataError, match="its cosine to the ONNX is"):
        load_clip_vit(path)
    with pytest.raises(DataError, match=r"no vision_model\.encoder\.layers"):
        load_clip_vit(product(tmp_path / "other.onnx"))
