"""Our checkpoint: one .safetensors file with both towers, and in its metadata all that BUILD needs to know."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgeclip.atomic import atomic_write
from edgeclip.bundle import Preprocess, Scoring
from edgeclip.errors import DataError
from edgeclip.train.towers import DualEncoder, Towers

KEY = "edgeclip"


class CheckpointFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint says of itself. tokenizer: the whole tokenizer.json, as text."""

    name: str
    towers: Towers
    preprocess: Preprocess
    scoring: Scoring
    templates: tuple[str, ...]
    tokenizer: str
    training: dict[str, float | str] = {}


def save_checkpoint(path: str | os.PathLike[str], model: DualEncoder, facts: CheckpointFacts, half: bool) -> None:
    """Write atomically; floating-point tensors as float16 where `half`."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        tensor = tensor.detach().cpu().contiguous()
        tensors[name] = tensor.half() if half and tensor.is_floating_point() else tensor
    with atomic_write(path) as stream:
        stream.write(save(tensors, {KEY: msgspec.json.encode(facts).decode()}))


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[DualEncoder, CheckpointFacts]:
    """Read a checkpoint as a float32 model in eval mode. Raises DataError for a file that is not one."""
    if not Path(path).is_file():
        raise DataError(f"checkpoint {path} does not exist", "check the path, or train one: edgeclip train CONFIG.yaml")
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118 (not a dict)
        if KEY not in metadata:
            what = "it does not say what its towers are"
            raise DataError(f"{path} is not an edgeclip checkpoint: {what}", "train one with edgeclip train")
        facts = msgspec.json.decode(metadata[KEY], type=CheckpointFacts)
    except (SafetensorError, msgspec.DecodeError, OSError) as error:
        raise DataError(f"{path} is not an edgeclip checkpoint: {error}", "train one with edgeclip train") from error
    model = DualEncoder(facts.towers)
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # a tensor of another shape, even so
        raise DataError(f"{path}: {error}", "train it again") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise DataError(f"{path}: tensors missing {missing[:3]}, unexpected {list(unexpected)[:3]}", "train it again")
    return model.eval().requires_grad_(False), facts
