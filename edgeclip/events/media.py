"""A snapshot and a short clip of every event, made on threads of their own from a bounded ring of recent frames.

The frame loop hands over references to a few frames a second, and never waits: where encoding does not keep up, frames
are left out of clips, and where too many clips are under way, an event has none.

The first thread makes JPEGs, smaller ones where frames are large; ring and clips under way share one bound in bytes.
The second writes files: beside, fsynced, renamed; then, and once an hour, the
oldest are removed beyond the bounds on size and age.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgeclip.atomic import atomic_write, sync_directory
from edgeclip.errors import reason_of
from edgeclip.events.retention import Retention
from edgeclip.types import Frame, Pixels

CLIP_FPS = 8.0
LONGEST_SIDE = 640
QUALITY = 85
HANDED = 8  # frames between the frame loop and the first thread
CLIPS = 4  # under way at once, on all cameras
FILES = 32  # between the first thread and the second
TIDY_S = 3600.0  # where nothing is written meanwhile


class Picture(NamedTuple):
    """jpeg: encoded, at most LONGEST_SIDE pixels wide or high. clock_ns: the film's own time."""

    clock_ns: int
    jpeg: bytes


@dataclass
class Clip:
    """Of one event, under way. place: its files, without suffix. end_ns: the last picture's time, once it is known."""

    place: Path
    camera: str
    pictures: list[Picture]
    end_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """before_s, after_s: of a clip, around an event. longest_s: of a whole clip. memory: bytes of all JPEGs held.
    megabytes, days: what the folder may hold."""

    before_s: float = 3.0
    after_s: float = 2.0
    longest_s: float = 20.0
    memory: int = 24 << 20
    megabytes: float = 512.0
    days: float = 30.0


Task = tuple[str, Frame, int, str]  # "frame", "begin" or "end"; clock_ns; event


class Media:
    """folder: of the files, a folder a day. step_ns: time between two frames of a film that is played as fast as it
    goes, None where capture times count. left_out, failed: frames, files."""

    def __init__(self, folder: Path, limits: Limits, step_ns: int | None, notify: Callable[[str], None]) -> None:
        self.left_out = self.failed = 0
        self._folder, self._limits, self._step_ns, self._notify = folder, limits, step_ns, notify
        self._retention = Retention(folder, limits.megabytes * 1e6, limits.days * 86_400.0)
        self._told_untidy = False
        self._tasks: queue.Queue[Task | None] = queue.Queue(HANDED + 2 * CLIPS)
        self._files: queue.Queue[tuple[Path, list[Picture]] | None] = queue.Queue(FILES)
        self._next_ns: dict[str, int] = {}  # camera -> when the next frame is due
        self._under_way: set[str] = set()
        self._rings: dict[str, deque[Picture]] = {}
        self._clips: dict[str, Clip] = {}
        self._encoder = threading.Thread(target=self._encode, name="clips", daemon=True)
        self._saver = threading.Thread(target=self._save, name="clip files", daemon=True)

    def start(self) -> None:
        self._encoder.start()
        self._saver.start()

    # -- on the frame loop ---------------------------------------------------------------------------------------------

    def frame(self, frame: Frame) -> None:
        clock_ns = self._clock_ns(frame)
        due_ns = self._next_ns.get(frame.source)
        if due_ns is not None and due_ns - 1_000_000_000 < clock_ns < due_ns:
            return
        self._next_ns[frame.source] = clock_ns + round(1e9 / CLIP_FPS)
        if self._tasks.qsize() >= HANDED:
            self.left_out += 1
            return
        self._hand(("frame", frame, clock_ns, ""))

    def begin(self, event: str, frame: Frame) -> tuple[str | None, str | None]:
        if len(self._under_way) >= CLIPS:
            return None, None
        self._under_way.add(event)
        if not self._hand(("begin", frame, self._clock_ns(frame), event)):
            self._under_way.discard(event)
            return None, None
        place = self._place(event, frame.wall_ns)
        return f"{place}.jpg", f"{place}.mp4"

    def end(self, event: str, frame: Frame) -> None:
        if event in self._under_way:
            self._hand(("end", frame, self._clock_ns(frame), event))

    def stop(self, within_s: float) -> None:
        """Write what is under way, as far as it has come, and end."""
        for thread, tasks in ((self._encoder, self._tasks), (self._saver, self._files)):
            try:
                tasks.put(None, timeout=within_s)
            except queue.Full:
                self.failed += 1
            thread.join(within_s)

    def _hand(self, task: Task) -> bool:
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            self.left_out += 1
            return False
        return True

    def _clock_ns(self, frame: Frame) -> int:
        return frame.captured_ns if self._step_ns is None else frame.index * self._step_ns

    def _place(self, event: str, wall_ns: int) -> Path:
        day = str(np.datetime64(wall_ns, "ns").astype("datetime64[D]"))
        return self._folder.absolute() / day / event

    # -- on the first thread -------------------------------------------------------------------------------------------

    def _encode(self) -> None:
        while (task := self._tasks.get()) is not None:
            what, frame, clock_ns, event = task
            if what == "end":
                if event in self._clips:
                    self._clips[event].end_ns = clock_ns + round(self._limits.after_s * 1e9)
                continue
            try:
                picture = Picture(clock_ns, _jpeg(frame.pixels))
            except cv2.error:
                self.failed += 1
                self._under_way.discard(event)
                continue
            if what == "begin":
                self._begin(event, frame, picture)
            else:
                self._take(frame.source, picture)
        for event in list(self._clips):
            self._finish(event)

    def _begin(self, event: str, frame: Frame, picture: Picture) -> None:
        place = self._place(event, frame.wall_ns)
        self._clips[event] = Clip(place, frame.source, [*self._rings.get(frame.source, ()), picture])
        self._queue_file(place.with_suffix(".jpg"), [picture])

    def _take(self, camera: str, picture: Picture) -> None:
        ring = self._rings.setdefault(camera, deque())
        if ring and picture.clock_ns < ring[-1].clock_ns:  # another film
            ring.clear()
        ring.append(picture)
        while ring and picture.clock_ns - ring[0].clock_ns > self._limits.before_s * 1e9:
            ring.popleft()
        for event, clip in list(self._clips.items()):
            if clip.camera == camera:
                clip.pictures.append(picture)
            elif self._step_ns is not None:  # each film has a time of its own
                continue
            ended = clip.end_ns is not None and picture.clock_ns >= clip.end_ns
            if ended or picture.clock_ns - clip.pictures[0].clock_ns >= self._limits.longest_s * 1e9:
                self._finish(event)
        while self._bytes() > self._limits.memory and (self._clips or any(self._rings.values())):
            if self._clips:
                self._finish(next(iter(self._clips)))
            else:
                max(self._rings.values(), key=len).popleft()

    def _bytes(self) -> int:
        held = {id(picture): len(picture.jpeg) for ring in self._rings.values() for picture in ring}
        held.update((id(picture), len(picture.jpeg)) for clip in self._clips.values() for picture in clip.pictures)
        return sum(held.values())

    def _finish(self, event: str) -> None:
        clip = self._clips.pop(event)
        self._under_way.discard(event)
        self._queue_file(clip.place.with_suffix(".mp4"), clip.pictures)

    def _queue_file(self, path: Path, pictures: list[Picture]) -> None:
        try:
            self._files.put_nowait((path, pictures))
        except queue.Full:
            self.failed += 1

    # -- on the second thread ------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._tidy()
        while True:
            try:
                work = self._files.get(timeout=TIDY_S)
            except queue.Empty:
                self._tidy()
                continue
            if work is None:
                return
            path, pictures = work
            try:
                self._retention.look()
                if path.suffix == ".jpg":
                    with atomic_write(path) as stream:
                        stream.write(pictures[0].jpeg)
                else:
                    write_mp4(path, pictures)
            except (OSError, cv2.error) as error:
                self.failed += 1
                if self.failed == 1:
                    self._notify(f"{path} could not be written: {reason_of(error)}; events go on without pictures")
            self._tidy()

    def _tidy(self) -> None:
        try:
            self._retention.remove_oldest()
        except OSError as error:
            if not self._told_untidy:
                self._told_untidy = True
                self._notify(f"{self._folder} cannot be kept within media_mb and media_days: {reason_of(error)}")


def write_mp4(path: Path, pictures: list[Picture]) -> None:
    """MPEG-4 at CLIP_FPS, each picture as often as its time says. Written beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = _decoded(pictures[0])
    height, width = first.shape[:2]
    temporary = path.with_name(f".{path.name}.part.mp4")
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), CLIP_FPS, (width, height))
    try:
        if not writer.isOpened():
            raise OSError(f"OpenCV cannot write MPEG-4 to {temporary}")
        written = 0
        for picture in pictures:
            pixels = _decoded(picture)
            if pixels.shape != first.shape:
                pixels = np.asarray(cv2.resize(pixels, (width, height)), np.uint8)
            due = round((picture.clock_ns - pictures[0].clock_ns) * CLIP_FPS / 1e9) + 1
            for _ in range(max(due - written, 0)):
                writer.write(pixels)
            written = max(due, written)
        writer.release()
        if not _holds(temporary, written):  # OpenCV says nothing of a full disk
            raise OSError(errno.ENOSPC, "not all of the clip was written; the disk may be full")
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    finally:
        writer.release()
        temporary.unlink(missing_ok=True)


def _holds(film: Path, frames: int) -> bool:
    reader = cv2.VideoCapture(str(film))
    try:
        return round(reader.get(cv2.CAP_PROP_FRAME_COUNT)) >= frames
    finally:
        reader.release()


def _jpeg(pixels: Pixels) -> bytes:
    longest = max(pixels.shape[:2])
    if longest > LONGEST_SIDE:
        height, width = (max(2, side * LONGEST_SIDE // longest) for side in pixels.shape[:2])
        smaller = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.imencode(".jpg", smaller, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()
    return cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()


def _decoded(picture: Picture) -> Pixels:
    return cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)  # type: ignore[return-value]
