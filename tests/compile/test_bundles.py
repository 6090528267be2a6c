"""`edgeclip compile`: what becomes of the bundle, and of the command line's mistakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from qdq import quantize
from tiny_bundle import Weights, engine, write_bundle, write_image_onnx

from edgeclip.bundle import Bundle, EngineEntry, Target, open_bundle, write_digests
from edgeclip.cli import main
from edgeclip.compile import bundles, plans, target
from edgeclip.compile.builder import Options
from edgeclip.compile.bundles import compile_bundle, with_plans
from edgeclip.compile.plans import compile_engines, plan_stem
from edgeclip.compile.rivals import Choice
from edgeclip.compile.target import Aim, aim_at, arch_from, timing_cache
from edgeclip.errors import DataError, EngineError, UsageError
from edgeclip.progress import Silent
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.backends.plan_target import DeviceFacts
from edgeclip.runtime.backends.trt_library import RTX, TENSORRT, Library

NO_GPU = {
    TENSORRT: DeviceFacts(TENSORRT, "", "", ""),
    RTX: DeviceFacts(RTX, "1.7.1", "", ""),
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """TFLite and Q/DQ ONNX image engines, a TFLite text engine."""
    qdq = msgspec.structs.replace(engine("image", "onnx"), precision="int8 static")
    directory = write_bundle(tmp_path / "bundle", engines=(engine("image", "tflite"), qdq, engine("text", "tflite")))
    write_image_onnx(directory / "image.onnx", Weights())
    quantize(directory / "image.onnx", 8.0)
    write_digests(directory)
    return open_bundle(directory)


def test_plans_are_added_and_the_bundle_stays_whole(rtx: Library, bundle: Bundle) -> None:
    result = compile_bundle(bundle, runtime=RTX, archs=((8, 6), (12, 0)))
    again = open_bundle(bundle.origin)
    files = [entry.file for entry in again.engines("image")]
    plan = f"image.tensorrt-rtx-{rtx.version}-sm86-sm120.plan"
    assert files == [plan, "image.tflite", "image.onnx"]
    entry = again.engines("image")[0]
    assert entry.target == Target(RTX, rtx.version, "sm_86,sm_120", "")
    assert entry.format == "plan"
    assert entry.precision == bundle.engines("image")[1].precision
    table = json.loads(again.file(plan.replace(".plan", ".layers.json")).read_text())
    assert table["int8"] == 2
    assert table["not_int8"] == []
    assert table["target"]["gpu_arch"] == "sm_86,sm_120"
    assert {layer["kind"] for layer in table["layers"]}
    assert not result.tested
    assert result.compiled[0].plan_bytes == again.file(plan).stat().st_size
    loaded = load_engine(again, "image")  # no such GPU here, or another: what ran before runs still
    loaded.close()


def test_a_plan_for_the_same_target_is_replaced_and_others_stay(rtx: Library, bundle: Bundle) -> None:
    compile_bundle(bundle, runtime=RTX, archs=((8, 6),))
    compile_bundle(open_bundle(bundle.origin), runtime=RTX, archs=((8, 9),))
    compile_bundle(open_bundle(bundle.origin), runtime=RTX, archs=((8, 6),))
    again = open_bundle(bundle.origin)
    assert [e.target.gpu_arch for e in again.engines("image") if e.format == "plan"] == ["sm_86", "sm_89"]
    assert len([path for path in again.path.iterdir() if path.suffix == ".plan"]) == 2


def test_out_leaves_the_bundle_as_it_was(rtx: Library, bundle: Bundle, tmp_path: Path) -> None:
    before = bundle.file("SHA256SUMS").read_bytes()
    out = tmp_path / "other.tar"
    result = compile_bundle(bundle, runtime=RTX, archs=((8, 6),), out=out)
    assert result.bundle == out
    assert open_bundle(out).engines("image")[0].format == "plan"
    assert bundle.file("SHA256SUMS").read_bytes() == before
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "one.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"holds one\.jpg"):
        compile_bundle(bundle, runtime=RTX, archs=((8, 6),), out=precious)


def test_a_build_that_fails_leaves_the_bundle_as_it_was(rtx: Library, bundle: Bundle) -> None:
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    with pytest.raises(UsageError, match="fixed at batch 1"):
        compile_bundle(bundle, runtime=RTX, archs=((8, 6),), options=Options(batches=(2,)))
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir()} == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_the_bundle_that_we_ship(rtx: Library, tmp_path: Path) -> None:
    try:
        shipped = open_bundle()
    except DataError as error:
        pytest.skip(f"no bundle is shipped in this checkout: {error.message}")
    result = compile_bundle(shipped, runtime=RTX, archs=((8, 6), (8, 9), (12, 0)), out=tmp_path / "nano")
    assert open_bundle(result.bundle).engines("image")[0].format == "plan"
    image = result.compiled[0].table
    assert image.int8 > 10
    assert image.not_int8 == ()


@pytest.mark.parametrize("kept", ["int8", "fp16"])
def test_on_its_gpu_int8_stays_only_where_it_is_faster(
    rtx: Library, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: str
) -> None:
    """TensorRT-RTX builds both; the GPU that would time them is told for, as there is none."""
    asked: dict[str, int] = {}

    def choose(plans: dict[str, Path], target: Target) -> Choice:
        asked.update({precision: path.stat().st_size for precision, path in plans.items()})
        return Choice(kept, {"int8": 2.0, "fp16": 1.0})

    monkeypatch.setattr(plans, "choose", choose)
    sources = [(entry, bundle.file(entry.file)) for entry in bundle.engines("image") if entry.format == "onnx"]
    here = Aim(rtx, ((8, 6),), False, "")
    made = compile_engines(sources, here, Options(), tmp_path, Silent())[0]
    assert set(asked) == {"int8", "fp16"}
    assert made.entry.precision == (kept if kept == "fp16" else sources[0][0].precision)
    assert made.table.int8 == (2 if kept == "int8" else 0)
    assert made.plan.stat().st_size == made.plan_bytes == asked[kept]
    assert made.latency_ms == {"int8": 2.0, "fp16": 1.0}
    assert sorted(path.name for path in tmp_path.glob("image*")) == [made.layers.name, made.plan.name]
    facts = json.loads(made.layers.read_text())
    assert (facts["precision"], facts["latency_ms"]["fp16"]) == (made.entry.precision, 1.0)
    asked.clear()
    told = compile_engines(sources, here, Options(precision="int8"), tmp_path, Silent())[0]
    assert (told.table.int8, told.latency_ms, asked) == (2, {}, {})


def test_what_has_no_quantizers_has_no_rival(
    rtx: Library, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "image.onnx"
    write_image_onnx(path, Weights())
    monkeypatch.setattr(plans, "choose", lambda plans, target: pytest.fail("there is nothing to choose from"))
    entry = EngineEntry("image", "image.onnx", "onnx", "float32", Target("onnxruntime"))
    made = compile_engines([(entry, path)], Aim(rtx, ((8, 6),), False, ""), Options(), tmp_path, Silent())[0]
    assert made.entry.precision == "float32"


def test_an_int8_plan_that_fails_its_self_test_says_what_works_instead(
    rtx: Library, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def close(self) -> None: ...

    def fail(engine: object, bundle: Bundle) -> None:
        raise EngineError("cosine 0.31 to the golden frames")

    monkeypatch.setattr(bundles, "open_engine", lambda *arguments: Broken())
    monkeypatch.setattr(bundles, "check_golden", fail)
    monkeypatch.setattr(plans, "choose", lambda plans, target: Choice("int8", {}))
    monkeypatch.setattr(bundles, "aim_at", lambda runtime, archs: Aim(rtx, ((8, 6),), False, ""))
    before = bundle.file("SHA256SUMS").read_bytes()
    with pytest.raises(EngineError, match=r"the INT8 plan fails its self-test here: cosine 0\.31") as caught:
        compile_bundle(bundle, runtime=RTX)
    assert caught.value.hint == "compile with --precision float"
    assert bundle.file("SHA256SUMS").read_bytes() == before


def test_a_bundle_without_onnx_cannot_be_compiled(rtx: Library, tmp_path: Path) -> None:
    forms = (engine("image", "tflite"), engine("text", "tflite"))
    bundle = open_bundle(write_bundle(tmp_path / "b", engines=forms))
    with pytest.raises(DataError, match=r"has no image\.onnx"):
        compile_bundle(bundle, runtime=RTX, archs=((8, 6),))


def plan(role: str, runtime: str, version: str, arch: str, jetpack: str = "") -> EngineEntry:
    file = f"{role}.{runtime}-{version}-{arch}.plan"
    return EngineEntry(role, file, "plan", "int8", Target(runtime, version, arch, jetpack))  # type: ignore[arg-type]


def test_the_plan_of_an_older_jetpack_gives_way() -> None:
    old, other = plan("image", TENSORRT, "8.6.2", "sm_87", "36.3.0"), plan("image", TENSORRT, "10.3.0", "sm_72")
    new = plan("image", TENSORRT, "10.3.0", "sm_87", "36.4.0")
    rest = (engine("image", "tflite"), engine("text", "tflite"))
    assert with_plans((old, other, *rest), [new]) == (new, other, *rest)


# -- what is compiled for ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, rtx: Library) -> None:
    monkeypatch.setattr(target, "device_facts", lambda runtime: NO_GPU[runtime])


def test_without_a_gpu_rtx_is_compiled_ahead(no_gpu: None) -> None:
    aim = aim_at(None, ())
    assert (aim.library.runtime, aim.ahead) == (RTX, True)
    assert aim.target(Options()).gpu_arch == "sm_86,sm_89,sm_120"
    assert timing_cache(aim) is None


def test_tensorrt_that_is_not_there_is_told_with_what_installs_it(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="tensorrt cannot be imported here") as caught:
        aim_at(TENSORRT, ())
    assert "python3-libnvinfer" in caught.value.hint
    monkeypatch.setattr(target, "device_facts", lambda runtime: DeviceFacts(runtime, "", "", ""))
    with pytest.raises(EngineError, match="neither TensorRT nor TensorRT-RTX is installed") as caught:
        aim_at(None, ())
    assert "pip install 'edgeclip[tensorrt-rtx]'" in caught.value.hint


def test_tensorrt_without_a_gpu_says_what_works_without_one(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Library(TENSORRT, object(), "10.3.0")
    monkeypatch.setattr(target, "load_library", lambda runtime: fake)
    with pytest.raises(EngineError, match="compiles on the GPU that will run the plan") as caught:
        aim_at(TENSORRT, ())
    assert "--target tensorrt-rtx --sm 86,89,120" in caught.value.hint
    with pytest.raises(UsageError, match="--sm names others"):
        aim_at(TENSORRT, ((8, 6),))


def test_on_a_jetson_its_own_gpu_tensorrt_and_jetpack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    orin = DeviceFacts(TENSORRT, "10.3.0", "sm_87", "36.4.0")
    monkeypatch.setattr(target, "device_facts", lambda runtime: orin)
    monkeypatch.setattr(target, "load_library", lambda runtime: Library(runtime, object(), "10.3.0"))
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path))
    aim = aim_at(None, ())
    assert not aim.ahead
    assert aim.target(Options()) == Target(TENSORRT, "10.3.0", "sm_87", "36.4.0")
    wide = aim.target(Options(version_compatible=True, hardware_compatible=True))
    assert (wide.version, wide.gpu_arch) == ("10.3+", "sm_80+")
    assert timing_cache(aim) == tmp_path / "tensorrt" / "tensorrt-10.3.0-sm87.timing"
    assert plan_stem("image", wide.runtime, wide.version, wide.gpu_arch) == "image.tensorrt-10.3up-sm80up"


def test_a_plan_that_brings_code_is_refused_before_it_is_built_where_it_may_not_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    orin = DeviceFacts(TENSORRT, "10.3.0", "sm_87", "36.4.0")
    monkeypatch.setattr(target, "device_facts", lambda runtime: orin)
    monkeypatch.setattr(target, "load_library", lambda runtime: Library(runtime, object(), "10.3.0"))
    monkeypatch.delenv("EDGECLIP_PLAN_HOST_CODE", raising=False)
    with pytest.raises(UsageError, match="only where EDGECLIP_PLAN_HOST_CODE is 1") as caught:
        compile_bundle(bundle, options=Options(version_compatible=True))
    assert "leave --version-compatible out" in caught.value.hint


def test_capabilities_are_read_as_people_write_them() -> None:
    assert [arch_from(text) for text in ("86", " sm_87", "SM120")] == [(8, 6), (8, 7), (12, 0)]
    for text in ("", "8.6", "ada", "8"):
        with pytest.raises(UsageError, match="not a compute capability"):
            arch_from(text)


def test_one_name_for_one_target() -> None:
    assert plan_stem("image", RTX, "1.7.1.116", "sm_86,sm_120") == "image.tensorrt-rtx-1.7.1.116-sm86-sm120"


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command(rtx: Library, bundle: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["compile", bundle.origin, "--target", "tensorrt-rtx", "--sm", "86,89", "--batch", "1"]
    assert main([*arguments, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    said = captured.out
    assert "2 multiplications in INT8, 0 in floating point" in said
    assert "every Q/DQ is used" in said
    assert (said + captured.err).count(" MB, ") == 1  # a terminal shows both, and the plan's line once
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plans"][0]["target"]["gpu_arch"] == "sm_86,sm_89"
    assert told["plans"][0]["not_int8"] == []
    assert told["plans"][0]["latency_ms"] == {}
    assert main([*arguments, "--out", str(out), "--precision", "float", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["plans"][0]["precision"], told["plans"][0]["int8"]) == ("fp16", 0)
    assert main([*arguments, "--sm", "87"]) == 2
    assert "--sm 87" in capsys.readouterr().err


def test_a_bundle_that_cannot_be_written_in_place(
    rtx: Library, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeclip.compile import bundles

    def refuse(**options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bundles.tempfile, "mkdtemp", refuse)
    with pytest.raises(DataError, match="cannot be written: Permission denied") as caught:
        compile_bundle(bundle, runtime=RTX, archs=((8, 6),))
    assert "--out" in caught.value.hint
