"""Real servers, over RTSP and MJPEG, that stall, drop, lie and are away.

Upper time limits are several times what a quiet machine needs; `make faults` measures what is promised.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer
from supervised import seconds_until, watching

from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor


def test_rtsp_stall_drop_noise_and_absence(rtsp: RtspServer) -> None:
    events: list[str] = []
    supervisor = Supervisor(lambda: open_source(rtsp.url), on_event=events.append)
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) > 5)

        rtsp.stalled = True
        seconds_until(lambda: supervisor.state == "lost")
        rtsp.stalled = False
        seconds_until(lambda: supervisor.state == "streaming")

        rtsp.drop()
        seconds_until(lambda: supervisor.state == "lost")
        seconds_until(lambda: supervisor.state == "streaming")

        rtsp.noise = 0.3
        time.sleep(1)
        rtsp.noise = 0.0
        count = len(frames)
        seconds_until(lambda: supervisor.state == "streaming" and len(frames) > count + 10)

        rtsp.stop()
        seconds_until(lambda: supervisor.state == "lost")
        time.sleep(1)
        rtsp.start()
        seconds_until(lambda: supervisor.state == "streaming")
    assert supervisor.reconnects >= 3
    assert any("is back after" in event for event in events)
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


def test_a_flood_over_rtsp_is_a_loss_and_a_slow_camera_is_none(
    rtsp: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeclip.runtime.flood.SUSPICIOUS_FPS", 40.0)  # a busy machine may not decode 90
    supervisor = Supervisor(lambda: open_source(rtsp.url))
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) > 5)
        rtsp.fps = 1
        time.sleep(3)
        assert supervisor.last_error is None
        rtsp.fps = 25
        rtsp.frozen = True
        seconds_until(lambda: supervisor.state == "lost")
        assert "repeats one picture" in (supervisor.last_error or "")
        rtsp.frozen = False
        seconds_until(lambda: supervisor.state == "streaming")


def test_mjpeg_stall_and_return(mjpeg: MjpegServer) -> None:
    supervisor = Supervisor(lambda: open_source(mjpeg.url))
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) > 5)
        mjpeg.stalled = True
        seconds_until(lambda: supervisor.state == "lost")
        mjpeg.stalled = False
        seconds_until(lambda: supervisor.state == "streaming")


def test_a_process_ends_cleanly_while_a_read_hangs(rtsp: RtspServer) -> None:
    code = f"""
import signal
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
with Supervisor(lambda: open_source({rtsp.url!r}, read_timeout_s=20)) as supervisor:
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    for number, frame in enumerate(supervisor.frames()):
        if number == 5:
            print("running", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        rtsp.stalled = True
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
    assert time.monotonic() - start < 10
