"""Quantize: float graphs and observed ranges become INT8 candidates. Which of them is kept, verify decides."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeclip.build import tflite
from edgeclip.build.calibrate import load_frames, load_ranges
from edgeclip.build.findings import Findings
from edgeclip.build.recipe import Quantization
from edgeclip.build.search import search, searches
from edgeclip.build.sites import Graph, Layer, Site, sites_of
from edgeclip.build.spec import Spec, by_greatest, quantized
from edgeclip.progress import Progress

FINDINGS = "findings.json"

IMAGE_STATIC = "image.static.tflite"
STATIC, DYNAMIC = "int8 static", "int8 dynamic-range"
WEIGHTS = "int8 weights"
QDQ = "int8 static Q/DQ"
ON_OPENVINO = "int8 static Q/DQ, OpenVINO"  # the same file on another runtime


def candidate_names(quantization: Quantization) -> dict[str, str]:
    """Image candidates of the TFLite target: file name -> precision."""
    names = {"static": (IMAGE_STATIC, STATIC), "dynamic": ("image.dynamic.tflite", DYNAMIC)}
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

    ranges = load_ranges(observed)
    graph = Graph.load(graphs / "image.onnx")
    sites = sites_of(graph, quantization.onnx.multiply)
    if searches(quantization.search):
        frames = [frame[None] for frame in load_frames(observed)[0]]
        gate = quantization.gates.centred_cosine
        spec, findings = search(graph, sites, frames, quantization.search, gate, 60.0 * budget_minutes, progress)
    else:
        greatest = {name: max(-low, high) for name, (low, high) in ranges.onnx.items()}
        spec, findings = by_greatest(sites, greatest, quantization.search.keep_float), Findings()
    (directory / "image.onnx").write_bytes(quantized(graph, sites, spec).SerializeToString())
    spec.save(directory)
    progress.advance()
    if (graphs / "image.tflite").exists():
        source = graphs / "image.tflite"
        matched, unmatched = match(ordered_layers(graph, sites), tflite.operators(source))
        findings = msgspec.structs.replace(findings, unmatched=unmatched)
        for name, precision in candidate_names(quantization).items():
            model = (
                tflite.quantize_static(
                    source,
                    quantization.tflite,
                    {**ranges.tflite, **clipped(spec, sites, matched, ranges.tflite)},
                    [
                        matched[layer.node]
                        for site in sites
                        if spec.entries[site.source].floating
                        for layer in site.layers
                        if layer.node in matched
                    ],
                )
                if precision == STATIC
                else tflite.quantize_dynamic(source, quantization.tflite)
            )
            (directory / name).write_bytes(model)
            progress.advance()
    (directory / FINDINGS).write_bytes(msgspec.json.format(msgspec.json.encode(findings), indent=1))
    if (graphs / "text.tflite").exists():
        (directory / "text.tflite").write_bytes(tflite.quantize_weights(graphs / "text.tflite"))
        progress.advance()
    if (graphs / "text.onnx").exists():
        (directory / "text.onnx").write_bytes(onnxgraph.write_weights(graphs / "text.onnx"))
        progress.advance()


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
