"""The real programme under a service manager's socket."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rtsp_server import RtspServer
from service_manager import ServiceManager

from edgeclip.config import Config, load_config
from edgeclip.errors import CONFIGURATION, UNAVAILABLE, DataError, EdgeclipError
from edgeclip.runtime import lifecycle, room
from edgeclip.runtime.lifecycle import run_for_months
from edgeclip.runtime.pace import Summary, Tally
from edgeclip.runtime.signals import ReloadSignal, StopSignals
from edgeclip.store import CURRENT, Store

HUNG = (
    "error: stopped after 1 s with a sink still not done\n  fix: look at what it writes to, or raise drain_timeout_s\n"
)


class Service:
    """`edgeclip run --config FILE`, and what it told its manager."""

    def __init__(self, manager: ServiceManager, config: Path, process: subprocess.Popen[str]) -> None:
        self.manager, self.config, self.process = manager, config, process

    def stop(self, limit_s: float = 20.0) -> tuple[int, str]:
        """Exit code and standard error."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=limit_s)[1]
        return self.process.returncode, said


@pytest.fixture
def config(tmp_path: Path, tiny_path: Path) -> Path:
    path = tmp_path / "edgeclip.yaml"
    path.write_text(f"source: demo\nlabel: [dog, cat]\nbundle: {tiny_path}\nsink: 'lines:'\n")
    return path


@contextmanager
def running(config: Path, folder: Path, **environment: str) -> Iterator[Service]:
    with ServiceManager(folder) as manager:
        own = {name: value for name, value in os.environ.items() if not name.startswith("EDGECLIP_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeclip", "run", "--config", str(config)],
            env={**own, "EDGECLIP_CACHE": str(folder), "NOTIFY_SOCKET": manager.path, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Service(manager, config, process)
        finally:
            process.kill()
            process.communicate()


def test_ready_with_the_first_decision_then_status_and_watchdog_then_stopping(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path, WATCHDOG_USEC="2000000") as service:
        manager = service.manager
        assert manager.wait_for("STATUS=") == "STATUS=tiny: waiting for the first decision"
        manager.wait_for("READY=1")
        assert manager.wait_for("STATUS=tiny: demo").endswith(" ms")
        manager.wait_for("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert service.process.wait(20) == 0


def test_a_good_configuration_is_swapped_in_a_bad_one_refused(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path) as service:
        manager, good = service.manager, config.read_text()
        manager.wait_for("READY=1")
        config.write_text(good + "top: lots\n")
        service.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        config.write_text(good.replace("dog, cat", "red cup, cat, tree") + "top: 2\n")
        service.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=tiny: demo")
        said = service.stop()[1]
    assert f"reload refused, the configuration in force stays: {config}:5: `top`" in said
    assert "configuration reloaded" in said
    assert service.process.returncode == 0


def test_a_reload_that_leaves_the_camera_as_it_is_does_not_open_it_again(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "decisions.jsonl"
    text = config.read_text().replace("sink: 'lines:'", f"sink: ['lines:', 'decisions:{out}']")
    config.write_text(text)
    with running(config, tmp_path) as service:
        service.manager.wait_for("READY=1")
        config.write_text(text.replace("dog, cat", "tree, car"))
        service.process.send_signal(signal.SIGHUP)
        service.manager.wait_for("RELOADING=1")
        service.manager.wait_for("READY=1")
        assert service.stop()[0] == 0
    decisions = [json.loads(line) for line in out.read_text().splitlines()]
    frames = [decision["frame"] for decision in decisions]
    assert "dog" in decisions[0]["scores"]
    assert "tree" in decisions[-1]["scores"]
    assert frames == sorted(frames)  # the demo camera begins with 0 whenever it is opened


def test_a_reload_gives_what_is_closed_its_time_and_not_more(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path, WATCHDOG_USEC="5000000") as service:
        service.manager.wait_for("READY=1")
        service.process.send_signal(signal.SIGHUP)
        service.manager.wait_for("RELOADING=1")
        assert service.manager.wait_for("WATCHDOG_USEC=") == "WATCHDOG_USEC=90000000"
        assert service.manager.wait_for("WATCHDOG_USEC=") == "WATCHDOG_USEC=5000000"
        service.manager.wait_for("READY=1")
        assert service.stop()[0] == 0


@contextmanager
def reader_of(pipe: Path) -> Iterator[int]:
    """Once somebody reads the pipe: its other end, to write what they wait for. Another pipe is in its place then, so
    that this reader is not taken for the next one."""
    end_s = time.monotonic() + 30
    writer = -1
    while writer < 0:
        assert time.monotonic() < end_s, "nobody reads it"
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody there yet
            time.sleep(0.005)
    os.mkfifo(pipe.with_suffix(".next"))
    os.replace(pipe.with_suffix(".next"), pipe)
    try:
        yield writer
    finally:
        os.close(writer)


def feed(pipe: Path, text: str) -> None:
    with reader_of(pipe) as writer:
        os.write(writer, text.encode())


@pytest.fixture
def piped(config: Path, tmp_path: Path) -> tuple[Path, bytes]:
    """A configuration that comes through a pipe, which holds up the start before anything large is imported."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    return pipe, config.read_bytes()


def test_a_hang_up_while_it_starts_is_carried_out_once_it_has(piped: tuple[Path, bytes], tmp_path: Path) -> None:
    pipe, text = piped
    with running(pipe, tmp_path) as service:
        with reader_of(pipe) as writer:
            service.process.send_signal(signal.SIGHUP)
            os.write(writer, text)  # the signal comes before it
        feed(pipe, text.decode())
        service.manager.wait_for("READY=1")
        service.manager.wait_for("RELOADING=1")
        feed(pipe, text.decode().replace("dog, cat", "tree, car"))
        service.manager.wait_for("READY=1")
        code, said = service.stop()
    assert (code, "configuration reloaded" in said) == (0, True)


def test_a_stop_while_it_starts_ends_it_before_it_has(piped: tuple[Path, bytes], tmp_path: Path) -> None:
    pipe, text = piped
    with running(pipe, tmp_path) as service:
        with reader_of(pipe) as writer:
            service.process.send_signal(signal.SIGTERM)
            os.write(writer, text)  # the signal comes before it
        feed(pipe, text.decode())
        said = service.process.communicate(timeout=30)[1]
        assert service.process.returncode == 0
        assert said.startswith("edgeclip: no frame came")
        assert not any(line.startswith("STATUS=tiny") for line in service.manager.drain())


def test_what_is_accepted_and_does_not_come_up_gives_way_to_the_one_before(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path) as service:
        service.manager.wait_for("READY=1")
        good = config.read_text()
        config.write_text(good.replace("lines:", f"jsonl:{tmp_path}/no/such/place/x.jsonl"))
        (tmp_path / "no").touch()
        service.process.send_signal(signal.SIGHUP)
        service.manager.wait_for("RELOADING=1")
        service.manager.wait_for("READY=1")
        said = service.stop()[1]
    assert "the new configuration does not come up, back to the one before" in said
    assert "reload refused" not in said
    assert service.process.returncode == 0


def test_a_camera_away_at_the_start_is_degraded_and_its_return_is_seen(
    config: Path, tmp_path: Path, rtsp: RtspServer
) -> None:
    rtsp.stop()
    text = config.read_text().replace("demo", rtsp.url)
    config.write_text(f"{text}wait: true\nready_timeout_s: 1\n")
    with running(config, tmp_path) as service:
        service.manager.wait_for("READY=1")
        assert rtsp.url.split("/")[2] in service.manager.wait_for("STATUS=degraded: tiny:")
        rtsp.start()
        assert "fps, age" in service.manager.wait_for("STATUS=tiny: rtsp")
        assert service.stop()[0] == 0


SLOW_ENGINE = """
import pathlib, time
from edgeclip.runtime.backends import tflite
def slowly(engine, *arguments, **options):
    pathlib.Path({marker!r}).touch()
    time.sleep(60)
tflite.TFLiteEngine.__init__ = slowly
"""


def test_a_stop_while_an_engine_takes_long_to_load_is_no_failure(config: Path, tmp_path: Path) -> None:
    marker = tmp_path / "loading"
    (tmp_path / "sitecustomize.py").write_text(SLOW_ENGINE.format(marker=str(marker)))
    config.write_text(f"{config.read_text()}drain_timeout_s: 1\n")
    with running(config, tmp_path, PYTHONPATH=before_path(tmp_path)) as service:
        end_s = time.monotonic() + 30
        while not marker.exists():
            assert time.monotonic() < end_s
            time.sleep(0.02)
        code, said = service.stop(30)
    assert code == 0, said
    assert said.startswith("edgeclip: no frame came")


def before_path(folder: Path) -> str:
    """PYTHONPATH with a folder whose sitecustomize.py is to be run."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_the_status_says_that_the_new_configuration_did_not_come_up(config: Path, tmp_path: Path) -> None:
    with running(config, tmp_path) as service:
        service.manager.wait_for("READY=1")
        config.write_text(config.read_text().replace("demo", "[demo, /dev/video987]"))
        service.process.send_signal(signal.SIGHUP)
        service.manager.wait_for("RELOADING=1")
        service.manager.wait_for("READY=1")
        status = service.manager.wait_for("STATUS=tiny: demo")
        code, said = service.stop()
    assert "reload refused: " in status
    assert "/dev/video987" in status
    assert (code, "does not come up, back to the one before" in said) == (0, True)


HANGING_DRIVER = """
import time
from edgeclip.runtime import feeds
from edgeclip.runtime.sources import network
feeds.STALL_S, feeds.STUCK_S = 0.3, 1.0
network.NetworkStream.open = lambda self: None
network.NetworkStream.read = lambda self: time.sleep(3600)
"""


def test_a_service_whose_only_camera_is_stuck_in_its_driver_is_started_again(config: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING_DRIVER)
    text = config.read_text().replace("demo", "rtsp://127.0.0.1:1/x")
    config.write_text(f"{text}wait: true\nready_timeout_s: 1\nread_timeout_s: 0.1\n")
    with running(config, tmp_path, PYTHONPATH=before_path(tmp_path)) as service:
        service.manager.wait_for("READY=1")
        said = service.process.communicate(timeout=60)[1]
        assert service.process.returncode == UNAVAILABLE
        assert "error: rtsp://127.0.0.1:1/x: 4 reads hang in the driver, and no source gives frames" in said


def test_a_failure_is_the_last_thing_the_manager_is_told(config: Path, tmp_path: Path) -> None:
    config.write_text("source: demo\nlables: x\n")
    with running(config, tmp_path) as service:
        told = service.manager.wait_for("STATUS=failed:")
        assert "unknown key `lables` (did you mean `labels`?)" in told
        assert service.process.wait(20) == CONFIGURATION


def test_a_sink_that_hangs_ends_with_the_deadline(config: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # opens, and never reads
    try:
        config.write_text(f"{config.read_text()}drain_timeout_s: 1\n".replace("lines:", f"jsonl:{pipe}"))
        with running(config, tmp_path) as service:
            service.manager.wait_for("READY=1")
            fill(pipe)
            assert service.stop(30) == (UNAVAILABLE, HUNG)
    finally:
        os.close(reader)


def fill(pipe: Path) -> None:
    """The next write to it waits for ever."""
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, b"\n" * 512)
    except BlockingIOError:
        return
    finally:
        os.close(writer)


def test_reloads_do_not_pile_up_what_the_runs_before_held(config: Path, tmp_path: Path) -> None:
    """With nano, whose engine is large enough to be seen."""
    config.write_text("source: demo\nlabel: [dog, cat]\nsink: 'lines:'\nfps: 5\n")

    def resident_mb() -> float:
        pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    with running(config, tmp_path) as service:
        service.manager.wait_for("READY=1")
        sizes = []
        for _ in range(8):
            service.process.send_signal(signal.SIGHUP)
            service.manager.wait_for("RELOADING=1")
            service.manager.wait_for("READY=1")
            sizes.append(resident_mb())
        assert service.stop()[0] == 0
    assert min(sizes[-3:]) - min(sizes[1:4]) < 30, sizes


def test_a_bundle_on_probation_is_not_blamed_for_a_bad_label_file(tiny_path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "bundles")
    with store.locked():
        for name in ("old-1", "new-2"):
            shutil.copytree(tiny_path, store.path / name)
            store.put_in_force(name)
            if name == "old-1":
                store.confirm(name)
    (tmp_path / "labels.txt").write_text("dog\ndog\n")
    config = Config(source=("demo",), bundle=str(store.path / CURRENT), labels=str(tmp_path / "labels.txt"))
    with pytest.raises(DataError, match=r"labels\.txt:2"):
        run_for_months(lambda: config, io.StringIO(), print, StopSignals(), ReloadSignal())
    trial = store.state().probation
    assert trial is not None
    assert (trial.bundle, trial.starts) == ("new-2", 0)


def test_a_disk_that_is_full_at_the_start_is_waited_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be a crash loop, which a manager gives up, and nobody is near."""
    loaded, said, tries = load_config({}, {}, str(config)), list[str](), list[Config]()
    monkeypatch.setattr(room, "RETRY_S", 0.3)

    def serve(config: Config, *arguments: object) -> Summary:
        tries.append(config)
        if len(tries) < 3:
            raise EdgeclipError("cannot open the outbox", "make room", UNAVAILABLE) from OSError(errno.ENOSPC, "full")
        return Tally().summary(())

    monkeypatch.setattr(lifecycle, "serve", serve)
    with ServiceManager(tmp_path) as manager, StopSignals() as stop, ReloadSignal() as hang_up:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
        run_for_months(lambda: loaded, io.StringIO(), said.append, stop, hang_up)
        told = manager.drain()
        assert told.index("READY=1") < told.index(
            "STATUS=degraded: cannot open the outbox (make room); tried again after 0.3 s"
        )
    assert len(tries) == 3
    assert said == ["waiting for room on the disk: cannot open the outbox (make room)"]
    tries.clear()
    monkeypatch.delenv("NOTIFY_SOCKET")
    with StopSignals() as stop, ReloadSignal() as hang_up, pytest.raises(EdgeclipError, match="outbox"):
        run_for_months(lambda: loaded, io.StringIO(), said.append, stop, hang_up)
