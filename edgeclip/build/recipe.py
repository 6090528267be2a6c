"""The three files a build reads: an engine recipe, a sampling of calibration frames, a quantization recipe.

Their grammar is explained in calibration/README.md. Paths in an engine recipe are relative to the recipe.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgeclip.build.checkpoints.hub import HubModel
from edgeclip.build.checkpoints.place import Facts
from edgeclip.bundle import MOST_FRAMES, FileName
from edgeclip.errors import ConfigError
from edgeclip.yamlfile import load_yaml

MINIMUM_FRAMES = 64
TRAINED = "-train"  # a file in engines/ of this ending is no recipe: it says how an engine's checkpoint was trained

Share = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
Cosine = Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]
TargetName = Literal["tflite", "onnx", "tensorrt", "tensorrt-rtx"]
Scheme = Literal["static", "dynamic"]
Runtime = Literal["litert", "tflite-runtime", "edgetpu"]
Observer = Literal["min-max", "percentile-99.9", "percentile-99.99", "percentile-99.999", "entropy", "mse"]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which frames of a calibration set are used.

    frames: how many at most. hold_out: of every so many distinct frames one is kept from calibration, for verify.
    blank_below: standard deviation of grey levels (0..255) under which a frame is blank.
    near_below: mean absolute difference of 16 x 16 grey thumbnails (0..255) under which two frames are one.
    carry: of how many frames, at most, the bundle carries the embeddings.
    """

    frames: Annotated[int, msgspec.Meta(ge=MINIMUM_FRAMES, le=8192)] = 256
    hold_out: Annotated[int, msgspec.Meta(ge=2, le=64)] = 4
    blank_below: Annotated[float, msgspec.Meta(ge=0.0, le=64.0)] = 4.0
    near_below: Annotated[float, msgspec.Meta(ge=0.0, le=64.0)] = 1.0
    seed: int = 0
    carry: Annotated[int, msgspec.Meta(ge=0, le=MOST_FRAMES)] = 512


class TFLite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """INT8 in TFLite.

    multiply: operators whose weights and inputs become int8. carry: operators that only move int8 values on.
    schemes: what is built and measured. runtimes: what the kept engine must run on. static_frames: of the calibration
    set, that the static form's ranges are taken from.
    """

    multiply: tuple[str, ...] = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    carry: tuple[str, ...] = ("PAD",)
    schemes: Annotated[tuple[Scheme, ...], msgspec.Meta(min_length=1)] = ("static", "dynamic")
    static_frames: Annotated[int, msgspec.Meta(ge=8, le=8192)] = 8192
    runtimes: Annotated[tuple[Runtime, ...], msgspec.Meta(min_length=1)] = ("litert",)


class Onnx(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """INT8 in ONNX: node types whose input and constant weight get Q/DQ."""

    multiply: tuple[str, ...] = ("Conv", "Gemm", "MatMul")


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is tried to bring INT8 nearer to float, on the ONNX graph.

    observers: how an activation's range may be chosen. keep_float: patterns of layer names. whole_pixels: pixels enter
    as integers where the first layer allows it. smooth: SmoothQuant's alphas. centre: what channels may be centred on.
    frames: of the calibration set, that remedies are judged on. most_float: layers that fallback may leave float.
    least_int8: percent of the weights that stay INT8 whatever fallback would like.
    """

    observers: Annotated[tuple[Observer, ...], msgspec.Meta(min_length=1)] = ("min-max",)
    keep_float: tuple[str, ...] = ()
    whole_pixels: bool = False
    smooth: tuple[Annotated[float, msgspec.Meta(ge=0.0, le=1.0)], ...] = ()
    centre: tuple[Literal["mean", "middle"], ...] = ()
    bias_correction: bool = False
    weight_rounding: bool = False
    outliers_apart: bool = False
    sensitivity: bool = False
    fallback: bool = False
    most_float: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 8
    least_int8: Share = 60.0
    frames: Annotated[int, msgspec.Meta(ge=8, le=1024)] = 32
    budget_minutes: Annotated[float, msgspec.Meta(gt=0.0, le=1440.0)] = 20.0


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle must reach to be written.

    top1_drop: percentage points lost against float, on labelled data. centred_cosine: mean over frames of the
    cosine to float after the mean float embedding is subtracted. parity_cosine: 1st percentile, to Pillow's resize;
    parity_grey: mean grey levels (0..255) from Pillow's, 99th percentile, under which that does not count: two
    roundings to 8 bits.
    """

    top1_drop: Share = 0.5
    centred_cosine: Cosine = 0.99
    parity_cosine: Cosine = 0.998
    parity_grey: Annotated[float, msgspec.Meta(ge=0.0, le=255.0)] = 0.33


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How float becomes INT8, and what it may cost."""

    search: Search = Search()
    tflite: TFLite = TFLite()
    onnx: Onnx = Onnx()
    gates: Gates = Gates()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine we can build.

    checkpoint: a file or directory; model: one that is downloaded from a hub instead. architecture: open_clip's name,
    for weights alone. text_bank: an .npz of texts, for an image tower alone. facts: what the checkpoint does not say.
    calibration: the calibration set, a path or `demo`. golden: where the self-test's frames come from, which travel in
    the bundle ("": the calibration set). out: the bundle ("": the engine's name, beside the recipe). data, labels: what
    verify measures accuracy on.
    """

    name: FileName
    checkpoint: str = ""
    model: HubModel | None = None
    architecture: str = ""
    text_bank: str = ""
    facts: Facts = Facts()
    calibration: str = ""
    golden: str = ""
    sampling: str = ""
    quantization: str = ""
    targets: Annotated[tuple[TargetName, ...], msgspec.Meta(min_length=1)] = ("tflite",)
    out: str = ""
    data: str = ""
    labels: str = ""


class Plan(msgspec.Struct, frozen=True):
    """A recipe with everything it names read, and its paths resolved.

    open: nobody said how to quantize: what suits its graph is chosen after the export.
    """

    recipe: Recipe
    sampling: Sampling
    quantization: Quantization
    folder: Path
    open: bool = False

    def path(self, name: str) -> Path:
        """A path written in the recipe, relative to the recipe."""
        return self.folder / Path(name).expanduser()

    def as_data(self) -> dict[str, Any]:
        """What the manifest keeps: the engine's recipe with both other files inlined."""
        data: dict[str, Any] = msgspec.to_builtins(self.recipe)
        data["sampling"] = msgspec.to_builtins(self.sampling)
        data["quantization"] = msgspec.to_builtins(self.quantization)
        return {key: value for key, value in data.items() if value not in ("", None, {})}


OTHERS = {
    Quantization: "how float becomes INT8, which a recipe names as `quantization:`",
    Sampling: "how frames are sampled, which a recipe names as `sampling:`",
}


def reads_as(path: Path, kind: type[Any]) -> bool:
    try:
        return bool(load_yaml(path, kind) != kind())
    except ConfigError:
        return False


def load_plan(path: Path) -> Plan:
    """Read an engine recipe and the files it names. Raises ConfigError naming file, line and key."""
    try:
        recipe = load_yaml(path, Recipe)
    except ConfigError:
        found = next((what for kind, what in OTHERS.items() if reads_as(path, kind)), "")
        if path.stem.endswith(TRAINED):
            found = "how a model is trained, for edgeclip train"
        if not found:
            raise
        raise ConfigError(f"{path} says {found}, and is no engine recipe", "engines/nano.yaml is one") from None
    if bool(recipe.checkpoint) == (recipe.model is not None):
        raise ConfigError(f"{path} names no checkpoint and no model, or both", "add `checkpoint:` or `model:`")
    folder = path.resolve().parent
    sampling, quantization = Sampling(), Quantization()
    if recipe.sampling:
        sampling = load_yaml(folder / recipe.sampling, Sampling)
    if recipe.quantization:
        quantization = load_yaml(folder / recipe.quantization, Quantization)
    for operator in (*quantization.tflite.multiply, *quantization.tflite.carry):
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", operator):
            raise ConfigError(f"{path}: {operator!r} is not a TFLite operator name", "write it like CONV_2D")
    return Plan(recipe, sampling, quantization, folder, open=not recipe.quantization)
