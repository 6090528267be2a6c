"""Footage to scores, on the path that a run takes: the same sources, preprocessing, regions, engine and smoothing."""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeclip.bundle import Bundle
from edgeclip.errors import DataError, UsageError
from edgeclip.progress import Progress
from edgeclip.region import Regions
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.golden import ConstantGuard
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.rows import Rows
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.runtime.watchbank import WatchBank
from edgeclip.runtime.watching import Watching
from edgeclip.tune.series import Piece
from edgeclip.tune.threshold import as_log_odds
from edgeclip.types import Embeddings, Engine, Frame, Source

VIDEOS = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts", ".m4v", ".mpg"})

Stop = Callable[[], bool]


@dataclass
class Footage:
    """pieces: by watch, one for each source that it sees. digest: sha256 of the embeddings, in order.

    began_ns, ended_ns: wall clock of the first and the last frame's capture (of files: when they were read).
    """

    sources: tuple[str, ...] = ()
    frames: int = 0
    began_ns: int = 0
    ended_ns: int = 0
    digest: str = ""
    pieces: dict[str, list[Piece]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the longest watched."""
        return max((sum(piece.seconds for piece in pieces) for pieces in self.pieces.values()), default=0.0)


class Reader:
    """Embeds what sources give. engine: of the bundle, already tested."""

    def __init__(self, bundle: Bundle, engine: Engine, bank: WatchBank, progress: Progress, fps: float | None) -> None:
        self._facts = bundle.manifest.preprocess
        self._run = Rows(engine).run
        self._check = ConstantGuard().check
        self._bank = bank
        self._progress = progress
        self._fps = fps

    def read(self, uris: Sequence[str], minutes: float | None, stop: Stop) -> Footage:
        """Scores of all watches: files one after the other, live sources side by side until `minutes` are over."""
        uris = [part for uri in uris for part in clips_in(uri)]
        opened = [(uri, open_source(uri, fps=self._fps)) for uri in uris]
        live = [uri for uri, source in opened if source.live]
        runs = [[uri] for uri, source in opened if not source.live] + ([live] if live else [])
        footage, digest = Footage(tuple(source.name for _, source in opened)), hashlib.sha256()
        for run in runs:
            collected = self._collect(run, minutes if run is live else None, stop, footage, digest)
            for name, pieces in collected.items():
                footage.pieces.setdefault(name, []).extend(pieces)
        footage.digest = f"sha256:{digest.hexdigest()}"
        return footage

    def stills(self, uri: str, stop: Stop) -> dict[str, list[float]]:
        """Pictures that have nothing to do with each other: every watch's log-odds in each, not smoothed."""
        odds = [self._bank.log_odds(rows) for _, _, rows, _ in self._embedded([uri], None, stop)[1]]
        return {watch.name: [float(row[number]) for row in odds] for number, watch in enumerate(self._bank.watches)}

    def _collect(
        self, uris: Sequence[str], minutes: float | None, stop: Stop, footage: Footage, digest: hashlib._Hash
    ) -> dict[str, list[Piece]]:
        sources, embedded = self._embedded(uris, minutes, stop)
        watching = Watching(self._bank, [source.name for source in sources])
        clocks: list[list[int]] = [[] for _ in sources]
        scores: list[list[tuple[float, ...]]] = [[] for _ in sources]
        names: list[tuple[str, ...]] = [()] * len(sources)
        for lane, frame, rows, regions in embedded:
            clock_ns = self._clock_ns(frame, sources[lane])
            states = watching.update(lane, rows, regions, clock_ns, frame)
            clocks[lane].append(clock_ns)
            scores[lane].append(tuple(state.probability for state in states))
            names[lane] = tuple(state.name for state in states)
            footage.frames += 1
            footage.began_ns = footage.began_ns or frame.wall_ns
            footage.ended_ns = frame.wall_ns
            digest.update(rows.astype(np.float16).tobytes())
        pieces: dict[str, list[Piece]] = {}
        for lane_names, lane_clocks, lane_scores in zip(names, clocks, scores, strict=True):
            table = as_log_odds(np.array(lane_scores, np.float64).reshape(len(lane_clocks), len(lane_names)))
            clock_s = np.array(lane_clocks, np.float64) / 1e9
            for column, name in enumerate(lane_names):
                pieces.setdefault(name, []).append(Piece(clock_s, table[:, column]))
        return pieces

    def _embedded(
        self, uris: Sequence[str], minutes: float | None, stop: Stop
    ) -> tuple[list[Source], Iterator[tuple[int, Frame, Embeddings, Regions]]]:
        """(source's number, frame, embeddings [R, D], regions) of every frame; the sources are filled in once open."""
        feeds = [
            Supervisor(functools.partial(open_source, uri, fps=self._fps), on_event=self._progress.note) for uri in uris
        ]

        def frames() -> Iterator[tuple[int, Frame, Embeddings, Regions]]:
            with ExitStack() as stack:
                for feed in feeds:
                    stack.enter_context(feed)
                over_s = time.monotonic() + 60.0 * minutes if minutes is not None else float("inf")
                ahead = stack.enter_context(
                    Ahead(feeds, functools.partial(Preprocessor, self._facts), lambda: self._bank.regions)
                )
                for prepared in ahead.frames(lambda: stop() or time.monotonic() >= over_s):
                    rows = self._run(prepared.batch)
                    self._check(prepared.batch, rows)
                    self._progress.advance()
                    yield prepared.lane, prepared.frame, rows, prepared.regions

        return [feed.source for feed in feeds], frames()

    def _clock_ns(self, frame: Frame, source: Source) -> int:
        """As a run counts: a film has its own time. Pictures are as far apart as --fps says."""
        if source.live:
            return frame.captured_ns
        fps = source.fps or self._fps
        if fps is None:
            raise UsageError(
                f"{source.name}: these frames have no times of their own", "say how many a second there are: --fps N"
            )
        return round(frame.index * 1e9 / fps)


def clips_in(uri: str) -> list[str]:
    """A folder of clips is each of them; anything else is itself."""
    folder = Path(uri)
    if "://" in uri or not folder.is_dir():
        return [uri]
    clips = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in VIDEOS)
    return clips or [uri]


def expected(uris: Sequence[str], fps: float | None, minutes: float | None) -> tuple[int, float] | None:
    """About how many frames will come, and seconds; None where nobody can say. Raises DataError, SourceError."""
    import cv2

    from edgeclip.runtime.sources.pictures import in_directory

    frames, seconds = 0, 0.0
    for uri in [part for given in uris for part in clips_in(given)]:
        source = open_source(uri, fps=fps)
        if source.live:
            if minutes is None or fps is None:
                return None
            count, lasting_s = round(60.0 * minutes * fps), 60.0 * minutes
        elif Path(uri).is_dir():
            count = len(in_directory(Path(uri)))
            lasting_s = count / (fps or math.inf)
        else:
            capture = cv2.VideoCapture(str(Path(uri).absolute()))
            stated, own = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
            capture.release()
            if stated <= 0.0 or own <= 0.0:
                return None
            count, lasting_s = round(stated / (math.ceil(own / fps - 1e-6) if fps else 1)), stated / own
        frames, seconds = frames + count, seconds + lasting_s
    return frames, seconds


def no_frames(footage: Footage) -> DataError:
    return DataError(f"{', '.join(footage.sources)}: no frame came", "check it with `edgeclip run --source ...`")
