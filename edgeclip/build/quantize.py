"""Quantize: float graphs and observed ranges become INT8 candidates. Which of them is kept, verify decides."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.build import rows, tflite
from edgeclip.build.calibrate import load_frames, load_ranges
from edgeclip.build.capture import Sample, sample
from edgeclip.build.findings import Findings, Trial
from edgeclip.build.local import Local
from edgeclip.build.measure import distance
from edgeclip.build.opened import rows_of
from edgeclip.build.recipe import Quantization
from edgeclip.build.search import WORTH, search, searches
from edgeclip.build.sites import Graph, Layer, Site, sites_of
from edgeclip.build.spec import Spec, by_greatest, quantized
from edgeclip.build.tflite_rewrite import with_feeds, with_weights
from edgeclip.progress import Progress

FINDINGS = "findings.json"
DYNAMIC_SHARE = 0.5  # of the search's time, at most, for the dynamic-range form
BANK = "text.npz"

STATIC, DYNAMIC = "int8 static", "int8 dynamic-range"
STATIC_FILE, DYNAMIC_FILE = "image.static.tflite", "image.dynamic.tflite"
WEIGHTS = "int8 weights"
QDQ = "int8 static Q/DQ"
ON_OPENVINO = "int8 static Q/DQ, OpenVINO"  # the same file on another runtime


def candidate_names(quantization: Quantization) -> dict[str, str]:
    """Image candidates of the TFLite target: file name -> precision."""
    names = {"static": (STATIC_FILE, STATIC), "dynamic": (DYNAMIC_FILE, DYNAMIC)}
    return dict(names[scheme] for scheme in quantization.tflite.schemes)


def precisions(quantization: Quantization) -> dict[str, str]:
    """Every file that quantize() may write -> precision."""
    others = {"image.onnx": QDQ, "text.tflite": WEIGHTS, "text.onnx": WEIGHTS}
    return {**candidate_names(quantization), **others}


def quantize(
    graphs: Path,
    observed: Path,
    quantization: Quantization,
    budget_minutes: float,
    directory: Path,
    progress: Progress,
) -> None:
    """Write to `directory`: image.onnx (Q/DQ) with its spec and findings, and for each text or TFLite graph in
    `graphs` its INT8 form. budget_minutes: how long the search may take."""
    from edgeclip.build import onnxgraph

    began_s = time.monotonic()
    deadline_s = began_s + 60.0 * budget_minutes
    ranges = load_ranges(observed)
    graph = Graph.load(graphs / "image.onnx")
    sites = sites_of(graph, quantization.onnx.multiply)
    source = graphs / "image.tflite"
    matched, unmatched = match(ordered_layers(graph, sites), tflite.operators(source)) if source.exists() else ({}, "")
    seen = None
    if searches(quantization.search):
        frames = [frame[None] for frame in load_frames(observed)[0]]
        seen = sample(graph, sites, frames, quantization.search.frames, texts_of(graphs))
    trials: list[Trial] = []
    # First, for it is the quicker of both; but a bundle needs the other, too, and a slow machine has time for one.
    if source.exists() and "dynamic" in quantization.tflite.schemes:
        halfway_s = began_s + DYNAMIC_SHARE * (deadline_s - began_s)
        made, trials = dynamic(source, graph, sites, seen, matched, quantization, began_s, halfway_s, progress)
        (directory / DYNAMIC_FILE).write_bytes(made)
        progress.advance()
    if seen is not None:
        gate = quantization.gates.centred_cosine
        spec, findings = search(graph, sites, seen, quantization.search, gate, deadline_s, progress)
    else:
        greatest = {name: max(-low, high) for name, (low, high) in ranges.onnx.items()}
        spec, findings = by_greatest(sites, greatest, quantization.search.keep_float), Findings()
    findings = msgspec.structs.replace(findings, dynamic=trials, unmatched=unmatched)
    (directory / "image.onnx").write_bytes(quantized(graph, sites, spec).SerializeToString())
    spec.save(directory)
    progress.advance()
    if source.exists() and "static" in quantization.tflite.schemes:
        floats = [
            matched[layer.node]
            for site in sites
            if spec.entries[site.source].floating
            for layer in site.layers
            if layer.node in matched
        ]
        clips = {**ranges.tflite, **clipped(spec, sites, matched, ranges.tflite)}
        (directory / STATIC_FILE).write_bytes(tflite.quantize_static(source, quantization.tflite, clips, floats))
        progress.advance()
    (directory / FINDINGS).write_bytes(msgspec.json.format(msgspec.json.encode(findings), indent=1))
    if (graphs / "text.tflite").exists():
        (directory / "text.tflite").write_bytes(tflite.quantize_weights(graphs / "text.tflite"))
        progress.advance()
    if (graphs / "text.onnx").exists():
        (directory / "text.onnx").write_bytes(onnxgraph.write_weights(graphs / "text.onnx"))
        progress.advance()


def texts_of(graphs: Path) -> npt.NDArray[np.float32] | None:
    """[L, dim] of a tower's fixed bank; None where texts are embedded on the device."""
    if not (graphs / BANK).exists():
        return None
    with np.load(graphs / BANK) as stored:
        return np.asarray(stored["embeddings"], np.float32)


def dynamic(
    source: Path,
    graph: Graph,
    sites: list[Site],
    seen: Sample | None,
    matched: Mapping[str, tflite.Operator],
    quantization: Quantization,
    began_s: float,
    deadline_s: float,
    progress: Progress,
) -> tuple[bytes, list[Trial]]:
    """The dynamic-range form of the float TFLite graph `source`, and what was tried on it.

    began_s, deadline_s: of time.monotonic().
    """
    best = tflite.quantize_dynamic(source, quantization.tflite)
    recipe, trials = quantization.search, list[Trial]()
    if seen is None or not (recipe.smooth or recipe.centre or recipe.weight_rounding):
        return best, trials

    def tried(remedy: str, model: bytes) -> None:
        nonlocal best
        result = distance(seen.reference, rows_of(tflite.TFLiteGraph(model), seen.judged)).centred
        kept = not trials or 1.0 - result.mean < (1.0 - WORTH) * min(1.0 - t.centred for t in trials if t.kept)
        trials.append(Trial(remedy, result.mean, result.p1, kept, time.monotonic() - began_s))
        progress.note(f"dynamic-range, {remedy}: centred cosine {result.mean:.4f}, {'kept' if kept else 'not kept'}")
        best = model if kept else best

    tried("every position's own range", best)
    found = rows.choose(
        graph,
        sites,
        lambda site: Local(graph, site, seen.seen[site.source]),
        matched,
        source.read_bytes(),
        recipe.smooth,
        recipe.centre,
        recipe.weight_rounding,
        lambda _: time.monotonic() > deadline_s,
    )
    feeds = [chosen.feed for chosen in found if chosen.feed is not None]
    with tempfile.TemporaryDirectory(prefix=".dynamic.", suffix=".part", dir=source.parent.parent) as place:
        smooth = Path(place) / source.name
        smooth.write_bytes(with_feeds(source.read_bytes(), feeds))
        model = tflite.quantize_dynamic(smooth, quantization.tflite)
    if feeds:
        tried("smoothing", model)
    if any(chosen.rounded for chosen in found):
        rounded = {output: weight for chosen in found for output, weight in chosen.rounded.items()}
        tried("weight rounding", with_weights(model, rounded))
    return best, trials


def load_findings(directory: Path) -> Findings:
    return msgspec.json.decode((directory / FINDINGS).read_bytes(), type=Findings)


def ordered_layers(graph: Graph, sites: list[Site]) -> list[Layer]:
    """As the graph computes them."""
    position = {name: i for i, node in enumerate(graph.nodes) for name in node.output}
    return sorted((layer for site in sites for layer in site.layers), key=lambda layer: position[layer.node])


def match(layers: list[Layer], operators: list[tflite.Operator]) -> tuple[dict[str, tflite.Operator], str]:
    """(operators by the ONNX layer's node, why there are none): both graphs compute the same layers in one order.

    Where a converter has merged or split some, nothing is carried over, and the report says so.
    """
    if [layer.shape for layer in layers] == [operator.shape for operator in operators]:
        return {layer.node: operator for layer, operator in zip(layers, operators, strict=True)}, ""
    return {}, (
        f"the TFLite graph has {len(operators)} multiplications, the ONNX graph {len(layers)}, or in another order: "
        "float layers and observers were not carried over to it"
    )


def clipped(
    spec: Spec, sites: list[Site], matched: dict[str, tflite.Operator], ranges: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Ranges of the TFLite tensors whose ONNX counterparts the search clips: by the same share of the greatest value.

    Smoothed and shifted tensors have no counterpart: TFLite takes both sides of a range as they are.
    """
    found = {}
    for site in sites:
        entry = spec.entries[site.source]
        if entry.floating or not entry.plain or entry.threshold >= entry.greatest:
            continue
        for operator in (matched[layer.node] for layer in site.layers if layer.node in matched):
            low, high = ranges[operator.source]
            limit = entry.threshold / entry.greatest * max(-low, high)
            found[operator.source] = (max(low, -limit), min(high, limit))
    return found
