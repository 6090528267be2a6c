"""What the layers of an ONNX graph were called in the library that wrote it; reports and recipes name them so."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from torch import nn

ENDS = (".weight", ".bias")


def name_of(node: onnx.NodeProto, last: onnx.NodeProto) -> str:
    """The module's dotted name, from its weight or bias, or the path in the node's name; "" where neither says it.

    last: the node that adds the bias, or the same.
    """
    for tensor in (*node.input[1:], *last.input):
        for end in ENDS:
            if tensor.endswith(end):
                return str(tensor.removesuffix(end))
    return ".".join(str(node.name).strip("/").split("/")[:-1])


def named(names: Sequence[str]) -> list[str]:
    """Names [N] without what all have in front, each once; `layerN` for those that have none of their own."""
    paths = [name.split(".") for name in names]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    found: list[str] = []
    for i, path in enumerate(paths):
        name = ".".join(path[shared:])
        clash = any(f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.") for other in found)
        reserved = any(not part or hasattr(nn.Module, part) or hasattr(nn.Module(), part) for part in name.split("."))
        found.append(f"layer{i}" if clash or reserved else name)
    return found


def tree(modules: Sequence[nn.Module], names: Sequence[str]) -> nn.Module:
    """One module that holds the modules under their dotted names."""
    root = nn.Module()
    for module, name in zip(modules, names, strict=True):
        place, *rest = name.split(".")
        holder = root
        while rest:
            if place not in holder._modules:
                holder.add_module(place, nn.Module())
            holder, place = holder.get_submodule(place), rest.pop(0)
        holder.add_module(place, module)
    return root
