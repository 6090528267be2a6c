"""A run that goes on for months: tells the service manager how it is, takes a new configuration, drains and stops."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TextIO

from edgeclip.config import Config
from edgeclip.errors import EdgeclipError
from edgeclip.runtime.asked import check_files
from edgeclip.runtime.feeds import Feeds
from edgeclip.runtime.heartbeat import Heartbeat
from edgeclip.runtime.journal import ERROR, Notice
from edgeclip.runtime.notify import is_managed, sd_notify
from edgeclip.runtime.pace import Summary, Tally
from edgeclip.runtime.probation import Watch, watch_bundle
from edgeclip.runtime.reload import Reload
from edgeclip.runtime.room import Waiting, lacks_room
from edgeclip.runtime.service import rehearse, serve
from edgeclip.runtime.signals import ReloadSignal, StoppedInStart, StopSignals

COMPILING_USEC = 3600 * 1_000_000  # an hour for the start, where a plan may have to be compiled in it


def run_for_months(
    load: Callable[[], Config],
    stdout: TextIO,
    notify: Callable[[str], None],
    stop: StopSignals,
    hang_up: ReloadSignal,
) -> Summary:
    """serve() what load() reads, until a signal or the end. SIGHUP: reload, once it has started. Raises EdgeclipError.

    stop, hang_up: entered, by who was there before all this was imported.

    Cameras about which a reload changes nothing stay open through it. A bundle that fails on probation gives way to the
    one before; so does a configuration that was accepted and yet does not come up. Under a service manager room on a
    full disk is waited for.
    """
    config = load()
    stop.drain_timeout_s = config.drain_timeout_s
    if stop():
        return Tally().summary(())
    check_files(config)  # before a bundle on probation could be blamed for them
    if config.recompile:
        sd_notify(f"EXTEND_TIMEOUT_USEC={COMPILING_USEC}")
    with Feeds(notify) as feeds:
        return _Months(config, load, stdout, notify, stop, hang_up, feeds).run()


class _Months:
    """config, before: in force, and what it took the place of where that may still be gone back to."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        stdout: TextIO,
        notify: Callable[[str], None],
        stop: StopSignals,
        hang_up: ReloadSignal,
        feeds: Feeds,
    ) -> None:
        self._config = config
        self._before: Config | None = None
        self._load, self._stdout, self._notify, self._feeds = load, stdout, notify, feeds
        self._stop, self._hang_up = stop, hang_up
        self._heartbeat = Heartbeat(ready_timeout_s=config.ready_timeout_s)
        self._reload, self._managed, self._waiting = Reload(self._accept, self._refused), is_managed(), Waiting()

    def run(self) -> Summary:
        stop, heartbeat = self._stop, self._heartbeat
        stop.starting = True
        while True:
            config = self._config
            stop.drain_timeout_s = config.drain_timeout_s
            gc.collect()  # what the run before left in cycles: few objects, and so long overlooked, but large ones
            trial = watch_bundle(config.bundle, config.probation_s, self._notify)
            try:
                summary = serve(config, self._stdout, self._notify, self._over, heartbeat, trial, self._feeds)
            except StoppedInStart:
                trial.ended()
                return Tally().summary(())
            except (EdgeclipError, OSError) as error:
                if not self._may_try_again(error, trial):
                    raise
                if stop():
                    return Tally().summary(())
                continue
            trial.ended()
            fresh = self._reload.take()
            if fresh is None or stop():
                sd_notify(f"STATUS=stopped: {summary}")
                return summary
            self._config, self._before = fresh, config
            heartbeat.start_again(fresh.ready_timeout_s)
            self._notify(f"configuration reloaded ({summary} with the one before)")

    def _over(self) -> bool:
        """Asked by the frame loop again and again: whether this serve() is to end."""
        stop, heartbeat = self._stop, self._heartbeat
        stop.starting = False
        if stop():
            sd_notify("STOPPING=1", "STATUS=stopping: what is left goes to the sinks")
            return True
        heartbeat.turn()
        if not heartbeat.ready:
            return False  # a reload would tell the manager that it is
        if self._managed and self._config.wait:
            self._feeds.check_help()
        if self._hang_up.take():
            self._reload.ask()
        return self._reload.look()

    def _may_try_again(self, error: EdgeclipError | OSError, trial: Watch) -> bool:
        """With the bundle before, with the configuration before, or once there is room on the disk."""
        stop, heartbeat = self._stop, self._heartbeat
        if trial.failed(error) and not stop():
            heartbeat.start_again(self._config.ready_timeout_s)
        elif self._before is not None and not heartbeat.decided and not stop():
            what = f"the new configuration does not come up, back to the one before: {told(error)}"
            self._notify(Notice(what, ERROR))
            self._config, self._before = self._before, None
            heartbeat.start_again(self._config.ready_timeout_s)
            heartbeat.refused = told(error)
        elif self._managed and not stop() and lacks_room(error):
            self._waiting.wait(told(error), stop, self._notify)
            if not stop():
                heartbeat.start_again(self._config.ready_timeout_s)
                heartbeat.end()  # the watchdog gives the next try its time
        else:
            return False
        return True

    def _accept(self) -> Config:
        fresh = self._load()
        rehearse(fresh, self._stdout, self._notify)
        return fresh

    def _refused(self, error: Exception) -> None:
        self._heartbeat.refused = told(error)
        self._notify(Notice(f"reload refused, the configuration in force stays: {told(error)}", ERROR))


def told(error: Exception) -> str:
    """In one line."""
    hint = error.hint if isinstance(error, EdgeclipError) else ""
    return f"{error} ({hint})" if hint else str(error) or type(error).__name__
