"""The bundle: a directory (or the same as one .tar) that BUILD writes and RUN opens. Checked on open, refused loudly.

The format, as MUSTs, is in docs/bundle.md; this file is its only reader.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgeclip.errors import DataError

SCHEMA = 1
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
MAX_MANIFEST_BYTES = 1 << 20

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


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text side: tokenizer file, ids per prompt, and the prompt templates ("{}" is the label)."""

    tokenizer: FileName
    context_length: Size
    pad_id: Annotated[int, msgspec.Meta(ge=0)]
    templates: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=128)]


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


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    """Open and check a bundle directory or .tar.

    Every file named in SHA256SUMS is hashed; every file present must be named there. Raises DataError.
    """
    origin = Path(path) if path is not None else default_bundle()
    if not origin.exists():
        raise DataError(f"bundle {origin} does not exist", "check the path given to --bundle")
    directory = origin if origin.is_dir() else _unpack(origin)
    check_digests(directory, str(origin))
    manifest = read_manifest(directory / MANIFEST)
    for name in [manifest.text.tokenizer, manifest.golden, *(entry.file for entry in manifest.engines)]:
        if not (directory / name).is_file():
            raise DataError(f"bundle {origin}: {MANIFEST} names {name}, which is missing", "build or copy it again")
    return Bundle(directory, str(origin), manifest)


def read_manifest(path: Path) -> Manifest:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise DataError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes", "this is not an edgeclip manifest")
    raw = path.read_bytes()
    try:
        schema = msgspec.json.decode(raw, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise DataError(
                f"{path}: schema {schema!r}, and this edgeclip reads schema {SCHEMA}",
                "install the edgeclip version that built the bundle, or build it again",
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {error}", "the bundle is damaged or not an edgeclip bundle: build it again"
        ) from error


def check_digests(directory: Path, origin: str) -> None:
    """Compare every file with SHA256SUMS, both ways."""
    sums = directory / CHECKSUMS
    if not (directory / MANIFEST).is_file() or not sums.is_file():
        raise DataError(
            f"{origin} is not an edgeclip bundle: no {MANIFEST} or no {CHECKSUMS}",
            "give the directory that `edgeclip build` wrote, or its .tar",
        )
    expected: dict[str, str] = {}
    for number, line in enumerate(sums.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or "/" in name or name.startswith("."):
            raise DataError(f"{sums}:{number}: not a 'sha256  name' line", "build or copy the bundle again")
        expected[name] = digest
    present = {entry.name for entry in directory.iterdir() if entry.name != CHECKSUMS}
    for name in sorted(present - set(expected)):
        raise DataError(f"bundle {origin}: {name} is not listed in {CHECKSUMS}", "remove the file, or build again")
    for name in sorted(set(expected) - present):
        raise DataError(f"bundle {origin}: {name} is missing", "copy the bundle again")
    for name, digest in sorted(expected.items()):
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise DataError(f"bundle {origin}: {name} is not a plain file", "copy the bundle again")
        if sha256(path) != digest:
            raise DataError(f"bundle {origin}: {name} does not match {CHECKSUMS}: it is damaged", "copy it again")


def write_digests(directory: Path) -> None:
    """Write SHA256SUMS for every file in `directory`."""
    names = sorted(entry.name for entry in directory.iterdir() if entry.name != CHECKSUMS)
    (directory / CHECKSUMS).write_text("".join(f"{sha256(directory / name)}  {name}\n" for name in names))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_unpacked: list[tempfile.TemporaryDirectory[str]] = []  # removed at exit


def _unpack(archive: Path) -> Path:
    """Unpack a bundle .tar into a temporary directory: plain files, one level, bounded in size and number."""
    holder = tempfile.TemporaryDirectory(prefix="edgeclip-bundle-")
    _unpacked.append(holder)
    total = 0
    try:
        with tarfile.open(archive) as tar:
            for count, member in enumerate(tar):
                name = member.name.removeprefix("./")
                if member.isdir() and name in ("", "."):
                    continue
                total += member.size
                if not member.isfile() or "/" in name or name.startswith(".") or count > 256 or total > 4 << 30:
                    raise DataError(f"{archive}: refused member {member.name!r}", "this is not an edgeclip bundle")
                stream = tar.extractfile(member)
                if stream is None:
                    raise DataError(f"{archive}: cannot read {member.name!r}", "copy the archive again")
                with open(Path(holder.name) / name, "xb") as out:
                    while block := stream.read(1 << 20):
                        out.write(block)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive}: {error}", "this is not a readable bundle archive: copy it again") from error
    return Path(holder.name)
