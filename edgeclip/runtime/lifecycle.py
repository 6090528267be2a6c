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
from edgeclip.runtime.probation import watch_bundle
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
    config, before, waiting = load(), None, Waiting()
    stop.drain_timeout_s = config.drain_timeout_s
    if stop():
        return Tally().summary(())
    check_files(config)  # before a bundle on probation could be blamed for them
    heartbeat = Heartbeat(ready_timeout_s=config.ready_timeout_s)
    if config.recompile:
        sd_notify(f"EXTEND_TIMEOUT_USEC={COMPILING_USEC}")

    def refused(error: Exception) -> None:
        heartbeat.refused = told(error)
        notify(Notice(f"reload refused, the configuration in force stays: {told(error)}", ERROR))

    def accept() -> Config:
        fresh = load()
        rehearse(fresh, stdout, notify)
        return fresh

    reload, managed = Reload(accept, refused), is_managed()
    with Feeds(notify) as feeds:

        def over() -> bool:
            stop.starting = False
            if stop():
                sd_notify("STOPPING=1", "STATUS=stopping: what is left goes to the sinks")
                return True
            heartbeat.turn()
            if not heartbeat.ready:
                return False  # a reload would tell the manager that it is
            if managed and config.wait:
                feeds.check_help()
            if hang_up.take():
                reload.ask()
            return reload.look()

        stop.starting = True
        while True:
            stop.drain_timeout_s = config.drain_timeout_s
            gc.collect()  # what the run before left in cycles: few objects, and so long overlooked, but large ones
            trial = watch_bundle(config.bundle, config.probation_s, notify)
            try:
                summary = serve(config, stdout, notify, over, heartbeat, trial, feeds)
            except StoppedInStart:
                trial.ended()
                return Tally().summary(())
            except (EdgeclipError, OSError) as error:
                if trial.failed(error) and not stop():
                    heartbeat.start_again(config.ready_timeout_s)
                    continue
                if before is None or heartbeat.decided or stop():
                    if not managed or stop() or not lacks_room(error):
                        raise
                    waiting.wait(told(error), stop, notify)
                    if stop():
                        return Tally().summary(())
                    heartbeat.start_again(config.ready_timeout_s)
                    heartbeat.end()  # the watchdog gives the next try its time
                    continue
                notify(Notice(f"the new configuration does not come up, back to the one before: {told(error)}", ERROR))
                config, before = before, None
                heartbeat.start_again(config.ready_timeout_s)
                heartbeat.refused = told(error)
                continue
            trial.ended()
            fresh = reload.take()
            if fresh is None or stop():
                sd_notify(f"STATUS=stopped: {summary}")
                return summary
            config, before = fresh, config
            heartbeat.start_again(config.ready_timeout_s)
            notify(f"configuration reloaded ({summary} with the one before)")


def told(error: Exception) -> str:
    """In one line."""
    hint = error.hint if isinstance(error, EdgeclipError) else ""
    return f"{error} ({hint})" if hint else str(error) or type(error).__name__
