"""CSI cameras and hardware decoders, through a GStreamer pipeline that OpenCV runs.

OpenCV from pip is built without GStreamer; the system's (JetPack's, Debian's python3-opencv) has it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import cv2

from edgeclip.errors import SourceError
from edgeclip.runtime.sources.address import redacted
from edgeclip.runtime.sources.capture import next_picture, nominal_fps, opened
from edgeclip.types import Pixels

TEGRA = Path("/etc/nv_tegra_release")  # present on Jetson
SINK = "appsink max-buffers=1 drop=true sync=false"
CSI_DEFAULTS = {"width": "1280", "height": "720", "fps": "30", "flip": "0"}


def csi_pipeline(uri: str) -> str:
    """csi://0, or csi://0?width=1920&height=1080&fps=30&flip=2, as a pipeline for a Jetson's camera port."""
    parts = urlsplit(uri)
    options = {**CSI_DEFAULTS, **dict(parse_qsl(parts.query, keep_blank_values=True))}
    numbers = [parts.netloc, *options.values()]
    if parts.path not in ("", "/") or set(options) != set(CSI_DEFAULTS) or not all(n.isdecimal() for n in numbers):
        raise SourceError(
            f"{uri}: not a CSI camera address", "write csi://0 or csi://0?width=1280&height=720&fps=30&flip=0"
        )
    return (
        f"nvarguscamerasrc sensor-id={parts.netloc} ! "
        f"video/x-raw(memory:NVMM),width={options['width']},height={options['height']},framerate={options['fps']}/1 ! "
        f"nvvidconv flip-method={options['flip']} ! video/x-raw,format=BGRx ! "
        f"videoconvert ! video/x-raw,format=BGR ! {SINK}"
    )


def decoded_pipeline(url: str) -> str:
    """A pipeline for a stream or file URL with the decoder GStreamer ranks first: on a Jetson, the hardware's."""
    convert = "nvvidconv ! video/x-raw,format=BGRx ! videoconvert" if TEGRA.exists() else "videoconvert"
    return f'uridecodebin uri="{url}" ! {convert} ! video/x-raw,format=BGR ! {SINK}'


def completed_pipeline(text: str) -> str:
    """What follows "gst:": a URL, a pipeline, or a pipeline that lacks its end (BGR into an appsink)."""
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        return decoded_pipeline(text)
    return text if re.search(r"\bappsink\b", text) else f"{text} ! videoconvert ! video/x-raw,format=BGR ! {SINK}"


def require_gstreamer(name: str) -> None:
    """Raise SourceError, saying what is missing and how to get it, unless this OpenCV can run pipelines."""
    if re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        return
    raise SourceError(
        f"{name} needs GStreamer, and this OpenCV {cv2.__version__} ({Path(cv2.__file__).parent}) is built without it",
        "use the system's OpenCV, which has it (JetPack brings it; Debian and Ubuntu: apt install python3-opencv "
        "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad): make the environment with "
        "`python3 -m venv --system-site-packages` and run `pip uninstall opencv-python-headless` in it",
    )


class Pipeline:
    """Reads a GStreamer pipeline that ends in an appsink. The appsink keeps one buffer, the newest."""

    live = True
    paced = False

    def __init__(self, name: str, pipeline: str, *, max_fps: float | None = None) -> None:
        self.name = redacted(name)
        self.pipeline = pipeline
        self.fps: float | None = None
        self.max_fps = max_fps
        self._capture: cv2.VideoCapture | None = None
        require_gstreamer(self.name)

    def open(self) -> None:
        self._capture = opened(self.pipeline, cv2.CAP_GSTREAMER)
        if self._capture is None:
            raise SourceError(
                f"{self.name}: the GStreamer pipeline does not start",
                f"see why with: gst-launch-1.0 -v {redacted(self.pipeline)}",
            )
        self.fps = nominal_fps(self._capture)

    def read(self) -> Pixels:
        picture = next_picture(self._capture) if self._capture is not None else None
        if picture is None:
            raise SourceError(f"{self.name}: the pipeline ended or stopped delivering")
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise SourceError(
                f"{self.name}: the pipeline delivers {picture.shape} pictures, not BGR",
                "end it with: videoconvert ! video/x-raw,format=BGR ! appsink max-buffers=1 drop=true",
            )
        return picture

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def csi(uri: str, *, max_fps: float | None = None) -> Pipeline:
    return Pipeline(uri, csi_pipeline(uri), max_fps=max_fps)


def gst(uri: str, *, max_fps: float | None = None) -> Pipeline:
    return Pipeline(uri, completed_pipeline(uri.removeprefix("gst:").strip()), max_fps=max_fps)
