"""The discovery message that makes a device with one binary sensor per watch appear in Home Assistant.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from edgeclip import __version__


def slug(name: str) -> str:
    """A name for topics and object ids: [a-z0-9_-], and a digest where the name holds anything else."""
    plain = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_")
    if plain == name.lower().replace(" ", "_") and plain:
        return plain
    return f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("_")


def discovery(client: str, device: str, prefix: str, watches: Sequence[str]) -> dict[str, Any]:
    """Payload for homeassistant/device/CLIENT/config."""
    components = {
        slug(watch): {
            "platform": "binary_sensor",
            "name": watch,
            "unique_id": f"{client}_{slug(watch)}",
            "state_topic": f"{prefix}/watch/{slug(watch)}/state",
            "json_attributes_topic": f"{prefix}/watch/{slug(watch)}/attributes",
        }
        for watch in watches
    }
    return {
        "device": {
            "identifiers": [client],
            "name": f"edgeclip {device}",
            "manufacturer": "edgeclip",
            "model": "CLIP on the edge",
            "sw_version": __version__,
        },
        "origin": {"name": "edgeclip", "sw_version": __version__},
        "availability_topic": f"{prefix}/availability",
        "qos": 1,
        "components": components,
    }
