"""Batch norms out of an image tower: into the convolution before them if there is one, else into a scale and a shift.

A batch norm left in the graph is one that neither TensorRT's INT8 nor TFLite folds for us, and in timm's hybrids some
follow an addition, where no exporter folds them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ChannelAffine(nn.Module):
    """[N, C, ...] -> the same, every channel scaled and shifted."""

    gain: Tensor
    shift: Tensor

    def __init__(self, norm: _BatchNorm, dimensions: int) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a batch norm without running statistics cannot be folded")
        gain = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            gain = gain * norm.weight
        shift = -norm.running_mean * gain
        if norm.bias is not None:
            shift = shift + norm.bias
        shape = (1, -1, *(1,) * (dimensions - 2))
        self.register_buffer("gain", gain.detach().reshape(shape))
        self.register_buffer("shift", shift.detach().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.shift


class Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type its hook for subclasses
    """Counts into how many operations every tensor goes, by id."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor this
        self.count: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count.update({id(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)})
        return func(*args, **(kwargs or {}))


def fold_batch_norms(tower: nn.Module, example: Tensor) -> int:
    """Fold every batch norm of `tower`, in place; returns how many. example: an input, to see what feeds what.

    Into a convolution only where nothing else takes what it makes.
    """
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # by id of what the convolution made, kept alive
    takes: dict[_BatchNorm, tuple[nn.Conv2d | None, int]] = {}
    calls: dict[nn.Module, int] = {}

    def after_convolution(module: nn.Module, _: Any, result: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        calls[module] = calls.get(module, 0) + 1
        made[id(result)] = (module, result)

    def before_norm(module: nn.Module, taken: Any) -> None:
        assert isinstance(module, _BatchNorm)
        calls[module] = calls.get(module, 0) + 1
        found = made.get(id(taken[0]))
        takes[module] = (found[0] if found else None, taken[0].ndim)

    hooks = []
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        with torch.no_grad(), Uses() as uses:
            tower(example)
    finally:
        for hook in hooks:
            hook.remove()
    shared = {convolution for convolution, result in made.values() if uses.count[id(result)] > 1}
    places = {child: (parent, name) for parent in tower.modules() for name, child in parent.named_children()}
    for norm, (convolution, dimensions) in takes.items():
        parent, name = places[norm]
        rest = after_norm(norm)
        if convolution is not None and convolution not in shared and calls[convolution] == calls[norm] == 1:
            before, its_name = places[convolution]
            setattr(before, its_name, fuse_conv_bn_eval(convolution, norm))
            setattr(parent, name, nn.Sequential(*rest))
        else:
            setattr(parent, name, nn.Sequential(ChannelAffine(norm, dimensions), *rest))
    return len(takes)


def after_norm(norm: _BatchNorm) -> list[nn.Module]:
    """timm's BatchNormAct2d holds the activation that follows it."""
    activation = getattr(norm, "act", None)
    return [activation] if isinstance(activation, nn.Module) and not isinstance(activation, nn.Identity) else []


def layer_norms(module: nn.Module, example: Tensor) -> int:
    """How many LayerNorms one pass through `module` goes through: so many native nodes its graph must have."""
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    hooks = [layer.register_forward_hook(counted) for layer in module.modules() if isinstance(layer, nn.LayerNorm)]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return count
