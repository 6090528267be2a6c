"""A calibration set of photographs out of Debian and Python packages, for measuring without a camera.

    mkdir debs wheels unpacked
    (cd debs && apt-get download gnome-backgrounds mate-backgrounds plasma-workspace-wallpapers ukui-wallpapers \\
        lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 tuxpaint-stamps-default)
    pip download --no-deps -d wheels mvtb-data gradio ultralytics imgaug scikit-learn scikit-image matplotlib
    for file in debs/*.deb; do dpkg-deb -x "$file" "unpacked/$(basename "$file" .deb)"; done
    for file in wheels/*.whl; do unzip -qo "$file" -d "unpacked/$(basename "$file" .whl)"; done
    python benchmarks/photographs.py unpacked --clips CLIPS/ --shards SHARDS/ --out frames/

Every photograph gives itself and close-ups; cut-out objects (stamps) are laid on plain grounds and on photographs. None
of it may be among the pictures that are measured.
"""

from __future__ import annotations

import argparse
import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.picture import SUFFIXES
from edgeclip.types import Pixels

LEAST_BYTES = 20_000  # smaller files are icons
LEAST_SIDE = 160
DRAWN = ("cartoon", "symbols", "flags", "alphabets", "screenshot", "logo", "test_data", "web", "mpl-data/images")
STAMPS = "/stamps/"
SAME = 8.0  # grey levels: 16 x 16 thumbnails that differ by less are of one picture in two sizes
VIEWS, CLOSE = 2, (0.35, 0.9)
STAMPED, FRAMES_OF_CLIP, FRAMES_OF_SHARD = 120, 24, 18


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unpacked", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    pictures = sorted(path for path in arguments.unpacked.rglob("*") if path.suffix.lower() in SUFFIXES)
    pictures = [path for path in pictures if not any(word in str(path) for word in DRAWN)]
    photographs = list(read([path for path in pictures if STAMPS not in str(path)]))
    frames = [("view", view) for picture in photographs for view in views(picture, chance)]
    stamps = [path for path in pictures if STAMPS in str(path)]
    frames += [("stamp", laid(path, photographs, chance)) for path in chance.sample(stamps, min(STAMPED, len(stamps)))]
    for clip in sorted(arguments.clips.glob("*.mp4")) if arguments.clips else ():
        frames += [("clip", frame) for frame in of_clip(clip)]
    for shard in sorted(arguments.shards.glob("train-*.tar.gz")) if arguments.shards else ():
        frames += [("small", frame) for frame in of_shard(shard)]
    for i, (kind, frame) in enumerate(frames):
        cv2.imwrite(str(arguments.out / f"{kind}-{i:04d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
    print({kind: sum(other == kind for other, _ in frames) for kind in ("view", "stamp", "clip", "small")})
    return 0


def read(paths: list[Path]) -> Iterator[Pixels]:
    """Pictures that are neither small nor nearly empty, at most 1,280 pixels wide or high, each once."""
    seen: list[npt.NDArray[np.float32]] = []
    for path in paths:
        if path.stat().st_size < LEAST_BYTES:
            continue
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None or min(picture.shape[:2]) < LEAST_SIDE:
            continue
        share = min(1.0, 1280 / max(picture.shape[:2]))
        picture = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        thumbnail = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
        sharp = cv2.Laplacian(grey, cv2.CV_64F).var() > 20.0
        if sharp and all(np.abs(thumbnail - other).mean() > SAME for other in seen):
            seen.append(thumbnail)
            yield np.asarray(picture, np.uint8)


def views(picture: Pixels, chance: random.Random) -> Iterator[Pixels]:
    """[H, W, 3] -> the whole and square close-ups, some of them mirrored."""
    yield picture
    for _ in range(VIEWS - 1):
        side = max(LEAST_SIDE, int(min(picture.shape[:2]) * chance.uniform(*CLOSE)))
        yield cut(picture, min(side, *picture.shape[:2]), chance)


def cut(picture: Pixels, side: int, chance: random.Random) -> Pixels:
    y, x = (chance.randint(0, size - side) for size in picture.shape[:2])
    part = picture[y : y + side, x : x + side]
    return part[:, ::-1] if chance.random() < 0.5 else part


def laid(stamp: Path, photographs: list[Pixels], chance: random.Random) -> Pixels:
    """[320, 320, 3]: a cut-out object on a plain ground, or on part of a photograph."""
    size = 320
    drawn = cv2.imread(str(stamp), cv2.IMREAD_UNCHANGED)
    if drawn is None or drawn.ndim != 3 or drawn.shape[2] != 4:
        drawn = cv2.cvtColor(cv2.imread(str(stamp), cv2.IMREAD_COLOR), cv2.COLOR_BGR2BGRA)
    ground = np.full((size, size, 3), [chance.randint(60, 255) for _ in range(3)], np.uint8)
    if photographs and chance.random() < 0.5:
        whole = chance.choice(photographs)
        ground = cv2.resize(cut(whole, min(whole.shape[:2]), chance), (size, size), interpolation=cv2.INTER_AREA)
    share = size * chance.uniform(0.5, 0.95) / max(drawn.shape[:2])
    drawn = cv2.resize(drawn, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    height, width = drawn.shape[:2]
    y, x = chance.randint(0, size - height), chance.randint(0, size - width)
    opaque = drawn[:, :, 3:].astype(np.float32) / 255.0
    part = ground[y : y + height, x : x + width]
    ground[y : y + height, x : x + width] = (opaque * drawn[:, :, :3] + (1.0 - opaque) * part).astype(np.uint8)
    return ground


def of_clip(path: Path) -> Iterator[Pixels]:
    film = cv2.VideoCapture(str(path))
    wanted = set(np.linspace(0, int(film.get(cv2.CAP_PROP_FRAME_COUNT)) - 1, FRAMES_OF_CLIP).astype(int).tolist())
    for i in range(max(wanted) + 1):
        read, frame = film.read()
        if read and i in wanted:
            yield np.asarray(frame, np.uint8)


def of_shard(path: Path) -> Iterator[Pixels]:
    with tarfile.open(path) as tar:
        names = sorted(member.name for member in tar if Path(member.name).suffix.lower() in SUFFIXES)
        for name in names[:: max(1, len(names) // FRAMES_OF_SHARD)][:FRAMES_OF_SHARD]:
            stream = tar.extractfile(name)
            assert stream is not None
            yield np.asarray(cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_COLOR), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
