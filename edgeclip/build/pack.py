"""Pack: everything a bundle holds, written beside its place, opened and self-tested there, then renamed into it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

import edgeclip
from edgeclip.build.compile import PlanFiles
from edgeclip.build.export import Exported
from edgeclip.build.order import Order, tool_versions
from edgeclip.build.quantize import DYNAMIC, ON_OPENVINO, QDQ
from edgeclip.build.report import FLOAT, SENSITIVITY, Candidate, Report
from edgeclip.bundle import (
    FRAMES,
    MANIFEST,
    SCHEMA,
    Bundle,
    Calibration,
    EngineEntry,
    Manifest,
    Target,
    Text,
    open_bundle,
    write_digests,
)
from edgeclip.compile.bundles import with_plans
from edgeclip.errors import DISK
from edgeclip.replace import CARD, replace_bundle
from edgeclip.runtime.backends import PLAN, candidates, open_engine
from edgeclip.runtime.backends.plan_target import runs_here
from edgeclip.runtime.golden import check_golden

OPENVINO = "openvino"
GOLDEN = "golden.npz"
TOKENIZER = "tokenizer.json"
BANK = "text.npz"


def pack(
    order: Order,
    exported: Exported,
    report: Report,
    graphs: Path,
    quantized: Path,
    verified: Path,
    plans: Sequence[PlanFiles] = (),
) -> bool:
    """Write the bundle at order.out (a directory, or one .tar), replacing the one there. False where it is the same."""
    entries = {candidate.file: entry_of(candidate) for candidate in report.kept()}
    files = {
        entry.file: graphs / file.replace(".float.", ".") if entry.precision == FLOAT else quantized / file
        for file, entry in entries.items()
        if entry.target.runtime != OPENVINO  # the same file as the Q/DQ ONNX
    }
    if (verified / SENSITIVITY).exists():
        files[SENSITIVITY] = verified / SENSITIVITY
    files |= {name: verified / name for name in (text_facts(exported).file, GOLDEN, "report.json", "report.md")}
    frames = FRAMES if (verified / FRAMES).exists() else None
    if frames is not None:
        files[frames] = verified / frames
    files |= {path.name: path for made in plans for path in (made.plan, made.layers)}
    manifest = Manifest(
        schema=SCHEMA,
        name=order.plan.recipe.name,
        created=report.created,
        space=exported.space,
        dim=exported.dim,
        scoring=exported.scoring,
        preprocess=exported.preprocess,
        text=text_facts(exported),
        engines=with_plans(tuple(entries.values()), [made.entry for made in plans]),
        golden=GOLDEN,
        frames=frames,
        checkpoint=f"sha256:{order.checkpoint_digest()}",
        calibration=Calibration(str(report.calibration["digest"]), int(report.calibration["frames"])),
        recipe=order.as_data(),
        built_with={"edgeclip": edgeclip.__version__, **tool_versions()},
    )
    return install(manifest, files, order.out)


def entry_of(candidate: Candidate) -> EngineEntry:
    """target.runtime: `tflite` is every TFLite runtime, `litert` LiteRT alone."""
    role, form = candidate.file.split(".")[0], candidate.file.rsplit(".", 1)[1]
    runtime = "onnxruntime" if form == "onnx" else "litert" if candidate.precision == DYNAMIC else "tflite"
    precision = candidate.precision
    if precision == ON_OPENVINO:
        runtime, precision = OPENVINO, QDQ
    entry = {"role": role, "file": candidate.packed, "format": form, "precision": precision}
    return msgspec.convert({**entry, "target": msgspec.to_builtins(Target(runtime))}, EngineEntry)


def text_facts(exported: Exported) -> Text:
    if not exported.tokenizer:
        return Text(templates=exported.templates, bank=BANK)
    return Text(TOKENIZER, exported.context_length, exported.pad_id, exported.templates)


def install(manifest: Manifest, files: dict[str, Path], out: Path) -> bool:
    """Write the files (by their name in the bundle) with manifest and SHA256SUMS beside `out`, check, and rename.

    False where the same bundle is already there.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        fresh = holder / "new"
        fresh.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, fresh / name)
        if out.is_dir() and (out / CARD).is_file():
            shutil.copyfile(out / CARD, fresh / CARD)
        (fresh / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        write_digests(fresh)
        self_test(open_bundle(fresh))
        return replace_bundle(fresh, out, holder / "old")
    except OSError as error:
        if error.errno in DISK:
            error.filename = str(out)  # copyfile() names the file that it read
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def self_test(bundle: Bundle) -> None:
    """Open every engine with the runtime and run the golden frames. Raises DataError or EngineError.

    Plans compiled ahead of time, for other devices than this, are left to them.
    """
    for role in ("image", "text"):
        for entry in bundle.engines(role):
            if entry.format == PLAN and not runs_here(entry.target):
                continue
            engine = open_engine(bundle, entry, candidates(entry)[0][0], threads=1)
            try:
                if role == "image":
                    check_golden(engine, bundle)
            finally:
                engine.close()
