"""Image towers in every engine a user could run them in, side by side: time, accuracy, memory, start-up, size.

    python benchmarks/image_tower.py [--model nano --model vit-b-32 ...] [--clip FILE --text-bank FILE] [--quick]
    python benchmarks/image_tower.py --prepare ...    # the builds, which take hours; measure later, in a quiet one

Our bundles are built by our own build, from the float weights that the peers get too, and calibrated on the same
frames; what is measured are frames held out of calibration. Each contender lives in a process of its own, and they take
turns in one run, so that a busy machine slows all alike: compare ratios within a table. Everything made is kept in
--work.

Cosine is to torch's float embeddings, after their mean is subtracted; "agrees" is how often the nearest text is theirs.
"of peak" is what an engine does of the INT8 multiplications that the machine's fastest INT8 GEMM does in that time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import contenders
import roofline
import towers
from contenders import Contender, Measured

from edgeclip.build.compare import machine
from edgeclip.build.measure import best, distance
from edgeclip.errors import EdgeclipError
from edgeclip.progress import Progress, progress_for

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REFERENCE = "torch eager"


@dataclass(frozen=True)
class Row:
    """One engine at one thread count. behind: its time over that of the engine of ours that `edgeclip run` takes."""

    tower: str
    name: str
    threads: int
    median_ms: float
    behind: float
    centred_cosine: float
    agrees: float | None
    megabytes: float
    peak_mb: float
    startup_s: float
    of_peak: float | None
    chosen: bool
    failed: str = ""


@dataclass(frozen=True)
class Table:
    tower: str
    frames: int
    rows: list[Row]
    notes: list[str]


def measure_tower(
    name: str, wanted: towers.Wanted, peaks: dict[int, roofline.Peak], rounds: int, timed: int, progress: Progress
) -> Table:
    prepared = towers.prepare(name, wanted, progress)
    rows: list[Row] = []
    notes = list(prepared.notes)
    for count, peak in peaks.items():
        progress.stage(f"{name}: {count} thread{'s' * (count > 1)}", len(prepared.contenders) + rounds)
        found, failed = contenders.measure(
            prepared.contenders, count, rounds, prepared.frames, timed, lambda: progress.advance()
        )
        progress.done()
        notes += [f"{who} on {count}: {why}" for who, why in failed.items()]
        rows += rows_of(name, prepared, found, count, peak)
    return Table(towers.TOWERS[name].title, len(prepared.frames), rows, notes)


def rows_of(
    name: str, prepared: towers.Prepared, found: dict[str, Measured], threads: int, peak: roofline.Peak
) -> list[Row]:
    reference = found[REFERENCE].rows
    chosen = next(one.name for one in prepared.contenders if one.chosen)
    rows = []
    for contender in prepared.contenders:
        if contender.name not in found:
            continue
        one = found[contender.name]
        agrees = None
        if prepared.texts is not None:
            said, wanted = (best(rows_, prepared.texts)[:, 0] for rows_ in (one.rows, reference))
            agrees = float((said == wanted).mean())
        rows.append(
            Row(
                tower=name,
                name=contender.name,
                threads=threads,
                median_ms=one.median_ms,
                behind=one.median_ms / found[chosen].median_ms,
                centred_cosine=distance(reference, one.rows).centred.mean,
                agrees=agrees,
                megabytes=contender.bytes / 1e6,
                peak_mb=one.peak_mb,
                startup_s=one.startup_s,
                of_peak=of_peak(contender, one, prepared.operations, peak),
                chosen=contender.chosen,
            )
        )
    return rows


def of_peak(contender: Contender, one: Measured, operations: int, peak: roofline.Peak) -> float | None:
    return operations / (one.median_ms / 1000) / peak.ops if contender.int8 else None


def markdown(tables: list[Table], skipped: dict[str, str], peaks: dict[int, roofline.Peak], command: str) -> str:
    gemm = "; ".join(
        f"{peak.ops / 1e9:.0f} GOP/s on {count} thread{'s' * (count > 1)} ({peak.library})"
        for count, peak in peaks.items()
    )
    lines = [
        "# Image towers, engine by engine",
        "",
        f"`{command}` on {date.today().isoformat()}; {machine()}, {len(os.sched_getaffinity(0))} cores.",
        "",
        "Our engines come out of `edgeclip build`; peers get the same float weights and calibration frames, and their",
        "own defaults. Measured on frames held out of calibration, all taking turns in one run: compare in a table.",
        "`x` is an engine's time over that of the one in bold, which `edgeclip run` takes. Cosine: to torch's float",
        "embeddings, mean-centred. Agrees: how often the nearest text is float's. Memory: peak of the whole process.",
        f"Start-up: process start to first embedding. Of peak: of the machine's fastest INT8 GEMM, {gemm}.",
    ]
    for table in tables:
        lines += ["", f"## {table.tower}", "", f"{table.frames} frames.", ""]
        counts = sorted({row.threads for row in table.rows})
        heads = [f"ms, {count} thr. | x" for count in counts]
        lines.append(f"| engine | {' | '.join(heads)} | cosine | agrees | of peak | file MB | memory MB | start-up s |")
        lines.append("|---" * (7 + 2 * len(counts)) + "|")
        for name in dict.fromkeys(row.name for row in table.rows):
            lines.append(line([row for row in table.rows if row.name == name], counts))
        lines += ["", *(f"- {note}" for note in dict.fromkeys(table.notes))]
    if skipped:
        lines += ["", "## Not measured", "", *(f"- {name}: {why}" for name, why in skipped.items())]
    return "\n".join(lines) + "\n"


def line(rows: list[Row], counts: list[int]) -> str:
    by_threads = {row.threads: row for row in rows}
    first = rows[0]
    name = f"**{first.name}**" if first.chosen else first.name
    times = []
    for count in counts:
        row = by_threads.get(count)
        times += [f"{row.median_ms:.2f}", f"{row.behind:.2f}"] if row else ["", ""]
    agrees = "" if first.agrees is None else f"{100 * first.agrees:.0f} %"
    share = "" if first.of_peak is None else f"{100 * first.of_peak:.0f} %"
    return (
        f"| {name} | {' | '.join(times)} | {first.centred_cosine:.4f} | {agrees} | {share} | {first.megabytes:.1f} "
        f"| {first.peak_mb:.0f} | {first.startup_s:.2f} |"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(towers.TOWERS), help="may be repeated; default: all")
    parser.add_argument("--clip", type=Path, help="clip_encoder.int8.onnx, the real CLIP ViT-B/16")
    parser.add_argument("--text-bank", type=Path, help="its texts: an .npz of names and embeddings")
    parser.add_argument("--vit-checkpoint", type=Path, default=ROOT / "runs" / "nano-vit" / "checkpoint.safetensors")
    parser.add_argument("--calibration", default="demo", help="frames, as `edgeclip build` takes them (default: demo)")
    parser.add_argument("--budget", type=float, default=2.0, help="minutes for each search for a quantization")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="few frames and rounds: whether it runs, not how fast")
    parser.add_argument("--prepare", action="store_true", help="build what will be measured, and stop")
    parser.add_argument("--work", type=Path, default=ROOT / "build-work" / "bench")
    parser.add_argument("--out", type=Path, default=HERE / "image_tower.md")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, too, instead of the table")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    frames, peer_frames, rounds, timed = (16, 16, 3, 4) if given.quick else (85, 256, given.rounds, 8)
    wanted = towers.Wanted(
        work=given.work,
        calibration=given.calibration,
        budget_minutes=given.budget,
        vit_checkpoint=given.vit_checkpoint,
        clip=given.clip,
        text_bank=given.text_bank,
        frames=frames,
        peer_frames=peer_frames,
    )
    tables: list[Table] = []
    skipped: dict[str, str] = {}
    try:
        with progress_for(sys.stderr) as progress:
            progress.stage("INT8 GEMM peak", len(given.threads))
            peaks = {} if given.prepare else {count: roofline.peak(count) for count in given.threads}
            for name in given.model or towers.TOWERS:
                if why := towers.absent(name, wanted):
                    skipped[name] = why
                    progress.note(f"{name} is left out: {why}")
                    continue
                if given.prepare:
                    towers.prepare(name, wanted, progress)
                else:
                    tables.append(measure_tower(name, wanted, peaks, rounds, timed, progress))
    except EdgeclipError as error:
        print(f"error: {error.message}\n  fix: {error.hint}", file=sys.stderr)
        return error.exit_code
    if given.prepare:
        return 0
    shown = " ".join(["python benchmarks/image_tower.py", *(Path(word).name for word in sys.argv[1:])])
    table = markdown(tables, skipped, peaks, shown)
    if not given.quick:
        given.out.write_text(table)
    print(json.dumps([asdict(row) for one in tables for row in one.rows], indent=2) if given.json else table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
