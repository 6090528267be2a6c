"""The process itself, from its start to its end."""

from __future__ import annotations

import subprocess
import sys

LEFT_BEHIND = """
import sys, threading, time
import cv2, numpy
from edgeclip import cli
from edgeclip.__main__ import start

def main():
    picture = numpy.zeros((1500, 1500, 3), numpy.uint8)
    def blur():
        while True:
            cv2.GaussianBlur(picture, (31, 31), 5)
    for _ in range(2):
        threading.Thread(target=blur, daemon=True).start()
    time.sleep(0.2)
    print("the last line")
    return 65

cli.main = main
sys.exit(start())
"""


def test_a_thread_that_was_left_in_opencv_does_not_abort_the_end() -> None:
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (65, "the last line\n", "")
