"""Makes torchvision importable beside a torch that its compiled operators were not built for.

open_clip, timm and transformers use its transforms only. Its wheels on PyPI are built for torch with CUDA; beside a CPU
build of torch their operators do not load, and the import fails at the first declaration that expects one of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

# Those that torchvision registers something for without looking whether they are there.
EXPECTED = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def declare_missing() -> None:
    """Declare the operators that torchvision expects where its library cannot. Harmless where it is absent or well."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    library = next(Path(spec.origin).parent.glob("_C*.so"), None)
    if library is None:
        return
    load: Callable[[str], None] = torch.ops.load_library
    try:
        load(str(library))
    except OSError:
        for name in EXPECTED:
            torch.library.define(f"torchvision::{name}", SCHEMA)
