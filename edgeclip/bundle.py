"""The bundle: a directory (or the same as one .tar) that BUILD writes and RUN opens. Checked on open, refused loudly.

The format, as MUSTs, is in docs/bundle.md; this file is its only reader.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgeclip.atomic import sync_directory
from edgeclip.container import NAME, Container, Directory, content, open_container
from edgeclip.errors import DataError
from edgeclip.signature import SIGNATURE
from edgeclip.state import store_path

SCHEMA = 1
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
FRAMES = "frames.npz"
STORED = "current"
MOST_FRAMES = 4096  # whose embeddings a bundle carries
MAX_MANIFEST_BYTES = MAX_CHECKSUMS_BYTES = 1 << 20

Unit = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How similarities become scores: softmax(scale * s), or sigmoid(scale * s + bias) for each label."""

    kind: Literal["softmax", "sigmoid"]
    scale: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)]
    bias: float = 0.0


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of the training-time preprocessing. The graph holds mean and std; the host resizes and crops.

    size: (height, width) of the engine's input. resize: "shortest" scales the shorter side to fit and
    crops the centre; "squash" ignores the aspect ratio. mean, std: of pixels in 0..1, RGB order.
    """

    size: tuple[Size, Size]
    resize: Literal["shortest", "squash"]
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[Unit, Unit, Unit]
    std: tuple[Unit, Unit, Unit]
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    colour: Literal["RGB"] = "RGB"


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The text side: a text engine's tokenizer file and ids per prompt, or a fixed bank of texts (an .npz).

    templates: what a label stands for, "{}" being its name.
    """

    tokenizer: FileName | None = None
    context_length: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    pad_id: Annotated[int, msgspec.Meta(ge=0)] = -1
    templates: Annotated[tuple[str, ...], msgspec.Meta(max_length=128)] = ()
    bank: FileName | None = None

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.bank is None):
            raise ValueError("text names either a tokenizer or a bank")
        if not self.templates:
            raise ValueError("text has no templates")
        if self.tokenizer is not None and (self.context_length < 1 or self.pad_id < 0):
            raise ValueError("text with a tokenizer has a context_length and a pad_id")

    @property
    def file(self) -> str:
        """The tokenizer, or the bank."""
        return self.tokenizer or self.bank or ""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine file was compiled for and runs on."""

    runtime: str
    version: str = ""
    gpu_arch: str = ""
    jetpack: str = ""


class EngineEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["image", "text"]
    file: FileName
    format: Literal["tflite", "onnx", "plan"]
    precision: str  # "int8 static", "int8 dynamic-range", "float32", ...
    target: Target


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digest: Digest
    frames: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    schema: int
    name: FileName
    created: str  # ISO 8601, UTC
    space: Digest  # embedding space id: digest of the float encoders
    dim: Size
    scoring: Scoring
    preprocess: Preprocess
    text: Text
    engines: Annotated[tuple[EngineEntry, ...], msgspec.Meta(min_length=1, max_length=64)]
    golden: FileName
    checkpoint: Digest
    calibration: Calibration
    recipe: dict[str, Any]
    built_with: dict[str, str] = {}
    frames: FileName | None = None


@dataclass(frozen=True)
class Bundle:
    """An opened, checked bundle. `path` is a directory; `origin` is what the user named."""

    path: Path
    origin: str
    manifest: Manifest

    def file(self, name: str) -> Path:
        return self.path / name

    def engines(self, role: str) -> list[EngineEntry]:
        """Entries for a role, in the order the builder preferred them."""
        return [entry for entry in self.manifest.engines if entry.role == role]


def default_bundle() -> Path:
    """engines/nano: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "engines" / "nano", package.parent / "engines" / "nano"):
        if (candidate / MANIFEST).is_file():
            return candidate
    raise DataError(
        "no bundle given, and the nano bundle is not part of this installation",
        "name one with --bundle PATH, or reinstall the edgeclip wheel",
    )


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open and check a bundle directory or .tar; "current" is the one that `edgeclip bundle install` put in force.

    Every file named in SHA256SUMS is hashed; every file present must be named there. Raises DataError.
    """
    origin = Path(path) if path is not None else default_bundle()
    if str(origin) == STORED and not origin.exists():
        origin = store_path() / STORED
        if not origin.exists():
            raise DataError(f"no bundle is installed in {origin.parent}", "install one: edgeclip bundle install FILE")
    if not origin.exists():
        raise DataError(f"bundle {origin} does not exist", "check the path")
    if origin.is_symlink():  # it may lead elsewhere tomorrow; this bundle is the one it leads to now
        origin = origin.resolve()
    if origin.is_file() and origin.suffix != ".tar" and (origin.parent / MANIFEST).is_file():
        raise DataError(f"{origin} is one file of a bundle", f"give the bundle: {origin.parent}")
    container = open_container(origin)
    manifest, digests = check_bundle(container)
    bundle = Bundle(origin if origin.is_dir() else _unpack(container, digests), str(origin), manifest)
    _hold(bundle)
    return bundle


def check_bundle(container: Container) -> tuple[Manifest, dict[str, str]]:
    """Everything that can be said of a bundle without running it; nothing is written.

    Its manifest, and the digests of its files by name, signatures left out. Raises DataError.
    """
    digests = check_digests(container)
    manifest = read_manifest(content(container, MANIFEST, MAX_MANIFEST_BYTES), f"{container.origin}: {MANIFEST}")
    carried = [manifest.frames] if manifest.frames is not None else []
    for name in [manifest.text.file, manifest.golden, *carried, *(entry.file for entry in manifest.engines)]:
        if name not in digests:
            raise DataError(
                f"bundle {container.origin}: {MANIFEST} names {name}, which is missing", "build or copy it again"
            )
    if manifest.text.bank is not None and any(entry.role == "text" for entry in manifest.engines):
        raise DataError(f"bundle {container.origin}: {MANIFEST} names a text engine beside a bank", "build it again")
    return manifest, digests


def read_manifest(raw: bytes, origin: str) -> Manifest:
    try:
        schema = msgspec.json.decode(raw, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise DataError(
                f"{origin}: schema {str(schema)[:40]}, and this edgeclip reads schema {SCHEMA}",
                "install the edgeclip version that built the bundle, or build it again",
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fix = "the bundle is damaged or not an edgeclip bundle: build it again"
        if "unknown field" in str(error):
            fix = "a newer edgeclip may have built it: bring this one up to date, or build the bundle again"
        raise DataError(f"{origin}: {error}", fix) from error


def check_digests(container: Container) -> dict[str, str]:
    """Compare every file with SHA256SUMS, both ways; the digests by name."""
    origin, sums = container.origin, f"{container.origin}: {CHECKSUMS}"
    if MANIFEST not in container.files or CHECKSUMS not in container.files:
        raise DataError(
            f"{origin} is not an edgeclip bundle: no {MANIFEST} or no {CHECKSUMS}",
            "give the directory that `edgeclip build` wrote, or its .tar",
        )
    expected: dict[str, str] = {}
    raw = content(container, CHECKSUMS, MAX_CHECKSUMS_BYTES)
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not NAME.fullmatch(name) or name in expected:
            raise DataError(f"{sums}:{number}: not a 'sha256  name' line", "build or copy the bundle again")
        expected[name] = digest
    present = {name for name in container.files if name != CHECKSUMS and not is_signature(name)}
    for name in sorted(present - set(expected)):
        raise DataError(f"bundle {origin}: {name} is not listed in {CHECKSUMS}", "remove the file, or build again")
    for name in sorted(set(expected) - present):
        raise DataError(f"bundle {origin}: {name} is missing", "copy the bundle again")
    for name, digest in sorted(expected.items()):
        if _digest(container.blocks(name)) != digest:
            raise DataError(f"bundle {origin}: {name} does not match {CHECKSUMS}: it is damaged", "copy it again")
    return {**expected, CHECKSUMS: hashlib.sha256(raw).hexdigest()}


def write_digests(directory: Path) -> None:
    """Write SHA256SUMS for every file in `directory`; signatures of what was there before go."""
    container = Directory(directory, str(directory))
    for name in filter(is_signature, container.files):
        (directory / name).unlink()
    names = [name for name in container.files if name != CHECKSUMS and not is_signature(name)]
    (directory / CHECKSUMS).write_text("".join(f"{_digest(container.blocks(name))}  {name}\n" for name in names))


def is_signature(name: str) -> bool:
    """Whether a file is one of SHA256SUMS.KEYID.sig, which SHA256SUMS does not list."""
    return SIGNATURE.fullmatch(name) is not None


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return _digest(iter(lambda: stream.read(1 << 20), b""))


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def unpack(container: Container, digests: Mapping[str, str], directory: Path) -> None:
    """Write every file into `directory`, fsynced. Raises DataError where one no longer matches `digests`."""
    for name in container.files:
        digest = hashlib.sha256()
        with open(directory / name, "xb") as out:
            for block in container.blocks(name):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digests.get(name, digest.hexdigest()) != digest.hexdigest():
            raise DataError(f"{container.origin} changed while it was read", "copy it again")
    sync_directory(directory)


def _hold(bundle: Bundle) -> None:
    """As long as the bundle is in use, its directory is locked, shared: `edgeclip bundle install` and `remove` leave it
    where it is, and so does systemd-tmpfiles(8), which else takes a ten days old file from an unpacked archive."""
    try:
        fd = os.open(bundle.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    weakref.finalize(bundle, os.close, fd)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_held(directory: Path) -> bool:
    """Whether a process, this one or another, has the bundle there open."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


_unpacked: dict[str, tempfile.TemporaryDirectory[str]] = {}  # by digest, so that a reload takes no more room


def _unpack(container: Container, digests: Mapping[str, str]) -> Path:
    digest = digests[CHECKSUMS]
    if digest not in _unpacked:
        holder = tempfile.TemporaryDirectory(prefix="edgeclip-bundle-")
        unpack(container, digests, Path(holder.name))
        _unpacked[digest] = holder  # removed at exit
    return Path(_unpacked[digest].name)
