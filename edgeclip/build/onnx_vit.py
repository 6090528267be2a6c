"""A CLIP vision transformer that exists only as ONNX, rebuilt in torch from the tensors in the file.

TFLite is converted from torch, and torch's own exporter writes LayerNorm as one native node; an exported ONNX allows
neither. What is rebuilt is shown to compute what the file computes before it is used.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from edgeclip.build.unfold import unfold_dynamic_int8
from edgeclip.errors import DataError

MINIMUM_COSINE = 0.9999
SAMPLES = 4
HINT = "what can be rebuilt is the vision tower of a CLIP exported from transformers, with its module names"
QUICK = 1.702

Tensors = dict[str, npt.NDArray[np.float32]]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), as the original CLIP has it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(QUICK * x)


class Block(nn.Module):
    """Pre-norm attention and MLP; query, key and value in one product."""

    def __init__(self, width: int, heads: int, hidden: int, activation: nn.Module, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.fc1 = nn.Linear(width, hidden)
        self.act = activation
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, w))
        mlp: Tensor = self.fc2(self.act(self.fc1(self.norm2(x))))
        return x + mlp


class ClipViT(nn.Module):
    """[N, 3, S, S] normalised pixels -> [N, dim], not normalised. size: S."""

    def __init__(
        self, size: int, patch: int, width: int, heads: int, hidden: int, depth: int, dim: int, act: nn.Module,
        epsilon: float = 1e-5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.dim = size, dim
        self.patch = nn.Conv2d(3, width, patch, patch, bias=False)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.pre = nn.LayerNorm(width, epsilon)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, act, epsilon) for _ in range(depth))
        self.norm = nn.LayerNorm(width, epsilon)
        self.head = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.pre(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position)
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.head(self.norm(x[:, 0]))
        return embedding


def load_clip_vit(path: Path) -> ClipViT:
    """The tower in the ONNX at `path`, dynamic INT8 undone. Raises DataError where it is another architecture, or where
    the rebuilt tower's cosine to the file is below 0.9999."""
    model = unfold_dynamic_int8(onnx.load(str(path)))
    tower = rebuild(model)
    cosine = agreement(model, tower)
    if not cosine >= MINIMUM_COSINE:
        raise DataError(f"{path.name}: rebuilt in torch its cosine to the ONNX is {cosine:.6f}", HINT)
    return tower


def rebuild(model: onnx.ModelProto) -> ClipViT:
    """Read sizes and tensors out of a float graph. Raises DataError naming what is missing."""
    tensors = named_tensors(model)
    depth = 1 + max((int(m[1]) for name in tensors if (m := re.search(r"encoder\.layers\.(\d+)\.", name))), default=-1)
    if not depth:
        raise DataError("the ONNX has no vision_model.encoder.layers", HINT)
    patch = taken(tensors, "embeddings.patch_embedding.weight")
    position = taken(tensors, "embeddings.position_embedding.weight")
    hidden = taken(tensors, "encoder.layers.0.mlp.fc1.weight").shape[0]
    head = taken(tensors, "visual_projection.weight")
    width, side = patch.shape[0], patch.shape[2]
    kinds = {node.op_type for node in model.graph.node}
    act: nn.Module = nn.GELU() if kinds & {"Erf", "Gelu"} else QuickGELU()
    size = side * round((position.shape[0] - 1) ** 0.5)
    tower = ClipViT(size, side, width, width // head_width(model), hidden, depth, head.shape[0], act)
    state = {
        "patch.weight": patch,
        "token": taken(tensors, "embeddings.class_embedding").reshape(1, 1, -1),
        "position": position[None],
        "head.weight": head,
    }
    for ours, theirs in (("pre", "pre_layrnorm"), ("norm", "post_layernorm")):
        state |= {f"{ours}.{part}": taken(tensors, f"{theirs}.{part}") for part in ("weight", "bias")}
    layers = {"norm1": "layer_norm1", "norm2": "layer_norm2", "out": "self_attn.out_proj"}
    layers |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for i in range(depth):
        inside = f"encoder.layers.{i}"
        for part in ("weight", "bias"):
            for ours, theirs in layers.items():
                state[f"blocks.{i}.{ours}.{part}"] = taken(tensors, f"{inside}.{theirs}.{part}")
            qkv = [taken(tensors, f"{inside}.self_attn.{letter}_proj.{part}") for letter in "qkv"]
            state[f"blocks.{i}.qkv.{part}"] = np.concatenate(qkv)
    tower.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    return tower.eval().requires_grad_(False)


def named_tensors(model: onnx.ModelProto) -> Tensors:
    """Tensors by module name. A product's weight is stored under a number: its node's name says whose it is."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors = {name: numpy_helper.to_array(t) for name, t in stored.items() if t.data_type == onnx.TensorProto.FLOAT}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            module = node.name.strip("/").replace("/", ".").rpartition(".")[0]
            tensors[f"{module}.weight"] = tensors[node.input[1]].T
    return tensors


def taken(tensors: Tensors, name: str) -> npt.NDArray[np.float32]:
    for prefix in ("vision_model.", ""):
        if f"{prefix}{name}" in tensors:
            return tensors[f"{prefix}{name}"]
    raise DataError(f"the ONNX has no tensor {name}", HINT)


def head_width(model: onnx.ModelProto) -> int:
    """From the factor 1 / sqrt(width) that attention multiplies with."""
    constants = {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t")
    }
    constants |= {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if np.prod(t.dims) == 1}
    factor = 1.0  # torch gives queries and keys the square root of it each
    for node in model.graph.node:
        if node.op_type == "Mul" and "layers.0/self_attn" in node.name:
            factor *= float(np.prod([constants[name] for name in node.input if name in constants]))
    if factor < 1.0:
        return round(factor**-2)
    raise DataError("the ONNX does not say how wide its attention heads are", HINT)


def agreement(model: onnx.ModelProto, tower: ClipViT) -> float:
    """Lowest cosine between the graph and the rebuilt tower, over smooth random pictures."""
    from edgeclip.build.onnxgraph import session

    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(SAMPLES, 3, 7, 7, generator=random)
    pictures = functional.interpolate(coarse, (tower.size, tower.size), mode="bicubic", align_corners=False)
    running = session(model.SerializeToString())
    name = running.get_inputs()[0].name
    want = np.concatenate([running.run(None, {name: picture[None].numpy()})[0] for picture in pictures])
    with torch.no_grad():
        got = tower(pictures).numpy()
    lengths = np.linalg.norm(want, axis=1) * np.linalg.norm(got, axis=1)
    return float(((want * got).sum(1) / lengths).min())
