from __future__ import annotations

import re
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from tiny_bundle import golden_frames

from edgeclip import bench
from edgeclip.bench import BenchResult, Stage, TimedSource, Times, run_bench
from edgeclip.errors import EdgeclipError, SourceError
from edgeclip.types import Pixels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, frame in enumerate(golden_frames(4)):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(frame, (160, 120)))
    return folder


@pytest.fixture(scope="module")
def result(tiny_path: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    cache = tmp_path_factory.mktemp("cache")
    labels = cache / "labels.txt"
    labels.write_text("dog\ncat\nred cup\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECLIP_CACHE", str(cache))
        return run_bench(tiny_path, str(pictures), labels=labels, threads=1, seconds=0.6, rounds=2)


def test_every_stage_is_measured(result: BenchResult) -> None:
    assert list(result.stages) == ["source", "preprocess", "engine", "similarity", "decision", "sinks"]
    for stage in result.stages.values():
        assert 0 < stage.p50_ms <= stage.p95_ms < 1000


def test_speed_of_the_whole_beside_the_bare_engine(result: BenchResult) -> None:
    assert result.frames > 2 * 2
    assert result.pipeline_fps > 0
    assert result.engine_fps > result.pipeline_fps  # this engine takes next to nothing, so the rest decides
    assert 0 < result.ratio < 1
    assert 0 < result.host_fps < result.engine_fps
    assert result.slowest == "host"
    assert result.drops == 0  # finite sources lose nothing


def test_says_what_was_measured(result: BenchResult) -> None:
    assert (result.bundle, result.labels) == ("tiny", 3)
    assert result.runtime.startswith("LiteRT")
    assert result.runtime.endswith("1 thread")
    assert result.rss_mb > 20
    assert 0.05 < result.startup_s < 60
    assert msgspec.json.decode(msgspec.json.encode(result), type=BenchResult) == result


def test_says_in_one_line_what_limits(result: BenchResult) -> None:
    stages = {name: Stage(1.0, 2.0) for name in result.stages} | {"preprocess": Stage(3.0, 4.0)}
    host = msgspec.structs.replace(result, slowest="host", engine_fps=900.0, host_fps=200.0, stages=stages)
    assert host.slowest_stage == "preprocess"
    assert re.search(r"^the host limits: .* 200\.0 .* 900\.0 .*mostly preprocess", host.limit)
    stages = stages | {"source": Stage(3.5, 4.0)}
    assert "mostly source" in msgspec.structs.replace(host, stages=stages).limit
    stages = stages | {"engine": Stage(9.0, 9.0)}
    engine = msgspec.structs.replace(result, slowest="engine", engine_fps=100.0, host_fps=200.0, stages=stages)
    assert engine.slowest_stage == "engine"
    assert re.search(r"^the engine limits: .* 100\.0 .* 200\.0;.*--threads", engine.limit)


class Clip:
    """Three pictures, then the end."""

    name, live, paced, max_fps = "clip", False, True, None

    def __init__(self) -> None:
        self.fps: float | None = None
        self.opened = 0
        self.left = 0

    def open(self) -> None:
        self.opened += 1
        self.left = 3
        self.fps = 25.0

    def read(self) -> Pixels | None:
        self.left -= 1
        return np.zeros((4, 4, 3), np.uint8) if self.left >= 0 else None

    def close(self) -> None:
        self.left = 0


def test_a_clip_is_read_over_again_and_unpaced() -> None:
    clip, times = Clip(), Times()
    source = TimedSource(clip, times)
    source.open()
    assert (source.fps, source.paced, source.live) == (25.0, False, False)
    assert all(source.read() is not None for _ in range(10))
    assert clip.opened == 4
    assert len(times.taken_ns) == 10 + 3


def test_times_are_of_the_call_itself() -> None:
    times = Times()
    assert times.of(lambda a, b: time.sleep(0.01) or a + b)(1, 2) == 3
    assert 10 <= times.stage().p50_ms < 1000


def test_an_unknown_source_is_found_at_once(tiny_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        run_bench(tiny_path, "nothing.mp4")


def test_a_run_that_makes_no_decision_says_why(tiny_path: Path) -> None:
    with pytest.raises(EdgeclipError, match=r"made no decision: .*fix"):
        bench.start_up_s(["--bundle", str(tiny_path), "--source", "nothing.mp4"])
