"""The original CLIP archives (`ViT-B-32.pt`, `RN50.pt`): TorchScript, or the same tensors as a plain state dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgeclip.build.checkpoints.encoders import Encoders
from edgeclip.build.checkpoints.openclip import FAILURES, encoders_of, first_line, preprocess_of
from edgeclip.build.checkpoints.place import Place
from edgeclip.build.checkpoints.torchvision_ops import declare_missing
from edgeclip.errors import DataError

HINT = "give a file of OpenAI's CLIP; for open_clip's weights add --architecture"
ASSUMED = "tensors alone, taken for OpenAI's: with QuickGELU, where weights that open_clip trained need --architecture"


def load(place: Place) -> Encoders:
    """Raises DataError for a file that holds no CLIP."""
    declare_missing()
    import open_clip
    from open_clip.model import build_model_from_openai_state_dict

    path = Path(place.path)
    load_script: Callable[..., Any] = torch.jit.load
    notes: tuple[str, ...] = ()
    try:
        try:
            tensors = load_script(str(path), map_location="cpu").state_dict()
        except RuntimeError:
            tensors = tensors_of(path)
            notes = (ASSUMED,)
        tensors = {name: tensor for name, tensor in tensors.items() if name != "attn_mask"}  # made anew by the library
        model = build_model_from_openai_state_dict(tensors, cast_dtype=torch.float32).float().eval()
    except FAILURES as error:
        raise DataError(f"{path} is not an original CLIP archive: {first_line(error)}", HINT) from error
    facts = preprocess_of(
        {"size": model.visual.image_size, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD},
        place,
    )
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    encoders = encoders_of(model, tokenizer, facts, place)
    return replace(encoders, notes=(*notes, *encoders.notes))


def tensors_of(path: Path) -> dict[str, Any]:
    """The bare tensors of a file. Raises DataError for anything else, and for other models' tensors."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FAILURES as error:
        raise DataError(
            f"{path} is no file of tensors: it may hold Python objects, which could run anything, and is not loaded",
            "save the model's state_dict() instead",
        ) from error
    if isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        raise DataError(
            f"{path} is a training run's, and does not say which architecture it is of",
            "give --architecture with open_clip's name of it: ViT-B-32, or ViT-B-32-quickgelu where the run began with "
            "OpenAI's weights",
        )
    named = isinstance(stored, dict) and all(isinstance(value, torch.Tensor) for value in stored.values())
    tensors = {name.removeprefix("module."): value for name, value in stored.items()} if named else {}
    if any(name.startswith("vision_model.") for name in tensors):
        raise DataError(f"{path} holds tensors of transformers' CLIP", "give the directory that save_pretrained wrote")
    if "text_projection" not in tensors:
        raise DataError(f"{path} is not an original CLIP archive: it holds no text_projection", HINT)
    return tensors
