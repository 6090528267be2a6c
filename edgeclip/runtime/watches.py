"""watches.yaml: what to watch for, each watch a sentence with its own negatives, region and timing.

    labels: [dog, cat, {delivery: [a person carrying a parcel, a van at the door]}]
    watches:
      - name: bottle on the table
        prompts: [a water bottle on a table, a plastic bottle]
        negatives: [an empty table]
        region: {box: [0.2, 0.3, 0.8, 1.0]}
        dwell_s: 1.0

The grammar, key by key, is in docs/watches.md; docs/watches.schema.json is made from these structs.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeclip.errors import ConfigError, DataError
from edgeclip.region import Region
from edgeclip.runtime.labels import folded, is_forbidden, refuse_reserved
from edgeclip.types import Label

ENTER = 0.8
LEAVE_BELOW = 1.0  # log-odds from the enter threshold down to the leave threshold, where a watch names none
MISSED = 0.05
MAX_REGIONS = 15

# No `pattern` beside lengths: msgspec 0.22 then crashes when the process ends.
Name = Annotated[str, Meta(min_length=1, max_length=120, description="shown to people, unique")]
Prompt = Annotated[str, Meta(min_length=1, max_length=512)]
Prompts = Annotated[list[Prompt], Meta(max_length=64)]
Probability = Annotated[float, Meta(gt=0.0, lt=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One sentence to wait for.

    prompts: what it stands for, averaged; none: the name in the bundle's templates.
    negatives: what it must not be taken for; a frame that resembles one of them more is none.
    region: the part of the frame it is looked for in; none: all of it. source: pattern of source names; none: all.
    smoothing_s: half-life of what was seen before. enter, leave: probabilities at which it begins and ends; none: what
    `edgeclip tune` found, else 0.8, and one unit of log-odds below `enter`.
    dwell_s: it begins when, for so long, `agree` of the frames reached `enter`. cooldown_s: rest after an end.
    """

    name: Name
    prompts: Prompt | Prompts = []
    negatives: Prompt | Prompts = []
    region: Region | None = None
    source: Prompt | None = None
    smoothing_s: Seconds = 0.5
    enter: Probability | None = None
    leave: Probability | None = None
    dwell_s: Seconds = 0.0
    agree: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    cooldown_s: Seconds = 0.0

    def __post_init__(self) -> None:
        for key, some in (("prompts", self.positive), ("negatives", self.negative)):
            if len({text.casefold() for text in some}) != len(some):
                raise ValueError(f"the {key} of {self.name!r} hold the same text twice")
        both = {text.casefold() for text in self.positive} & {text.casefold() for text in self.negative}
        if both:
            raise ValueError(f"{self.name!r} has {min(both)!r} among its prompts and its negatives")
        if self.leave is not None and self.enter is None:
            raise ValueError(f"{self.name!r} has `leave` without `enter`")
        if self.enter is not None and self.leave is not None and self.leave >= self.enter:
            raise ValueError(f"{self.name!r}: `leave` must be below `enter`")

    @property
    def positive(self) -> tuple[str, ...]:
        return (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)

    @property
    def negative(self) -> tuple[str, ...]:
        return (self.negatives,) if isinstance(self.negatives, str) else tuple(self.negatives)

    def sees(self, source: str) -> bool:
        return self.source is None or fnmatchcase(source, self.source)


class WatchFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A watches.yaml.

    labels: exclude each other, as in a labels file: names, or one name with its prompts.
    unknown: the share of frames that do show a label and may be called unknown; false: a label is always named.
    background: what is also seen here and means nothing, besides the built-in everyday scenes.
    """

    watches: Annotated[list[Watch], Meta(max_length=1000)] = []
    labels: Annotated[list[Name | dict[Name, Prompt | Prompts]], Meta(max_length=10_000)] = []
    unknown: bool | Annotated[float, Meta(gt=0.0, lt=1.0)] = MISSED
    background: Prompts = []

    def __post_init__(self) -> None:
        if not self.watches and not self.labels:
            raise ValueError("neither `watches` nor `labels` say what to look for")
        if len({watch.region for watch in self.watches} - {None}) > MAX_REGIONS:
            raise ValueError(f"more than {MAX_REGIONS} different regions: each is one more inference for every frame")
        for label in self.labels:
            if isinstance(label, dict) and len(label) != 1:
                raise ValueError("a label with prompts is one `name: [prompt, prompt]`")
        said = [text for label in self.exclusive for text in (label.name, *label.prompts)]
        said += [text for watch in self.watches for text in (watch.name, *watch.positive, *watch.negative)]
        for text in [*said, *self.background]:
            if not text.strip():
                raise ValueError("a name or prompt is blank")
            if any(is_forbidden(character) for character in text):
                raise ValueError(f"{text!r} holds a control character")

    @property
    def exclusive(self) -> tuple[Label, ...]:
        """The labels that exclude each other."""
        return tuple(_label(label) for label in self.labels)

    @property
    def missed(self) -> float | None:
        """The rate that `unknown` states; None where it is off."""
        if isinstance(self.unknown, bool):
            return MISSED if self.unknown else None
        return self.unknown

    def digest(self, watch: Watch) -> str:
        """Of all that decides how often it begins, thresholds and name apart: what tuned thresholds are bound to."""
        facts = [
            list(watch.positive or (watch.name,)),
            list(watch.negative),
            msgspec.to_builtins(watch.region),
            [watch.smoothing_s, watch.dwell_s, watch.agree, watch.cooldown_s],
            sorted(self.background),
        ]
        return "sha256:" + hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def load_watches(path: str | os.PathLike[str]) -> WatchFile:
    """Raises DataError naming file, line and key."""
    from edgeclip.yamlfile import load_yaml

    if os.fspath(path).lower().endswith(".txt"):
        raise DataError(f"{path} is no YAML, which watches are written in", f"if it holds labels: --labels {path}")

    try:
        return load_yaml(os.fspath(path), WatchFile, functools.partial(_check_names, os.fspath(path)))
    except ConfigError as error:
        raise DataError(error.message, error.hint) from error


def watches_schema() -> dict[str, Any]:
    """JSON Schema of a watches.yaml, for editors."""
    schema: dict[str, Any] = msgspec.json.schema(WatchFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgeclip watches.yaml",
        **schema,
    }


def usual_leave(enter: float) -> float:
    """The leave threshold of a watch that names none."""
    return 1.0 / (1.0 + (1.0 - enter) / enter * math.exp(LEAVE_BELOW))


def _label(given: str | dict[str, str | list[str]]) -> Label:
    if isinstance(given, str):
        return Label(given)
    name, prompts = next(iter(given.items()))
    return Label(name, (prompts,) if isinstance(prompts, str) else tuple(prompts))


def _check_names(path: str, file: WatchFile, line_of: Callable[..., int]) -> None:
    """Raises ConfigError for names that could not be told apart, or mean something else."""
    for index, label in enumerate(file.exclusive):
        refuse_reserved(label.name, f"{path}:{line_of('labels', index)}")
    _refuse_doubles(path, "labels", [label.name for label in file.exclusive], folded, line_of)
    names = [watch.name for watch in file.watches]
    _refuse_doubles(path, "watches", names, lambda name: folded(name).replace(" ", "_"), line_of)


def _refuse_doubles(
    path: str, key: str, names: list[str], same: Callable[[str], str], line_of: Callable[..., int]
) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        first = seen.setdefault(same(name), index)
        if first == index:
            continue
        line, before = line_of(key, index), line_of(key, first)
        if folded(name) == folded(names[first]):
            raise ConfigError(f"{path}:{line}: `{key}` name {name!r} twice: line {before} does", "give each its own")
        raise ConfigError(
            f"{path}:{line}: {name!r} and {names[first]!r} of line {before} would have one MQTT topic, {same(name)!r}",
            "name one of them differently by more than a space and '_'",
        )
