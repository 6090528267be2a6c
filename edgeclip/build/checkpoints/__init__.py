"""Checkpoints in: whatever a dual encoder was trained and saved with becomes one neutral object that export takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeclip.build.checkpoints.place import Facts, Place
from edgeclip.errors import DataError, EngineError
from edgeclip.registry import resolve

if TYPE_CHECKING:
    from edgeclip.build.checkpoints.encoders import Encoders

# name -> (what loads it, the pip extra that brings its library)
LOADERS: dict[str, tuple[str, str]] = {
    "edgeclip": ("edgeclip.build.checkpoints.ours:load", "build"),
    "open_clip": ("edgeclip.build.checkpoints.openclip:load", "models"),
    "openai": ("edgeclip.build.checkpoints.openai:load", "models"),
    "huggingface": ("edgeclip.build.checkpoints.huggingface:load", "models"),
    "onnx": ("edgeclip.build.checkpoints.onnxpair:load", "build"),
    "onnx-image": ("edgeclip.build.checkpoints.onnximage:load", "build"),
}
FORMS = (
    "a checkpoint of edgeclip train, a Hugging Face directory, an open_clip directory or its weights with "
    "--architecture, an original CLIP .pt, or a directory with two ONNX files and model.yaml"
)
PAIR = "model.yaml"
HUGGING_FACE, OPEN_CLIP = "config.json", "open_clip_config.json"
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")


def load(place: Place) -> Encoders:
    """The checkpoint's encoders, in float, ready to be exported. Loads torch.

    Raises DataError for files that are not what they should be, EngineError where their library is not installed.
    """
    target, extra = LOADERS[place.loader]
    loader = resolve(target, extra=extra, what=f"a {place.loader} checkpoint")
    try:
        encoders: Encoders = loader(place)
    except ImportError as missing:
        if not missing.name or missing.name.partition(".")[0] == "edgeclip":
            raise
        raise EngineError(
            f"{place.path}: loading it needs {missing.name}, not installed here", f"pip install 'edgeclip[{extra}]'"
        ) from missing
    return encoders


def detect(path: Path, architecture: str = "", facts: Facts | None = None) -> Place:
    """Which loader reads `path`, from the files it holds; nothing heavy is imported. Raises DataError."""

    def found(loader: str) -> Place:
        return Place(loader, str(path), name_of(path), architecture=architecture, facts=facts or Facts())

    if path.is_dir():
        for name, loader in ((PAIR, "onnx"), (OPEN_CLIP, "open_clip"), (HUGGING_FACE, "huggingface")):
            if (path / name).is_file():
                return found(loader)
        raise DataError(f"{path} holds no {HUGGING_FACE}, {OPEN_CLIP} or {PAIR}", f"a model may be {FORMS}")
    if not path.is_file():
        raise DataError(f"checkpoint {path} does not exist", f"a model may be {FORMS}")
    if path.suffix == ".onnx":
        raise DataError(
            f"{path} is an image tower without a text side", "give it as --image-onnx, with --text-bank text.npz"
        )
    if path.suffix not in WEIGHTS:
        raise DataError(f"{path} is not a checkpoint", f"a model may be {FORMS}")
    if architecture:
        return found("open_clip")
    for name in (OPEN_CLIP, HUGGING_FACE):
        if (path.parent / name).is_file():
            raise DataError(
                f"{path} is the weights alone, and {name} beside it says what they are of", f"--model {path.parent}"
            )
    if path.suffix == ".safetensors":
        return found("edgeclip")
    return found("openai")


def name_of(path: Path) -> str:
    """A bundle's name from a path."""
    stem = path.resolve().name if path.is_dir() else path.stem
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem)
    return name.lstrip("._-")[:64] or "model"
