"""Is an acknowledged event ever lost? Kills edgeclip with -9 at random moments, restarts the broker, and counts.

    python benchmarks/soak_events.py --cycles 200        (make soak CYCLES=200)

Each cycle starts the real `edgeclip run` on a film in which two watches begin and end about three times a second, with
an MQTT, a webhook and a JSON lines sink, and kills it. Every fifth cycle the broker is restarted under it; one webhook
request in twenty is answered 503, half of these after it was taken. While it runs, a reader of the outbox notes every
message that is committed: these are acknowledged. At the end edgeclip runs until nothing is pending, and every
acknowledged message must have reached every sink at least once, unchanged.

A kill -9 tests the program, not the disk: what the kernel holds survives it. That commits are fsynced is SQLite's
synchronous=FULL.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgeclip.runtime.sources.demo import photographs

FPS = 30
FLIP_FRAMES = 5
FILM_S = 30
START_LIMIT_S = 90.0
DRAIN_LIMIT_S = 120.0
WATCHES = """
watches:
  - {name: a cat, enter: 0.5, leave: 0.3, smoothing_s: 0}
  - {name: "the same, again", prompts: [a cat], enter: 0.6, leave: 0.3, smoothing_s: 0}
"""


class Received:
    """Messages that a sink has had: how often each, and whether always the same."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bodies: dict[str, bytes] = {}
        self.changed = 0
        self._lock = threading.Lock()

    def add(self, body: bytes) -> None:
        name = json.loads(body)["id"]
        with self._lock:
            self.counts[name] += 1
            self.changed += self.bodies.setdefault(name, body) != body


class Broker:
    """mosquitto on a free port of loopback, keeping its sessions over a restart; and a subscriber to the events."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\nuser {getpass.getuser()}\n"
            f"persistence_location {folder}/\nmax_queued_messages 0\nlog_dest none\n"
        )
        self.received = Received()
        self._process = self._started()
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, "soak", clean_session=False)
        client.on_connect = lambda client, *rest: client.subscribe("soak/events", 1)
        client.on_message = lambda client, user, message: self.received.add(message.payload)
        client.reconnect_delay_set(0.1, 0.5)
        client.connect("127.0.0.1", self.port)
        client.loop_start()

    def restart(self) -> None:
        self._end()
        self._process = self._started()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _started(self) -> subprocess.Popen[bytes]:
        binary = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if binary is None:
            sys.exit("mosquitto is missing: apt-get install mosquitto")
        process = subprocess.Popen([binary, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return process
            time.sleep(0.05)
        sys.exit("mosquitto does not start")


class Receiver:
    """A web server that takes events, and says 503 now and then, before or after it has taken one."""

    def __init__(self, chance: random.Random) -> None:
        received = self.received = Received()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                luck = chance.random()
                if luck > 0.025:
                    received.add(body)
                self.send_response(503 if luck < 0.05 else 204)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Observer:
    """Reads the outbox from outside, all the time: what it has seen was committed, so acknowledged."""

    def __init__(self, path: Path, interval_s: float = 0.02) -> None:
        self.acknowledged: set[str] = set()
        self._path, self._sequence, self._stopping = path, 0, threading.Event()
        self._interval_s = interval_s
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self, query: str = "SELECT sequence, id FROM message WHERE sequence > ?") -> list[tuple[int, str]]:
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)) as database,
        ):
            return database.execute(query, (self._sequence,)).fetchall()
        return []

    def pending(self) -> int | None:
        rows = self.look("SELECT COUNT(*), '' FROM delivery WHERE state = 'pending' AND 0 <= ?")
        return rows[0][0] if rows else None

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            for sequence, name in self.look():
                self._sequence = max(self._sequence, sequence)
                self.acknowledged.add(name)


def film(path: Path) -> None:
    found = dict(photographs())
    small = [cv2.resize(cv2.imread(str(found[name])), (160, 120)) for name in ("cat", "coffee cup")]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (160, 120))
    for index in range(FPS * FILM_S):
        writer.write(small[index // FLIP_FRAMES % 2])
    writer.release()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def soak(cycles: int, folder: Path, seed: int) -> dict[str, int | float]:
    chance = random.Random(seed)
    film(folder / "film.mp4")
    (folder / "watches.yaml").write_text(WATCHES)
    state = folder / "state"
    state.mkdir()
    lines = folder / "events.jsonl"
    broker, receiver = Broker(folder), Receiver(random.Random(seed + 1))
    observer = Observer(state / "outbox.sqlite")
    command = [
        sys.executable,
        "-m",
        "edgeclip",
        "run",
        "--source",
        str(folder / "film.mp4"),
        "--realtime",
        "--threads",
        "1",
    ]
    command += ["--watch", str(folder / "watches.yaml"), "--metrics", "off"]
    command += ["--sink", f"mqtt://127.0.0.1:{broker.port}/soak", "--sink", f"http://127.0.0.1:{receiver.port}/events"]
    command += ["--sink", f"jsonl:{lines}?max_mb=1000"]
    environment = {**os.environ, "EDGECLIP_STATE": str(state), "EDGECLIP_CACHE": str(folder / "cache")}
    log = (folder / "edgeclip.log").open("wb")
    begun_s, kills, restarts = time.monotonic(), 0, 0

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    for cycle in range(cycles):
        seen = len(observer.acknowledged)
        process = start()
        if cycle % 7 != 6:  # one in seven is killed while it starts
            deadline_s = time.monotonic() + START_LIMIT_S
            while len(observer.acknowledged) <= seen + 4:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    sys.exit(f"cycle {cycle}: edgeclip gave no event; see {folder / 'edgeclip.log'}")
                time.sleep(0.02)
        if cycle % 5 == 4:
            broker.restart()
            restarts += 1
        time.sleep(chance.uniform(0.0, 0.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        print(
            f"cycle {cycle + 1}/{cycles}: {len(observer.acknowledged)} acknowledged, {observer.pending()} pending, "
            f"{restarts} broker restarts, {time.monotonic() - begun_s:.0f} s",
            end="\r" if sys.stdout.isatty() else "\n",
            flush=True,
        )

    process, deadline_s = start(), time.monotonic() + DRAIN_LIMIT_S
    seen = len(observer.acknowledged)
    while len(observer.acknowledged) <= seen + 2 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    process.terminate()  # drains for some seconds
    process.wait(60)
    command += ["--max-frames", "1"]
    while (
        observer.pending() != 0 and time.monotonic() < deadline_s
    ):  # backed off at the last: another start tries at once
        process = start()
        process.wait(60)
    time.sleep(1.0)  # the subscriber's last
    still_pending = observer.pending()
    observer.close()
    received = {"mqtt": broker.received, "webhook": receiver.received, "jsonl": Received()}
    for line in lines.read_bytes().splitlines():
        received["jsonl"].add(line)
    receiver.close()
    broker.close()
    log.close()
    events = Counter(name.rpartition("-")[0] for name in observer.acknowledged)
    result: dict[str, int | float] = {
        "cycles": cycles,
        "kills": kills,
        "broker_restarts": restarts,
        "acknowledged": len(observer.acknowledged),
        "events": len(events),
        "still_pending": -1 if still_pending is None else still_pending,
        "without_end": sum(1 for count in events.values() if count != 2),
        "seconds": round(time.monotonic() - begun_s, 1),
    }
    for sink, had in received.items():
        result[f"{sink}_lost"] = len(observer.acknowledged - had.counts.keys())
        result[f"{sink}_duplicates"] = sum(had.counts.values()) - len(had.counts)
        result[f"{sink}_changed"] = had.changed
    result["lost"] = sum(int(result[f"{sink}_lost"]) for sink in received)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="DIR", help="work in DIR, and leave it")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(arguments.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeclip-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        result = soak(arguments.cycles, folder, arguments.seed)
    print(json.dumps(result))
    print(f"lost: {result['lost']}")
    bad = (
        result["lost"]
        or result["without_end"]
        or any(result[f"{sink}_changed"] for sink in ("mqtt", "webhook", "jsonl"))
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
