"""Hugging Face directories of CLIP, SigLIP and SigLIP2: config, model.safetensors, preprocessor and tokenizer files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeclip.build.checkpoints import tokenizer_files
from edgeclip.build.checkpoints.encoders import (
    CLIP_TEMPLATES,
    SIGLIP_TEMPLATES,
    Encoders,
    Frames,
    Rows,
    TextSide,
)
from edgeclip.build.checkpoints.openclip import FAILURES, LOWEST_MASK, first_line, scoring_of, stacked
from edgeclip.build.checkpoints.place import Place
from edgeclip.build.checkpoints.torchvision_ops import declare_missing
from edgeclip.bundle import Preprocess
from edgeclip.errors import DataError

KINDS = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
PROCESSOR = "preprocessor_config.json"
NEEDED = f"it needs config.json, model.safetensors, {PROCESSOR} and the tokenizer's files"
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class ClipImage(nn.Module):
    """[N, 3, H, W] -> [N, dim] of a CLIPModel or SiglipModel, without the wrappers that no exporter traces."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        tower = model.vision_model
        self.embeddings, self.layers = tower.embeddings, tower.encoder.layers
        self.before = getattr(tower, "pre_layrnorm", None) or nn.Identity()
        self.after = tower.post_layernorm
        self.head = getattr(tower, "head", None)
        self.project = getattr(model, "visual_projection", None) or nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.before(self.embeddings(pixels))
        for layer in self.layers:
            x = hidden(layer(x, attention_mask=None))
        x = self.after(x[:, 0]) if self.head is None else self.head(self.after(x))
        embedding: Tensor = self.project(x)
        return embedding


class PatchImage(nn.Module):
    """The same of a Siglip2Model, whose library cuts the patches outside. side: pixels of the square it takes."""

    position: Tensor

    def __init__(self, model: Any, side: int) -> None:
        super().__init__()
        tower = model.vision_model
        self.patch = tower.config.patch_size
        self.count = side // self.patch
        embeddings = tower.embeddings
        self.embed, self.layers, self.after, self.head = (
            embeddings.patch_embedding,
            tower.encoder.layers,
            tower.post_layernorm,
            tower.head,
        )
        grid = embeddings.position_embedding_size
        position = embeddings.position_embedding.weight.detach().reshape(grid, grid, -1)
        shape = torch.tensor([[self.count, self.count]])
        position = embeddings.resize_positional_embeddings(position, shape, max_length=self.count**2)
        self.register_buffer("position", position)

    def forward(self, pixels: Tensor) -> Tensor:
        n, c, p = self.count, 3, self.patch
        x = pixels.reshape(-1, c, n, p, n, p).permute(0, 2, 4, 3, 5, 1).reshape(-1, n * n, p * p * c)
        x = self.embed(x) + self.position
        for layer in self.layers:
            x = hidden(layer(x, attention_mask=None))
        embedding: Tensor = self.head(self.after(x))
        return embedding


class HuggingFaceText(nn.Module):
    """[N, T] ids -> [N, dim]. causal: as CLIP's; pooled at the end token, or (SigLIP) at the last place."""

    mask: Tensor | None

    def __init__(self, model: Any, kind: str) -> None:
        super().__init__()
        tower = model.text_model
        self.embeddings, self.layers, self.norm = tower.embeddings, tower.encoder.layers, tower.final_layer_norm
        self.kind = kind
        self.end = tower.config.eos_token_id
        self.head = model.text_projection if kind == "clip" else tower.head
        length = tower.config.max_position_embeddings
        mask = torch.full((length, length), LOWEST_MASK).triu(1)[None, None] if kind == "clip" else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings(input_ids=ids)
        for layer in self.layers:
            x = hidden(layer(x, attention_mask=self.mask))
        x = self.norm(x)
        if self.kind == "clip":
            # Files older than transformers 4.30 state a wrong end token, 2: theirs is the highest id.
            place = ids.argmax(-1) if self.end == 2 else (ids == self.end).to(torch.int32).argmax(-1)
            x = x[torch.arange(x.shape[0]), place]
        else:
            x = x[:, -1]
        embedding: Tensor = self.head(x)
        return embedding


def hidden(result: Any) -> Tensor:
    """Layers return a tensor, or a tuple that begins with it, depending on the library's version."""
    first: Tensor = result[0] if isinstance(result, tuple) else result
    return first


class HuggingFaceOriginal:
    """The library's own get_image_features and get_text_features, behind its own processor and tokenizer."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any, length: int) -> None:
        self._model, self._processor, self._tokenizer, self._length = model, processor, tokenizer, length

    def image(self, frames: Frames) -> Rows:
        from PIL import Image

        rows = []
        with torch.no_grad():
            for frame in frames:
                inputs = self._processor(images=Image.fromarray(frame), return_tensors="pt")
                rows.append(pooled(self._model.get_image_features(**inputs)))
        return stacked(rows)

    def text(self, sentences: Sequence[str]) -> Rows:
        ids = self._tokenizer(
            list(sentences), padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            return stacked([pooled(self._model.get_text_features(input_ids=row[None])) for row in ids])


def pooled(result: Any) -> Any:
    features = result if isinstance(result, Tensor) else result.pooler_output
    return features.float().numpy()[0]


def load(place: Place) -> Encoders:
    """Raises DataError for a directory that transformers cannot load as one of KINDS."""
    declare_missing()
    import transformers

    path = Path(place.path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type", "")
    if kind not in KINDS:
        raise DataError(
            f"{path / 'config.json'}: model_type {kind!r} is not one edgeclip builds from",
            f"it may be {', '.join(KINDS)}",
        )
    tokenizer_files.require(path, NEEDED)
    try:
        model, loaded = getattr(transformers, KINDS[kind]).from_pretrained(
            path, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
        open_processor: Callable[..., Any] = transformers.AutoImageProcessor.from_pretrained
        processor = open_processor(path, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (*FAILURES, ImportError) as error:
        raise DataError(f"{path}: transformers cannot load it: {first_line(error)}", NEEDED) from error
    require_all(loaded, path)
    model.eval()
    side = patched_side(model, processor) if kind == "siglip2" else 0
    facts = preprocess_of(processor, side or model.config.vision_config.image_size, side > 0, place)
    spec = tokenizer_files.of_huggingface(tokenizer)
    length = int(model.config.text_config.max_position_embeddings)
    image: nn.Module = PatchImage(model, facts.size[0]) if kind == "siglip2" else ClipImage(model)
    with torch.no_grad():
        dim = int(image(torch.zeros(1, 3, *facts.size)).shape[1])
    bias = getattr(model, "logit_bias", None)
    return Encoders(
        name=place.name,
        image=image,
        text=TextSide(HuggingFaceText(model, kind), tokenizer_files.dumped(spec), length, int(tokenizer.pad_token_id)),
        dim=dim,
        preprocess=facts,
        scoring=place.facts.scoring or scoring_of(model.logit_scale, bias),
        templates=place.facts.templates or (CLIP_TEMPLATES if bias is None else SIGLIP_TEMPLATES),
        origin=place.origin or f"{path.name}, loaded by transformers {transformers.__version__}",
        licence=place.licence,
        notes=(f"a square of {side} pixels, of the sizes that SigLIP2 NaFlex takes",) if side else (),
        original=HuggingFaceOriginal(model, processor, tokenizer, length),
    )


def require_all(loaded: dict[str, Any], path: Path) -> None:
    """Raises DataError for weights that the directory lacks: the library leaves them random, and only warns."""
    missing = sorted(name for name in loaded["missing_keys"] if not name.endswith("position_ids"))
    others = sorted(str(item[0]) for item in loaded["mismatched_keys"])
    if missing or others:
        what = f"lacks {len(missing)} tensors" if missing else f"has {len(others)} tensors of another shape"
        raise DataError(
            f"{path}: what transformers reads of it {what}, {(missing or others)[0]} first",
            "config.json must be that of these weights, and both towers be in them: save the whole model with "
            "save_pretrained",
        )


def patched_side(model: Any, processor: Any) -> int:
    """Pixels of the largest square that fits the processor's number of patches."""
    return int(processor.max_num_patches**0.5) * int(model.config.vision_config.patch_size)


def preprocess_of(processor: Any, side: int, squash: bool, place: Place) -> Preprocess:
    """The image processor's facts. Raises DataError for a rule that RUN does not know."""
    given = place.facts
    where = Path(place.path) / PROCESSOR
    resampling = int(getattr(processor, "resample", 3))
    interpolation: Any = given.interpolation or RESAMPLING.get(resampling)
    if interpolation is None:
        raise DataError(f"{where}: resample {resampling} is neither bilinear nor bicubic", "state --interpolation")
    resize: Any = given.resize or "squash"
    if not squash and not given.resize:
        size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
        if "shortest_edge" in size:
            resize = "shortest"
            if size["shortest_edge"] != side or any(value != side for value in crop.values()):
                raise DataError(
                    f"{where}: resizes to {size['shortest_edge']}, crops {crop} and the model takes {side}",
                    "edgeclip resizes to the size that is cropped: state --resize",
                )
        elif (size.get("height"), size.get("width")) != (side, side):
            raise DataError(
                f"{where}: resizes to {size}, and the model takes {side}", "state --resize and --image-size"
            )
    if given.size and given.size != side:
        raise DataError(f"{place.path} takes pictures of {side} pixels, not {given.size}", "leave --image-size out")
    mean, std = given.mean or tuple(processor.image_mean), given.std or tuple(processor.image_std)
    return Preprocess((side, side), resize, interpolation, mean, std)
