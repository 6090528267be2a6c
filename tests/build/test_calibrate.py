"""Which frames calibrate, and which sets are refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from small import textured, write_pictures

from edgeclip.build.calibrate import digest_of, hold_out, require_enough, select
from edgeclip.build.frames import frames_of, require_frames, spread
from edgeclip.build.recipe import Sampling
from edgeclip.errors import DataError


def whole(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA)[None, :, :, ::-1]


def test_distinct_frames_are_kept(pictures: list[np.ndarray]) -> None:
    selection = select(pictures, whole, Sampling())
    assert len(selection.frames) == 90
    assert selection.seen == 90
    require_enough(selection, "frames")


def test_blank_identical_and_nearly_identical_frames_are_refused(pictures: list[np.ndarray]) -> None:
    blank = [np.full((60, 80, 3), level, np.uint8) for level in range(0, 250, 10)]
    noisy = [np.clip(p.astype(np.int16) + np.random.default_rng(1).integers(-2, 3, p.shape), 0, 255).astype(np.uint8)
             for p in pictures[:20]]  # fmt: skip
    selection = select([*pictures[:50], *pictures[:30], *noisy, *blank], whole, Sampling())
    assert (len(selection.frames), selection.identical, selection.near, selection.blank) == (50, 30, 20, 25)
    with pytest.raises(DataError, match=r"50 distinct frames of 125, and .* 64 .*30 identical, 20 nearly so, 25 bl"):
        require_enough(selection, "frames")


def test_a_large_set_is_drawn_from_all_over() -> None:
    drawn = spread(list(range(1000)), 100, 0)
    assert len(drawn) == 100
    assert drawn == sorted(drawn) == spread(list(range(1000)), 100, 0)
    assert drawn[0] < 50 < 950 < drawn[-1]
    assert spread([1, 2], 100, 0) == [1, 2]


def test_hold_out_leaves_at_least_64(pictures: list[np.ndarray]) -> None:
    frames = [whole(picture) for picture in textured(100, seed=5)]
    used, held = hold_out(frames, 4)
    assert (len(used), len(held)) == (75, 25)
    used, held = hold_out(frames[:70], 4)
    assert (len(used), len(held)) == (64, 6)
    assert hold_out(frames[:64], 4) == (frames[:64], [])


def test_digest_knows_frames_and_not_their_order(pictures: list[np.ndarray]) -> None:
    frames = [whole(picture) for picture in pictures[:10]]
    assert digest_of(frames) == digest_of(frames[::-1]) != digest_of(frames[:9])


def test_folder_glob_shard_and_clip_are_read(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    folder = write_pictures(tmp_path / "frames", pictures[:12])
    assert len(list(frames_of(str(folder), 100, 0))) == 12
    assert len(list(frames_of(str(folder / "*.png"), 100, 0))) == 12
    with tarfile.open(tmp_path / "shard.tar.gz", "w:gz") as tar:
        for i in range(30):
            for name, data in ((f"{i}.png", cv2.imencode(".png", pictures[i])[1].tobytes()), (f"{i}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    drawn = list(frames_of(str(tmp_path / "shard.tar.gz"), 10, 0))
    again = list(frames_of(str(tmp_path / "shard.tar.gz"), 10, 0))
    assert len(drawn) == 10
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))
    assert all(any((frame == picture).all() for picture in pictures) for frame in drawn)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (80, 60))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    clip = list(frames_of(str(tmp_path / "clip.avi"), 15, 0))
    assert len(clip) == 15
    assert clip[0].shape == (60, 80, 3)


def test_demo_is_the_same_every_time() -> None:
    pytest.importorskip("skimage")
    first, again = list(frames_of("demo", 20, 0)), list(frames_of("demo", 20, 0))
    assert len(first) == 20
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("name", "content"), [("gone", None), ("notes.txt", b"words"), ("empty.tar", b""), ("a.mp4", b"x")]
)
def test_sets_that_hold_nothing_are_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        list(frames_of(str(tmp_path / name), 10, 0))


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz"])
def test_a_shard_that_is_cut_short_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    picture = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    path = tmp_path / name
    with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
        for number in range(40):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))
    whole = path.read_bytes()
    kept = int(len(whole) * keep)
    path.write_bytes(whole[: kept - kept % 1024 or kept])  # of a plain archive: whole members, which tarfile accepts
    with pytest.raises(DataError, match=name):
        list(frames_of(str(path), 10, 0))


def test_too_few_pictures_are_refused_before_any_work(tmp_path: Path) -> None:
    write_pictures(tmp_path / "few", textured(3))
    with pytest.raises(DataError, match="3 pictures, and at least 64 distinct frames are needed"):
        require_frames(str(tmp_path / "few"), 64)
    require_frames(str(tmp_path / "few"), 3)
    require_frames("demo", 64)
    with tarfile.open(tmp_path / "few" / "shard.tar", "w") as tar:  # nobody knows how many are in it
        tar.add(tmp_path / "few" / "000.png", "000.png")
    require_frames(str(tmp_path / "few"), 64)
