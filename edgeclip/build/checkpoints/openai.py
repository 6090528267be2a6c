"""The original CLIP archives (`ViT-B-32.pt`, `RN50.pt`): TorchScript, or the same tensors as a plain state dict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edgeclip.build.checkpoints.encoders import Encoders
from edgeclip.build.checkpoints.openclip import FAILURES, encoders_of, first_line, preprocess_of
from edgeclip.build.checkpoints.place import Place
from edgeclip.build.checkpoints.torchvision_ops import declare_missing
from edgeclip.errors import DataError


def load(place: Place) -> Encoders:
    """Raises DataError for a file that holds no CLIP."""
    declare_missing()
    import open_clip
    from open_clip.model import build_model_from_openai_state_dict

    path = Path(place.path)
    load_script: Callable[..., Any] = torch.jit.load
    try:
        try:
            tensors = load_script(str(path), map_location="cpu").state_dict()
        except RuntimeError:
            tensors = state_of(torch.load(path, map_location="cpu", weights_only=True))
        tensors = {name: tensor for name, tensor in tensors.items() if name != "attn_mask"}  # made anew by the library
        model = build_model_from_openai_state_dict(tensors, cast_dtype=torch.float32).float().eval()
    except FAILURES as error:
        raise DataError(
            f"{path} is not an original CLIP archive: {first_line(error)}",
            "give a file of OpenAI's CLIP; for open_clip's weights add --architecture",
        ) from error
    facts = preprocess_of(
        {"size": model.visual.image_size, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD},
        place,
    )
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    return encoders_of(model, tokenizer, facts, place)


def state_of(stored: Any) -> dict[str, Any]:
    """The tensors of a plain file: bare, or as training scripts nest them."""
    if isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        stored = stored["state_dict"]
    if not isinstance(stored, dict) or not stored:
        raise ValueError("it holds no tensors")
    return {name.removeprefix("module."): tensor for name, tensor in stored.items()}
