import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgeclip.build.frames import frames_of
from edgeclip.datasets import find_images, iter_samples
from edgeclip.errors import DataError, SourceError
from edgeclip.runtime.sources import open_source


def picture(colour=(10, 20, 200), size=(12, 8), suffix=".png", **options):
    """An encoded picture, width and height in `size`, of one RGB colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[suffix], **options)
    return out.getvalue()


def facts(**values):
    return json.dumps(values).encode()


def shard(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            member = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(data, bytes):
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            else:
                tar.addfile(member)
    return path


def simple(path, names=("000001", "000002"), mode="w:gz"):
    members = []
    for name in names:
        members += [(f"{name}.png", picture()), (f"{name}.json", facts(texts=[f"a {name}"], label="Dog", source="x"))]
    return shard(path, members, mode)


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def keys(path):
    return [sample.key for sample in iter_samples(path)]


# -- shards ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("X.TGZ", "w:gz")])
def test_a_shard_is_pairs_of_picture_and_json(tmp_path, name, mode):
    first, second = iter_samples(simple(tmp_path / name, mode=mode))
    assert (first.key, first.texts, first.label) == ("000001", ("a 000001",), "Dog")
    assert second.key == "000002"
    assert first.pixels.shape == (8, 12, 3)
    assert first.pixels.dtype == np.uint8
    assert first.pixels[0, 0].tolist() == [200, 20, 10]


def test_order_within_a_pair_folders_and_other_members_do_not_matter(tmp_path):
    path = shard(
        tmp_path / "x.tar",
        [
            ("README.md", b"hello"),
            ("part/._1.json", b"\x00\x05mac"),
            ("part/1.json", facts(texts=[" a ", ""], label=None)),
            ("part/1.JPG", picture(suffix=".jpg")),
            ("part/2.v1.webp", picture(suffix=".webp")),
            ("part/2.v1.json", facts()),
        ],
        "w",
    )
    samples = list(iter_samples(path))
    assert [(s.key, s.texts, s.label) for s in samples] == [("part/1", ("a",), ""), ("part/2.v1", (), "")]
    assert all(sample.pixels.shape == (8, 12, 3) for sample in samples)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("1.png", b"x"), ("2.png", b"x"), ("2.json", b"{}")], "1 has no .json"),
        ([("1.png", b"x")], "1 has no .json"),
        ([("1.json", b"{}")], "1 has no picture"),
        ([("1.png", b"x"), ("1.webp", b"x"), ("1.json", b"{}")], "two pictures"),
        ([("1.json", b"{"), ("1.png", b"x")], "1.json: "),
        ([("1.json", b'{"texts": "a"}'), ("1.png", b"x")], "texts"),
        ([("1.json", b'{"texts": [7]}'), ("1.png", b"x")], "texts"),
        ([("1.json", b'{"label": "\xff"}'), ("1.png", b"x")], "1.json: "),
        ([("1.json", b" " * (1 << 20) + b"{}"), ("1.png", b"x")], "larger than 1 MiB"),
        ([], "no labelled pictures"),
        ([("README.md", b"x")], "no labelled pictures"),
    ],
)
def test_a_shard_that_is_not_made_of_pairs_is_refused(tmp_path, members, words):
    path = shard(tmp_path / "x.tar.gz", members)
    with pytest.raises(DataError, match=r"x\.tar\.gz") as caught:
        keys(path)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused_and_nothing_is_written(tmp_path, kind):
    secret = put(tmp_path / "secret.png", picture())
    member = tarfile.TarInfo("1.png")
    member.type, member.linkname = kind, str(secret)
    path = shard(tmp_path / "x.tar", [("1.json", facts(label="a")), ("1.png", member)], "w")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"1\.png is a link"):
        keys(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_lead_out_of_the_archive_are_only_names(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = shard(tmp_path / "a" / "b" / "x.tar", [("../../1.png", picture()), ("../../1.json", facts(label="a"))], "w")
    before = sorted(tmp_path.rglob("*"))
    assert keys(path) == ["../../1"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_huge_member_is_refused_before_it_is_read(tmp_path):
    header = tarfile.TarInfo("1.png")
    header.size = 1 << 40
    path = put(tmp_path / "x.tar", header.tobuf() + bytes(1024))
    with pytest.raises(DataError, match="larger than 64 MiB"):
        keys(path)


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_cut_archive_is_refused(tmp_path, keep, mode):
    path = simple(tmp_path / "x.tar", [f"{i:03}" for i in range(50)], mode)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"x\.tar"):
        keys(path)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x1f\x8bhello", gzip.compress(b"hello"), bytes(100), b"\xfd7zXZ\x00abc"]
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"x\.tar"):
        keys(put(tmp_path / "x.tar", content))


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    path = shard(tmp_path / "x.tar", [("1.jpg", picture(suffix=".jpg", exif=exif)), ("1.json", facts())], "w")
    (sample,) = iter_samples(path)
    assert sample.pixels.shape == (12, 8, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_a_damaged_picture_is_refused_by_name_when_it_is_decoded(tmp_path, suffix, keep):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = cv2.imencode(suffix, noise)[1].tobytes()
    path = shard(tmp_path / "x.tar", [(f"1{suffix}", whole[: int(keep * len(whole))]), ("1.json", facts())], "w")
    (sample,) = iter_samples(path)
    with pytest.raises(DataError, match=rf"x\.tar: 1{suffix} is (not a readable picture|a truncated (JPEG|PNG))"):
        assert sample.pixels is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "I;16", "P"])
def test_pixels_are_those_that_a_run_and_a_calibration_see(tmp_path, mode):
    deep = np.random.default_rng(1).integers(0, 65536, (30, 40), np.uint16)
    rgba = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(rgba).convert(mode)
    image.save(tmp_path / "1.png")
    encoded = (tmp_path / "1.png").read_bytes()
    path = shard(tmp_path / "x.tar", [("1.png", encoded), ("1.json", facts(label="a"))], "w")
    (sample,) = iter_samples(path)
    source = open_source(str(tmp_path / "1.png"))
    source.open()
    seen = source.read()
    assert np.array_equal(sample.pixels, seen)
    for place in ("x.tar", "1.png"):
        (frame,) = frames_of(str(tmp_path / place), 1, 0)
        assert np.array_equal(frame, seen)


# -- folders, patterns, CSV --------------------------------------------------------------------------------------------


def test_folders_are_classes(tmp_path):
    for name in ("dog/10.jpg", "dog/2.jpg", "delivery_van/more/a.PNG", "dog/.hidden.jpg", "dog/.thumbs/a.jpg"):
        put(tmp_path / name, picture(suffix=".png"))
    put(tmp_path / "dog/notes.txt", b"")
    put(tmp_path / ".git/a.png", b"")
    samples = list(iter_samples(tmp_path))
    assert [(s.key, s.label, s.texts) for s in samples] == [
        ("delivery_van/more/a.PNG", "delivery van", ()),
        ("dog/2.jpg", "dog", ()),
        ("dog/10.jpg", "dog", ()),
    ]
    assert samples[0].pixels.shape == (8, 12, 3)


def test_pictures_whose_names_are_not_utf8_are_read_and_told_in_text(tmp_path):
    (tmp_path / "data" / "dog").mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/dog/caf\xe9.png")).write_bytes(picture())
    (sample,) = iter_samples(tmp_path / "data")
    assert (sample.key, sample.label) == ("dog/caf\\xe9.png", "dog")
    assert sample.where.endswith("dog/caf\\xe9.png")
    assert sample.pixels.shape == (8, 12, 3)
    assert len(list(frames_of(str(tmp_path / "data"), 1, 0))) == 1
    (tmp_path / "data" / "dog").rename(os.fsdecode(os.fsencode(tmp_path) + b"/data/d\xf6g"))
    with pytest.raises(DataError, match="not UTF-8, and its name is a label") as caught:
        keys(tmp_path / "data")
    caught.value.message.encode()
    for name in (b"caf\xe9.mp4", b"caf\xe9.dat"):  # OpenCV, asked about such a name, ends the process
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"film")
    with pytest.raises(DataError, match="not UTF-8, and OpenCV"):
        list(frames_of(str(tmp_path / "*.mp4"), 1, 0))
    with pytest.raises(SourceError, match="matches no picture"):
        open_source(str(tmp_path / "*.dat"))


def test_folders_and_patterns_of_shards(tmp_path):
    for number in (10, 2, 1):
        simple(tmp_path / f"s-{number}.tar", [str(number)], "w")
    assert keys(tmp_path) == ["1", "2", "10"]
    assert keys(tmp_path / "s-1*.tar") == ["1", "10"]


def test_a_csv_names_pictures_beside_it(tmp_path):
    for name in ("a b.png", "sub/2.png"):
        put(tmp_path / name, picture())
    text = '\ufeffpath,text,label\r\na b.png,"one, with a comma",Dog\r\nsub/2.png,two\r\na b.png, another ,\r\n'
    samples = list(iter_samples(put(tmp_path / "x.csv", text.encode())))
    assert [(s.key, s.texts, s.label) for s in samples] == [
        ("a b.png", ("one, with a comma", "another"), "Dog"),
        ("sub/2.png", ("two",), ""),
    ]
    assert samples[1].pixels.shape == (8, 12, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "x.csv:1: no heading"),
        ("a.png,a dog\n", "x.csv:1: no heading"),
        ("path,text\n", "no labelled pictures"),
        ("path,text\na.png,one,two\n", "x.csv:2: more values"),
        ("path,text\n,one\n", "x.csv:2: no path"),
        ("path,text\nabsent.png,one\n", "x.csv:2: absent.png: No such file"),
        ('path,text\na.png,"one\n', "x.csv:"),
        ("path,text\na\0.png,one\n", "x.csv:"),
        ("path,text\na.png,\udcff\n", "x.csv is not UTF-8"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(tmp_path, text, words):
    put(tmp_path / "a.png", picture())
    path = put(tmp_path / "x.csv", text.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as caught:
        keys(path)
    assert words in caught.value.message


def test_what_is_no_data_set_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    put(tmp_path / "flat/1.png", picture())
    put(tmp_path / "hollow/dog/notes.txt", b"")
    put(tmp_path / "mixed/dog/1.png", picture())
    simple(tmp_path / "mixed/x.tar.gz")
    put(tmp_path / "film.mp4", b"")
    for name, words in {
        "absent": "does not exist",
        "*.nothing": "does not exist",
        "empty": "no labelled pictures",
        "flat": "without a class",
        "hollow": "holds no pictures",
        "mixed": "both shards and folders",
        "film.mp4": "not a data set",
    }.items():
        with pytest.raises(DataError, match=words):
            keys(tmp_path / name)


def test_find_images(tmp_path):
    for name in ("10.png", "2.png", "sub/1.JPG", ".x.png", "notes.txt"):
        put(tmp_path / name, picture())

    def names(place):
        return [path.relative_to(tmp_path).as_posix() for path in find_images(place)]

    assert names(tmp_path) == ["2.png", "10.png", "sub/1.JPG"]
    assert names(tmp_path / "*.png") == ["2.png", "10.png"]
    assert names(tmp_path / "2.png") == ["2.png"]
    for place, said in {"notes.txt": "holds no pictures", "absent": "does not exist", "*.gif": "matches no f"}.items():
        with pytest.raises(DataError, match=said):
            find_images(tmp_path / place)
