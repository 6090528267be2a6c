"""What a training run is told, as YAML (engines/nano-train.yaml is the example). Strict: see edgeclip.yamlfile."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgeclip.train.towers import Towers

Weight = Annotated[float, msgspec.Meta(ge=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """train, dev: tar shards, class folders or CSV (globs allowed), relative to the working directory."""

    train: tuple[str, ...]
    dev: str
    dev_labels: str = ""


class Teachers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spaces to distil from, as `python -m edgeclip.train.teachers` writes them; "" for none.

    image: npz of keys [N] and embeddings [N, E], by sample key. bank: npz of names [L] and embeddings
    [L, E], unit text vectors of the same space. text: npz of phrases [P] and embeddings [P, F].
    """

    image: str = ""
    bank: str = ""
    text: str = ""
    bank_scale: float = 100.0


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stretch of training.

    train: which towers learn; the other is locked (locked-text tuning is `train: [image]`).
    images: "pixels", or "teacher": the teacher's embeddings stand in for the image tower (`train: [text]`).
    loss: "contrastive" (symmetric cross-entropy over the batch), "sigmoid" (pairwise), or "bank" (each image
    against every text of the training set, texts locked).
    sizes: (fraction of the phase, image side) steps. distill, soft, anchor: weights of the cosine to the
    teacher's image embedding, of the teacher's soft labels over the bank, and of the text teacher.
    """

    name: str
    train: tuple[Literal["image", "text"], ...]
    epochs: Count
    loss: Literal["contrastive", "sigmoid", "bank"] = "contrastive"
    images: Literal["pixels", "teacher"] = "pixels"
    batch: Count = 256
    learning_rate: Weight = 1e-3
    weight_decay: Weight = 0.05
    warmup: Fraction = 0.05
    sizes: tuple[tuple[Fraction, Count], ...] = ()
    crop: tuple[Fraction, Fraction] = (0.35, 1.0)
    pair: Weight = 1.0
    distill: Weight = 0.0
    soft: Weight = 0.0
    anchor: Weight = 0.0


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    towers: Towers
    data: Data
    phases: Annotated[tuple[Phase, ...], msgspec.Meta(min_length=1)]
    templates: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("a photo of a {}",)
    teachers: Teachers = Teachers()
    corpus: str = ""
    seed: int = 0
    ema: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.998
    max_scale: Annotated[float, msgspec.Meta(gt=0.0)] = 100.0
    threads: int = 0
    bfloat16: bool = False
    checkpoint_every_s: Annotated[float, msgspec.Meta(gt=0.0)] = 120.0
