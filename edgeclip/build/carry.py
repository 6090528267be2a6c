"""Frames whose embeddings a bundle carries, for what is taught later: chosen in a build, or added to a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edgeclip.build.calibrate import Batch, counted, load_frames, require_enough, select
from edgeclip.build.frames import frames_of, spread
from edgeclip.build.recipe import Sampling
from edgeclip.bundle import FRAMES, MOST_FRAMES, Bundle, open_bundle
from edgeclip.compile.bundles import holder_beside, write_fresh
from edgeclip.errors import UsageError
from edgeclip.progress import Progress
from edgeclip.replace import replace_bundle, require_replaceable
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.frames import FEWEST_FRAMES, frames_file
from edgeclip.runtime.frames import load_frames as check_frames
from edgeclip.runtime.golden import check_golden
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.rows import Rows

FRAMES_PER_CARRIED = 3  # looked at: duplicates and blank ones are left out


@dataclass(frozen=True)
class Carried:
    """bundle: where it is. frames: how many it carries now. bytes: of their file. changed: False where nothing has."""

    bundle: Path
    frames: int
    bytes: int
    changed: bool


def carried_frames(calibrated: Path, sampling: Sampling) -> list[Batch]:
    """Frames [1, H, W, 3] of a build's calibration set, held out or not. calibrated: what calibrate() left."""
    if not sampling.carry:
        return []
    return spread([frame[None] for frame in np.concatenate(load_frames(calibrated))], sampling.carry, sampling.seed)


def add_frames(bundle: Bundle, place: str, most: int | None, out: Path | None, progress: Progress) -> Carried:
    """Give a bundle the embeddings of pictures at `place`, by its own image engine, in the place of those it has.

    place: what `edgeclip build --calibration` takes. most: how many, at most. out: where the bundle goes, in its own
    place where None. Raises DataError where there are fewer than 64 distinct ones, EngineError where no engine runs,
    UsageError for a number of frames that no bundle may carry.
    """
    if most is not None and not FEWEST_FRAMES <= most <= MOST_FRAMES:
        raise UsageError(f"--frames {most}: a bundle carries {FEWEST_FRAMES} to {MOST_FRAMES}", "256 are usual")
    sampling = Sampling() if most is None else Sampling(carry=most)
    out = out or Path(bundle.origin)
    require_replaceable(out)
    frames = frames_of(place, FRAMES_PER_CARRIED * sampling.carry, sampling.seed)
    engine = load_engine(bundle, "image")
    try:
        check_golden(engine, bundle)
        progress.stage("frames")
        selection = select(counted(frames, progress), Preprocessor(bundle.manifest.preprocess), sampling)
        require_enough(selection, place)
        chosen = spread(selection.frames, sampling.carry, sampling.seed)
        progress.stage("embeddings", len(chosen))
        run = Rows(engine).run
        rows = []
        for frame in chosen:
            rows.append(run(frame)[:1].copy())
            progress.advance()
        progress.done()
    finally:
        engine.close()
    with holder_beside(out) as holder:
        fresh = holder / "new"
        fresh.mkdir()
        (fresh / FRAMES).write_bytes(frames_file(np.concatenate(rows)))
        write_fresh(bundle, msgspec.structs.replace(bundle.manifest, frames=FRAMES), fresh)
        check_frames(open_bundle(fresh))
        size = (fresh / FRAMES).stat().st_size
        changed = replace_bundle(fresh, out, holder / "old")
    return Carried(out, len(chosen), size, changed)
