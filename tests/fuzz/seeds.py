"""Good inputs to start from, made here: nothing is downloaded or kept in the repository."""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
from clips import write_clip
from hostile import Files, archive, corpus, files_of, summed
from rtsp_server import moving_bar
from tiny_bundle import write_bundle

LARGEST_HOSTILE = 1 << 16

LABELS = [
    b"dog\ncat\n# a comment\nbird  # after a space\n",
    "\ufeffdelivery: a person carrying a parcel | a van parked at the door\r\ncaf\u00e9\n\u732b\n".encode(),
    b"cardboard box / carton\nratio 3:4\nC#\n" + b"label %d\n" * 3 % (1, 2, 3),
]
LABEL_WORDS = [
    b": ",
    b" | ",
    b"#",
    b" #",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xc2\x85",
    b"\0",
    b"|" * 600,
]
LABEL_WORDS += [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "e\u0301".encode(), "\u1e9e\u0130".encode(), b"dog\n" * 200]

CONFIG = [
    b"source: [rtsp://camera/stream, 'camera:0']\nlabels: /etc/edgeclip/labels.txt\nfps: 5\nmetrics: 127.0.0.1:9464\n",
    b"source: demo\nlabel: [a dog, a cat]\nsink: ['jsonl:out.jsonl']\nwait: true\nthreads: 2\nsmoothing: 0.5\ntop: 3\n",
    b"# all of it\nbundle: current\nwatch: watches.yaml\nunknown: 0.05\ngive_up_s: 604800.0\nkeys: /etc/keys\n"
    b"record: null\nmedia_mb: 0\nrequire_signature: false\nsource: 'https://u:${credential:camera}@host/x'\n",
]
WATCHES = [
    b"labels: [dog, cat, {delivery: [a person carrying a parcel, a van at the door]}]\nunknown: 0.05\nwatches:\n"
    b"  - name: bottle on the table\n    prompts: [a water bottle on a table, a plastic bottle]\n"
    b"    negatives: [an empty table]\n    region: {box: [0.2, 0.3, 0.8, 1.0]}\n    dwell_s: 1.0\n",
    b"watches:\n  - {name: door open, enter: 0.8, leave: 0.4, agree: 0.6, cooldown_s: 3, source: 'rtsp://door*'}\n"
    b"  - name: queue\n    region: {polygon: [[0, 0], [1, 0], [0.5, 1]]}\n    smoothing_s: 2\nbackground: [a wall]\n",
]
YAML_WORDS = [
    b": ",
    b"- ",
    b"\n  ",
    b"? ",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!python/object/apply:os.system [id]",
    b"!!binary x",
]
YAML_WORDS += [
    b"{",
    b"}",
    b"[",
    b"]" * 40,
    b"[" * 2000,
    b"|\n  ",
    b">-\n",
    b"'",
    b'"',
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
]
YAML_WORDS += [
    b"null",
    b"~",
    b"true",
    b"2026-13-45",
    b"!!set {a}",
    b"!!float x",
    b"\t",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
]
YAML_WORDS += [b"&a [*a]", b"a: &a [x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n", b"${credential:../../x}", b"watches:\n"]
THRESHOLDS = [
    b'{"space": "sha256:0", "schema": 1,'
    b' "watches": {"door": {"digest": "sha256:1", "enter": 0.8, "leave": 0.4, "evidence": {}}}}'
]


def tiny_files() -> Files:
    """A whole bundle with small stand-ins for its engines: they are only hashed."""
    with tempfile.TemporaryDirectory() as folder:
        files = files_of(write_bundle(Path(folder) / "tiny"))
    return summed({name: data[:600] if name.startswith(("image.", "text.")) else data for name, data in files.items()})


def archives(files: Files) -> list[bytes]:
    """The good one, and every hostile one that is small."""
    return [archive(files)] * 8 + [data for _, data in corpus(files) if 0 < len(data) <= LARGEST_HOSTILE]


def pictures() -> list[bytes]:
    colour = cv2.resize(moving_bar(3), (40, 30))
    alpha = np.dstack([colour, np.arange(40 * 30, dtype=np.uint8).reshape(30, 40)])
    grey16 = np.arange(40 * 30, dtype=np.uint16).reshape(30, 40) * 50
    made = [
        _encoded(".jpg", colour, cv2.IMWRITE_JPEG_QUALITY, 60),
        _encoded(".jpg", colour, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        _encoded(".jpg", colour[..., 0], cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
        _encoded(".png", colour),
        _encoded(".png", alpha),
        _encoded(".png", grey16),
        _encoded(".webp", alpha),
        _encoded(".bmp", colour),
        _encoded(".tiff", colour),
    ]
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    jpeg = made[0]
    return [*made, jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]]


def _encoded(suffix: str, pixels: object, *settings: int) -> bytes:
    written, data = cv2.imencode(suffix, pixels, list(settings))
    assert written
    return bytes(data)


def png_with_sums(data: bytes) -> bytes:
    """The PNG with the CRC of every chunk made to fit, so that a decoder goes on behind them."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def films() -> list[bytes]:
    """H.264 in MP4 and bare (Annex B, as a stream carries it), eight frames each."""
    with tempfile.TemporaryDirectory() as folder:
        mp4 = write_clip(Path(folder) / "clip.mp4", 8).read_bytes()
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate, encoder.thread_count = 64, 48, "yuv420p", 25, 1
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
    frames = [av.VideoFrame.from_ndarray(moving_bar(index, 64, 48), format="bgr24") for index in range(8)]
    packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
    return [mp4, b"".join(map(bytes, packets))]


PLAYLISTS = [
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    b"ffconcat version 1.0\nfile /etc/hostname\nfile http://127.0.0.1:9/a.ts\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
]
