"""Installations killed with SIGKILL at any moment, and what is in force after each: `make soak-install CYCLES=1000`.

Two bundles, A and B, are installed in turn into one store by a forked child, which is killed after a random time. Every
time `current` must lead to a whole bundle whose every digest matches, state.json must read, and the store must go on.
Each tenth child runs the real self-test; in the others it is left out, so that the kills fall into the writing.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import msgspec
from tiny_bundle import write_bundle

from edgeclip.bundle import check_bundle, write_digests
from edgeclip.container import open_container
from edgeclip.install import Policy, install
from edgeclip.replace import write_archive
from edgeclip.selftest import Passed, self_test
from edgeclip.store import CURRENT, Store


def soak(folder: Path, cycles: int, seed: int = 1, real_every: int = 10) -> Counter[str]:
    """Counts of how the cycles ended. Raises AssertionError at the first torn or missing bundle."""
    packs = [_pack(folder, name) for name in ("a", "b")]
    store = Store(folder / "state" / "bundles")
    (folder / "state").mkdir()
    install(packs[0], store, Policy())
    began_s = time.monotonic()
    install(packs[1], store, Policy(), _untested)
    usual_s = time.monotonic() - began_s
    chance, counts = random.Random(seed), Counter[str]()
    for cycle in range(cycles):
        real = real_every and cycle % real_every == 0
        before = store.target(CURRENT)
        child = os.fork()
        if child == 0:
            _install_and_exit(packs, store, self_test if real else _untested)
        time.sleep(chance.uniform(0.0, 3.0 if real else 3.0 * usual_s))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"cycle {cycle}: the installation failed"
        now = check_store(store)
        counts["killed" if os.WIFSIGNALED(status) else "done before the kill"] += 1
        counts["switched" if now != before else "as before"] += 1
        counts["left something to sweep"] += any(entry.name.startswith(".inc") for entry in store.path.iterdir())
    with store.locked():
        store.sweep()
        store.settle()
        store.prune()
    assert len(store.names()) <= 2
    return counts


def check_store(store: Store) -> str:
    """What is in force, every byte of it checked."""
    current = store.target(CURRENT)
    assert current is not None, "no bundle is in force"
    check_bundle(open_container(store.path / current))
    for name in store.names():
        check_bundle(open_container(store.path / name))
    store.state()
    store.listed()
    return current


def _pack(folder: Path, name: str) -> Path:
    bundle = write_bundle(folder / name)
    facts = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(
        msgspec.json.encode({**facts, "created": f"2026-01-01T00:00:0{ord(name) % 2}Z"})
    )
    (bundle / "filler.bin").write_bytes(os.urandom(1 << 20))  # a bundle of some size: more time inside the writing
    write_digests(bundle)
    write_archive(open_container(bundle), folder / f"{name}.tar")
    return folder / f"{name}.tar"


def _untested(fresh: Path) -> Passed:
    return Passed("none", 0, 1.0)


def _install_and_exit(packs: list[Path], store: Store, test: object) -> None:
    try:
        current = store.target(CURRENT) or ""
        other = packs[1] if _is(packs[0], current) else packs[0]
        install(other, store, Policy(), test)  # type: ignore[arg-type]
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _is(pack: Path, name: str) -> bool:
    from edgeclip.install import check

    return name.startswith(check(pack, Policy()).id)


def main() -> None:
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as holder:
        counts = soak(Path(holder), cycles)
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{cycles} installations, {time.monotonic() - began_s:.0f} s: {told}; never a torn or missing bundle")


if __name__ == "__main__":
    main()
