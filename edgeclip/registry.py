"""Turns a table's "module:attribute" string into the thing it names, when it is needed and not before."""

from __future__ import annotations

import importlib
from typing import Any

from edgeclip.errors import EdgeclipError, EngineError


def resolve(target: str, *, extra: str = "", what: str = "", error: type[EdgeclipError] = EngineError) -> Any:
    """Import "package.module:attribute" and return the attribute.

    A dependency that is not installed raises `error`, naming `what` needs it and the pip `extra` that
    brings it. A mistake in our own table or modules (ImportError from edgeclip, AttributeError) is a bug
    and propagates as it is.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as missing:
        if not missing.name or missing.name.partition(".")[0] == "edgeclip":
            raise
        package = f"edgeclip[{extra}]" if extra else "edgeclip"
        raise error(f"{what or target} cannot be used here: {missing}", f"pip install '{package}'") from missing
    return getattr(module, attribute)
