"""Where events go, by URI: a table of schemes, each resolved once. A new one is a file and a line here.

A sink's own options follow a `?`, as in a web address; what is secret is never among them, but in a file or in the
environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeclip.errors import UsageError
from edgeclip.events.delivery import Delivery
from edgeclip.registry import resolve

# scheme -> callable(uri, setting) -> Delivery
DELIVERIES = {
    "command": "edgeclip.events.deliveries.command:Command",
    "http": "edgeclip.events.deliveries.webhook:Webhook",
    "https": "edgeclip.events.deliveries.webhook:Webhook",
    "jsonl": "edgeclip.events.deliveries.jsonl:JsonlFile",
    "mqtt": "edgeclip.events.deliveries.mqtt:Mqtt",
    "mqtts": "edgeclip.events.deliveries.mqtt:Mqtt",
    "webhook+http": "edgeclip.events.deliveries.webhook:Webhook",
    "webhook+https": "edgeclip.events.deliveries.webhook:Webhook",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """device: a name for this machine. client: one for this outbox, the same at every start. watches: the names in
    force. holding: (watch, event) of the events that have no end yet. environment: where secrets may be."""

    device: str
    client: str
    watches: Callable[[], tuple[str, ...]]
    holding: Callable[[], list[tuple[str, str]]]
    environment: Callable[[str], str | None]


def make_delivery(uri: str, setting: Setting) -> Delivery:
    """The delivery for `uri`, not yet opened. Raises UsageError for what is wrong with it."""
    scheme = uri.partition(":")[0]
    if scheme not in DELIVERIES:
        raise UsageError(f"--sink {scheme}:...: no such sink of events", f"sinks of events: {', '.join(DELIVERIES)}")
    delivery: Delivery = resolve(DELIVERIES[scheme], extra="mqtt", what=f"a {scheme}: sink")(uri, setting)
    return delivery
