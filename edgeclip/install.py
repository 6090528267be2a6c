"""`edgeclip bundle install` and its like: what a bundle must pass before it is in force."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeclip.atomic import atomic_write
from edgeclip.bundle import CHECKSUMS, MANIFEST, MAX_CHECKSUMS_BYTES, Manifest, check_bundle, is_signature, unpack
from edgeclip.bundle import read_manifest as parse_manifest
from edgeclip.container import Container, content, open_container
from edgeclip.errors import UNAVAILABLE, DataError, EdgeclipError, UsageError
from edgeclip.replace import replace_directory, write_archive
from edgeclip.selftest import Passed, self_test
from edgeclip.signature import KEYS, SIGNATURE_BYTES, Signed, check_signatures, sign
from edgeclip.store import CURRENT, Store

PACKED = frozenset({".gz", ".tgz", ".xz", ".bz2", ".zst", ".zip"})  # endings that promise what export does not write
SPARE_BYTES = 16 << 20  # of the disk, that an installation leaves free
INSTALL_TIMEOUT_S = 600.0  # for another installation to end


@dataclass(frozen=True)
class Policy:
    """keys: directory of trusted public keys. new_space: whether another embedding space may come into force."""

    keys: Path = KEYS
    require_signature: bool = False
    new_space: bool = False


@dataclass(frozen=True)
class Checked:
    """A bundle that is whole, and whose signatures are good. id: what it is called in a store."""

    id: str
    manifest: Manifest
    digests: dict[str, str]
    signed: Signed
    container: Container


@dataclass(frozen=True)
class Installed:
    """tested: what the self-test here said, None where the bundle was in force already."""

    checked: Checked
    name: str
    tested: Passed | None


def check(path: Path, policy: Policy) -> Checked:
    """Writes nothing. Raises DataError for anything that is not right with the bundle at `path`."""
    if not path.exists():
        raise DataError(f"bundle {path} does not exist", "check the path")
    container = open_container(path)
    manifest, digests = check_bundle(container)
    sums = content(container, CHECKSUMS, MAX_CHECKSUMS_BYTES)
    if hashlib.sha256(sums).hexdigest() != digests[CHECKSUMS]:
        raise DataError(f"{path} changed while it was read", "copy it again")
    signatures = {name: content(container, name, SIGNATURE_BYTES) for name in container.files if is_signature(name)}
    signed = check_signatures(sums, signatures, policy.keys, required=policy.require_signature, origin=container.origin)
    return Checked(f"{manifest.name}-{digests[CHECKSUMS][:12]}", manifest, digests, signed, container)


def install(path: Path, store: Store, policy: Policy, test: Callable[[Path], Passed] = self_test) -> Installed:
    """Check, unpack beside, self-test here, and put in force, on probation. Safe to kill at any moment, and to repeat.

    Raises DataError where the bundle is refused, and EdgeclipError where the disk is too small or the store is busy;
    what was in force stays then.
    """
    checked = check(path, policy)
    with store.locked(".install", INSTALL_TIMEOUT_S):
        with store.locked():
            store.sweep()
            store.settle()
            current = store.target(CURRENT)
        _same_space(checked, store, current, policy)
        name, whole = _place(checked, store)
        if name == current:
            return Installed(checked, name, None)
        if whole:
            tested = test(store.path / name)
        else:
            tested = _unpack(checked, store, name, test)
        with store.locked():
            store.put_in_force(name, f"from {path.name}")
            store.prune()
    return Installed(checked, name, tested)


def _place(checked: Checked, store: Store) -> tuple[str, bool]:
    """Where the bundle lies in the store, or will; whether it does. One that was damaged there is not written over."""
    for name in (checked.id, *(f"{checked.id}-{number}" for number in range(2, 100))):
        if name not in store.names():
            return name, False
        try:
            check_bundle(open_container(store.path / name))
            return name, True
        except DataError:
            continue
    raise DataError(f"{store.path} holds {checked.id} damaged many times", "check the disk")


def _unpack(checked: Checked, store: Store, name: str, test: Callable[[Path], Passed]) -> Passed:
    needed = sum(checked.container.files.values())
    free = shutil.disk_usage(store.path).free
    if free < needed + SPARE_BYTES:
        raise EdgeclipError(
            f"{store.path} has {free >> 20} MiB free, and {checked.id} takes {needed >> 20} MiB and some",
            "make room: `edgeclip bundle list`, `edgeclip bundle remove`",
            UNAVAILABLE,
        )
    fresh = store.incoming()
    try:
        unpack(checked.container, checked.digests, fresh)
        for file in fresh.iterdir():
            file.chmod(0o644)
        tested = test(fresh)
        store.adopt(fresh, name)
    except OSError as error:
        raise EdgeclipError(f"{store.path}: {error.strerror}", "check the disk", UNAVAILABLE) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return tested


def _same_space(checked: Checked, store: Store, current: str | None, policy: Policy) -> None:
    """Taught labels, search indexes and thresholds belong to a space: another one is not brought in by mistake."""
    if current is None or policy.new_space:
        return
    path = store.path / current / MANIFEST
    space = parse_manifest(path.read_bytes(), str(path)).space
    if checked.manifest.space != space:
        raise DataError(
            f"bundle {checked.container.origin} is of another embedding space ({checked.manifest.space[:19]}) than "
            f"{current}, which is in force ({space[:19]})",
            "what was taught and indexed here does not fit it; --new-space installs it all the same",
        )


def sign_bundle(path: Path, key: Path) -> str:
    """Add a signature to a bundle directory or .tar. Its file name. Raises DataError, ConfigError for the key."""
    container = open_container(path)
    check_bundle(container)
    name, signature = sign(content(container, CHECKSUMS, MAX_CHECKSUMS_BYTES), key)
    if path.is_dir():
        with atomic_write(path / name) as stream:
            stream.write(signature)
    else:
        write_archive(container, path, {name: signature})
    return name


def export_bundle(source: Path, out: Path) -> bool:
    """Write a bundle, with its signatures, as a .tar or a directory. False where the same one is there already."""
    if out.suffix in PACKED:
        raise UsageError(f"{out}: a bundle is one .tar, not packed, or a directory", "give an --out that ends in .tar")
    container = open_container(source)
    digests = check_bundle(container)[1]
    if out.suffix == ".tar":
        return write_archive(container, out)
    if out.exists():
        raise UsageError(f"{out} exists", "give another --out, or one that ends in .tar")
    fresh = out.with_name(f".{out.name}.{os.getpid()}.part")
    fresh.mkdir(parents=True)
    try:
        unpack(container, digests, fresh)
        return replace_directory(fresh, out, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
