"""Checkpoints of open_clip: weights of any of its architectures, or a directory with its open_clip_config.json."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeclip.build.checkpoints import tokenizer_files
from edgeclip.build.checkpoints.encoders import (
    CLIP_TEMPLATES,
    SIGLIP_TEMPLATES,
    Encoders,
    Frames,
    Rows,
    TextSide,
)
from edgeclip.build.checkpoints.norms import fold_batch_norms
from edgeclip.build.checkpoints.place import Place
from edgeclip.build.checkpoints.torchvision_ops import declare_missing
from edgeclip.bundle import Preprocess, Scoring
from edgeclip.errors import DataError

CONFIG = "open_clip_config.json"
NEEDED = f"give the directory with the weights, {CONFIG} and, where that names one, the tokenizer's files"
LOWEST_MASK = -1e4  # instead of -inf in attention masks: exp() of it is 0 as well, and no arithmetic makes NaN of it
# What libraries raise for files that do not fit; their asserts included.
FAILURES = (
    RuntimeError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    AssertionError,
    UnpicklingError,
    SafetensorError,
)


class OpenClipText(nn.Module):
    """The text half of an open_clip `CLIP`, which keeps it in pieces. [N, T] ids -> [N, dim]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.token_embedding = model.token_embedding
        self.positional_embedding = model.positional_embedding
        self.transformer = model.transformer
        self.ln_final = model.ln_final
        self.text_projection = model.text_projection
        self.pool, self.eos_id = model.text_pool_type, model.text_eos_id
        mask = model.attn_mask
        self.register_buffer("mask", None if mask is None else mask.clamp_min(LOWEST_MASK), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        from open_clip.transformer import text_global_pool

        x = self.token_embedding(ids) + self.positional_embedding
        x = self.ln_final(self.transformer(x, attn_mask=self.mask))
        x = text_global_pool(x, ids, self.pool, eos_token_id=self.eos_id)
        if self.text_projection is not None:
            linear = isinstance(self.text_projection, nn.Linear)
            x = self.text_projection(x) if linear else x @ self.text_projection
        embedding: Tensor = x
        return embedding


class OpenClipOriginal:
    """open_clip's own encode_image and encode_text, as its users call them."""

    def __init__(self, model: Any, tokenizer: Any, preprocess: Preprocess) -> None:
        self._model, self._tokenizer, self._facts = model, tokenizer, preprocess

    def image(self, frames: Frames) -> Rows:
        from torchvision.transforms import Compose, Normalize, ToTensor

        ready = Compose([ToTensor(), Normalize(self._facts.mean, self._facts.std)])
        with torch.no_grad():
            rows = [self._model.encode_image(ready(frame)[None]).float().numpy()[0] for frame in frames]
        return stacked(rows)

    def text(self, sentences: Sequence[str]) -> Rows:
        ids = self._tokenizer(list(sentences))
        with torch.no_grad():
            return stacked([self._model.encode_text(row[None]).float().numpy()[0] for row in ids])


def stacked(rows: Sequence[Any]) -> Rows:
    import numpy as np

    return np.stack(rows).astype(np.float32)


def load(place: Place) -> Encoders:
    """Raises DataError for what open_clip cannot load as this architecture."""
    declare_missing()
    import open_clip

    path = Path(place.path)
    name = f"local-dir:{path}" if path.is_dir() else place.architecture
    if not path.is_dir():
        require_architecture(place, open_clip.list_models())
    elif text_config(path).get("hf_tokenizer_name"):
        tokenizer_files.require(path, NEEDED)
    try:
        model = open_clip.create_model(
            name, pretrained=None if path.is_dir() else str(path), require_pretrained=True, pretrained_text=False
        )
        tokenizer = open_clip.get_tokenizer(name)
    except FAILURES as error:
        raise DataError(f"{path}: open_clip cannot load it: {first_line(error)}", NEEDED) from error
    model.eval()
    assumed = {} if path.is_dir() else trained_with(open_clip, place.architecture)
    facts = preprocess_of({**model.visual.preprocess_cfg, **assumed}, place)
    return encoders_of(model, tokenizer, facts, place)


def text_config(directory: Path) -> dict[str, Any]:
    """Of open_clip_config.json; nothing where that is not what it should be, which open_clip tells."""
    try:
        found = json.loads((directory / CONFIG).read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def require_architecture(place: Place, known: Sequence[str]) -> None:
    if place.architecture in known:
        return
    if not place.architecture:
        raise DataError(f"{place.path} does not say what it is", "give --architecture, e.g. --architecture ViT-B-32")
    near = difflib.get_close_matches(place.architecture, known, 3)
    raise DataError(
        f"open_clip has no architecture {place.architecture!r}", f"did you mean {' or '.join(near)}?" if near else ""
    )


def trained_with(open_clip: Any, architecture: str) -> dict[str, Any]:
    """Preprocessing that every published training of an architecture shares: weights alone do not say theirs."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    found = [{key: open_clip.get_pretrained_cfg(architecture, tag).get(key) for key in keys} for tag in tags]
    if not found or any(other != found[0] for other in found):
        return {}
    return {key: value for key, value in found[0].items() if value is not None}


def encoders_of(model: Any, tokenizer: Any, facts: Preprocess, place: Place) -> Encoders:
    """A loaded open_clip model, whoever saved it, with its towers made fit for export."""
    import open_clip
    from open_clip.model import CustomTextCLIP

    if not isinstance(model, (open_clip.CLIP, CustomTextCLIP)):
        raise DataError(f"{place.path}: {type(model).__name__} is not a plain pair of encoders", "give another model")
    original = OpenClipOriginal(model, tokenizer, facts)
    text = model.text if isinstance(model, CustomTextCLIP) else OpenClipText(model)
    if isinstance(mask := getattr(text, "attn_mask", None), Tensor):
        text = copy.copy(text)
        text._buffers = {**text._buffers, "attn_mask": mask.clamp_min(LOWEST_MASK)}
    image, notes = deployable(model.visual, facts)
    height, width = facts.size
    with torch.no_grad():
        dim = int(image(torch.zeros(1, 3, height, width)).shape[1])
    sigmoid = getattr(model, "logit_bias", None) is not None
    return Encoders(
        name=place.name,
        image=image,
        text=TextSide(text, tokenizer_files.of_openclip(tokenizer), int(model.context_length), pad_id_of(tokenizer)),
        dim=dim,
        preprocess=facts,
        scoring=place.facts.scoring or scoring_of(model.logit_scale, model.logit_bias if sigmoid else None),
        templates=place.facts.templates or (SIGLIP_TEMPLATES if sigmoid else CLIP_TEMPLATES),
        origin=place.origin or f"{Path(place.path).name}, loaded by open_clip {open_clip.__version__}",
        licence=place.licence,
        notes=notes,
        original=original,
    )


def deployable(tower: nn.Module, facts: Preprocess) -> tuple[nn.Module, tuple[str, ...]]:
    """The image tower with branches that exist for training alone merged, and batch norms folded."""
    if not any(isinstance(module, _BatchNorm) for module in tower.modules()):
        return tower, ()
    from timm.utils.model import reparameterize_model

    before = sum(1 for _ in tower.modules())
    merged = reparameterize_model(copy.deepcopy(tower)).eval()
    after = sum(1 for _ in merged.modules())
    height, width = facts.size
    folded = fold_batch_norms(merged, torch.zeros(1, 3, height, width))
    branches = (f"training branches merged: {before} modules are {after}",) if after < before else ()
    return merged, (*branches, f"{folded} batch norms folded")


def pad_id_of(tokenizer: Any) -> int:
    library = getattr(tokenizer, "tokenizer", None)
    return 0 if library is None else int(library.pad_token_id or 0)


def scoring_of(log_scale: Tensor, bias: Tensor | None) -> Scoring:
    scale = min(float(log_scale.detach().float().exp().mean()), 1000.0)
    return Scoring("softmax", scale) if bias is None else Scoring("sigmoid", scale, float(bias.detach().float().mean()))


def preprocess_of(stated: dict[str, Any], place: Place) -> Preprocess:
    """open_clip's facts, with those a person gave before them. Raises DataError for a rule that RUN does not know."""
    given = place.facts
    size = given.size or stated["size"]
    height, width = (size, size) if isinstance(size, int) else size
    resize = given.resize or stated.get("resize_mode", "shortest")
    interpolation = given.interpolation or stated.get("interpolation", "bicubic")
    if resize not in ("shortest", "squash") or interpolation not in ("bilinear", "bicubic"):
        raise DataError(
            f"{place.path} was trained with resize {resize!r}, interpolation {interpolation!r}",
            "edgeclip resizes to the shortest side or squashes, bilinear or bicubic: state the nearest with --resize",
        )
    mean, std = given.mean or tuple(stated["mean"]), given.std or tuple(stated["std"])
    return Preprocess((height, width), resize, interpolation, mean, std)


def first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
