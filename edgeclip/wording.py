"""What msgspec says of a value that does not fit, in words for people who write YAML and not Python."""

from __future__ import annotations

import re

KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys with values",
    "null": "nothing",
}
BOUNDS = {">": "more than", ">=": "at least", "<": "less than", "<=": "at most"}

_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?(?: (of length )?([<>]=?) (-?[\d.e+]+))?")


def plainly(problem: str) -> str:
    """ "Expected `float | null`, got `str`" -> "expected a number, got text". What is not of that form stays."""
    found = _EXPECTED.fullmatch(problem)
    if found is None:
        return problem[:1].lower() + problem[1:]
    kinds, got, length, bound, limit = found.groups()
    if bound:
        if length:
            return "it is empty" if (bound, limit) == (">=", "1") else f"its length must be {BOUNDS[bound]} {limit}"
        return f"must be {BOUNDS[bound]} {float(limit):g}"
    names = [KINDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null"]
    return f"expected {' or '.join(names) or KINDS['null']}" + (f", got {KINDS.get(got, got)}" if got else "")
