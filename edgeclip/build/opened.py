"""A graph file as an engine, on the runtime of its format that a build goes by; and its embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings, Engine


def engine_on(path: Path) -> Engine:
    if path.suffix == ".tflite":
        from edgeclip.build.tflite import TFLiteGraph

        return TFLiteGraph(path)
    from edgeclip.build.onnxgraph import OnnxGraph

    return OnnxGraph(path)


def rows_of(engine: Engine, inputs: Iterable[npt.NDArray[Any]]) -> Embeddings:
    """[N, dim] of frames [1, H, W, 3] or ids [1, T], one after the other."""
    return np.concatenate([np.array(engine.run(one), np.float32) for one in inputs])
