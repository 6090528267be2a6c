"""nano's image tower in every engine a user could run it in, side by side.

Each contender lives in a process of its own; they take turns in one run, so that a busy machine slows all alike, and
only ratios are compared. Accuracy stands beside speed: the mean-centred cosine to torch's float embeddings.

    python benchmarks/image_tower.py [--checkpoint FILE] [--bundle DIR] [--threads 1 2] [--rounds 12] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
FRAMES = 96  # measured for accuracy; the first TIMED of them are timed
TIMED = 16
CALIBRATED = 64  # frames that onnxruntime's own quantizer calibrates on, others than the measured ones


@dataclass
class Row:
    """One contender at one thread count. ratio: torch eager's time over its own."""

    name: str
    threads: int
    median_ms: float
    p95_ms: float
    ratio: float
    centred_cosine: float
    megabytes: float


def frames(count: int, size: int, offset: int) -> npt.NDArray[np.uint8]:
    """[count, size, size, 3] uint8 RGB of the demo camera, as the runtime prepares them."""
    from edgeclip.bundle import open_bundle
    from edgeclip.runtime.preprocess import Preprocessor
    from edgeclip.runtime.sources import open_source

    facts = open_bundle().manifest.preprocess
    preprocess = Preprocessor(facts)
    source = open_source("demo")
    source.open()
    rows = []
    try:
        while len(rows) < offset + count:
            pixels = source.read()
            assert pixels is not None
            for _ in range(5):  # neighbouring frames are nearly the same picture
                source.read()
            rows.append(preprocess(pixels)[0].copy())
    finally:
        source.close()
    assert rows[0].shape[0] == size
    return np.stack(rows[offset:])


def serve(kind: str, path: str, threads: int, channel: Connection) -> None:
    """The contender's process: answers ("embed" | "time", batch [N, S, S, 3] uint8) until told to stop."""
    run = contender(kind, path, threads)
    channel.send("ready")
    while (order := channel.recv()) is not None:
        verb, batch = order
        if verb == "embed":
            channel.send(np.concatenate([np.array(run(row[None]), np.float32) for row in batch]))
            continue
        times = []
        for row in batch:
            one = row[None]
            began = time.perf_counter()
            run(one)
            times.append(1000 * (time.perf_counter() - began))
        channel.send(times)


def contender(kind: str, path: str, threads: int) -> Any:
    """A callable [1, S, S, 3] uint8 -> [1, D] float32."""
    if kind == "torch":
        import torch

        from edgeclip.train.checkpoint import load_checkpoint

        torch.set_num_threads(threads)
        model, facts = load_checkpoint(path)
        mean = torch.tensor(facts.preprocess.mean)[:, None, None] * 255
        std = torch.tensor(facts.preprocess.std)[:, None, None] * 255

        def eager(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                pixels = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - mean) / std
                return model.encode_image(pixels).numpy()

        return eager
    if kind == "tflite":
        from edgeclip.runtime.backends.litert import LiteRTEngine

        return LiteRTEngine(Path(path), threads).run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def default_onnxruntime_int8(source: Path, target: Path, batch: npt.NDArray[np.uint8]) -> None:
    """onnxruntime.quantization as its documentation begins: pre-process, then quantize_static with its defaults."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".pre.onnx")
    quant_pre_process(str(source), str(prepared))
    name = onnx.load(prepared).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows = iter(batch)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self._rows, None)
            return None if row is None else {name: row[None]}

    quantize_static(str(prepared), str(target), Reader())


def measure(contenders: dict[str, tuple[str, Path]], threads: int, rounds: int, held: Any) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    channels: dict[str, Connection] = {}
    processes = []
    for name, (kind, path) in contenders.items():
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(kind, str(path), threads, there), daemon=True)
        process.start()
        if here.recv() != "ready":
            raise SystemExit(f"{name} did not start")
        channels[name] = here
        processes.append(process)

    def ask(name: str, verb: str, batch: npt.NDArray[np.uint8]) -> Any:
        channels[name].send((verb, batch))
        return channels[name].recv()

    embeddings = {name: ask(name, "embed", held) for name in channels}
    times: dict[str, list[float]] = {name: [] for name in channels}
    for _ in range(rounds):
        for name in channels:
            times[name] += ask(name, "time", held[:TIMED])
    for channel in channels.values():
        channel.send(None)
    for process in processes:
        process.join()
    reference = embeddings["torch eager"]
    mean = reference.mean(0)
    base = float(np.median(times["torch eager"]))
    rows = []
    for name, (_, path) in contenders.items():
        a, b = reference - mean, embeddings[name] - mean
        cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        median = float(np.median(times[name]))
        p95 = float(np.percentile(times[name], 95))
        megabytes = path.stat().st_size / 1e6
        rows.append(Row(name, threads, median, p95, base / median, float(cosine.mean()), megabytes))
    return rows


def markdown(rows: list[Row]) -> str:
    lines = [
        "| engine | threads | median ms | p95 ms | x torch eager | centred cosine | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.threads} | {row.median_ms:.2f} | {row.p95_ms:.2f} | {row.ratio:.1f} | "
        f"{row.centred_cosine:.4f} | {row.megabytes:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "engines" / "nano.safetensors")
    parser.add_argument("--bundle", type=Path, default=ROOT / "engines" / "nano")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from edgeclip.build.export import export
    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for

    bundle = open_bundle(options.bundle)
    size = bundle.manifest.preprocess.size[0]
    with tempfile.TemporaryDirectory() as held_in, progress_for(sys.stderr) as progress:
        work = Path(held_in)
        progress.stage("float graphs", 2)
        export(options.checkpoint, ["image.onnx", "image.tflite"], work, work / "export.log", progress)
        progress.stage("frames")
        pictures = frames(FRAMES + CALIBRATED, size, 0)
        held, calibrated = pictures[:FRAMES], pictures[FRAMES:]
        progress.stage("onnxruntime's default INT8")
        default_onnxruntime_int8(work / "image.onnx", work / "default-int8.onnx", calibrated)
        contenders = {
            "torch eager": ("torch", options.checkpoint),
            "onnxruntime float": ("onnx", work / "image.onnx"),
            "onnxruntime INT8, its defaults": ("onnx", work / "default-int8.onnx"),
            "LiteRT float": ("tflite", work / "image.tflite"),
        }
        for entry in bundle.engines("image"):
            runtime = "LiteRT" if entry.format == "tflite" else "onnxruntime"
            contenders[f"edgeclip {entry.precision}, {runtime}"] = (entry.format, bundle.file(entry.file))
        rows: list[Row] = []
        for threads in options.threads:
            progress.stage(f"{threads} thread{'s' if threads > 1 else ''}")
            rows += measure(contenders, threads, options.rounds, held)
        progress.done()
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
