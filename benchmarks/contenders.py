"""One engine in a process of its own, answering over a pipe: its embeddings, its times, its memory, its start-up.

Every kind is a function (path, threads) -> run, and run takes [1, H, W, 3] uint8 RGB and returns [1, D] float32.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]  # [N, H, W, 3]
Rows = npt.NDArray[np.float32]  # [N, D]
Run = Callable[[Frames], Any]
PATIENCE_S = 300.0  # for an engine to load


@dataclass(frozen=True)
class Contender:
    """kind: a key of KINDS. path: what it loads. bytes: of its weights on disk. int8: whether it multiplies in INT8.

    ours: whether it is one of the bundle's engines; chosen: whether `edgeclip run` would take it here.
    """

    name: str
    kind: str
    path: Path
    bytes: int
    int8: bool = False
    ours: bool = False
    chosen: bool = False


@dataclass
class Measured:
    """rows: embeddings [N, D] of the frames measured. times_ms: one for every timed frame of every round."""

    rows: Rows
    startup_s: float
    peak_mb: float
    times_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return float(np.median(self.times_ms))


def torch_eager(path: Path, threads: int) -> Run:
    """path: a Place as JSON. The tower as its checkpoint's library has it, training branches merged, run op by op."""
    import msgspec
    import torch

    from edgeclip.build.checkpoints import load
    from edgeclip.build.checkpoints.place import Place

    torch.set_num_threads(threads)
    encoders = load(msgspec.json.decode(path.read_bytes(), type=Place))
    tower, facts = encoders.image.eval(), encoders.preprocess
    mean, std = (torch.tensor(three)[:, None, None] * 255 for three in (facts.mean, facts.std))

    def run(frames: Frames) -> Rows:
        with torch.inference_mode():
            pixels = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - mean) / std
            return torch.nn.functional.normalize(tower(pixels), dim=1).numpy()

    return run


def onnxruntime(path: Path, threads: int) -> Run:
    """As its documentation begins: a session with nothing set but the threads."""
    import onnxruntime as library

    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    session = library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda frames: session.run(None, {name: frames})[0]


def openvino(path: Path, threads: int) -> Run:
    """Its defaults for one frame at a time: the latency hint, and the float type that it prefers on this processor."""
    import openvino as library

    core = library.Core()
    compiled = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    return lambda frames: request.infer({0: frames}, share_inputs=True)[0]


def backend(name: str) -> Callable[[Path, int], Run]:
    """One of edgeclip's own, just as `edgeclip run` opens it."""

    def opened(path: Path, threads: int) -> Run:
        from edgeclip.registry import resolve
        from edgeclip.runtime.backends import BACKENDS

        target = next(found.target for some in BACKENDS.values() for found in some if found.name == name)
        engine: Any = resolve(target, what=name)(path, threads)
        run: Run = engine.run
        return run

    return opened


KINDS: dict[str, Callable[[Path, int], Run]] = {
    "torch": torch_eager,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "litert": backend("litert"),
    **{f"edgeclip {name}": backend(name) for name in ("litert", "onnxruntime", "openvino")},
}


def serve(contender: Contender, threads: int, born_s: float, sample: Frames, channel: Connection) -> None:
    """The process. Sends ("ready", start-up seconds) or ("failed", why); then answers ("embed" | "time", frames)."""
    try:
        run = KINDS[contender.kind](contender.path, threads)
        run(sample)
    except Exception as error:  # said by the parent, which goes on with the others
        channel.send(("failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"))
        return
    channel.send(("ready", time.monotonic() - born_s))
    while (order := channel.recv()) is not None:
        verb, frames = order
        if verb == "embed":
            channel.send((np.concatenate([np.array(run(row[None]), np.float32) for row in frames]), peak_mb()))
            continue
        times = []
        for row in frames:
            one = row[None]
            began = time.perf_counter()
            run(one)
            times.append(1000 * (time.perf_counter() - began))
        channel.send(times)


def peak_mb() -> float:
    """Highest resident memory of this process so far. Not getrusage's: that counts the parent's before exec too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return float("nan")


def measure(
    contenders: Sequence[Contender], threads: int, rounds: int, frames: Frames, timed: int, advance: Callable[[], None]
) -> tuple[dict[str, Measured], dict[str, str]]:
    """(figures by name, why others have none). Each is started alone; then they take turns, `timed` frames a turn."""
    context = multiprocessing.get_context("spawn")
    channels: dict[str, Connection] = {}
    found: dict[str, Measured] = {}
    failed: dict[str, str] = {}
    processes = []
    try:
        for contender in contenders:
            here, there = context.Pipe()
            arguments = (contender, threads, time.monotonic(), frames[:1], there)
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            there.close()
            processes.append(process)
            word, fact = answer(here)
            if word != "ready":
                failed[contender.name] = str(fact)
                continue
            here.send(("embed", frames))
            rows, memory = here.recv()
            channels[contender.name] = here
            found[contender.name] = Measured(rows, float(fact), memory)
            advance()
        names = list(channels)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                channels[name].send(("time", frames[:timed]))
                found[name].times_ms += channels[name].recv()
            advance()
    finally:
        for channel in channels.values():
            channel.send(None)
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
    return found, failed


def answer(channel: Connection) -> tuple[str, Any]:
    try:
        if channel.poll(PATIENCE_S):
            word, fact = channel.recv()
            return str(word), fact
        return "failed", f"no answer in {PATIENCE_S:.0f} s"
    except EOFError:
        return "failed", "its process ended"


if __name__ == "__main__":
    sys.exit("this is a part of image_tower.py")
