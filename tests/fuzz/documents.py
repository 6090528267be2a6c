"""Documents of the right shape with the wrong things in them, as hypothesis strategies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from edgeclip.config import FIELDS
from edgeclip.runtime.watches import Watch
from fuzz.targets import Manifest, Target

texts = st.text(max_size=40) | st.sampled_from(
    ["", " ", "demo", "a dog", "${credential:x}", "\u202e", "1:30", "=", "<<"]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 1e308, 1 << 64])
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda some: st.lists(some, max_size=4) | st.dictionaries(texts, some, max_size=3), max_leaves=8
)
fractions = st.lists(st.floats(-0.1, 1.1), min_size=2, max_size=5)
regions = st.fixed_dictionaries({}, optional={"box": fractions, "polygon": st.lists(fractions, max_size=5)}) | values


def _written(document: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON, which is YAML too."""
    return document.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def configs(_: Target) -> st.SearchStrategy[bytes]:
    keys = st.sampled_from(sorted(FIELDS)) | texts
    return _written(st.dictionaries(keys, st.lists(texts, max_size=3) | values, max_size=6) | values)


def watch_files(_: Target) -> st.SearchStrategy[bytes]:
    some = {
        "enter": st.floats(0, 1),
        "leave": st.floats(0, 1),
        "region": regions,
        "prompts": st.lists(texts, max_size=3),
    }
    keys = {name: some.get(name, scalars) | values for name in Watch.__struct_fields__ if name != "name"}
    watch = st.fixed_dictionaries({"name": texts}, optional=keys)
    optional = {
        "labels": st.lists(texts | values, max_size=4),
        "unknown": scalars,
        "background": st.lists(texts, max_size=3),
    }
    return _written(st.fixed_dictionaries({"watches": st.lists(watch, max_size=3)}, optional=optional) | values)


def label_files(_: Target) -> st.SearchStrategy[bytes]:
    lines = texts | st.tuples(texts, st.lists(texts, max_size=3).map(" | ".join)).map(": ".join)
    return st.lists(lines, max_size=8).map(lambda some: "\n".join(some).encode("utf-8", "surrogatepass"))


def manifests(target: Target) -> st.SearchStrategy[bytes]:
    """The good one, with up to three values in it replaced."""
    assert isinstance(target, Manifest)
    good = target.seeds[0]
    places = list(_places(json.loads(good)))

    def changed(edits: list[tuple[tuple[str | int, ...], Any]]) -> Any:
        facts = json.loads(good)
        for place, value in edits:
            node = facts
            try:
                for step in place[:-1]:
                    node = node[step]
                node[place[-1]] = value
            except (TypeError, KeyError, IndexError):  # an earlier edit took the place away
                pass
        return facts

    return _written(st.lists(st.tuples(st.sampled_from(places), values), min_size=1, max_size=3).map(changed))


def _places(node: Any, above: tuple[str | int, ...] = ()) -> Any:
    for step, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*above, step)
        yield from _places(child, (*above, step))


STRATEGIES: dict[str, Callable[[Target], st.SearchStrategy[bytes]]] = {
    "config": configs,
    "watches": watch_files,
    "labels": label_files,
    "manifest": manifests,
}
