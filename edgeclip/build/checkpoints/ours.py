"""Checkpoints of `edgeclip train`."""

from __future__ import annotations

from edgeclip.build.checkpoints.encoders import Encoders, TextSide
from edgeclip.build.checkpoints.place import Place
from edgeclip.errors import DataError
from edgeclip.train.checkpoint import load_checkpoint


def load(place: Place) -> Encoders:
    """Raises DataError for a file that is not one."""
    try:
        model, facts = load_checkpoint(place.path)
    except DataError as error:
        raise DataError(error.message, f"{error.hint}; to weights of open_clip add --architecture NAME") from error
    tower = facts.towers.text
    return Encoders(
        name=facts.name,
        image=model.image,
        text=TextSide(model.text, facts.tokenizer, tower.context_length, tower.pad_id),
        dim=facts.towers.dim,
        preprocess=facts.preprocess,
        scoring=facts.scoring,
        templates=place.facts.templates or facts.templates,
        origin=place.origin or "trained by edgeclip",
        licence=place.licence,
    )
