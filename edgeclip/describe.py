"""What a bundle says of itself, for `edgeclip inspect`: manifest, engines, what verify measured."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeclip.bundle import CHECKSUMS, Bundle, is_signature
from edgeclip.errors import DataError
from edgeclip.runtime.frames import load_frames
from edgeclip.runtime.golden import load_golden
from edgeclip.runtime.text_bank import load_fixed_bank

REPORT = "report.json"


def describe(bundle: Bundle) -> dict[str, Any]:
    """Ready for JSON. Raises DataError where golden.npz or report.json is not what it should be.

    engines: the manifest's entries, each with its size in bytes. files: every file and its size.
    text.names: what a fixed bank knows. golden: how many frames. frames: of how many it carries the embeddings, or
    None. report: report.json as it is, or None where the bundle has none.
    """
    facts: dict[str, Any] = msgspec.to_builtins(bundle.manifest)
    facts["engines"] = [
        {**msgspec.to_builtins(entry), "bytes": bundle.file(entry.file).stat().st_size}
        for entry in bundle.manifest.engines
    ]
    if bundle.manifest.text.bank is not None:
        facts["text"]["names"] = list(load_fixed_bank(bundle).names)
    carried = load_frames(bundle)
    frames = None if carried is None else {"file": bundle.manifest.frames, "frames": len(carried)}
    files = {path.name: path.stat().st_size for path in sorted(bundle.path.iterdir())}
    return {
        "origin": bundle.origin,
        **facts,
        "golden": {"file": bundle.manifest.golden, "frames": len(load_golden(bundle).frames)},
        "frames": frames,
        "files": files,
        "bytes": sum(files.values()),
        "checked": f"{len([name for name in files if not is_signature(name)]) - 1} files match {CHECKSUMS}",
        "report": report(bundle),
    }


def packed_name(file: str, precision: str) -> str:
    """The name in a bundle of an engine that the report measured: image.static.tflite is image.tflite there.

    Float ONNX stands beside the Q/DQ one, which is always in the bundle.
    """
    role, form = file.split(".")[0], file.rsplit(".", 1)[-1]
    return file if form == "onnx" and precision == "float32" else f"{role}.{form}"


def report(bundle: Bundle) -> dict[str, Any] | None:
    """report.json, or None."""
    path = bundle.file(REPORT)
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}", "build the bundle again") from error
