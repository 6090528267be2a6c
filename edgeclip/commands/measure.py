"""`edgeclip eval`, `bench` and `verify`: how good and how fast a bundle is."""

from __future__ import annotations

import sys
from typing import Any

from edgeclip.commands.arguments import (
    BUNDLE_HELP,
    THREADS_HELP,
    add_bundle_option,
    add_command,
    add_engine,
    add_no_taught,
    at_least_one,
    positive,
    usual_bundle,
)
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK, DataError, UsageError


def add_eval(commands: Any) -> None:
    parser = add_command(
        commands,
        "eval",
        _eval,
        "measure a bundle on labelled pictures",
        "Zero-shot top-1 and top-5, and retrieval R@1/5/10 where pictures have captions.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of class folders, or tar shards of picture + .json")
    parser.add_argument("--labels", metavar="FILE", help="label set to choose from (default: the data's own)")
    add_bundle_option(parser)
    add_engine(parser)
    add_no_taught(parser)
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")


def _eval(
    data: str,
    labels: str | None = None,
    bundle: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    json: bool = False,
    taught: bool = True,
) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.evaluate import evaluate
    from edgeclip.progress import progress_for
    from edgeclip.runtime.labels import parse_labels
    from edgeclip.runtime.taughtlabels import TaughtLabels
    from edgeclip.state import state_dir

    opened = open_bundle(bundle or usual_bundle())
    wanted = parse_labels(labels) if labels else None
    with progress_for(sys.stderr) as progress:
        known = TaughtLabels(opened, state_dir(), progress.note) if taught else None
        result = evaluate(opened, data, wanted, backend=backend, threads=threads, progress=progress, taught=known)
    figures = result.as_dict()
    if json:
        print_json(figures)
        return OK
    print(f"{opened.origin}: {result.bundle} on {result.runtime}, {result.ms_per_image_p50:.2f} ms a picture")
    if result.top1 is not None and result.top5 is not None:
        print(f"top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of {result.n} pictures among {result.labels} labels")
    if result.skipped:
        why = f"their label is not in {labels}, or they have none" if labels else "they have no label"
        print(f"left out: {result.skipped} pictures, for {why}")
    if result.retrieval is not None:
        for way, recall in (
            ("picture to text", result.retrieval.image_to_text),
            ("text to picture", result.retrieval.text_to_image),
        ):
            print(f"{way}: R@1 {recall.r1:.1%}, R@5 {recall.r5:.1%}, R@10 {recall.r10:.1%}")
    for mistake in result.confusions[:5]:
        print(f"{mistake.n} x {mistake.label} taken for {mistake.predicted}")
    return OK


def add_bench(commands: Any) -> None:
    parser = add_command(
        commands,
        "bench",
        _bench,
        "measure every stage, and the pipeline against the bare engine",
        "Pipeline and bare engine run in turns, so that a busy machine slows both alike.",
    )
    parser.add_argument("--source", metavar="URI", help="what to read (default: demo)")
    parser.add_argument("--labels", metavar="FILE", help="labels (default: the built-in everyday ones)")
    add_bundle_option(parser)
    add_engine(parser)
    parser.add_argument("--seconds", type=positive, metavar="S", help="how long to measure each (default: 10)")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")


def _bench(json: bool = False, bundle: str | None = None, **options: Any) -> int:
    import msgspec

    from edgeclip.bench import run_bench
    from edgeclip.progress import progress_for

    with progress_for(sys.stderr) as progress:
        result = run_bench(bundle or usual_bundle(), progress=progress, **options)
    if json:
        print_json(msgspec.to_builtins(result))
        return OK
    print(f"{result.bundle} on {result.runtime}, {result.cores} cores, {result.source}, {result.labels} labels")
    print(f"{'stage':<12}{'p50 ms':>10}{'p95 ms':>10}")
    for name, stage in result.stages.items():
        mark = "  slowest" if name == result.slowest_stage else ""
        print(f"{name:<12}{stage.p50_ms:>10.3f}{stage.p95_ms:>10.3f}{mark}")
    print(
        f"pipeline {result.pipeline_fps:.1f} fps, bare engine {result.engine_fps:.1f} fps ({result.ratio:.2f} of it), "
        f"reading and preprocessing alone {result.host_fps:.1f} fps"
    )
    print(result.limit)
    print(f"{result.frames} frames, {result.rss_mb:.0f} MB, first decision {result.startup_s:.2f} s after the start")
    return OK


def add_verify(commands: Any) -> None:
    parser = add_command(
        commands,
        "verify",
        _verify,
        "hold a bundle against the float model it was made from",
        "Every engine that runs here against the golden frames; accuracy against the float figure of the bundle's "
        "report, where it is of the same data and labels. Exit code 65 where a gate is missed.",
    )
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument("--data", metavar="PATH", help="labelled pictures, as for `eval`")
    parser.add_argument("--labels", metavar="FILE", help="the labels they are told apart by")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help=THREADS_HELP)
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")


def _verify(
    bundle: str | None = None,
    data: str | None = None,
    labels: str | None = None,
    threads: int | None = None,
    json: bool = False,
) -> int:
    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for
    from edgeclip.runtime.labels import parse_labels
    from edgeclip.verify import verify_bundle

    if labels and data is None:
        raise UsageError("--labels says how the pictures of --data are told apart", "give --data too")
    opened = open_bundle(bundle or usual_bundle())
    wanted = parse_labels(labels) if labels else None
    with progress_for(sys.stderr) as progress:
        verdict = verify_bundle(opened, data, wanted, threads=threads, progress=progress)
    if json:
        print_json(msgspec.to_builtins(verdict))
    else:
        for engine in verdict.engines:
            print(f"{engine.file} on {engine.runtime}: {engine.failed or f'mean-centred cosine {engine.centred:.4f}'}")
        if verdict.int8 is not None:
            against = f" (float {verdict.floating.top1:.2f} %)" if verdict.floating is not None else ""
            print(f"top-1 {verdict.int8.top1:.2f} %{against}, top-5 {verdict.int8.top5:.2f} % of {verdict.n} pictures")
        if verdict.cosine_centred is not None:
            spread = verdict.cosine_centred
            print(
                f"mean-centred cosine to float when built: mean {spread.mean:.4f}, 1st percentile {spread.p1:.4f}, "
                f"least {spread.min:.4f} ({spread.frames} frames, {spread.of})"
            )
    if not verdict.passed:
        raise DataError(
            f"{opened.origin} does not pass: {'; '.join(verdict.failed)}",
            "build it again, or see what `edgeclip doctor` says",
        )
    return OK
