"""What a training run is told, as YAML (engines/nano-train.yaml is the example). Strict: see edgeclip.yamlfile."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgeclip.train.towers import Towers, ViTTower

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
    teacher's image embedding, of the teacher's soft labels over the bank, and of the text teacher; answers: of what
    the image teacher itself calls the picture, among the names of teachers.bank; neighbours: of the cosine to where a
    phrase's neighbours among the class phrases and their synonyms pointed when the phase began.
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
    answers: Weight = 0.0
    anchor: Weight = 0.0
    neighbours: Weight = 0.0

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError(f"phase {self.name} trains nothing: set train to [image], [text] or [image, text]")
        if self.images == "teacher" and "image" in self.train:
            raise ValueError(f"phase {self.name} trains the image tower on no pixels: set images to pixels")
        if self.loss == "bank" and "text" in self.train:
            raise ValueError(f"phase {self.name} trains the text tower against a fixed bank: set train to [image]")
        if self.soft and "text" in self.train:
            raise ValueError(f"phase {self.name} takes soft labels over texts that it trains: set soft to 0")
        if self.answers and "text" in self.train:
            raise ValueError(f"phase {self.name} takes answers among texts that it trains: set answers to 0")
        image_learns = "image" in self.train and (self.distill or self.soft or self.answers)
        text_learns = "text" in self.train and (self.anchor or self.neighbours)
        if not (self.pair or image_learns or text_learns):
            raise ValueError(f"phase {self.name} has no loss: set pair, distill, soft, answers, anchor or neighbours")
        if self.neighbours and self.train != ("text",):
            raise ValueError(f"phase {self.name}: neighbours keep the words where pictures are: set train to [text]")

    @property
    def distils(self) -> bool:
        """Whether it needs the image teacher."""
        return bool(self.distill or self.soft) or self.images == "teacher"


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    towers: Towers
    data: Data
    phases: Annotated[tuple[Phase, ...], msgspec.Meta(min_length=1)]
    templates: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("a photo of a {}",)
    teachers: Teachers = Teachers()
    corpus: str = ""
    synonyms: str = ""
    seed: int = 0
    ema: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.998
    max_scale: Annotated[float, msgspec.Meta(gt=0.0)] = 100.0
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    bfloat16: bool = False
    checkpoint_every_s: Annotated[float, msgspec.Meta(gt=0.0)] = 120.0

    def __post_init__(self) -> None:
        for template in self.templates:
            if "{}" not in template:
                raise ValueError(f"template {template!r} has no place for the name: write {{}} in it")
        if self.teachers.text and not self.teachers.image:
            raise ValueError("teachers.text is mapped into the space of teachers.image, which is not set")
        for phase in self.phases:
            if phase.distils and not self.teachers.image:
                raise ValueError(f"phase {phase.name} distils, and teachers.image is not set")
            if phase.answers and not (self.teachers.image and self.teachers.bank):
                raise ValueError(f"phase {phase.name} has answers, and teachers.image or teachers.bank is not set")
            if phase.anchor and not self.teachers.text:
                raise ValueError(f"phase {phase.name} anchors, and teachers.text is not set")
            if phase.neighbours and not self.teachers.text:
                raise ValueError(f"phase {phase.name} looks for neighbours, and teachers.text is not set")
            if isinstance(self.towers.image, ViTTower) and any(side != self.towers.size for _, side in phase.sizes):
                raise ValueError(f"phase {phase.name}: a ViT is trained at its size of {self.towers.size} alone")
