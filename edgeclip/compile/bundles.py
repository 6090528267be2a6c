"""`edgeclip compile`: plans are added to a bundle, which is written anew beside its place and renamed into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeclip.bundle import CHECKSUMS, MANIFEST, Bundle, EngineEntry, Manifest, is_signature, open_bundle, write_digests
from edgeclip.compile.builder import Options
from edgeclip.compile.plans import LAYERS, Compiled, compile_engines
from edgeclip.compile.rivals import INT8
from edgeclip.compile.target import Aim, aim_at
from edgeclip.errors import DataError, EngineError, UsageError
from edgeclip.progress import Progress, Silent
from edgeclip.replace import replace_bundle, require_replaceable
from edgeclip.runtime.backends import PLAN, candidates, open_engine
from edgeclip.runtime.backends.plan_target import HOST_CODE
from edgeclip.runtime.golden import check_golden


@dataclass(frozen=True)
class CompileResult:
    """bundle: where it is. compiled: what was added. tested: whether the golden frames ran on it, here."""

    bundle: Path
    compiled: tuple[Compiled, ...]
    tested: bool


def compile_bundle(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    archs: tuple[tuple[int, int], ...] = (),
    options: Options | None = None,
    workspace: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> CompileResult:
    """Compile a bundle's ONNX engines and add the plans; one for the same TensorRT and GPUs is replaced.

    runtime, archs: see aim_at(). out: where the bundle goes, in the place of `bundle` itself where None. Raises
    EngineError where TensorRT, the GPU or memory is missing or the plan fails its self-test (nothing is written then),
    UsageError for options that contradict each other, DataError for a bundle that TensorRT does not take.
    """
    progress, options = progress or Silent(), options or Options()
    out = out or Path(bundle.origin)
    require_replaceable(out)
    aim = aim_at(runtime, archs)
    if options.version_compatible and not aim.ahead and os.environ.get(HOST_CODE) != "1":
        raise UsageError(
            f"a version-compatible plan brings host code, and runs, in its self-test too, only where {HOST_CODE} is 1",
            f"set {HOST_CODE}=1 here and for `run`, if this bundle is trusted; or leave --version-compatible out",
        )
    with holder_beside(out) as holder:
        fresh = holder / "new"
        fresh.mkdir()
        compiled = compile_engines(
            [(entry, bundle.file(entry.file)) for entry in sources(bundle)], aim, options, fresh, progress, workspace
        )
        plans = [made.entry for made in compiled]
        engines = with_plans(bundle.manifest.engines, plans)
        write_fresh(bundle, msgspec.structs.replace(bundle.manifest, engines=engines), fresh)
        tested = self_test(open_bundle(fresh), plans, aim)
        replace_bundle(fresh, out, holder / "old")
    return CompileResult(out, tuple(compiled), tested)


def sources(bundle: Bundle) -> list[EngineEntry]:
    """The ONNX engines: the image encoder's, and the text encoder's where the bundle has one."""
    # One file may stand there for two runtimes.
    found = list({entry.file: entry for entry in bundle.manifest.engines if entry.format == "onnx"}.values())
    if not any(entry.role == "image" for entry in found):
        raise DataError(f"bundle {bundle.origin} has no image.onnx to compile from", "build it again")
    return found


def with_plans(engines: Sequence[EngineEntry], plans: Sequence[EngineEntry]) -> tuple[EngineEntry, ...]:
    """Plans stand before the other engines of their role; those for the same TensorRT and GPUs go."""
    replaced = {(plan.role, plan.target.runtime, plan.target.gpu_arch) for plan in plans}
    kept = [
        entry
        for entry in engines
        if entry.format != PLAN or (entry.role, entry.target.runtime, entry.target.gpu_arch) not in replaced
    ]
    return tuple(entry for role in ("image", "text") for entry in (*plans, *kept) if entry.role == role)


def write_fresh(bundle: Bundle, manifest: Manifest, fresh: Path) -> None:
    """The bundle's files beside the plans in `fresh`, without those of plans that are replaced."""
    gone = {entry.file for entry in bundle.manifest.engines} - {entry.file for entry in manifest.engines}
    gone |= {name.removesuffix(".plan") + LAYERS for name in gone}
    for path in sorted(bundle.path.iterdir()):
        if path.name not in (MANIFEST, CHECKSUMS, *gone) and not (
            is_signature(path.name) or (fresh / path.name).exists()
        ):
            shutil.copyfile(path, fresh / path.name)
    (fresh / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    write_digests(fresh)


def self_test(bundle: Bundle, plans: list[EngineEntry], aim: Aim) -> bool:
    """Run the golden frames on plans made for this GPU. False where they were made for GPUs that are not here."""
    if aim.ahead:
        return False
    for entry in plans:
        engine = open_engine(bundle, entry, candidates(entry)[0][0])
        try:
            if entry.role == "image":
                check_golden(engine, bundle)
        except EngineError as error:
            if not entry.precision.startswith(INT8):
                raise
            raise EngineError(
                f"the INT8 plan fails its self-test here: {error.message}", "compile with --precision float"
            ) from error
        finally:
            engine.close()
    return True


@contextmanager
def holder_beside(out: Path) -> Iterator[Path]:
    """A directory on the file system of `out`, gone afterwards. Raises DataError where nothing may be written there."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise DataError(f"{out.parent} cannot be written: {error.strerror}", "give --out DIR, or use sudo") from error
    try:
        yield holder
    finally:
        shutil.rmtree(holder, ignore_errors=True)
