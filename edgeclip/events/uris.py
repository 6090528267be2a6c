"""Which of a run's sinks take every decision, and which take events."""

from __future__ import annotations

from collections.abc import Sequence

from edgeclip.errors import UsageError
from edgeclip.events.deliveries import DELIVERIES
from edgeclip.runtime.sinks import NEEDS_PATH, SINKS
from edgeclip.runtime.sources.address import redacted

SHAPES = {
    "command": "command:PROGRAM ARGUMENTS",
    "http": "http://HOST/PATH",
    "https": "https://HOST/PATH",
    "mqtt": "mqtt://HOST/TOPIC",
    "mqtts": "mqtts://HOST/TOPIC",
    "webhook+http": "webhook+http://HOST/PATH",
    "webhook+https": "webhook+https://HOST/PATH",
}


def split_sinks(uris: Sequence[str], watching: bool) -> tuple[list[str], list[str]]:
    """(sinks of decisions, sinks of events). `jsonl:` takes events where there are watches, else decisions.

    Raises UsageError for an unknown scheme, and for a sink of events without watches.
    """
    decisions, events = [], []
    for uri in uris:
        scheme, colon, _ = uri.partition(":")
        if not colon or (scheme not in SINKS and scheme not in DELIVERIES):
            known = [f"{name}:PATH" if name in NEEDS_PATH else f"{name}:" for name in SINKS]
            raise UsageError(f"--sink {redacted(uri)}: no such sink", f"sinks: {', '.join([*known, *SHAPES.values()])}")
        if scheme in DELIVERIES and (watching or scheme not in SINKS):
            events.append(uri)
        else:
            decisions.append(uri)
    if events and not watching:
        scheme = events[0].partition(":")[0]
        raise UsageError(f"--sink {scheme}:... sends events, and there are no watches", "add --watch watches.yaml")
    return decisions, events
