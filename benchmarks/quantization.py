"""INT8 as the usual tools make it by default, beside ours: the same float graphs, calibration frames and pictures.

    edgeclip build RECIPE.yaml --target tflite,onnx --work work      # ours, and the float graphs
    python benchmarks/quantization.py --work work --bank text.npz --set coco=coco128.tar.gz --set stills=stills/ \\
        --set dev=dev.tar.gz --out table.md [--frames 64] [--modelopt VENV/bin/python]

`--work` is the work directory of that build: export/ holds the float graphs, calibrate/ the calibration frames,
quantize/ what we made of them. A set is shards or a folder of pictures; of shards with labels only pictures whose label
is in the bank are used. The bank is an npz of `names` [L] and unit `embeddings` [L, D].

Cosines are to the float ONNX, after its mean embedding over the set is subtracted; "agrees" is how often the nearest
name is float's. Variants are made once and kept in WORK/peers-DIGEST. Times are medians, 1 thread, taken turn by turn.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import peers

from edgeclip.build.calibrate import load_frames
from edgeclip.build.export import load_facts
from edgeclip.build.measure import best, distance
from edgeclip.build.onnxgraph import OnnxGraph
from edgeclip.build.tflite import TFLiteGraph
from edgeclip.datasets import find_images
from edgeclip.picture import SUFFIXES, read_picture
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Pixels

Rows = npt.NDArray[np.float32]
ARCHIVES = (".tar", ".tar.gz", ".tgz")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=PATH", dest="sets")
    parser.add_argument("--frames", type=int, default=64, help="calibration frames the peers get")
    parser.add_argument("--modelopt", type=Path, metavar="PYTHON", help="of an environment with nvidia-modelopt")
    parser.add_argument("--only", action="append", default=[], help="variants whose name contains this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with np.load(arguments.bank) as bank:
        names, texts = [str(name) for name in bank["names"]], bank["embeddings"].astype(np.float32)
    preprocess = Preprocessor(load_facts(arguments.work / "export").preprocess)
    sets = {
        name: np.concatenate([preprocess(pixels).copy() for pixels in pictures(Path(path), names)])
        for name, _, path in (given.partition("=") for given in arguments.sets)
    }
    kept = peers.kept_in(arguments.work, arguments.work)
    made = variants(arguments.work, kept, load_frames(arguments.work / "calibrate")[0], arguments)
    table = measure(made, arguments.work / "export" / "image.onnx", sets, texts, arguments.rounds)
    print(table)
    if arguments.out:
        arguments.out.write_text(table)
    return 0


def pictures(path: Path, names: list[str]) -> Iterator[Pixels]:
    """[H, W, 3] uint8 BGR; of shards with single labels, those whose label is one of `names`."""
    if not path.name.endswith(ARCHIVES):
        for file in find_images(path):
            yield read_picture(file)
        return
    known = {name.casefold() for name in names}
    files: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                place = PurePosixPath(member.name)
                files.setdefault(place.stem, {})[place.suffix.lower()] = stream.read()
    for parts in files.values():
        label = json.loads(parts.get(".json", b"{}")).get("label")
        encoded = next((data for suffix, data in parts.items() if suffix in SUFFIXES), None)
        if encoded is None or (label is not None and str(label).casefold() not in known):
            continue
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            yield np.asarray(pixels, np.uint8)


def variants(work: Path, kept: Path, frames: npt.NDArray[np.uint8], arguments: argparse.Namespace) -> dict[str, Path]:
    """Name -> graph; made where it is not there yet. One that a tool fails to make is said and left out."""
    onnx, tflite = work / "export" / "image.onnx", work / "export" / "image.tflite"
    few = frames[:: max(1, len(frames) // arguments.frames)][: arguments.frames]
    wanted: dict[str, tuple[str, Callable[[Path], object]]] = {
        "onnxruntime static, default": ("ort-static.onnx", lambda out: ort_static(onnx, out, few)),
        "onnxruntime static, GEMM and Conv, per channel": (
            "ort-linear.onnx",
            lambda out: ort_static(
                onnx, out, few, op_types_to_quantize=["Conv", "Gemm", "MatMul"], per_channel=True,
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
            ),
        ),
        "onnxruntime dynamic, default": ("ort-dynamic.onnx", lambda out: ort_dynamic(onnx, out)),
    }  # fmt: skip
    if arguments.modelopt:
        wanted["nvidia-modelopt, default"] = (
            "modelopt.onnx",
            lambda out: modelopt(arguments.modelopt, onnx, out, few),
        )
    if tflite.exists():
        wanted["ai-edge-quantizer dynamic, default"] = ("aeq-dynamic.tflite", lambda out: aeq_dynamic(tflite, out))
        wanted["ai-edge-quantizer static, default"] = ("aeq-static.tflite", lambda out: aeq_static(tflite, out, few))
    found = {"float ONNX": onnx}
    if tflite.exists():
        found["float TFLite"] = tflite
    for name, (file, make) in wanted.items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        path = kept / file
        if not path.exists():
            try:
                make(path)
            except (RuntimeError, ValueError, OSError, TypeError, subprocess.CalledProcessError) as error:
                print(f"{name}: not made: {error}", file=sys.stderr)
                continue
        found[name] = path
    for path in sorted((work / "quantize").glob("image.*")):
        found[f"ours, {path.name}"] = path
    return found


def ort_static(source: Path, out: Path, frames: npt.NDArray[np.uint8], **options: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(frames)

        def get_next(self) -> dict[str, Any] | None:
            frame = next(self.left, None)
            return None if frame is None else {"input": frame[None]}

    quantize_static(str(source), str(out), Reader(), **options)


def ort_dynamic(source: Path, out: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(source), str(out))


def modelopt(python: Path, source: Path, out: Path, frames: npt.NDArray[np.uint8]) -> None:
    data = out.with_suffix(".npz")
    np.savez(data, input=frames)
    command = [str(python), "-m", "modelopt.onnx.quantization", f"--onnx_path={source}", f"--output_path={out}"]
    command += ["--quantize_mode=int8", f"--calibration_data_path={data}", "--calibration_eps", "cpu"]
    subprocess.run(command, check=True)


def aeq_dynamic(source: Path, out: Path) -> None:
    from ai_edge_quantizer import quantizer, recipe

    worker = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
    out.write_bytes(bytes(worker.quantize().quantized_model))


def aeq_static(source: Path, out: Path, frames: npt.NDArray[np.uint8]) -> None:
    from ai_edge_quantizer import quantizer, recipe

    worker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    data = {"serving_default": [{"args_0": frame[None]} for frame in frames]}
    out.write_bytes(bytes(worker.quantize(worker.calibrate(data)).quantized_model))


def measure(made: dict[str, Path], reference: Path, sets: dict[str, Any], texts: Rows, rounds: int) -> str:
    floats = {name: rows_of(OnnxGraph(reference), frames) for name, frames in sets.items()}
    titles = [f"{name} ({len(frames)}): centred / p1 / agrees" for name, frames in sets.items()]
    lines = ["| engine | MB | ms, 1 thread | " + " | ".join(titles) + " |", "|---|---|---|" + "---|" * len(sets)]
    figures: dict[str, list[str]] = {}
    runs: dict[str, Callable[[], object]] = {}
    for name, path in made.items():
        try:
            engine = OnnxGraph(path) if path.suffix == ".onnx" else TFLiteGraph(path)
        except (RuntimeError, ValueError) as error:
            print(f"{name}: does not load: {error}", file=sys.stderr)
            continue
        cells = []
        for kind, frames in sets.items():
            rows = rows_of(engine, frames)
            far = distance(floats[kind], rows)
            same = float((best(rows, texts)[:, 0] == best(floats[kind], texts)[:, 0]).mean())
            cells.append(f"{far.centred.mean:.4f} / {far.centred.p1:.3f} / {100 * same:.1f} %")
        figures[name] = cells
        runs[name] = functools.partial(engine.run, np.zeros(engine.input_shape, engine.input_dtype))
        print(f"{name}: {'; '.join(cells)}", file=sys.stderr, flush=True)
    times = latencies_ms(runs, rounds)
    for name, cells in figures.items():
        size = made[name].stat().st_size / 1e6
        lines.append(f"| {name} | {size:.1f} | {times[name]:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rows_of(engine: OnnxGraph | TFLiteGraph, frames: npt.NDArray[np.uint8]) -> Rows:
    return np.concatenate([np.array(engine.run(frame[None]), np.float32) for frame in frames])


if __name__ == "__main__":
    sys.exit(main())
