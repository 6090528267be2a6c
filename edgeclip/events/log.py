"""Everything that events need, opened in order and closed in order: outbox, writer, pictures, a courier per sink.

frame loop -> Recorder -> Writer -> Outbox -> Courier -> Delivery
                      \\-> Media -> snapshots and clips
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeclip.bundle import Bundle, sha256
from edgeclip.errors import DISK, UNAVAILABLE, ConfigError, EdgeclipError, UsageError
from edgeclip.events.courier import Courier
from edgeclip.events.deliveries import Setting, make_delivery
from edgeclip.events.event import BundleRef, Event
from edgeclip.events.media import Limits, Media
from edgeclip.events.outbox import OUTBOX, Outbox
from edgeclip.events.recorder import NoPictures, Origin, Recorder, interrupted
from edgeclip.events.writer import Writer
from edgeclip.types import Decision, Frame

MEDIA = "media"
DRAIN_S = 5.0  # for deliveries when a run ends; what is left goes out at the next start


@dataclass(frozen=True, slots=True)
class Options:
    """give_up_s: after which a message that a sink has not taken is dead. outbox_mb: what the outbox may grow to.
    media: of snapshots and clips, None for none. step_ns: see Media."""

    give_up_s: float = 7 * 86_400.0
    outbox_mb: float = 256.0
    media: Limits | None = None
    step_ns: int | None = None


class EventLog:
    """A Sink: reads the changes of every decision. Use between open() and close().

    uris: sinks of events. state: the state directory; one run at a time may use it. Raises UsageError or ConfigError
    for a sink that cannot be.
    """

    def __init__(
        self, uris: Sequence[str], bundle: Bundle, state: Path, options: Options, notify: Callable[[str], None]
    ) -> None:
        device = platform.node() or "device"
        origin = Origin(device, bundle_ref(bundle), bundle.manifest.space)
        self._state, self._options, self._notify = state, options, notify
        self._lock = -1
        self._outbox: Outbox | None = None
        self.couriers: list[Courier] = []
        self.media = Media(state / MEDIA, options.media, options.step_ns, notify) if options.media is not None else None
        self.recorder = Recorder(self._put, origin, self.media or NoPictures())
        digest = hashlib.sha256(f"{device}\n{state.absolute()}".encode()).hexdigest()[:8]
        client = f"edgeclip-{re.sub(r'[^A-Za-z0-9_-]', '-', device)[:40]}-{digest}"
        setting = Setting(
            device, client, lambda: self.recorder.watches, self.recorder.holding, lambda name: os.environ.get(name)
        )
        self._deliveries = [make_delivery(uri, setting) for uri in uris]
        names = [delivery.name for delivery in self._deliveries]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"--sink {twice} is given twice", "name each sink once")
        self.writer: Writer | None = None

    @property
    def outbox(self) -> Outbox:
        if self._outbox is None:
            raise RuntimeError("the event log is not open")
        return self._outbox

    def open(self) -> None:
        """Events that an earlier run was cut off in end here. Raises ConfigError."""
        self._take_lock()
        try:
            self._begin()
        except BaseException:
            self._let_go()  # the next configuration, or the one before, is to have the outbox
            raise

    def _begin(self) -> None:
        options, names = self._options, [delivery.name for delivery in self._deliveries]
        self._outbox = Outbox(self._state / OUTBOX, max_bytes=round(options.outbox_mb * (1 << 20)), notify=self._notify)
        self.couriers = [Courier(delivery, self._outbox, self._notify) for delivery in self._deliveries]
        self.writer = Writer(self._outbox, names, self._wake, self._notify, give_up_s=options.give_up_s)
        for event in self._outbox.unended():
            self.writer.put(interrupted(event, time.time_ns()))
        self.writer.start()
        if self.media is not None:
            self.media.start()
        for courier in self.couriers:
            courier.start()

    def write(self, decision: Decision, frame: Frame) -> None:
        self.recorder.write(decision, frame)

    def close(self) -> None:
        """Everything on disk; and delivered, where all of it takes no more than DRAIN_S."""
        deadline_s = time.monotonic() + DRAIN_S
        if self.writer is not None:
            self.writer.stop(DRAIN_S)
        for courier in self.couriers:
            courier.stop()
        for courier in self.couriers:
            courier.join(deadline_s - time.monotonic())
        if self.media is not None and self.writer is not None:
            self.media.stop(max(deadline_s - time.monotonic(), 1.0))
        if self._outbox is not None:
            self._tell_rest(self._outbox)
        self._let_go()

    def _let_go(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _tell_rest(self, outbox: Outbox) -> None:
        with contextlib.suppress(sqlite3.Error):  # the writer has said what is wrong with the disk
            for (sink, state), count in outbox.depths().items():
                if state == "pending":
                    self._notify(f"{count} messages wait for {sink} until the next start")

    def _put(self, event: Event) -> None:
        assert self.writer is not None
        self.writer.put(event)

    def _wake(self) -> None:
        for courier in self.couriers:
            courier.wake()

    def _take_lock(self) -> None:
        path = self._state / f"{OUTBOX}.lock"
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._let_go()
            raise ConfigError(
                f"another run keeps its events in {self._state}", "stop it, or set EDGECLIP_STATE to another directory"
            ) from error
        except OSError as error:
            if error.errno in DISK:
                raise EdgeclipError(f"cannot write {path}: {error.strerror}", "make room", UNAVAILABLE) from error
            owner = f"sudo chown -R --reference={self._state} {self._state}"
            fix = f"where another user ran edgeclip on it: {owner}; else set EDGECLIP_STATE"
            raise ConfigError(f"cannot write {path}: {error.strerror}", fix) from error


def bundle_ref(bundle: Bundle) -> BundleRef:
    return BundleRef(bundle.manifest.name, f"sha256:{sha256(bundle.file('manifest.json'))}")
