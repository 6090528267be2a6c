"""Where decisions go, by URI: a table of schemes, each resolved once. A new sink is a file and a line here."""

from __future__ import annotations

from edgeclip.errors import UsageError
from edgeclip.registry import resolve
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import Sink

# jsonl is decisions where there are no watches; with watches it takes events instead (edgeclip.events).
# scheme -> callable(target, setting) -> Sink; target is what follows "scheme:"
SINKS = {
    "decisions": "edgeclip.runtime.sinks.jsonl:to_file",
    "jsonl": "edgeclip.runtime.sinks.jsonl:to_file",
    "lines": "edgeclip.runtime.sinks.lines:Lines",
    "snapshot": "edgeclip.runtime.sinks.snapshot:Snapshot",
    "stdout": "edgeclip.runtime.sinks.jsonl:to_stdout",
    "table": "edgeclip.runtime.sinks.table:Table",
    "video": "edgeclip.runtime.sinks.video:Video",
}
NEEDS_PATH = frozenset({"decisions", "jsonl", "snapshot", "video"})


def make_sink(uri: str, setting: Setting) -> Sink:
    """The sink for `uri`, not yet opened. Raises UsageError for a scheme that is not in the table."""
    scheme, colon, target = uri.partition(":")
    if not colon or scheme not in SINKS:
        known = ", ".join(f"{name}:PATH" if name in NEEDS_PATH else f"{name}:" for name in SINKS)
        raise UsageError(f"--sink {uri}: no such sink", f"sinks: {known}")
    if scheme in NEEDS_PATH and not target:
        raise UsageError(f"--sink {uri}: the path is missing", f"write {scheme}:PATH")
    sink: Sink = resolve(SINKS[scheme])(target, setting)
    return sink
