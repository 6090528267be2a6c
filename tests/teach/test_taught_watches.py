"""Watches named like taught labels, in a run that goes on while they are taught."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import numpy as np
import pytest

from edgeclip.bundle import Bundle
from edgeclip.cli import main
from edgeclip.config import load_config
from edgeclip.runtime.asked import Looking, read_asked
from edgeclip.runtime.background import load_background
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.shots import Shot, Shots, shots_path, write_shots
from edgeclip.runtime.taughtlabels import TaughtLabels
from edgeclip.runtime.thresholds import thresholds_path
from edgeclip.types import Embeddings

WATCHES = "watches: [{name: part 7}, {name: a dog}]\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECLIP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "watches.yaml"
    path.write_text(WATCHES)
    return path


def unit(rows: Embeddings) -> Embeddings:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def similar(bundle: Bundle, count: int) -> Embeddings:
    """[count, D]: pictures of one thing that no text speaks of."""
    random, dim = np.random.default_rng(1), bundle.manifest.dim
    texts = load_background(bundle, functools.partial(load_bank, bundle)).texts
    thing = random.normal(size=dim)
    thing -= 0.9 * np.linalg.pinv(texts[: dim // 2]) @ (texts[: dim // 2] @ thing)
    return unit((thing / np.linalg.norm(thing) + 0.05 * random.normal(size=(count, dim))).astype(np.float32))


def teach(bundle: Bundle, tmp_path: Path, embeddings: Embeddings, label: str) -> None:
    path = shots_path(tmp_path / "state", bundle.manifest.space)
    path.parent.mkdir(parents=True, exist_ok=True)
    shots = tuple(Shot(f"s{row}", label, "", "") for row in range(len(embeddings)))
    write_shots(path, Shots(shots, embeddings, bundle.manifest.space), [b""] * len(shots))


def looking(bundle: Bundle, file: Path, tmp_path: Path, notices: list[str]) -> Looking:
    config = load_config({"source": ("demo",), "watch": str(file)}, {})
    known = TaughtLabels(bundle, tmp_path / "state", notices.append)
    asked = read_asked(config, bundle, notices.append)
    return Looking(asked, config, bundle, functools.partial(load_bank, bundle), ["demo"], notices.append, known)


def odds(some: Looking, embedding: Embeddings) -> list[float]:
    assert some.watching is not None
    fresh = some._take_watches()
    if fresh is not None:
        some.watching.use(fresh)
    return some.watching._bank.log_odds(embedding).tolist()


def test_a_watch_counts_shots_of_its_name_within_a_second(tiny: Bundle, file: Path, tmp_path: Path) -> None:
    pictures, notices = similar(tiny, 9), list[str]()
    with looking(tiny, file, tmp_path, notices) as some:
        before = odds(some, pictures[:1])
        teach(tiny, tmp_path, pictures[1:], "Part 7")
        deadline_s = time.monotonic() + 20.0
        while odds(some, pictures[:1])[0] == before[0] and time.monotonic() < deadline_s:
            some.fresh_bank()
            time.sleep(0.02)
        after = odds(some, pictures[:1])
    assert after[0] > max(before[0], 0.0)
    assert after[1] == before[1]
    assert "watches with taught shots: part 7" in notices


def test_a_tuned_threshold_keeps_its_promise(tiny: Bundle, file: Path, tmp_path: Path) -> None:
    import json

    from edgeclip.runtime.watches import load_watches

    loaded = load_watches(file)
    tuned = {"digest": loaded.digest(loaded.watches[0]), "enter": 0.9, "leave": 0.8, "evidence": {}}
    thresholds_path(file).write_text(
        json.dumps({"schema": 1, "space": tiny.manifest.space, "watches": {"part 7": tuned}})
    )
    pictures, notices = similar(tiny, 9), list[str]()
    teach(tiny, tmp_path, pictures[1:], "part 7")
    some = looking(tiny, file, tmp_path, notices)
    assert some.watching is not None
    assert some.watching._bank.shown is None
    assert "tuned on text alone, and so without their shots: part 7" in notices


def test_labels_check_tells_what_was_taught(
    tiny: Bundle, tiny_path: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teach(tiny, tmp_path, similar(tiny, 3), "part 7")
    assert main(["labels", "check", str(file), "--bundle", str(tiny_path)]) == 0
    assert "'part 7' was taught with 3 shots in use" in capsys.readouterr().out
    file.write_text("watches: [{name: a dog}]\n")
    assert main(["labels", "check", str(file), "--bundle", str(tiny_path)]) == 0
    assert "'part 7' was taught (3 shots), and no line names it" in capsys.readouterr().out
