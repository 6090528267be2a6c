from __future__ import annotations

import json
import re
import socket
import struct
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from events.made import change, decision, frame, until

from edgeclip.bundle import Bundle
from edgeclip.errors import ConfigError, UsageError
from edgeclip.events.log import EventLog, Options
from edgeclip.metrics.histogram import Histogram, cumulative
from edgeclip.metrics.meter import Meter
from edgeclip.metrics.server import MetricsServer
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.board import Board
from edgeclip.runtime.preprocess import Scratch
from edgeclip.runtime.sources.demo import Demo
from edgeclip.runtime.supervisor import Supervisor

STAGES = ("preprocess", "engine", "decision", "sinks")
ROOT = Path(__file__).parent.parent.parent


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def board(folder: Path) -> Board:
    zone = folder / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51500\n")
    return Board(folder)


def test_a_run_from_its_start_to_its_figures(tiny: Bundle, tmp_path: Path) -> None:
    meter = Meter()
    (tmp_path / "state").mkdir()
    with MetricsServer("127.0.0.1:0", meter, board(tmp_path / "sys")) as server:
        assert get(server, "/healthz") == (200, "ok\n")
        assert get(server, "/readyz") == (503, "the engine has not passed its self-test yet\n")
        engine = load_engine(tiny, "image", threads=1)
        log = EventLog([f"jsonl:{tmp_path / 'x'}"], tiny, tmp_path / "state", Options(), print)
        log.open()
        feed = Supervisor(Demo)
        meter.begin(tiny, engine, [feed], [log])
        assert get(server, "/readyz") == (503, "no decision yet\n")

        timed, fresh = meter.engine(engine), meter.deciding(lambda: None)
        preprocess = meter.preprocessing(lambda _: lambda pixels: np.zeros((1, 32, 32, 3), np.uint8))(Scratch())
        (sink,) = meter.around([log])
        for index in range(3):
            one = frame(index)
            timed.run(preprocess(one.pixels))
            fresh()
            changes = (change(True, one),) if index == 1 else ()
            sink.write(decision(one, *changes, on=index > 0), one)
        until(lambda: log.couriers[0].delivered == 1)
        assert get(server, "/readyz") == (200, "ok\n")
        status, text = get(server, "/metrics")
        log.close()
        engine.close()
    assert status == 200
    for line in (
        'edgeclip_frames_total{source="demo"} 6.0',
        'edgeclip_decisions_total{source="demo"} 3.0',
        'edgeclip_frames_dropped_total{source="demo"} 3.0',
        'edgeclip_frame_age_seconds_bucket{le="0.05"} 3.0',
        "edgeclip_frame_age_seconds_count 3.0",
        *(
            f'edgeclip_stage_seconds_count{{stage="{name}"}} 3.0'
            for name in ("preprocess", "engine", "decision", "sinks")
        ),
        'edgeclip_watch_on{source="demo",watch="door open"} 1.0',
        'edgeclip_source_streaming{source="demo"} 0.0',
        "edgeclip_events_total 1.0",
        "edgeclip_messages_acknowledged_total 1.0",
        f'edgeclip_messages_delivered_total{{sink="jsonl:{tmp_path / "x"}"}} 1.0',
        f'edgeclip_outbox_messages{{sink="jsonl:{tmp_path / "x"}",state="pending"}} 0.0',
        'edgeclip_temperature_celsius{zone="cpu-thermal"} 51.5',
    ):
        assert line in text.splitlines()
    assert 'bundle="tiny"' in text
    assert_dashboard_is_of(text)


def assert_dashboard_is_of(text: str) -> None:
    """Every metric that the dashboard asks for is there, and every one that there is is documented."""
    there = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) | set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))
    dashboard = json.loads((ROOT / "deploy" / "grafana-edgeclip.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"(?:edgeclip|process)_\w+", target["expr"])
    }
    assert len(asked) > 15
    assert asked <= there
    documented = (ROOT / "docs" / "events.md").read_text()
    ours = set(re.findall(r"^# TYPE (edgeclip_\w+)", text, re.MULTILINE))
    assert not {name for name in ours if f"`{name}`" not in documented}


def test_a_loop_that_stands_still_is_ill_and_one_without_frames_is_not(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, feed = Meter(), Supervisor(Demo)
    engine = load_engine(tiny, "image", threads=1)
    meter.begin(tiny, engine, [feed], [])
    engine.close()
    feed.state = "streaming"
    meter.note(decision(frame()), 0.0, 0.0)
    assert meter.ill() == ""
    meter._decided_s = (meter._decided_s or 0.0) - 60.0
    assert "no decision for 60 s" in meter.ill()
    feed.state = "lost"
    assert meter.ill() == ""
    feed.state = "streaming"
    meter.last["demo"] = replace(meter.last["demo"], fps=0.05)  # a frame every 20 s
    assert meter.ill() == ""


def test_histograms_add_up() -> None:
    one, two = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        one.add(value)
    two.add(2.0)
    assert cumulative([one, two]) == ([("1.0", 2), ("2.0", 4), ("+Inf", 5)], 14.0)


@pytest.mark.parametrize("address", ["9464", "host:", "127.0.0.1:http", "127.0.0.1:99999"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="no HOST:PORT"):
        MetricsServer(address, Meter())


def test_an_address_that_is_taken() -> None:
    with MetricsServer("127.0.0.1:0", Meter()) as server, pytest.raises(ConfigError, match="cannot listen"):
        MetricsServer(f"127.0.0.1:{server.port}", Meter())


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_an_address_of_ipv6() -> None:
    with MetricsServer("[::1]:0", Meter()) as server, socket.create_connection(("::1", server.port), 10) as asking:
        asking.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert asking.makefile("rb").readline().startswith(b"HTTP/1.0 200")


def test_anything_else_is_not_found() -> None:
    with MetricsServer("127.0.0.1:0", Meter()) as server:
        assert get(server, "/")[0] == 404


def test_who_asks_and_does_not_wait_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with MetricsServer("127.0.0.1:0", Meter()) as server:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port)) as asking:
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                asking.sendall(b"GET /metrics HTTP/1.0\r\n")
        time.sleep(0.3)
        assert get(server, "/healthz") == (200, "ok\n")
    assert capfd.readouterr().err == ""
