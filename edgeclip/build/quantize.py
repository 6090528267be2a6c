"""Quantize: float graphs and observed ranges become INT8 candidates. Which of them is kept, verify decides."""

from __future__ import annotations

from pathlib import Path

from edgeclip.build.calibrate import load_ranges
from edgeclip.build.recipe import Quantization
from edgeclip.progress import Progress

STATIC, DYNAMIC = "int8 static", "int8 dynamic-range"
WEIGHTS = "int8 weights"
QDQ = "int8 static Q/DQ"


def candidate_names(quantization: Quantization) -> dict[str, str]:
    """Image candidates of the TFLite target: file name -> precision."""
    names = {"static": ("image.static.tflite", STATIC), "dynamic": ("image.dynamic.tflite", DYNAMIC)}
    return dict(names[scheme] for scheme in quantization.tflite.schemes)


def precisions(quantization: Quantization) -> dict[str, str]:
    """Every file that quantize() may write -> precision."""
    others = {"image.onnx": QDQ, "text.tflite": WEIGHTS, "text.onnx": WEIGHTS}
    return {**candidate_names(quantization), **others}


def quantize(graphs: Path, observed: Path, quantization: Quantization, directory: Path, progress: Progress) -> None:
    """Write to `directory`: image.onnx (Q/DQ), and for each text or TFLite graph in `graphs` its INT8 form."""
    from edgeclip.build import onnxgraph, tflite

    ranges = load_ranges(observed)
    image = onnxgraph.write_qdq(graphs / "image.onnx", quantization.onnx.multiply, ranges.onnx)
    (directory / "image.onnx").write_bytes(image)
    progress.advance()
    if (graphs / "image.tflite").exists():
        for name, precision in candidate_names(quantization).items():
            source = graphs / "image.tflite"
            model = (
                tflite.quantize_static(source, quantization.tflite, ranges.tflite)
                if precision == STATIC
                else tflite.quantize_dynamic(source, quantization.tflite)
            )
            (directory / name).write_bytes(model)
            progress.advance()
    if (graphs / "text.tflite").exists():
        (directory / "text.tflite").write_bytes(tflite.quantize_weights(graphs / "text.tflite"))
        progress.advance()
    if (graphs / "text.onnx").exists():
        (directory / "text.onnx").write_bytes(onnxgraph.write_weights(graphs / "text.onnx"))
        progress.advance()
