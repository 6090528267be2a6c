"""YAML into typed structs, strictly: every error names the file, the line and the key, and suggests the nearest key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from edgeclip.errors import ConfigError, reason_of
from edgeclip.wording import plainly

T = TypeVar("T")
LineOf = Callable[..., int]
# What PyYAML's constructors raise for 2026-13-45, `!!float ""`, `!!bool maybe` and `!!timestamp soon`.
OF_CONSTRUCTORS = (ValueError, IndexError, KeyError, AttributeError, TypeError)


def load_yaml(path: str | Path, kind: type[T], check: Callable[[T, LineOf], None] | None = None) -> T:
    """Read `path` as `kind` (a msgspec.Struct). Raises ConfigError.

    check: called with what was read, and what tells the 1-based line of a path of keys and indices; raises ConfigError.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {reason_of(error)}", "check the path and that it is UTF-8 text"
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, *OF_CONSTRUCTORS, RecursionError) as error:  # the last: absurd nesting
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        hint = "indent with spaces: YAML takes no tabs" if r"'\t'" in problem else "mend the syntax on that line"
        raise ConfigError(f"{path}{where}: not YAML: {problem}", hint) from error
    _refuse_repeated_keys(path, node)
    try:
        read = msgspec.convert({} if value is None else value, kind)
    except msgspec.ValidationError as error:
        raise _located(path, node, kind, str(error)) from error
    if check is not None:
        check(read, lambda *place: _find(node, list(place)))
    return read


def lines_of(path: str | Path, places: Sequence[Sequence[str | int]]) -> list[int]:
    """The 1-based line of each place, a path of keys and indices, in a file that load_yaml() reads."""
    node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    return [_find(node, list(place)) for place in places]


def _refuse_repeated_keys(path: str | Path, root: Any) -> None:
    """YAML forbids them; PyYAML lets the last one win without a word. Raises ConfigError."""
    pending, seen = [(root, "")], set()
    while pending:
        node, parents = pending.pop()
        if id(node) in seen:  # an alias leads to its anchor's node again, and may lead into itself
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += [(child, f"{parents}{index}.") for index, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, child in node.value:
            pending.append((child, f"{parents}{key.value}."))
            line = key.start_mark.line + 1
            name = (key.tag, str(key.value))
            if name in lines:
                raise ConfigError(
                    f"{path}:{line}: `{parents}{key.value}` is given a second time, after line {lines[name]}",
                    "keep one of the two",
                )
            lines[name] = line


def _located(path: str | Path, node: Any, kind: Any, problem: str) -> ConfigError:
    """Turn msgspec's `... - at `$.a[0].b`` into file, line and key."""
    message, _, where = problem.partition(" - at ")
    steps: list[str | int] = [
        int(index) if index else name for name, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", where)
    ]
    unknown = re.search(r"unknown field `([^`]+)`", message)
    missing = re.search(r"missing required field `([^`]+)`", message)
    if unknown:
        steps.append(unknown.group(1))
    line, key = _find(node, steps), ".".join(str(step) for step in steps) or "the document"
    if unknown:
        hint = "remove it"
        near = difflib.get_close_matches(unknown.group(1), sorted(_field_names(kind)), 1)
        if near:
            hint = f"did you mean `{near[0]}`?"
        return ConfigError(f"{path}:{line}: unknown key `{key}`", hint)
    if missing:
        name = missing.group(1)
        return ConfigError(f"{path}:{line}: `{name}` is missing" + (f" in `{key}`" if steps else ""), f"add `{name}:`")
    return ConfigError(f"{path}:{line}: `{key}`: {plainly(message)}", "mend the value on that line")


def _find(node: Any, steps: list[str | int]) -> int:
    """1-based line of the deepest step that exists."""
    line = 1
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, child) for key, child in node.value}
            if step not in pairs:
                break
            key, node = pairs[str(step)]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _field_names(kind: Any) -> set[str]:
    """Every field name reachable from a struct type."""
    names: set[str] = set()
    pending, seen = [kind], set()
    while pending:
        current = pending.pop()
        if isinstance(current, type) and issubclass(current, msgspec.Struct) and current not in seen:
            seen.add(current)
            for field in msgspec.structs.fields(current):
                names.add(field.encode_name)
                pending.append(field.type)
        else:
            pending.extend(getattr(current, "__args__", ()))
    return names
