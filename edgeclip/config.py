"""What `edgeclip run` is asked to do: flags > environment (EDGECLIP_*) > YAML file > defaults, in one frozen Config.

A key has one name everywhere: `max_frames` in YAML, EDGECLIP_MAX_FRAMES in the environment, --max-frames as a flag.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeclip.credentials import with_credentials
from edgeclip.errors import ConfigError, UsageError
from edgeclip.wording import plainly

PREFIX = "EDGECLIP_"
# Variables that other parts of edgeclip read, or give to programs they start, and that are therefore no mistake.
ELSEWHERE = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("CONFIG", "CACHE", "STATE", "HUB", "PLAN_HOST_CODE", "MQTT_PASSWORD", "WEBHOOK_KEY"),
        *("EVENT_ID", "EVENT_TYPE"),
    )
)

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0.0, le=3600.0)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run. Paths are relative to the working directory.

    source: what to watch (camera:N, rtsp://, http://, file, folder, pattern, csi://N, demo); several side by side.
    labels, label: a label file, or labels themselves; neither: the built-in everyday list.
    watch: a watches file (docs/watches.md), beside labels or with its own.
    unknown: share of frames that do show a label and may be called unknown; 0: never say unknown; none: 0.05, or what
    the watches file says.
    bundle: directory or .tar; none: the nano bundle that comes with edgeclip.
    fps: frames per second to take from a source; none: all it gives.
    top: labels reported per decision; 0 is all of them.
    sink: where decisions go besides the terminal; json: JSON lines on standard output instead of a table or text.
    With watches, `jsonl:`, `mqtt:`, `https:` and `command:` sinks take events (docs/events.md). give_up_s: after so
    long without being taken, a message is put aside. outbox_mb: what the file of undelivered events may grow to.
    media_mb, media_days: bounds on the snapshots and clips of events; media_mb 0: none. clip_before_s, clip_after_s:
    around an event. metrics: HOST:PORT for Prometheus; off: none.
    record, snapshot: annotated video, annotated last frame.
    max_frames: stop after so many decisions. threads, backend: of the image engine; none: the engine's own choice.
    realtime: play files at their own rate. smoothing: half-life in seconds; none: 0.5 for video, 0 for single pictures.
    wait: keep trying when a live source is not there at the start, instead of exit code 69.
    recompile: a TensorRT plan that is not for this device is compiled again, in the bundle. gpu_preprocess: resize and
    crop on the GPU. taught: labels that were taught with pictures (`edgeclip teach`) are refined by them.
    ready_timeout_s: a service whose cameras are all away so long after its start is up, and degraded. drain_timeout_s:
    what is left for the sinks after SIGTERM has so long. max_temperature_c: fewer frames a second from nine degrees
    below on; none: the board's own lowest passive trip point.
    require_signature: `edgeclip bundle install` takes only what is signed by a key in the directory `keys`.
    probation_s: how long a newly installed bundle must be well before it is trusted.
    """

    source: tuple[Text, ...] = ()
    labels: Text | None = None
    label: tuple[Text, ...] = ()
    watch: Text | None = None
    unknown: Annotated[float, Meta(ge=0.0, lt=1.0)] | None = None
    bundle: Text | None = None
    fps: Annotated[float, Meta(gt=0.0, le=1000.0)] | None = None
    top: Annotated[int, Meta(ge=0)] = 5
    sink: tuple[Text, ...] = ()
    json: bool = False
    give_up_s: Annotated[float, Meta(gt=0.0)] = 604_800.0
    outbox_mb: Annotated[float, Meta(ge=1.0)] = 256.0
    media_mb: Annotated[float, Meta(ge=0.0)] = 512.0
    media_days: Annotated[float, Meta(gt=0.0)] = 30.0
    clip_before_s: Annotated[float, Meta(ge=0.0, le=30.0)] = 3.0
    clip_after_s: Annotated[float, Meta(ge=0.0, le=30.0)] = 2.0
    metrics: Text | None = None
    record: Text | None = None
    snapshot: Text | None = None
    max_frames: Annotated[int, Meta(ge=1)] | None = None
    threads: Annotated[int, Meta(ge=1, le=256)] | None = None
    backend: Text | None = None
    realtime: bool = False
    smoothing: Annotated[float, Meta(ge=0.0, le=3600.0)] | None = None
    wait: bool = False
    recompile: bool = False
    gpu_preprocess: bool = False
    taught: bool = True
    open_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 2.0
    ready_timeout_s: Seconds = 30.0
    drain_timeout_s: Seconds = 10.0
    max_temperature_c: Annotated[float, Meta(ge=20.0, le=150.0)] | None = None
    require_signature: bool = False
    keys: Text = "/etc/edgeclip/keys.d"
    probation_s: Annotated[float, Meta(gt=0.0, le=604800.0)] = 600.0


FIELDS = {field.name: field for field in msgspec.structs.fields(Config)}
LISTS = frozenset(name for name, field in FIELDS.items() if field.default == ())

# The same keys with none of the defaults, so that a file says only what it says. A list may be a single text.
File = msgspec.defstruct(
    "File",
    [
        (name, field.type | msgspec.UnsetType | (Text if name in LISTS else None), msgspec.UNSET)
        for name, field in FIELDS.items()
    ],
    forbid_unknown_fields=True,
)


def load_config(flags: Mapping[str, Any], environment: Mapping[str, str], path: str | None = None) -> Config:
    """Merge the layers. flags: only those the user gave.

    Raises ConfigError naming file, line and key, or the variable; UsageError for a flag. ${credential:NAME} in a value
    is the secret of that name.

    A source or a label set given in a higher layer replaces the lower one's, whole: `label` hides `labels`.
    """
    values: dict[str, Any] = {}
    for layer in (_read_file(path) if path else {}, _read_environment(environment), flags):
        if "label" in layer and "labels" in layer:
            raise ConfigError(
                "both labels and label are given", "name a label file, or the labels themselves, not both"
            )
        if "label" in layer or "labels" in layer:
            values.pop("label", None)
            values.pop("labels", None)
        values.update(layer)
    for key, value in flags.items():
        _check_flag(key, value)
    values = {key: with_credentials(key, value, environment) for key, value in values.items()}
    return msgspec.convert(values, Config)


def load_settings(
    names: Collection[str], flags: Mapping[str, Any], environment: Mapping[str, str], path: str | None
) -> Config:
    """As load_config, of the keys in `names` alone: for commands that need neither sources nor their credentials."""
    values: dict[str, Any] = {}
    for layer in (_read_file(path) if path else {}, _read_environment(environment), flags):
        values.update((key, value) for key, value in layer.items() if key in names)
    return msgspec.convert(values, Config)


def _check_flag(key: str, value: Any) -> None:
    try:
        msgspec.convert(value, FIELDS[key].type)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"--{key.replace('_', '-')}: {plainly(str(error).partition(' - at ')[0])}", "see `edgeclip run --help`"
        ) from error


def _read_file(path: str) -> dict[str, Any]:
    from edgeclip.yamlfile import load_yaml

    given = msgspec.structs.asdict(load_yaml(path, File))
    values = {key: value for key, value in given.items() if value is not msgspec.UNSET and value is not None}
    return {key: (value,) if key in LISTS and isinstance(value, str) else value for key, value in values.items()}


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable in ELSEWHERE:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if key not in FIELDS:
            raise ConfigError(f"environment: {variable}: no such setting", _suggest(key))
        if text:  # an empty variable is an unset one
            values[key] = _convert(key, variable, text)
    return values


def _convert(key: str, variable: str, text: str) -> Any:
    """The text as the field's type. It is not quoted back: a source may hold a password."""
    try:
        return msgspec.convert((text,) if key in LISTS else text, FIELDS[key].type, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"environment: {variable}: {plainly(str(error).partition(' - at ')[0])}", f"mend {variable}"
        ) from error


def _suggest(key: str) -> str:
    near = difflib.get_close_matches(key, FIELDS, n=1)
    if near:
        return f"did you mean {PREFIX}{near[0].upper()}?"
    return "settings: " + ", ".join(PREFIX + name.upper() for name in FIELDS)
