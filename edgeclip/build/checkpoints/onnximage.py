"""An image tower alone, as ONNX, with a fixed bank of texts: names and their unit vectors in an .npz."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from edgeclip.build.checkpoints import onnx_rewrite
from edgeclip.build.checkpoints.encoders import Bank, Encoders
from edgeclip.build.checkpoints.onnxpair import OnnxOriginal, input_of, tower, width_of
from edgeclip.build.checkpoints.place import Place
from edgeclip.bundle import Preprocess, Scoring
from edgeclip.errors import DataError

CLIP_SIZE = 224
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_SCALE = 100.0


def load(place: Place) -> Encoders:
    """Preprocessing that nobody stated is CLIP's. Raises DataError for a graph or bank that does not fit."""
    path, given = Path(place.path), place.facts
    model = onnx_rewrite.read(path)
    onnx_rewrite.widen(model)
    taken = next(item for item in model.graph.input if item.name == input_of(model, path, 4))
    stated = [dimension.dim_value for dimension in taken.type.tensor_type.shape.dim[2:]]
    height, width = (given.size or side or CLIP_SIZE for side in stated)
    if any(side and side != given.size for side in stated) and given.size:
        raise DataError(
            f"{path} takes pictures of {stated[1]} x {stated[0]}, not {given.size}", "leave --image-size out"
        )
    facts = Preprocess(
        (height, width),
        given.resize or "shortest",
        given.interpolation or "bicubic",
        given.mean or CLIP_MEAN,
        given.std or CLIP_STD,
    )
    image, plain, notes = tower(path, (1, 3, height, width))
    bank, scale = read_bank(Path(place.text_bank))
    dim = width_of(image, (1, 3, height, width))
    if bank.embeddings.shape[1] != dim:
        raise DataError(
            f"{place.text_bank} holds vectors of {bank.embeddings.shape[1]} numbers, and {path} makes {dim}",
            "the bank must be made by the text tower that was trained with this image tower",
        )
    return Encoders(
        name=place.name,
        image=image,
        text=bank,
        dim=dim,
        preprocess=facts,
        scoring=given.scoring or Scoring("softmax", scale),
        templates=("{}",),
        origin=place.origin or f"{path.name}, with the texts of {Path(place.text_bank).name}",
        licence=place.licence,
        notes=notes,
        original=OnnxOriginal(plain, facts),
    )


def read_bank(path: Path) -> tuple[Bank, float]:
    """(the bank, its logit scale). names [L] text, embeddings [L, dim]; logit_scale where the model's is not 100."""
    hint = "it is an .npz with names [L], text, and embeddings [L, dim], unit vectors: np.savez(FILE, names=..., ...)"
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = {"names", "embeddings"} - set(stored.files)
            if missing:
                raise DataError(f"{path} has no {' and no '.join(sorted(missing))}", hint)
            names, rows = stored["names"], stored["embeddings"].astype(np.float32)
            scale = float(stored["logit_scale"]) if "logit_scale" in stored.files else CLIP_SCALE
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        # NumPy's own words are of pickles, and of how to load them all the same.
        reason = "it holds Python objects" if "Object arrays" in str(error) else "it is no .npz that can be read"
        raise DataError(f"{path} is not a bank of texts: {reason}", hint) from error
    if names.ndim != 1 or names.dtype.kind != "U" or rows.ndim != 2 or len(rows) != len(names) or not len(names):
        raise DataError(f"{path}: names {names.dtype}{list(names.shape)}, embeddings {list(rows.shape)}", hint)
    lengths = np.linalg.norm(rows, axis=1)
    if not np.isfinite(rows).all():
        raise DataError(f"{path}: not all embeddings are finite", hint)
    farthest = int(np.abs(lengths - 1.0).argmax())
    if abs(lengths[farthest] - 1.0) > 0.01:
        raise DataError(
            f"{path}: not all embeddings are unit vectors: {names[farthest]} has length {lengths[farthest]:.3g}",
            "divide each by its length, as the model does before it compares",
        )
    seen: set[str] = set()
    for name in names.tolist():
        folded = name.casefold()
        if not name.strip():
            raise DataError(f"{path}: a name is empty", hint)
        if folded in seen:
            raise DataError(f"{path}: the name {name!r} is in it twice, capitals aside", "keep one of the two")
        seen.add(folded)
    if not 0.0 < scale <= 1000.0:
        raise DataError(
            f"{path}: logit_scale {scale} is not between 0 and 1000", "it is exp() of the learned one: 100 for CLIP"
        )
    return Bank(tuple(names.tolist()), (rows / lengths[:, None]).astype(np.float32)), scale
