"""Where frames come from, by URI: a table of kinds, each resolved once. A new source is a file and a line here."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from edgeclip.errors import SourceError, UsageError
from edgeclip.registry import resolve
from edgeclip.runtime.sources.address import redacted
from edgeclip.types import Source

SOURCES = {
    "camera": "edgeclip.runtime.sources.camera:Camera",
    "network": "edgeclip.runtime.sources.network:NetworkStream",
    "video": "edgeclip.runtime.sources.video:VideoFile",
    "pictures": "edgeclip.runtime.sources.pictures:Pictures",
    "csi": "edgeclip.runtime.sources.gstreamer:csi",
    "gst": "edgeclip.runtime.sources.gstreamer:gst",
    "demo": "edgeclip.runtime.sources.demo:Demo",
}
SCHEMES = {"rtsp": "network", "rtsps": "network", "http": "network", "https": "network", "csi": "csi"}
FORMS = (
    "sources: 0 or /dev/video0 (camera), rtsp://HOST/PATH, http://HOST/PATH (MJPEG), clip.mp4, photo.jpg, "
    "frames/ (directory), 'shots/*.jpg', csi://0, gst:PIPELINE, demo"
)


def open_source(
    uri: str,
    *,
    fps: float | None = None,
    realtime: bool = False,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 2.0,
) -> Source:
    """The source that `uri` names, constructed and not yet opened.

    fps: hand on at most this many frames a second. A live source's other frames are passed over as they come; of a
    file every k-th is taken, k the smallest that keeps to the limit at the file's own rate; pictures without
    realtime have no rate, and all are used.
    realtime: play a file like a camera, at its own rate (pictures: at `fps`), newest frame wins.
    open_timeout_s, read_timeout_s: for streams and cameras.
    Raises SourceError for an unknown form or a missing file, DataError for a directory without pictures.
    """
    if fps is not None and not 0.0 < fps <= 1000.0:
        raise UsageError(f"--fps {fps}: must be more than 0 and at most 1000")
    if uri == "demo":
        return _make("demo", max_fps=fps)
    camera = re.fullmatch(r"(?:camera:)?(\d{1,3}|/dev/.+)", uri)
    if camera:
        return _make("camera", camera[1], max_fps=fps, read_timeout_s=read_timeout_s)
    if uri.startswith("gst:"):
        return _make("gst", uri, max_fps=fps)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme:
        kind = SCHEMES.get(scheme[1].lower())
        if kind == "network":
            return _make(kind, uri, max_fps=fps, open_timeout_s=open_timeout_s, read_timeout_s=read_timeout_s)
        if kind is not None:
            return _make(kind, uri, max_fps=fps)
        raise SourceError(f"{redacted(uri)}: no source has the scheme {scheme[1]}://", FORMS)
    return _from_path(uri, fps=fps, realtime=realtime)


def _from_path(uri: str, *, fps: float | None, realtime: bool) -> Source:
    path = Path(uri).expanduser()
    if not uri:
        raise SourceError("the source is empty", FORMS)
    if path.is_dir():
        paths = resolve("edgeclip.runtime.sources.pictures:in_directory")(path)
        return _make("pictures", uri, paths, realtime=realtime, max_fps=fps)
    if not path.exists() and glob.has_magic(uri):
        natural = resolve("edgeclip.runtime.sources.pictures:natural")
        matches = sorted(filter(Path.is_file, map(Path, glob.glob(str(path), recursive=True))), key=natural)
        if not matches:
            raise SourceError(f"{uri} matches no file", "check the pattern; ** stands for folders at any depth")
        is_picture = resolve("edgeclip.runtime.sources.pictures:is_picture")
        if not any(map(is_picture, matches)):
            raise SourceError(f"{uri} matches no picture", f"of films, give each by itself: --source {matches[0]}")
        return _make("pictures", uri, matches, realtime=realtime, max_fps=fps)
    if not path.exists():
        raise SourceError(f"{uri}: no such file, and no other form of source", FORMS)
    if not path.is_file():
        raise SourceError(f"{uri} is not a file or a directory", FORMS)
    if resolve("edgeclip.runtime.sources.pictures:is_picture")(path):
        return _make("pictures", uri, [path], realtime=realtime, max_fps=fps)
    return _make("video", str(path), realtime=realtime, max_fps=fps)


def _make(kind: str, *arguments: object, **options: object) -> Source:
    factory = resolve(SOURCES[kind], what=f"the {kind} source", error=SourceError)
    source: Source = factory(*arguments, **options)
    return source
