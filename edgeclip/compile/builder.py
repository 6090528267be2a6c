"""One ONNX file becomes one plan: network, configuration, timing cache, build, table of layers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeclip.atomic import atomic_write
from edgeclip.compile.floating import without_quantizers
from edgeclip.compile.layers import Table, from_inspector, from_log, tabulate
from edgeclip.compile.monitor import STEPS, Monitor, make_monitor
from edgeclip.compile.network import Network, parse, use_half
from edgeclip.errors import EngineError, UsageError
from edgeclip.progress import Progress
from edgeclip.runtime.backends.trt_library import RTX, Library, LogLines, make_logger, uncollected

FloatType = Literal["fp16", "fp32"]
Precision = Literal["faster", "int8", "float"]


@dataclass(frozen=True)
class Options:
    """How plans are compiled.

    batches: an optimisation profile each; more than (1,) needs an ONNX whose batch is open. precision: whether pictures
    are multiplied in INT8, as the Q/DQ says, or in floating point, or whichever is faster on this machine's GPU (ahead
    of time, where nothing can be timed, "int8"). floats: what is not INT8 computes in. workspace: bytes the builder may
    try kernels in. archs: compute capabilities to compile for, like (8, 6), of GPUs that need not be here: TensorRT-RTX
    only; none: this GPU. version_compatible: runs on later minor versions. hardware_compatible: runs on later GPU
    generations (from Ampere on, never on Jetson). timing_cache: None for none.
    """

    batches: tuple[int, ...] = (1,)
    precision: Precision = "faster"
    floats: FloatType = "fp16"
    workspace: int = 1 << 30
    archs: tuple[tuple[int, int], ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False
    timing_cache: Path | None = None


@dataclass(frozen=True)
class Plan:
    """data: the serialized engine. quantized: whether its graph has Q/DQ that it was compiled with."""

    data: bytes
    table: Table
    quantized: bool


@uncollected()
def build_plan(library: Library, path: Path, options: Options, progress: Progress) -> Plan:
    """Compile one ONNX file, with its Q/DQ unless precision is "float".

    Raises DataError for a graph that TensorRT does not take, EngineError for a failed build, UsageError for options
    that do not fit the graph or this TensorRT.
    """
    trt, lines = library.module, LogLines()
    logger = make_logger(library, lines)
    builder = trt.Builder(logger)
    network = parse(library, builder, logger, lines, path)
    if options.precision == "float":
        network = without_quantizers(library, network)
    config = builder.create_builder_config()
    configure(library, network, config, options)
    add_profiles(builder, network.definition, config, options.batches, path)
    if options.floats == "fp16":
        use_half(library, network)
    cache = load_cache(config, options.timing_cache)
    monitor = Monitor(progress)
    watching = make_monitor(library, monitor)
    if watching is not None:
        config.progress_monitor = watching
    # TensorRT-RTX spends its time inside one step: an ETA from steps would be wrong.
    kind = "int8" if network.int8 else options.floats
    progress.stage(f"compile {path.name}, {kind}", STEPS if watching is not None and library.runtime != RTX else None)
    built = builder.build_serialized_network(network.definition, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if built is None:
        raise EngineError(
            f"{library.runtime} {library.version} could not build {path.name}: {lines.why()}",
            "where it ran out of memory, lower --workspace or --batch; otherwise report it with this line",
        )
    save_cache(cache, options.timing_cache)
    data = bytes(built)
    table = table_of(library, logger, data, lines, network.int8, bool(options.archs))
    progress.done()
    return Plan(data, table, bool(network.int8))


def configure(library: Library, network: Network, config: Any, options: Options) -> None:
    trt = library.module
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    flags = trt.BuilderFlag.__members__
    if not network.strong:
        if network.int8:
            config.set_flag(flags["INT8"])
        if options.floats == "fp16":
            config.set_flag(flags["FP16"])
            config.set_flag(flags["OBEY_PRECISION_CONSTRAINTS"])
    if "EDITABLE_TIMING_CACHE" in flags:
        config.set_flag(flags["EDITABLE_TIMING_CACHE"])
    if options.version_compatible:
        config.set_flag(flag(library, "VERSION_COMPATIBLE", "--version-compatible"))
    if options.hardware_compatible:
        if library.runtime == RTX or not hasattr(trt, "HardwareCompatibilityLevel"):
            raise UsageError(
                f"{library.runtime} {library.version} has no --hardware-compatible",
                "name the GPUs with --sm" if library.runtime == RTX else "leave it out: it came with TensorRT 8.6",
            )
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.archs:
        name_archs(library, config, options.archs)


def flag(library: Library, name: str, option: str) -> Any:
    known = library.module.BuilderFlag.__members__
    if name not in known:
        raise UsageError(f"{library.runtime} {library.version} has no {option}", f"leave {option} out")
    return known[name]


def name_archs(library: Library, config: Any, archs: Sequence[tuple[int, int]]) -> None:
    """The compute capabilities to compile for, without any such GPU."""
    known = getattr(getattr(library.module, "ComputeCapability", None), "__members__", {})
    if library.runtime != RTX or not known:
        raise UsageError(f"{library.runtime} compiles for this machine's GPU only", "leave --sm out")
    offered = [name.removeprefix("SM") for name in known if name.startswith("SM")]
    for major, minor in archs:
        if f"{major}{minor}" not in offered:
            raise UsageError(
                f"--sm {major}{minor}: {library.runtime} {library.version} does not compile for it",
                f"one or several of: {','.join(offered)}",
            )
    config.num_compute_capabilities = len(archs)
    for i, (major, minor) in enumerate(archs):
        config.set_compute_capability(known[f"SM{major}{minor}"], i)


def add_profiles(builder: Any, definition: Any, config: Any, batches: Sequence[int], path: Path) -> None:
    """One optimisation profile per batch. A graph whose batch is fixed takes that batch and no other."""
    source = definition.get_input(0)
    shape = tuple(int(size) for size in source.shape)
    if -1 not in shape:
        if tuple(batches) != (shape[0],):
            raise UsageError(
                f"{path.name} is fixed at batch {shape[0]}, and --batch asks for {','.join(map(str, batches))}",
                f"leave --batch out, or export the encoder with an open batch ({path.name} is what is compiled)",
            )
        return
    if -1 in shape[1:]:
        raise UsageError(f"{path.name} takes {list(shape)}: only its batch may be open", "export it with a fixed size")
    for batch in batches:
        profile = builder.create_optimization_profile()
        fixed = (batch, *shape[1:])
        profile.set_shape(source.name, fixed, fixed, fixed)
        config.add_optimization_profile(profile)


def load_cache(config: Any, path: Path | None) -> Any:
    """The timings of earlier builds: what makes the second one quick. A damaged or foreign file is as good as none."""
    if path is None:
        return None
    stored = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, False):
        logging.getLogger(__name__).debug("%s is not a timing cache of this TensorRT: begun anew", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def save_cache(cache: Any, path: Path | None) -> None:
    if cache is None or path is None:
        return
    with atomic_write(path) as stream:
        stream.write(bytes(cache.serialize()))


def table_of(library: Library, logger: Any, data: bytes, lines: LogLines, wanted: Sequence[str], ahead: bool) -> Table:
    """From the inspector of the plan, which has to be loaded for it; for named GPUs, from the builder's log.

    wanted: the ONNX nodes between Q/DQ. Raises EngineError where a plan just built for this GPU cannot be loaded.
    """
    if ahead:
        return tabulate(from_log(lines.table), "builder log", wanted)
    trt = library.module
    runtime = trt.Runtime(logger)
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # the code that a version-compatible plan brings is this builder's own
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(f"the plan just built cannot be loaded: {lines.why()}", "see what `edgeclip doctor` says")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return tabulate(from_inspector(text), "inspector", wanted)
