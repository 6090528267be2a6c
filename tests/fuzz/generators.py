"""Where inputs come from: each feeds `count` of them, from number `first` of a seed on. Same seed, same inputs."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from edgeclip.config import FIELDS
from edgeclip.runtime.watches import Watch
from fuzz.mutation import MAX_BYTES
from fuzz.targets import TARGETS, Manifest, Target

Feed = Callable[[bytes], None]
ROUND = 1000  # examples that hypothesis is asked for at once


def by_mutation(target: Target, name: str, run_seed: int, first: int, count: int, feed: Feed) -> None:
    for number in range(first, first + count):
        feed(target.mutated(random.Random(f"{run_seed}/{name}/{number}")))


def by_hypothesis(target: Target, name: str, run_seed: int, first: int, count: int, feed: Feed) -> None:
    """Documents of the right shape with the wrong things in them."""
    fed = 0
    while fed < count:

        @seed(f"{run_seed}/{name}/{first + fed}")
        @settings(
            max_examples=min(ROUND, count - fed),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(STRATEGIES[name](target))
        def one(data: bytes) -> None:
            nonlocal fed
            if fed < count:
                feed(data)
                fed += 1

        one()


def by_atheris(target: Target, name: str, run_seed: int, first: int, count: int, feed: Feed) -> None:
    """libFuzzer, led by the coverage of edgeclip's own code. Ends the process."""
    import atheris

    corpus = Path(tempfile.mkdtemp(dir=target.state.parent / "corpus"))
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)
    # Crashes, hangs and memory are watched for by the parent, for every generator alike.
    options = ["-timeout=0", "-rss_limit_mb=0", f"-max_len={MAX_BYTES}", "-verbosity=0", "-print_final_stats=0"]
    options += [f"-runs={count}", f"-seed={1 + hash_of(run_seed, name, first)}", f"-artifact_prefix={corpus}/"]
    atheris.Setup(["fuzz", *options, str(corpus)], feed)
    atheris.Fuzz()


def hash_of(run_seed: int, name: str, first: int) -> int:
    return random.Random(f"{run_seed}/{name}/{first}").randrange(1 << 31)


GENERATORS: dict[str, Callable[[Target, str, int, int, int, Feed], None]] = {
    "mutation": by_mutation,
    "hypothesis": by_hypothesis,
    "atheris": by_atheris,
}

# -- documents of the right shape --------------------------------------------------------------------------------------

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
assert STRATEGIES.keys() <= TARGETS.keys()
