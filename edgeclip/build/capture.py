"""What the float network computes on calibration frames: every site's range, channel by channel, and sampled rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeclip.build.onnxgraph import session
from edgeclip.build.sites import Array, Graph, Site

Batch = npt.NDArray[np.uint8]
ROWS_PER_FRAME = 16
Run = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


@dataclass
class Seen:
    """Of one site's tensor. low, high: [channels]. rows: [R, channels] positions sampled from every frame; of a
    convolution's input they are pixels, not windows."""

    low: Array
    high: Array
    rows: Array

    def range(self) -> tuple[float, float]:
        return float(self.low.min()), float(self.high.max())


@dataclass
class Sample:
    """What a search goes by. seen: by source. judged: frames [1, H, W, 3] that nothing was seen on, so that clipping
    does not look harmless; reference: the float network's embeddings of them, [N, dim]. texts: unit vectors [L, dim] of
    the labels, where they are known."""

    seen: dict[str, Seen]
    judged: list[Batch]
    reference: npt.NDArray[np.float32]
    texts: npt.NDArray[np.float32] | None = None


def sample(
    graph: Graph,
    sites: Sequence[Site],
    frames: Sequence[Batch],
    judged: int,
    texts: npt.NDArray[np.float32] | None = None,
) -> Sample:
    """Of calibration frames, `judged` of which are kept from what is seen."""
    every = max(2, len(frames) // judged)
    apart = list(frames[::every][:judged])
    seen = capture(graph, sites, [frame for i, frame in enumerate(frames) if i % every], ROWS_PER_FRAME)
    return Sample(seen, apart, embeddings(graph.build(), apart), texts)


def capture(graph: Graph, sites: Sequence[Site], frames: Iterable[Batch], rows_per_frame: int) -> dict[str, Seen]:
    """By source. The first position of a sequence, where the class token is, is always among its rows."""
    model = graph.build()
    names = [site.source for site in sites if site.source != graph.input]
    with_outputs(model, names)
    run = session(model.SerializeToString(), threads()).run
    random = np.random.default_rng(0)
    lows: dict[str, Array] = {}
    highs: dict[str, Array] = {}
    rows: dict[str, list[Array]] = {site.source: [] for site in sites}
    for frame in frames:
        values = dict(zip(names, run(names, {graph.input: frame}), strict=True))
        values.setdefault(graph.input, frame)
        for site in sites:
            flat = np.moveaxis(values[site.source], site.axis, -1).reshape(-1, site.channels).astype(np.float32)
            low, high = flat.min(0), flat.max(0)
            lows[site.source] = np.minimum(lows.get(site.source, low), low)
            highs[site.source] = np.maximum(highs.get(site.source, high), high)
            if len(flat) > rows_per_frame:
                flat = flat[np.append(0, 1 + random.choice(len(flat) - 1, rows_per_frame - 1, replace=False))]
            rows[site.source].append(flat.copy())
    return {name: Seen(lows[name], highs[name], np.concatenate(parts)) for name, parts in rows.items()}


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> None:
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)


def runner(model: onnx.ModelProto) -> Run:
    """The model's embedding of a frame [1, H, W, 3], on all cores."""
    running = session(model.SerializeToString(), threads())
    name = running.get_inputs()[0].name

    def run(frame: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.asarray(running.run(None, {name: frame})[0], np.float32)

    return run


def embeddings(model: onnx.ModelProto, frames: Iterable[Any]) -> npt.NDArray[np.float32]:
    """[N, dim]."""
    run = runner(model)
    return np.concatenate([run(frame) for frame in frames])


def threads() -> int:
    return len(os.sched_getaffinity(0))
