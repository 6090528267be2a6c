"""Heaps of threads: counted in the map of a real process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

THREADS = """
import ctypes, re, sys, threading
from edgeclip.arenas import limit_arenas

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


FREED = """
import ctypes, re, sys, time
from edgeclip.arenas import give_back, keep_giving_back

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(16384) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 16384)
for block in [block for number, block in enumerate(blocks) if number % 50]:
    libc.free(block)

def resident_kb() -> int:
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])

before = resident_kb()
if sys.argv[1] == "once":
    assert give_back()
else:
    keep_giving_back(0.1)
    deadline_s = time.monotonic() + 30
    while before - resident_kb() < 20_000 and time.monotonic() < deadline_s:
        time.sleep(0.05)
print(before - resident_kb())
"""


def said(program: str, *arguments: str) -> int:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")


@glibc
def test_threads_share_two_heaps() -> None:
    assert said(THREADS, "as it is") > 5
    assert said(THREADS, "limited") <= 2


@glibc
@pytest.mark.parametrize("how", ["once", "again and again"])
def test_what_is_free_between_what_is_used_is_given_back(how: str) -> None:
    assert said(FREED, how) > 20_000  # of 31 MB
