"""One suite over every engine runtime: what `types.Engine` promises, on the same real encoders."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import (
    DIM,
    LENGTH,
    SIZE,
    Weights,
    engine,
    golden_frames,
    reference,
    write_bundle,
    write_image_onnx,
    write_image_tflite,
)

from edgeclip.bundle import Bundle, open_bundle, write_digests
from edgeclip.errors import DataError, EngineError, UsageError
from edgeclip.runtime import backends
from edgeclip.runtime.backends import BACKENDS, NAMES, default_threads, load_engine

MODULES = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
FORMATS = {backend.name: form for form, listed in BACKENDS.items() for backend in listed}
# Plans are another suite's: they need a GPU, or tests/fake_tensorrt.py.
HERE = [name for name in NAMES if name in MODULES and importlib.util.find_spec(MODULES[name]) is not None]

runtimes = pytest.mark.parametrize("name", HERE)


def with_engines(directory: Path, weights: Weights, *forms: str) -> Bundle:
    return open_bundle(write_bundle(directory, weights, tuple(engine(r, f) for r in ("image", "text") for f in forms)))


def test_the_default_runtime_and_the_portable_one_are_under_test() -> None:
    assert {"litert", "onnxruntime"} <= set(HERE)


@runtimes
def test_image_embeddings_are_the_encoders(tiny: Bundle, name: str) -> None:
    opened = load_engine(tiny, "image", backend=name, threads=1)
    assert opened.input_shape == (1, SIZE, SIZE, 3)
    assert opened.input_dtype == np.uint8
    frames = golden_frames()
    rows = np.concatenate([opened.run(frame[None]).copy() for frame in frames])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, reference(Weights(), frames), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    opened.close()


@runtimes
def test_text_embeddings_are_the_same_everywhere(tiny: Bundle, name: str) -> None:
    opened = load_engine(tiny, "text", backend=name, threads=1)
    assert opened.input_shape == (1, LENGTH)
    assert opened.input_dtype == np.int32
    ids = np.arange(LENGTH, dtype=np.int32)[None]
    weights = Weights()
    expected = weights.tokens[ids[0]].mean(axis=0) @ weights.text.T
    np.testing.assert_allclose(opened.run(ids)[0], expected / np.linalg.norm(expected), atol=1e-5)
    opened.close()


@runtimes
def test_the_same_input_gives_the_same_output_whatever_came_between(tiny: Bundle, name: str) -> None:
    opened = load_engine(tiny, "image", backend=name)
    frames = golden_frames()
    first = opened.run(frames[:1]).copy()
    opened.run(frames[1:2])
    assert (opened.run(frames[:1]) == first).all()
    opened.close()


@runtimes
def test_says_what_runs(tiny: Bundle, name: str) -> None:
    one, two = (load_engine(tiny, "image", backend=name, threads=count) for count in (1, 2))
    assert one.runtime.endswith("1 thread")
    assert two.runtime.endswith("2 threads")
    assert any(character.isdigit() for character in one.runtime.split(",")[0])


@runtimes
@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((2, SIZE, SIZE, 3), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.uint8),
        np.zeros((1, SIZE, SIZE, 3), np.float32),
    ],
)
def test_wrong_input_is_refused(tiny: Bundle, name: str, batch: np.ndarray) -> None:
    opened = load_engine(tiny, "image", backend=name, threads=1)
    with pytest.raises(DataError, match="the engine takes uint8"):
        opened.run(batch)
    opened.run(golden_frames()[:1])  # and it still works
    opened.close()


@runtimes
def test_an_engine_that_returns_nan_is_refused(tmp_path: Path, name: str) -> None:
    bundle = with_engines(tmp_path / "b", Weights(image_bias=np.full(DIM, np.nan, np.float32)), FORMATS[name])
    with pytest.raises(EngineError, match="not finite") as raised:
        load_engine(bundle, "image", backend=name)
    assert raised.value.exit_code == 69
    assert raised.value.hint


@runtimes
def test_an_engine_that_turns_nan_later_is_refused_then(tmp_path: Path, name: str) -> None:
    """Dark frames have no ReLU output and no bias here, so their embedding has no direction: 0 / 0."""
    weights = Weights(bias=np.full(12, -100.0, np.float32), image_bias=np.zeros(DIM, np.float32))
    weights.kernel[...] = np.abs(weights.kernel) * 20
    bundle = with_engines(tmp_path / "b", weights, FORMATS[name])
    opened = load_engine(bundle, "image", backend=name)
    opened.run(np.full((1, SIZE, SIZE, 3), 255, np.uint8))
    if name in ("onnxruntime", "openvino"):  # TFLite's L2 norm makes zeros of it, which the golden frames find
        with pytest.raises(EngineError, match="not finite"):
            opened.run(np.zeros((1, SIZE, SIZE, 3), np.uint8))


@runtimes
def test_embeddings_must_have_the_manifests_dimension(tmp_path: Path, name: str) -> None:
    short = Weights(image=Weights().image[:8], image_bias=np.zeros(8, np.float32))
    bundle = with_engines(tmp_path / "b", short, FORMATS[name])
    with pytest.raises(DataError, match=rf"returns float32 \[1, 8\].*\[N, {DIM}\]"):
        load_engine(bundle, "image", backend=name)


@runtimes
def test_the_input_must_be_the_manifests(tmp_path: Path, name: str) -> None:
    directory = write_bundle(tmp_path / "b")
    write_image_tflite(directory / "image.tflite", Weights(), size=64)
    write_image_onnx(directory / "image.onnx", Weights(), size=64)
    write_digests(directory)
    with pytest.raises(DataError, match=rf"takes uint8 \[1, 64, 64, 3\].*\[N, {SIZE}, {SIZE}, 3\]"):
        load_engine(open_bundle(directory), "image", backend=name)


@pytest.mark.parametrize("name", [name for name in HERE if name != "tflite-runtime"])  # which crashes on some
@pytest.mark.parametrize("kept", [0, 7, 200, 0.5])
def test_a_damaged_file_is_bad_data(tmp_path: Path, name: str, kept: float) -> None:
    """Digests find damage before this; a file that was damaged before they were written must not crash either."""
    directory = write_bundle(tmp_path / "b")
    path = directory / f"image.{FORMATS[name]}"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if kept < 1 else int(kept)])
    write_digests(directory)
    with pytest.raises(DataError, match=path.name) as raised:
        load_engine(open_bundle(directory), "image", backend=name)
    assert raised.value.exit_code == 65


@runtimes
def test_a_file_of_another_format_is_bad_data(tmp_path: Path, name: str) -> None:
    directory = write_bundle(tmp_path / "b")
    path = directory / f"image.{FORMATS[name]}"
    path.write_bytes(b"this is not an engine at all, whatever its name says")
    write_digests(directory)
    with pytest.raises(DataError, match="damaged"):
        load_engine(open_bundle(directory), "image", backend=name)


@runtimes
def test_engines_of_several_frames(tmp_path: Path, name: str) -> None:
    directory = write_bundle(tmp_path / "b")
    write_image_tflite(directory / "image.tflite", Weights(), batch=3)
    write_image_onnx(directory / "image.onnx", Weights(), batch=3)
    write_digests(directory)
    opened = load_engine(open_bundle(directory), "image", backend=name)
    assert opened.input_shape == (3, SIZE, SIZE, 3)
    np.testing.assert_allclose(opened.run(golden_frames()[:3]), reference(Weights(), golden_frames()[:3]), atol=1e-5)


def test_the_manifests_order_decides(tmp_path: Path) -> None:
    first = {
        forms: load_engine(with_engines(tmp_path / "".join(forms), Weights(), *forms), "image").runtime
        for forms in (("tflite", "onnx"), ("onnx", "tflite"))
    }
    assert first["tflite", "onnx"].startswith("LiteRT")
    assert first["onnx", "tflite"].startswith("ONNX Runtime")


def test_the_next_runtime_is_taken_where_one_is_missing(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "litert", "tflite_runtime")
    assert load_engine(tiny, "image").runtime.startswith("ONNX Runtime")


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """As if these backends' packages were not installed."""
    packages = {
        "litert": "ai_edge_litert.interpreter",
        "tflite_runtime": "tflite_runtime",
        "onnxruntime": "onnxruntime",
        "openvino": "openvino",
    }
    for module in modules:
        for ours in (module, f"{module}_library"):
            monkeypatch.delitem(sys.modules, f"edgeclip.runtime.backends.{ours}", raising=False)
        monkeypatch.setitem(sys.modules, packages[module], None)


def test_where_nothing_runs_every_candidate_and_its_remedy_is_named(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "litert", "tflite_runtime", "onnxruntime", "openvino")
    with pytest.raises(EngineError) as raised:
        load_engine(tiny, "image")
    assert raised.value.exit_code == 69
    for candidate in (
        "image.tflite with litert",
        "image.tflite with tflite-runtime",
        "image.onnx with onnxruntime",
        "image.onnx with openvino",
    ):
        assert candidate in raised.value.message
    for remedy in (
        "pip install ai-edge-litert",
        "pip install tflite-runtime 'numpy<2'",
        "pip install 'edgeclip[onnx]'",
        "pip install 'edgeclip[openvino]'",
    ):
        assert remedy in raised.value.hint


def test_a_backend_asked_for_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Bundle) -> None:
    without(monkeypatch, "onnxruntime")
    with pytest.raises(EngineError, match="for --backend onnxruntime"):
        load_engine(tiny, "image", backend="onnxruntime")
    tflite_only = with_engines(tmp_path / "b", Weights(), "tflite")
    with pytest.raises(EngineError, match="has no image engine for --backend onnxruntime") as raised:
        load_engine(tflite_only, "image", backend="onnxruntime")
    assert "litert" in raised.value.hint
    with pytest.raises(UsageError, match="no such engine runtime") as usage:
        load_engine(tiny, "image", backend="tensorflow")
    assert "litert" in usage.value.hint


def test_an_engine_for_litert_alone_is_not_tried_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = (engine("image", "tflite", "litert"), engine("text", "tflite"))
    bundle = open_bundle(write_bundle(tmp_path / "b", engines=only))
    assert load_engine(bundle, "image").runtime.startswith("LiteRT")
    without(monkeypatch, "litert")
    with pytest.raises(EngineError, match=r"image\.tflite is for litert, not tflite-runtime"):
        load_engine(bundle, "image")


def test_plan_engines_are_passed_over_and_the_reason_is_given(tmp_path: Path) -> None:
    plan = engine("image", "plan", "tensorrt")
    alone = open_bundle(write_bundle(tmp_path / "alone", engines=(plan, engine("text", "tflite"))))
    with pytest.raises(
        EngineError, match=r"image\.plan with tensorrt: (tensorrt cannot be imported|there is no NVIDIA)"
    ) as caught:
        load_engine(alone, "image")
    assert "python3-libnvinfer" in caught.value.hint or "NVIDIA GPU" in caught.value.hint
    both = open_bundle(write_bundle(tmp_path / "both", engines=(plan, engine("image", "onnx"), engine("text", "onnx"))))
    assert load_engine(both, "image").runtime.startswith("ONNX Runtime")


def test_a_broken_engine_gives_way_to_the_next_one(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b")
    write_image_tflite(directory / "image.tflite", Weights(image_bias=np.full(DIM, np.nan, np.float32)))
    write_digests(directory)
    assert load_engine(open_bundle(directory), "image").runtime.startswith("ONNX Runtime")


def test_by_default_a_core_is_left_for_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (2, 1), (4, 3), (64, backends.MAX_DEFAULT_THREADS)):
        monkeypatch.setattr(backends.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert default_threads() == expected


def test_loading_says_nothing_on_the_terminal(tiny_path: Path) -> None:
    """Neither greeting nor warning; and what else writes to standard error still gets through."""
    code = (
        "import os, sys\n"
        "from edgeclip.bundle import open_bundle\n"
        "from edgeclip.runtime.backends import load_engine\n"
        "from edgeclip.runtime.backends.chatter import native_chatter_hidden\n"
        f"bundle = open_bundle({str(tiny_path)!r})\n"
        f"for name in {[name for name in HERE if name != 'tflite-runtime']!r}:\n"
        "    load_engine(bundle, 'image', backend=name).close()\n"
        "with native_chatter_hidden():\n"
        "    os.write(2, b'INFO: a greeting\\nERROR: a complaint\\n')\n"
        "print('after', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == "ERROR: a complaint\nafter\n"
    assert done.stdout == ""


def test_an_engine_for_openvino_gives_way_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build lists one file twice where OpenVINO was the fastest: for it first, and for ONNX Runtime."""
    twice = (engine("image", "onnx", "openvino"), engine("image", "onnx", "onnxruntime"), engine("text", "onnx"))
    bundle = open_bundle(write_bundle(tmp_path / "b", engines=twice))
    if "openvino" in HERE:
        assert load_engine(bundle, "image").runtime.startswith("OpenVINO")
    without(monkeypatch, "openvino")
    assert load_engine(bundle, "image").runtime.startswith("ONNX Runtime")


@runtimes
def test_a_signal_finds_its_handler_after_an_engine_was_closed(tiny_path: Path, name: str) -> None:
    """As a reload leaves them: the older one goes first. In a process of its own, which a lost stack would end."""
    code = f"""
import os, signal
import numpy as np
from edgeclip.bundle import open_bundle
from edgeclip.runtime.backends import load_engine
engines = [load_engine(open_bundle({str(tiny_path)!r}), "image", backend={name!r}, threads=2) for _ in range(2)]
while engines:
    engine = engines.pop(0)
    engine.run(np.zeros(engine.input_shape, engine.input_dtype))
    engine.close()
    del engine
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
