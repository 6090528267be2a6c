"""`edgeclip train`, `build` and `compile`: from pairs to a checkpoint, from that to a bundle and its plans."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edgeclip.commands.arguments import add_command, at_least_one, number, positive
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK


def add_train(commands: Any) -> None:
    parser = add_command(
        commands,
        "train",
        _train,
        "train both towers from pairs of pictures and texts",
        "Train an image and a text tower from pairs: tar shards, class folders, or a CSV of path,text. Each epoch is "
        "measured on the dev set and added to DIR/history.jsonl and DIR/curves.png; the end is "
        "DIR/checkpoint.safetensors, which `edgeclip build` takes. A run that was stopped, even by kill -9, goes on "
        "with --resume. engines/nano-train.yaml is an example of CONFIG.yaml.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="data, towers, teachers and phases of training")
    parser.add_argument("--out", metavar="DIR", help="state, checkpoint, history and curves (default: runs/CONFIG)")
    parser.add_argument("--resume", action="store_true", help="go on where the run in the same DIR stopped")


def _train(config: str, out: str | None = None, resume: bool = False) -> int:
    from pathlib import Path

    from edgeclip.progress import progress_for
    from edgeclip.registry import resolve

    train = resolve("edgeclip.train.run:train", extra="train", what="`edgeclip train`")
    folder = Path(out) if out else Path("runs") / Path(config).stem
    with progress_for(sys.stderr) as progress:
        figures = train(Path(config), folder, resume, progress)
    print(
        f"{folder / 'checkpoint.safetensors'}: top-1 {figures['top1']:.1%}, top-5 {figures['top5']:.1%} on the dev set"
    )
    return OK


def add_build(commands: Any) -> None:
    parser = add_command(
        commands,
        "build",
        _build,
        "build a bundle: export, calibrate, quantize, verify, pack",
        "Build a bundle from a recipe, or of a model. Steps that are up to date are skipped. A bundle that does not "
        "reach its recipe's gates is not written.",
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE.yaml", help="what to build, and from which checkpoint")
    parser.add_argument(
        "--model",
        metavar="NAME|DIR|FILE",
        help="a recipe's name in engines/, a Hugging Face or open_clip directory, two ONNX files with model.yaml, or a "
        "checkpoint file: of edgeclip train, an original CLIP .pt, or open_clip's weights with --architecture",
    )
    parser.add_argument("--architecture", metavar="NAME", help="open_clip's name of what a file holds the weights of")
    parser.add_argument("--image-onnx", metavar="FILE", help="an image tower alone: [N, 3, H, W] -> [N, D]")
    parser.add_argument("--text-bank", metavar="FILE.npz", help="its texts: names [L] and embeddings [L, D]")
    parser.add_argument("--image-size", dest="size", type=at_least_one, metavar="PIXELS", help="side of its input")
    parser.add_argument("--resize", choices=("shortest", "squash"), help="how pictures were resized in training")
    parser.add_argument("--interpolation", choices=("bilinear", "bicubic"), help="how they were interpolated")
    parser.add_argument("--mean", type=_triple, metavar="R,G,B", help="subtracted from pixels in 0..1")
    parser.add_argument("--std", type=_triple, metavar="R,G,B", help="what they were divided by then")
    parser.add_argument("--checkpoint", metavar="FILE", help="another checkpoint than the recipe's")
    parser.add_argument(
        "--calibration",
        metavar="PATH",
        help="folder, pattern, shards or film of what is to be seen, at least 64 frames; or demo",
    )
    parser.add_argument(
        "--target",
        metavar="LIST",
        help="of tflite, onnx, tensorrt-rtx, tensorrt: a comma-separated list (default: the recipe's)",
    )
    parser.add_argument("--out", metavar="DIR", help="where the bundle goes, a directory or .tar")
    parser.add_argument("--work", metavar="DIR", help="where steps keep their results (default: build-work/NAME)")
    parser.add_argument("--data", metavar="PATH", help="labelled pictures to measure accuracy on")
    parser.add_argument("--eval-labels", metavar="FILE", help="the labels these pictures are told apart by")
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="MINUTES",
        help="how long the search for a quantization may take (default: 20)",
    )
    parser.add_argument(
        "--edgetpu-compatible",
        action="store_true",
        help="quantize for a Coral Edge TPU (calibration/edgetpu.yaml), and refuse a tower that does not fit it",
    )


def _triple(text: str) -> tuple[float, float, float]:
    values = [number(part) for part in text.split(",")]
    if len(values) != 3 or not all(0.0 <= value <= 1.0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers from 0 to 1: --mean 0.48,0.46,0.41")
    return values[0], values[1], values[2]


MODEL_FACTS = ("size", "resize", "interpolation", "mean", "std")


def _build(recipe: str | None = None, eval_labels: str | None = None, target: str | None = None, **options: Any) -> int:
    from edgeclip.build.checkpoints.place import Facts
    from edgeclip.build.source import Model
    from edgeclip.progress import progress_for
    from edgeclip.registry import resolve

    facts = Facts(**{name: options.pop(name) for name in MODEL_FACTS if name in options})
    names = ("model", "architecture", "image_onnx", "text_bank")
    options["model"] = Model(facts=facts, **{name: options.pop(name) for name in names if name in options})
    build = resolve("edgeclip.build.stages:build", extra="build", what="`edgeclip build`")
    targets = [part.strip() for part in target.split(",")] if target is not None else None
    with progress_for(sys.stderr) as progress:
        result = build(recipe, targets=targets, labels=eval_labels, progress=progress, **options)
    for engine in result.report.kept():
        print(
            f"{engine.packed}: {engine.precision}, {engine.bytes / 1e6:.1f} MB, {engine.latency_ms:.2f} ms, "
            f"mean-centred cosine to float {engine.distance.centred.mean:.4f}"
        )
    print(f"{result.bundle}: {'written' if result.changed else 'was up to date'}")
    return OK


def add_compile(commands: Any) -> None:
    parser = add_command(
        commands,
        "compile",
        _compile,
        "compile a bundle's INT8 ONNX to a TensorRT plan, on the device or ahead of time",
        "Add TensorRT plans to a bundle, in its place. A plan runs on the TensorRT and the GPU it was compiled for: "
        "compile again after a JetPack upgrade. Neither torch nor onnx is needed.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle, directory or .tar, with image.onnx in it")
    parser.add_argument("--target", choices=("tensorrt", "tensorrt-rtx"), help="default: what this machine has")
    parser.add_argument("--sm", metavar="LIST", help="GPUs to compile for ahead of time, like 86,89,120 (tensorrt-rtx)")
    parser.add_argument("--batch", dest="batches", type=_batches, metavar="LIST", help="pictures a run (default: 1)")
    parser.add_argument("--out", metavar="DIR", help="write the bundle there instead, a directory or .tar")
    parser.add_argument(
        "--floats", choices=("fp16", "fp32"), help="what is not INT8 computes in (default: fp16, LayerNorm in fp32)"
    )
    parser.add_argument(
        "--precision",
        choices=("faster", "int8", "float"),
        help="of the image plan: the faster of INT8 and floating point, timed on this GPU; or one of them (default: "
        "faster; ahead of time int8)",
    )
    parser.add_argument(
        "--workspace",
        type=at_least_one,
        metavar="MB",
        help="memory to try kernels in (default: a quarter of what is free, 1024 at most)",
    )
    parser.add_argument("--version-compatible", action="store_true", help="a plan for later minor versions too, slower")
    parser.add_argument(
        "--hardware-compatible", action="store_true", help="a plan for all GPUs from Ampere on, slower; not on Jetson"
    )
    parser.add_argument("--json", action="store_true", help="what was added as one JSON object")


def _batches(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(at_least_one(part.strip()) for part in text.split(",")))


def _compile(
    bundle: str,
    target: str | None = None,
    sm: str | None = None,
    out: str | None = None,
    workspace: int | None = None,
    json: bool = False,
    **options: Any,
) -> int:
    from pathlib import Path

    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.compile.builder import Options
    from edgeclip.compile.bundles import compile_bundle
    from edgeclip.compile.target import arch_from
    from edgeclip.progress import progress_for

    opened = open_bundle(bundle)
    archs = tuple(arch_from(text) for text in sm.split(",")) if sm else ()
    with progress_for(sys.stderr) as progress:
        result = compile_bundle(
            opened,
            runtime=target,
            archs=archs,
            options=Options(**options),
            workspace=workspace << 20 if workspace else None,
            out=Path(out) if out else None,
            progress=progress,
        )
    if json:
        plans = [
            {
                **msgspec.to_builtins(made.entry),
                "int8": made.table.int8,
                "not_int8": made.table.not_int8,
                "latency_ms": made.latency_ms,
            }
            for made in result.compiled
        ]
        print_json({"bundle": str(result.bundle), "plans": plans, "tested": result.tested})
        return OK
    for made in result.compiled:
        print(made)
    print(f"{result.bundle}: written, {'golden frames pass' if result.tested else 'to be tested on its GPU'}")
    return OK
