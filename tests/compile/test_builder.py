"""NVIDIA's parser and builder on Q/DQ of ours: what computes in INT8, what in FP16, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from qdq import write_block

from edgeclip.compile.builder import Options, Plan, build_plan, load_cache, save_cache
from edgeclip.compile.layers import Layer
from edgeclip.errors import DataError, UsageError
from edgeclip.progress import Silent
from edgeclip.runtime.backends.trt_library import Library

ARCHS = ((8, 6), (8, 9), (12, 0))


class Counted(Silent):
    """A progress that counts."""

    def __init__(self) -> None:
        self.total: int | None = 0
        self.count = 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.total = total

    def advance(self, n: int = 1) -> None:
        assert n > 0
        self.count += n


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_block(tmp_path_factory.mktemp("onnx") / "image.onnx")


@pytest.fixture(scope="module")
def half(rtx: Library, block: Path) -> Plan:
    return build_plan(rtx, block, Options(archs=ARCHS), Silent())


def rows(plan: Plan, *nodes: str) -> list[Layer]:
    return [layer for layer in plan.table.layers if set(nodes) & set(layer.onnx)]


def test_every_quantized_multiplication_computes_in_int8_and_no_qdq_dangles(half: Plan) -> None:
    assert half.table.int8 == 4
    assert half.table.not_int8 == ()
    gemms = {name: layer for layer in half.table.layers if layer.multiplies for name in layer.onnx}
    for node in ("patch", "project", "widen", "project out"):
        assert gemms[node].inputs[0] == "int8"
        assert gemms[node].constants[0] == "int8"
    assert str(half.table).startswith("4 multiplications in INT8")
    assert half.table.source == "builder log"
    assert half.data[:4] == b"ptrt" or len(half.data) > 10_000


def test_the_rest_is_fp16_and_norms_stay_fp32(rtx: Library, block: Path, half: Plan) -> None:
    attention = rows(half, "attend", "mix", "softmax")
    assert attention
    assert {kind for layer in attention for kind in layer.inputs} <= {"fp16", "int8"}
    norm = rows(half, "norm")
    assert norm
    assert all("fp32" in (*layer.inputs, *layer.constants) for layer in norm)  # LayerNorm's own scale and reductions
    assert half.table.layers[-1].outputs == ("fp32",)
    full = build_plan(rtx, block, Options(archs=((8, 6),), floats="fp32"), Silent())
    assert not [layer for layer in full.table.layers if "fp16" in (*layer.inputs, *layer.outputs, *layer.constants)]
    assert full.table.int8 == 4


def test_an_open_batch_takes_a_profile_each_and_a_fixed_one_does_not(rtx: Library, block: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"image\.onnx is fixed at batch 1, and --batch asks for 1,4"):
        build_plan(rtx, block, Options(batches=(1, 4), archs=((8, 6),)), Silent())
    opened = write_block(tmp_path / "image.onnx", batch="batch")
    plan = build_plan(rtx, opened, Options(batches=(1, 4), archs=((8, 6),)), Silent())
    # Each profile has kernels of its own.
    assert plan.table.int8 >= 4
    assert plan.table.not_int8 == ()


def test_a_gpu_that_rtx_does_not_know_is_refused_with_those_it_does(rtx: Library, block: Path) -> None:
    with pytest.raises(UsageError, match=r"--sm 87: tensorrt-rtx .* does not compile for it") as caught:
        build_plan(rtx, block, Options(archs=((8, 7),)), Silent())
    assert "86,89" in caught.value.hint


def test_hardware_compatibility_is_not_rtxs(rtx: Library, block: Path) -> None:
    with pytest.raises(UsageError, match="has no --hardware-compatible") as caught:
        build_plan(rtx, block, Options(archs=((8, 6),), hardware_compatible=True), Silent())
    assert "--sm" in caught.value.hint


def test_what_is_no_onnx_is_refused_in_the_parsers_words(rtx: Library, tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(b"this is no graph")
    with pytest.raises(DataError, match=r"image\.onnx has 0 inputs|does not take image\.onnx: .+"):
        build_plan(rtx, path, Options(archs=((8, 6),)), Silent())


def test_an_operator_that_nvidia_has_not_is_named(rtx: Library, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Det", ["input"], ["vector"], "determinant")],
        "odd",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 4])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1])],
    )
    path = tmp_path / "image.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"determinant|Det"):
        build_plan(rtx, path, Options(archs=((8, 6),)), Silent())


def test_progress_never_runs_backwards_or_over(rtx: Library, block: Path) -> None:
    told = Counted()
    build_plan(rtx, block, Options(archs=((8, 6),)), told)
    assert 0 < told.count <= 1000


class Config:
    """The timing cache of an IBuilderConfig."""

    def __init__(self) -> None:
        self.used: Cache | None = None

    def create_timing_cache(self, data: bytes) -> Cache:
        return Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.used = cache
        return cache.data != b"damaged"


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"timed"


def test_the_timing_cache_is_kept_and_a_damaged_one_is_begun_anew(tmp_path: Path) -> None:
    path, config = tmp_path / "cache" / "orin.timing", Config()
    save_cache(load_cache(config, path), path)
    assert path.read_bytes() == b"timed"
    save_cache(load_cache(config, path), path)
    assert path.read_bytes() == b"timedtimed"
    path.write_bytes(b"damaged")
    cache = load_cache(config, path)
    assert config.used is cache
    assert cache.data == b""
    assert load_cache(config, None) is None


def test_a_builder_that_a_failure_left_behind_is_not_collected_inside_tensorrts_lock(block: Path) -> None:
    """In a process of its own: without care it hangs, in the logger's call, for ever."""
    code = f"""
import gc
gc.disable()
import subprocess
import sys
from pathlib import Path
from edgeclip.compile.builder import Options, build_plan
from edgeclip.progress import Silent
from edgeclip.runtime.backends.trt_library import LogLines, load_library, make_logger
rtx = load_library("tensorrt-rtx")
cycle = [rtx.module.Builder(make_logger(rtx, LogLines()))]
cycle.append(cycle)
del cycle
add = LogLines.add
LogLines.add = lambda *line: (gc.collect(), add(*line))  # the collector may run whenever Python does
print(len(build_plan(rtx, Path({str(block)!r}), Options(archs=((8, 6),)), Silent()).data) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400, check=True)
    assert done.stdout == "True\n"
