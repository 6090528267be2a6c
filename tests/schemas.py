"""JSON schemas made of docstrings: Python 3.13 takes their indentation away, those before it leave it."""

from __future__ import annotations

import inspect
import json
from typing import Any


def _cleaned(node: dict[str, Any]) -> dict[str, Any]:
    description = node.get("description")
    return {**node, "description": inspect.cleandoc(description)} if isinstance(description, str) else node


def cleaned(text: str) -> Any:
    """A schema in JSON, its descriptions as inspect.cleandoc has them."""
    return json.loads(text, object_hook=_cleaned)
