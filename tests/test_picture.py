from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from edgeclip.errors import BAD_DATA, DataError
from edgeclip.picture import decode_picture, is_picture_name, read_picture

RED_LEFT_BLUE_RIGHT = np.zeros((40, 60, 3), np.uint8)  # RGB
RED_LEFT_BLUE_RIGHT[:, :30] = (200, 20, 20)
RED_LEFT_BLUE_RIGHT[:, 30:] = (20, 20, 200)
RED_LEFT_BLUE_RIGHT[:10, :30] = (20, 200, 20)  # and a green corner, so that no two orientations are alike


def near(pixel: np.ndarray, rgb: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.all(np.abs(pixel[::-1].astype(int) - rgb) <= tolerance))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_colours(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(RED_LEFT_BLUE_RIGHT).save(path)
    picture = read_picture(path)
    assert picture.shape == (40, 60, 3)
    assert picture.dtype == np.uint8
    assert near(picture[25, 10], (200, 20, 20), 20)
    assert near(picture[25, 50], (20, 20, 200), 20)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["photo.jpg", "photo.png", "alpha.png"])
def test_exif_orientation(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(RED_LEFT_BLUE_RIGHT)
    if kind == "alpha.png":
        alpha = np.full((40, 60), 255, np.uint8)
        alpha[30:, 40:] = 0
        image.putalpha(Image.fromarray(alpha))
    path = tmp_path / kind
    image.save(path, exif=exif)
    with Image.open(path) as stored:
        upright = ImageOps.exif_transpose(stored)
        flat = Image.new("RGBA", upright.size, "white")
        flat.alpha_composite(upright.convert("RGBA"))
    expected = np.asarray(flat.convert("RGB"))[..., ::-1]
    picture = read_picture(path)
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < 3


def test_grey_palette_cmyk_and_one_bit(tmp_path: Path) -> None:
    image = Image.fromarray(RED_LEFT_BLUE_RIGHT)
    image.convert("L").save(tmp_path / "grey.png")
    image.quantize(8).save(tmp_path / "palette.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("1").save(tmp_path / "one.png")
    grey = read_picture(tmp_path / "grey.png")
    assert grey.shape == (40, 60, 3)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert near(read_picture(tmp_path / "palette.png")[25, 10], (200, 20, 20))
    assert near(read_picture(tmp_path / "cmyk.jpg")[25, 10], (200, 20, 20), 30)
    assert set(np.unique(read_picture(tmp_path / "one.png"))) <= {0, 255}


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = RED_LEFT_BLUE_RIGHT[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "grey.png"), deep[..., 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([deep, np.full((40, 60), 65535, np.uint16)]))
    assert near(read_picture(tmp_path / "deep.png")[25, 10], (200, 20, 20), 1)
    assert near(read_picture(tmp_path / "alpha.png")[25, 10], (200, 20, 20), 1)
    assert near(read_picture(tmp_path / "grey.png")[25, 50], (200, 200, 200), 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str, tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, 4:, 3] = 255  # left: clear black, right: solid black
    image = Image.fromarray(rgba)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "clear.png")
    picture = read_picture(tmp_path / "clear.png")
    assert np.all(picture[:, :4] == 255)
    assert np.all(picture[:, 4:] == 0)


def test_half_transparency_is_blended(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (100, 0, 0, 128)).save(tmp_path / "half.png")
    assert near(read_picture(tmp_path / "half.png")[0, 0], (177, 127, 127), 1)


@pytest.mark.parametrize("size", [(1, 1), (20000, 2), (2, 20000)])
def test_tiny_and_long_pictures_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "odd.png")
    picture = read_picture(tmp_path / "odd.png")
    assert picture.shape == (size[1], size[0], 3)
    assert picture[0, 0].tolist() == [7, 8, 9]


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.png").write_bytes(
        cv2.imencode(".png", cv2.imread(str(tmp_path / "whole.jpg")))[1].tobytes()[:900]
    )
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    cv2.imwrite(str(tmp_path / "float.tif"), np.zeros((8, 8, 3), np.float32))
    cv2.imwrite(str(tmp_path / "clear.tif"), np.zeros((8, 8, 4), np.uint8))
    for name, why in {
        "half.jpg": "truncated",
        "half.png": "truncated PNG",
        "empty.jpg": "not a readable picture",
        "text.jpg": "not a readable picture",
        "float.tif": "float32 pixels",
        "clear.tif": "TIFF with transparency",
        "absent.jpg": "No such file",
    }.items():
        with pytest.raises(DataError, match=why) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in caught.value.message
        assert caught.value.exit_code == BAD_DATA


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("exif", [False, True])
def test_plain_colour_files_are_decoded_once_and_turned_where_they_say_so(
    suffix: str, exif: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Image.Exif()
    facts[0x0112] = 6
    out = io.BytesIO()
    options = {"exif": facts} if exif else {}
    Image.fromarray(RED_LEFT_BLUE_RIGHT).save(out, Image.registered_extensions()[suffix], lossless=True, **options)
    expected = cv2.imdecode(np.frombuffer(out.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    decodings: list[int] = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decodings.append(flags) or decode(data, flags))
    assert np.array_equal(decode_picture(out.getvalue(), "x"), expected)
    assert expected.shape == ((60, 40, 3) if exif else (40, 60, 3))
    assert len(decodings) == (2 if exif else 1)


def test_a_huge_file_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match=r"huge\.png is larger than 64 MiB"):
        read_picture(tmp_path / "huge.png")


def test_what_names_a_picture() -> None:
    assert is_picture_name("a/b.v2/Photo.JPG")
    assert not any(is_picture_name(name) for name in ("a.txt", "jpg", ".jpg", "a/._b.jpg", "b.jpg.part"))


def test_opencv_is_silent_about_what_it_cannot_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for suffix in (".png", ".webp", ".bmp", ".tif", ".jp2", ".jpg"):
        whole = cv2.imencode(suffix, noise)[1].tobytes()
        (tmp_path / f"half{suffix}").write_bytes(whole[: len(whole) // 2])
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from edgeclip.errors import DataError\nfrom edgeclip.picture import read_picture\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try:\n        read_picture(path)\n        print(path, 'was read')\n    except DataError:\n        pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_png_that_is_cut_or_states_a_wrong_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(RED_LEFT_BLUE_RIGHT).save(path)
    good = path.read_bytes()
    assert decode_picture(good + b"behind the end", "x").shape == (40, 60, 3)
    for end in range(len(good) - 1, 8, -5):
        with pytest.raises(DataError, match="truncated PNG"):
            decode_picture(good[:end], "x")
    at = good.index(b"IDAT") - 4
    with pytest.raises(DataError, match="truncated PNG"):
        decode_picture(good[:at] + b"\x7f\xff\xff\x00" + good[at + 4 :], "x")


def test_a_small_file_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    """In a process of its own: OpenCV reads the limit when it is loaded."""
    path = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(path)
    code = f"""
import edgeclip, pathlib, resource
from edgeclip.errors import DataError
from edgeclip.picture import read_picture
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_picture(pathlib.Path({str(path)!r}))
except DataError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb, error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown_kb, message = done.stdout.split(" ", 1)
    assert "is not a readable picture" in message
    assert int(grown_kb) < 50_000
