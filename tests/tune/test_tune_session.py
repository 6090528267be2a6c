"""`edgeclip tune` from the command line, on a tiny bundle and a clip of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgeclip.cli import main
from edgeclip.runtime.thresholds import read_thresholds
from edgeclip.runtime.watchbank import provenance, settle
from edgeclip.runtime.watches import load_watches

WATCHES = """\
watches:
  - name: a dog
  - name: a red cup
    region: {box: [0.0, 0.0, 0.5, 1.0]}
    dwell_s: 0.5
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 minutes at 2 frames a second: coloured noise, another scene every 4 s."""
    path = tmp_path_factory.mktemp("footage") / "background.mp4"
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "30", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(150):
            scene = cv2.resize(random.integers(0, 256, (4, 4, 3)).astype(np.uint8), (64, 48))
            for _ in range(8):
                pixels = np.clip(scene + random.normal(0.0, 6.0, scene.shape), 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def watches(tmp_path: Path) -> Path:
    path = tmp_path / "watches.yaml"
    path.write_text(WATCHES)
    return path


def test_thresholds_evidence_and_picture_are_written_beside_the_watches(
    clip: Path, watches: Path, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for number in range(3):
        cv2.imwrite(str(shots / f"{number}.png"), np.full((48, 64, 3), 60 * number, np.uint8))
    words = ["tune", "--source", str(clip), "--watch", str(watches), "--bundle", str(tiny_path)]
    assert main([*words, "--false-alarms", "2/hour", "--positives", f"a dog={shots}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    thresholds = read_thresholds(watches.with_suffix(".thresholds.json"))
    assert thresholds is not None
    assert set(thresholds.watches) == {"a dog", "a red cup"} == set(told["watches"])
    dog = thresholds.watches["a dog"]
    assert 0.0 < dog.leave < dog.enter < 1.0
    evidence = dog.evidence
    assert evidence["false_alarms"] == "2/hour"
    assert evidence["per_day"]["low"] <= evidence["per_day"]["likely"] <= evidence["per_day"]["high"]
    assert evidence["per_day"]["high"] == pytest.approx(48.0)
    assert evidence["footage"]["seconds"] == pytest.approx(600.0)
    assert evidence["footage"]["frames"] == 1200
    assert evidence["footage"]["digest"].startswith("sha256:")
    assert 30 <= evidence["tail"]["clusters"] <= 151
    assert evidence["recall"]["n"] == 3
    picture = cv2.imread(str(watches.with_suffix(".thresholds.png")))
    assert picture is not None
    assert picture.shape[1] == 1600

    rules = settle(load_watches(watches), thresholds, thresholds.space, pytest.fail)
    assert [rule.enter for rule in rules] == [told["watches"][name]["enter"] for name in ("a dog", "a red cup")]

    assert provenance(load_watches(watches), thresholds, thresholds.space) == (
        "thresholds tuned to 2/hour false alarms: a dog, a red cup"
    )

    watches.write_text(WATCHES.replace("dwell_s: 0.5", "dwell_s: 0.6"))
    notices: list[str] = []
    settle(load_watches(watches), thresholds, thresholds.space, notices.append)
    assert any("'a red cup' was changed" in notice for notice in notices)
    assert provenance(load_watches(watches), thresholds, thresholds.space) == (
        "thresholds tuned to 2/hour false alarms: a dog; not tuned (enter 0.8): a red cup"
    )


def test_footage_that_cannot_support_the_promise_is_refused_and_nothing_written(
    clip: Path, watches: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(watches.parent.iterdir())
    words = ["tune", "--source", str(clip), "--watch", str(watches), "--bundle", str(tiny_path)]
    assert main([*words, "--false-alarms", "1/day"]) == 65
    said = capsys.readouterr().err
    assert "10 min of footage support at best 1 false alarm per 1.7 h; 1/day was asked for" in said
    assert "give 2.4 h of footage in all (2.2 h more), or ask for --false-alarms 1/hour" in said
    assert [path for path in sorted(watches.parent.iterdir()) if path.name != "cache"] == [
        path for path in before if path.name != "cache"
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--false-alarms", "now and then", "--source", "CLIP"], 2, "1/day"),
        (["--false-alarms", "1/hour"], 2, "--source"),
        (["--false-alarms", "1/hour", "--source", "nowhere.mp4"], 69, "nowhere.mp4"),
        (["--false-alarms", "1/hour", "--source", "SHOTS"], 2, "--fps"),
        (["--false-alarms", "6/minute", "--source", "CLIP", "--positives", "CLIP"], 2, "a dog="),
    ],
)
def test_mistakes_are_told_with_their_remedy(
    words: list[str],
    code: int,
    said: str,
    clip: Path,
    watches: Path,
    tiny_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "shots").mkdir()
    cv2.imwrite(str(tmp_path / "shots" / "1.png"), np.zeros((48, 64, 3), np.uint8))
    places = {"CLIP": str(clip), "SHOTS": str(tmp_path / "shots")}
    given = [places.get(word, word) for word in words]
    assert main(["tune", "--watch", str(watches), "--bundle", str(tiny_path), *given]) == code
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "Traceback" not in complaint


def test_tuning_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, edgeclip.tune.session; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnx", "matplotlib", "scipy", "pandas"} & set(loaded)
