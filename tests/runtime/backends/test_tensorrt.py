"""The TensorRT engine over a fake TensorRT and an emulated driver: names, shapes, buffers, graph, errors, clean-up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import as_module, plan
from host_gpu import alive, fail, host_gpu, library, needs_compiler
from tiny_bundle import engine as entry_for
from tiny_bundle import write_bundle

from edgeclip.bundle import Bundle, EngineEntry, Preprocess, Target, open_bundle, write_digests
from edgeclip.config import Config
from edgeclip.errors import DataError, EngineError
from edgeclip.runtime import service
from edgeclip.runtime.backends import load_engine, plan_target, tensorrt
from edgeclip.runtime.backends.plan_target import DeviceFacts, StalePlan
from edgeclip.runtime.backends.tensorrt import TensorRTEngine
from edgeclip.runtime.preprocess import Scratch

pytestmark = needs_compiler
TARGET = Target("tensorrt", "10.3.0", "sm_87", "36.4.0")
FACTS = DeviceFacts("tensorrt", "10.3.0", "sm_87", "36.4.0")


@pytest.fixture(autouse=True)
def orin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An Orin with JetPack 6.1, and everything given back at the end."""
    cuda = host_gpu()
    monkeypatch.setitem(sys.modules, "tensorrt", as_module())
    monkeypatch.setattr(tensorrt, "first_gpu", lambda: cuda)
    monkeypatch.setattr(plan_target, "first_gpu", lambda: cuda)
    monkeypatch.setattr(tensorrt, "device_facts", lambda runtime: FACTS)
    before = alive()
    yield
    fail("", 0)
    assert alive() == before


def opened(folder: Path, **facts: object) -> TensorRTEngine:
    path = folder / "image.plan"
    path.write_bytes(plan(**facts))  # type: ignore[arg-type]
    return TensorRTEngine(path, 1, TARGET)


def frames(count: int, size: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def expected(batch: np.ndarray, dim: int = 3) -> np.ndarray:
    rows = batch.reshape(len(batch), -1).mean(axis=1)[:, None] + np.arange(1, dim + 1)
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def test_it_runs_by_names_and_replays_a_graph(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    assert engine.input_shape == (1, 4, 4, 3)
    assert engine.input_dtype == np.uint8
    assert engine.runtime == "TensorRT 10.3.0, Host, CUDA graph"
    launched = library().host_graph_launches()
    for frame in frames(5):
        rows = engine.run(frame[None])
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected(frame[None]), rtol=1e-6)
    assert library().host_graph_launches() == launched + 5
    engine.close()


def test_an_open_batch_runs_at_its_first_profile(tmp_path: Path) -> None:
    engine = opened(tmp_path, open=True, batch=4)
    assert engine.input_shape == (4, 4, 4, 3)
    batch = frames(4)
    np.testing.assert_allclose(engine.run(batch), expected(batch), rtol=1e-6)
    engine.close()


def test_without_a_graph_it_says_so_and_runs(tmp_path: Path) -> None:
    fail("cuGraphInstantiateWithFlags", 801)
    engine = opened(tmp_path)
    assert engine.runtime.endswith("no CUDA graph")
    batch = frames(1)
    np.testing.assert_allclose(engine.run(batch), expected(batch), rtol=1e-6)
    engine.close()


def test_a_wrong_input_is_refused(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    with pytest.raises(DataError, match="the engine takes uint8"):
        engine.run(frames(2))
    engine.close()


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    engine = opened(tmp_path, fails="finite")
    with pytest.raises(EngineError, match="not finite"):
        engine.run(frames(1))
    engine.close()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"fails": "context"}, "no memory for the plan"),
        ({"fails": "address"}, "TensorRT refused input"),
        ({"fails": "inference"}, "TensorRT refused inference"),
        ({"dtype": "float16"}, "returns float16"),
    ],
)
def test_what_tensorrt_refuses_is_told_and_nothing_is_kept(tmp_path: Path, facts: dict[str, str], message: str) -> None:
    with pytest.raises((EngineError, DataError), match=message):
        opened(tmp_path, **facts)


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamSynchronize"])
def test_cudas_errors_are_told_and_nothing_is_kept(tmp_path: Path, function: str) -> None:
    fail(function, 2)
    with pytest.raises(EngineError, match=f"CUDA: {function} failed: CUDA_ERROR_OUT_OF_MEMORY"):
        opened(tmp_path)


def test_an_error_while_running_is_told(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    fail("cuStreamSynchronize", 719)
    with pytest.raises(EngineError, match="cuStreamSynchronize failed"):
        engine.run(frames(1))
    fail("", 0)
    engine.close()


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "image.plan"
    path.write_bytes(b"not a plan")
    with pytest.raises(DataError, match=r"cannot be loaded by tensorrt 10\.3\.0: the stream is no plan"):
        TensorRTEngine(path, 1, TARGET)


# -- through a bundle --------------------------------------------------------------------------------------------------


def with_plan(folder: Path, target: Target, **facts: object) -> Path:
    """A bundle whose first image engine is a plan, beside ONNX engines that run on the processor."""
    first = EngineEntry("image", "image.plan", "plan", "int8 static Q/DQ", target)
    engines = (first, entry_for("image", "onnx"), entry_for("text", "onnx"))
    directory = write_bundle(folder, engines=engines)
    (directory / "image.plan").write_bytes(plan(size=32, dim=16, **facts))  # type: ignore[arg-type]
    write_digests(directory)
    return directory


def test_a_bundles_plan_is_loaded_first(tmp_path: Path) -> None:
    engine = load_engine(open_bundle(with_plan(tmp_path / "b", TARGET)), "image")
    assert engine.runtime.startswith("TensorRT 10.3.0")
    engine.close()


def test_a_stale_plan_stops_instead_of_a_quiet_fallback(tmp_path: Path) -> None:
    bundle = open_bundle(with_plan(tmp_path / "b", Target("tensorrt", "8.6.2", "sm_87", "36.3.0")))
    with pytest.raises(StalePlan, match=r"compiled by tensorrt 8\.6\.2, and this is 10\.3\.0") as caught:
        load_engine(bundle, "image")
    assert f"edgeclip compile {bundle.origin}" in caught.value.hint
    assert "run --recompile" in caught.value.hint
    engine = load_engine(bundle, "image", backend="onnxruntime")  # asked for by name
    assert engine.runtime.startswith("ONNX Runtime")
    engine.close()


def test_without_a_gpu_a_plan_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu() -> None:
        raise EngineError("there is no NVIDIA GPU here")

    monkeypatch.setattr(tensorrt, "device_facts", lambda runtime: DeviceFacts("tensorrt", "10.3.0", "", ""))
    monkeypatch.setattr(plan_target, "first_gpu", no_gpu)
    engine = load_engine(open_bundle(with_plan(tmp_path / "b", Target("tensorrt", "8.6.2", "sm_72"))), "image")
    assert engine.runtime.startswith("ONNX Runtime")
    engine.close()


def test_run_recompiles_a_stale_plan_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeclip.compile import bundles

    stale = with_plan(tmp_path / "b", Target("tensorrt", "8.6.2", "sm_87", "36.3.0"))
    asked: list[str | None] = []

    def compile_again(bundle: Bundle, *, runtime: str | None) -> None:
        """What edgeclip.compile leaves behind; it is tested with NVIDIA's builder in tests/compile."""
        asked.append(runtime)
        with_plan(Path(bundle.origin), TARGET)

    monkeypatch.setattr(bundles, "compile_bundle", compile_again)
    told: list[str] = []
    bundle = open_bundle(stale)
    with pytest.raises(StalePlan):
        service._image_engine(bundle, Config(), told.append)
    assert not asked
    again, engine = service._image_engine(bundle, Config(recompile=True), told.append)
    assert asked == ["tensorrt"]
    assert engine.runtime.startswith("TensorRT 10.3.0")
    assert again.engines("image")[0].target == TARGET
    assert "image.plan is not for this device" in told[0]
    assert "compiling it again" in told[0]
    engine.close()


def test_frames_are_preprocessed_on_the_gpu_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeclip.runtime import preprocess_gpu

    cuda = host_gpu()
    monkeypatch.setattr("edgeclip.cuda.first_gpu", lambda: cuda)
    monkeypatch.setattr(preprocess_gpu, "compile_kernel", lambda cuda: b"ptx")
    facts = Preprocess((32, 32), "shortest", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with ExitStack() as stack:
        here = service._preprocessing(facts, Config(), stack)(Scratch())
        there = service._preprocessing(facts, Config(gpu_preprocess=True), stack)(Scratch())
        assert isinstance(there, preprocess_gpu.GpuPreprocessor)
        assert np.abs(here(picture).astype(np.int16) - there(picture)).max() <= 1
