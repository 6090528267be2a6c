"""Heaps of threads: counted in the map of a real process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

THREADS = """
import ctypes, re, sys, threading
from edgeclip.runtime.arenas import limit_arenas

if sys.argv[1] == "limited":
    assert limit_arenas()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(13)

def some() -> None:
    malloc(1000)
    barrier.wait(60)
    barrier.wait(60)

for _ in range(12):
    threading.Thread(target=some).start()
barrier.wait(60)
spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in open("/proc/self/maps")]
barrier.wait(60)
heaps = {begin for begin, _ in spans if begin % (64 << 20) == 0}  # glibc lays them on 64 MB
print(len(heaps))
"""


def heaps(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", THREADS, how], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")
def test_threads_share_two_heaps() -> None:
    assert heaps("as it is") > 5
    assert heaps("limited") <= 2
