"""What every part of a tokenizer.json is built on."""

from __future__ import annotations

from typing import Annotated

import msgspec

Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class Component(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file. An unknown field is an unknown behaviour, so it is refused."""
