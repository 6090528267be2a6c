"""Archives from an attacker or a bad disk: refused, with nothing written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hostile import archive, corpus, files_of
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeclip.bundle import open_bundle
from edgeclip.container import Archive
from edgeclip.errors import BAD_DATA, DataError
from edgeclip.install import Policy, check, install
from edgeclip.selftest import Limits, self_test
from edgeclip.store import Store

# Whole and well-formed: only running them shows that they are wrong.
ONLY_THE_SELF_TEST = {"space-of-other-encoders", "engine-is-garbage", "bomb-npz", "bomb-frames"}


@pytest.fixture(scope="module")
def files(tiny_path: Path) -> dict[str, bytes]:
    return files_of(tiny_path)


@pytest.fixture(scope="module")
def good(files: dict[str, bytes]) -> bytes:
    return archive(files)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_good_one_is_taken(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "good.tar"
    path.write_bytes(good)
    assert check(path, Policy()).manifest.name == "tiny"
    assert open_bundle(path).manifest.name == "tiny"


def test_every_hostile_archive_is_refused_and_nothing_is_written(files: dict[str, bytes], tmp_path: Path) -> None:
    store, seen = Store(tmp_path / "state" / "bundles"), 0
    (tmp_path / "state").mkdir()
    for name, data in corpus(files):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(data)
        before = tree(tmp_path)
        if name in ONLY_THE_SELF_TEST:
            check(path, Policy())
            continue
        with pytest.raises(DataError) as caught:
            install(path, store, Policy(), lambda fresh: pytest.fail("it was unpacked"))
        assert caught.value.exit_code == BAD_DATA
        assert caught.value.hint, name
        assert tree(tmp_path) == before, name
        seen += 1
        path.unlink()
    assert seen > 60


@pytest.mark.parametrize("name", sorted(ONLY_THE_SELF_TEST))
def test_what_only_running_it_shows_leaves_the_store_as_it_was(
    name: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(dict(corpus(files))[name])
    store = Store(tmp_path / "bundles")
    with pytest.raises(DataError, match="self-test"):
        install(path, store, Policy(), lambda fresh: self_test(fresh, Limits(memory_mb=1024)))
    assert store.names() == []
    assert {entry.name for entry in store.path.iterdir()} == {".install", ".lock"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


def refused_or_the_same(data: bytes, files: dict[str, bytes], place: Path) -> None:
    """Either DataError, or every byte of every file is what it was."""
    path = place / "mutated.tar"
    path.write_bytes(data)
    before = tree(place)
    try:
        checked = check(path, Policy())
    except DataError:
        pass
    else:
        assert {name: b"".join(checked.container.blocks(name)) for name in checked.container.files} == files
    assert tree(place) == before


anywhere = st.integers(0, 1024) | st.integers(0, 1 << 30)  # an offset, taken modulo the length of what is mutated


@given(at=anywhere, bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_found(at: int, bit: int, good: bytes, files: dict[str, bytes], place: Path) -> None:
    at %= len(good)
    refused_or_the_same(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :], files, place)


@given(at=anywhere)
@settings(max_examples=80, deadline=None)
def test_a_cut_is_found_wherever_it_is(at: int, good: bytes, files: dict[str, bytes], place: Path) -> None:
    refused_or_the_same(good[: at % len(good)], files, place)


@given(at=anywhere, gone=st.integers(0, 2048), more=st.binary(max_size=600))
@settings(max_examples=80, deadline=None)
def test_bytes_put_in_or_taken_out_are_found(
    at: int, gone: int, more: bytes, good: bytes, files: dict[str, bytes], place: Path
) -> None:
    at %= len(good) + 1
    refused_or_the_same(good[:at] + more + good[at + gone :], files, place)


@given(data=st.binary(max_size=3000))
@settings(max_examples=80, deadline=None, database=None)
def test_noise_is_no_archive(data: bytes, place: Path) -> None:
    path = place / "noise.tar"
    path.write_bytes(data)
    with pytest.raises(DataError):
        check(path, Policy())


def test_what_gnu_tar_writes_is_taken(files: dict[str, bytes], tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
            folder = tarfile.TarInfo("./")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name, data in files.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        path = tmp_path / "gnu.tar"
        path.write_bytes(stream.getvalue())
        assert set(Archive(path, "gnu.tar").files) == set(files)
