from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from edgeclip.wording import plainly


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("fast", float | None, "expected a number, got text"),
        (1, tuple[str, ...] | str, "expected text or a list, got a whole number"),
        ({}, list[int], "expected a list, got keys with values"),
        (None, bool, "expected true or false, got nothing"),
        (0, Annotated[float, msgspec.Meta(gt=0.0)], "must be more than 0"),
        (7.0, Annotated[float, msgspec.Meta(lt=1.0)], "must be less than 1"),
        (0, Annotated[int, msgspec.Meta(ge=1)], "must be at least 1"),
        (999, Annotated[int, msgspec.Meta(le=256)], "must be at most 256"),
        ("", Annotated[str, msgspec.Meta(min_length=1)], "it is empty"),
        ("abc", Annotated[str, msgspec.Meta(max_length=2)], "its length must be at most 2"),
    ],
)
def test_what_msgspec_says_is_said_without_its_types(value: object, kind: Any, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind)
    assert plainly(str(caught.value)) == said


def test_anything_else_is_left_as_it_is() -> None:
    assert plainly("Invalid enum value 'x'") == "invalid enum value 'x'"
