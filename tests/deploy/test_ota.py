"""The adapters, each called as its engine calls it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tiny_bundle import write_bundle

from edgeclip.bundle import write_digests
from edgeclip.errors import BAD_DATA
from edgeclip.install import Policy, export_bundle, install
from edgeclip.selftest import Passed
from edgeclip.store import CURRENT, Store

ADAPTERS = Path(__file__).parents[2] / "deploy" / "ota"
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "bundles")


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """call(adapter, *arguments, **environment): with edgeclip, and a restart that leaves a line in `restarts`."""
    edgeclip = tmp_path / "edgeclip"
    edgeclip.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgeclip "$@"\n')
    edgeclip.chmod(0o755)
    restart = tmp_path / "restart"
    restart.write_text(f"#!/bin/sh\necho restarted >> {tmp_path}/restarts\n")
    restart.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("EDGECLIP", "RAUC"))}
    own |= {
        "EDGECLIP": str(edgeclip),
        "EDGECLIP_STATE": str(tmp_path / "state"),
        "RESTART_EDGECLIP": str(restart),
    }

    def run(
        adapter: str, *arguments: str, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(ADAPTERS / adapter), *arguments]
        return subprocess.run(
            command, env={**own, **environment}, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def untested(fresh: Path) -> Passed:
    return Passed("none", 0, 1.0)


def pack(out: Path, day: int) -> Path:
    bundle = write_bundle(out.with_suffix(".dir"))
    facts = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(msgspec.json.encode({**facts, "created": f"2026-01-0{day}T00:00:00Z"}))
    write_digests(bundle)
    out.parent.mkdir(parents=True, exist_ok=True)
    export_bundle(bundle, out)
    return out


def mender_directory(folder: Path, bundle: Path) -> Path:
    """The file API, as Mender lays it out for ArtifactInstall."""
    (folder / "files").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "version").write_text("3")
    shutil.copy(bundle, folder / "files")
    return folder


def test_mender_installs_commits_and_rolls_back(call: Call, store: Store, tmp_path: Path) -> None:
    assert call("mender", "SupportsRollback").stdout == "Yes\n"
    assert call("mender", "NeedsArtifactReboot").stdout == "No\n"
    names = []
    for day in (1, 2):
        place = mender_directory(tmp_path / f"mender{day}", pack(tmp_path / f"{day}.tar", day))
        for state in ("Download", "ArtifactInstall", "ArtifactCommit"):
            done = call("mender", state, str(place), cwd=place)
            assert done.returncode == 0, done.stderr
        names.append(store.target(CURRENT))
    assert names[0] != names[1]
    assert call("mender", "ArtifactRollback", str(place), cwd=place).returncode == 0
    assert store.target(CURRENT) == names[0]
    assert call("mender", "ArtifactRollback", str(place), cwd=place).returncode == 0  # as after a power cut
    assert store.target(CURRENT) == names[0]
    assert call("mender", "ArtifactCommit", str(place), cwd=place).returncode != 0  # it went back since
    for state in ("ArtifactFailure", "Cleanup", "SomethingOfTheFuture"):
        done = call("mender", state, str(place), cwd=place)
        assert (done.returncode, done.stdout) == (0, "")


def test_mender_s_rollback_of_what_was_refused_changes_nothing_and_succeeds(
    call: Call, store: Store, tmp_path: Path
) -> None:
    """Mender calls it after an ArtifactInstall that failed; where it fails, the device is reported as inconsistent."""
    bad = tmp_path / "bad.tar"
    bad.write_bytes(pack(tmp_path / "1.tar", 1).read_bytes()[:9000])
    place = mender_directory(tmp_path / "mender", bad)
    for _ in range(2):
        assert call("mender", "ArtifactInstall", str(place), cwd=place).returncode == BAD_DATA
        done = call("mender", "ArtifactRollback", str(place), cwd=place)
        assert done.returncode == 0, done.stderr
        shutil.copy(bad, place / "files" / "second.tar")  # and then an artifact that holds two
    assert store.target(CURRENT) is None
    assert not (tmp_path / "restarts").exists()


@pytest.mark.parametrize("cut_off", [False, True])
def test_mender_s_rollback_called_twice_does_not_go_forth_again(
    call: Call, store: Store, tmp_path: Path, cut_off: bool
) -> None:
    """One that is on probation already is followed by another: what was trusted last is gone back to."""
    trusted = install(pack(tmp_path / "1.tar", 1), store, Policy(), untested).name
    store.confirm(trusted)
    install(pack(tmp_path / "2.tar", 2), store, Policy(), untested)
    place = mender_directory(tmp_path / "mender", pack(tmp_path / "3.tar", 3))
    assert call("mender", "ArtifactInstall", str(place), cwd=place).returncode == 0
    if cut_off:  # a power cut right after it came into force
        (place / "tmp" / "edgeclip-after").unlink()
    for _ in range(3):
        done = call("mender", "ArtifactRollback", str(place), cwd=place)
        assert done.returncode == 0, done.stderr
        assert store.target(CURRENT) == trusted


def test_mender_s_rollback_leaves_what_was_in_force_before_the_artifact(
    call: Call, store: Store, tmp_path: Path
) -> None:
    install(pack(tmp_path / "1.tar", 1), store, Policy(), untested)
    same = install(pack(tmp_path / "2.tar", 2), store, Policy(), untested).name
    place = mender_directory(tmp_path / "mender", tmp_path / "2.tar")
    assert call("mender", "ArtifactInstall", str(place), cwd=place).returncode == 0
    assert call("mender", "ArtifactRollback", str(place), cwd=place).returncode == 0
    assert store.target(CURRENT) == same


def test_mender_is_told_of_a_refusal(call: Call, store: Store, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(pack(tmp_path / "1.tar", 1).read_bytes()[:9000])
    place = mender_directory(tmp_path / "mender", bad)
    done = call("mender", "ArtifactInstall", str(place), cwd=place)
    assert done.returncode == BAD_DATA
    assert "breaks off" in done.stderr
    assert store.names() == []
    assert not (tmp_path / "restarts").exists()
    shutil.copy(bad, place / "files" / "second.tar")
    assert "must hold one bundle" in call("mender", "ArtifactInstall", str(place), cwd=place).stderr


@pytest.mark.parametrize("absolute", [True, False])
def test_rauc_s_slot_hook_installs_the_image(call: Call, store: Store, tmp_path: Path, absolute: bool) -> None:
    image = pack(tmp_path / "mnt" / "edgeclip.tar", 1)
    slot = {"RAUC_SLOT_CLASS": "edgeclip", "RAUC_SLOT_NAME": "edgeclip.0", "RAUC_SLOT_TYPE": "raw"}
    named = {"RAUC_IMAGE_NAME": str(image)} if absolute else {"RAUC_IMAGE_NAME": image.name}
    done = call("rauc", "slot-install", RAUC_BUNDLE_MOUNT_POINT=str(image.parent), **slot, **named)
    assert done.returncode == 0, done.stderr
    assert store.target(CURRENT) is not None
    assert (tmp_path / "restarts").read_text() == "restarted\n"
    image.write_bytes(b"")
    assert call("rauc", "slot-install", RAUC_BUNDLE_MOUNT_POINT=str(image.parent), **slot, **named).returncode == 65


@pytest.mark.parametrize("variable", ["RAUC_BUNDLE_MOUNT_POINT", "RAUC_UPDATE_SOURCE"])
def test_rauc_s_post_install_handler_takes_what_lies_beside(
    call: Call, store: Store, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "mnt").mkdir()
    assert call("rauc", **{variable: str(tmp_path / "mnt")}).returncode == 0  # an update without one
    assert not (tmp_path / "restarts").exists()
    pack(tmp_path / "mnt" / "nano.edgeclip.tar", 1)
    shutil.rmtree(tmp_path / "mnt" / "nano.edgeclip.dir")
    assert call("rauc", **{variable: str(tmp_path / "mnt")}).returncode == 0
    assert store.target(CURRENT) is not None


@pytest.mark.parametrize("failure", ["failure", "postfailure"])  # as its source says, and as its documentation does
def test_swupdate_installs_and_undoes(call: Call, store: Store, tmp_path: Path, failure: str) -> None:
    names = []
    for day in (1, 2):
        bundle = tmp_path / "incoming" / "bundle.tar"
        assert call("swupdate", "preinst", str(bundle)).returncode == 0
        shutil.copy(pack(tmp_path / f"{day}.tar", day), bundle)  # SWUpdate writes its `files`
        done = call("swupdate", "postinst", str(bundle))
        assert done.returncode == 0, done.stderr
        names.append(store.target(CURRENT))
    assert call("swupdate", failure, str(bundle)).returncode == 0
    assert store.target(CURRENT) == names[0]
    assert list((tmp_path / "incoming").iterdir()) == []
    assert call("swupdate", "preinst", str(bundle)).returncode == 0
    bundle.write_bytes(b"\0" * 4096)
    assert call("swupdate", "postinst", str(bundle)).returncode == BAD_DATA


def test_swupdate_s_later_update_that_fails_early_undoes_nothing(call: Call, store: Store, tmp_path: Path) -> None:
    """SWUpdate calls every script's `failure`, also where none of ours ran: what the last update noted is not its."""
    bundle = tmp_path / "incoming" / "bundle.tar"
    for day in (1, 2):
        assert call("swupdate", "preinst", str(bundle)).returncode == 0
        shutil.copy(pack(tmp_path / f"{day}.tar", day), bundle)
        assert call("swupdate", "postinst", str(bundle)).returncode == 0
    now = store.target(CURRENT)
    fresh = tmp_path / "scripts" / "swupdate"  # written anew by each update
    fresh.parent.mkdir()
    shutil.copyfile(ADAPTERS / "swupdate", fresh)
    fresh.chmod(0o700)
    later_s = bundle.with_name("bundle.tar.before").stat().st_mtime + 60.0
    os.utime(fresh, (later_s, later_s))
    assert call(str(fresh), "failure", str(bundle)).returncode == 0
    assert store.target(CURRENT) == now


@pytest.mark.parametrize("adapter", ["mender", "rauc", "swupdate"])
def test_they_are_posix_shell(adapter: str) -> None:
    subprocess.run(["sh", "-n", str(ADAPTERS / adapter)], check=True)
    assert os.access(ADAPTERS / adapter, os.X_OK)
