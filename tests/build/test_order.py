"""What a step is known by: a change that may change its result makes it anew."""

from __future__ import annotations

import ast
from pathlib import Path

import edgeclip
from edgeclip.build.order import CODE

PACKAGE = Path(edgeclip.__file__).parent
# What reads the recipe and runs the steps: what they say enters the digests as values.
READERS = {"build/order.py", "build/recipe.py", "build/source.py", "build/steps.py", "build/checkpoints/hub.py"}
STEPS = ("export", "calibrate", "quantize", "verify", "compile")


def imported(path: Path) -> set[str]:
    """Files of edgeclip/build that a file names in its imports or, like the table of loaders, as "module:attr"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{item.name}" for item in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value.partition(":")[0])
    places = [name.replace(".", "/").removeprefix("edgeclip/") for name in names if name.startswith("edgeclip.build.")]
    return {file for place in places for file in (f"{place}.py", f"{place}/__init__.py") if (PACKAGE / file).is_file()}


def test_every_file_that_a_step_is_made_by_is_in_its_digest() -> None:
    known: set[str] = set(READERS)
    for step in STEPS:
        own = {f"build/{step}.py"}
        known |= {*own, *CODE[step]}
        reached: set[str] = set()
        todo = [*own, *(["build/exporter.py"] if step == "export" else [])]
        while todo:
            file = todo.pop()
            if file not in reached and file not in READERS and file != "build/compile.py":
                reached.add(file)
                todo += imported(PACKAGE / file)
        assert reached <= known, step
        assert all((PACKAGE / file).is_file() for file in CODE[step])
