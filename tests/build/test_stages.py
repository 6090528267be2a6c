"""One real build, from a checkpoint to a bundle that opens; then what a second one, a failing one and a ViT do."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from small import facts, random_checkpoint, textured, write_pictures, write_recipe

from edgeclip.build.onnxgraph import OnnxGraph
from edgeclip.build.stages import BuildResult, build
from edgeclip.build.tflite import TFLiteGraph
from edgeclip.bundle import open_bundle, sha256
from edgeclip.errors import ConfigError, DataError, UsageError
from edgeclip.runtime.frames import load_frames
from edgeclip.train.checkpoint import load_checkpoint, save_checkpoint
from edgeclip.train.towers import DualEncoder, ViTTower


class Notes:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def done(self) -> None: ...


Builder = Callable[..., BuildResult]


@pytest.fixture(scope="module")
def built(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildResult, Path]:
    work = tmp_path_factory.mktemp("work")
    result = build(place / "small.yaml", work=work, targets=["tflite", "onnx"], out=work / "bundle")
    return result, work


def test_bundle_opens_with_engines_of_both_formats(built: tuple[BuildResult, Path]) -> None:
    result, _ = built
    bundle = open_bundle(result.bundle)
    manifest = bundle.manifest
    images = [entry.file for entry in bundle.engines("image")]
    assert images[0] == "image.tflite"
    assert images[-1] == "image.onnx"
    assert bundle.engines("image")[-1].precision == "int8 static Q/DQ"
    assert [entry.file for entry in bundle.engines("text")] == ["text.tflite", "text.onnx"]
    assert manifest.dim == 16
    assert manifest.preprocess.size == (32, 32)
    assert manifest.text.context_length == 12
    assert manifest.calibration.frames >= 64
    assert manifest.recipe["quantization"]["search"]["observers"] == ["min-max"]
    assert (result.bundle / "report.md").read_text().startswith("# small")
    frames = load_frames(bundle)
    assert frames is not None
    assert len(frames) >= manifest.calibration.frames


def test_engines_take_uint8_and_agree_with_the_golden_frames(built: tuple[BuildResult, Path]) -> None:
    bundle = open_bundle(built[0].bundle)
    with np.load(bundle.file("golden.npz"), allow_pickle=False) as golden:
        frames, embeddings = golden["frames"], golden["embeddings"]
    assert frames.shape == (8, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert embeddings.shape == (8, 16)
    for engine in (TFLiteGraph(bundle.file("image.tflite")), OnnxGraph(bundle.file("image.onnx"))):
        assert engine.input_shape == (1, 32, 32, 3)
        assert engine.input_dtype == np.uint8
        rows = np.concatenate([engine.run(frame[None]).copy() for frame in frames])
        assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-4)
        assert (rows * embeddings).sum(1).min() > 0.99


def test_golden_embeddings_are_torchs(place: Path, built: tuple[BuildResult, Path]) -> None:
    model, known = load_checkpoint(place / "small.safetensors")
    with np.load(built[0].bundle / "golden.npz") as golden:
        pixels = torch.from_numpy(golden["frames"]).float().permute(0, 3, 1, 2) / 255.0
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (known.preprocess.mean, known.preprocess.std))
        want = model.encode_image((pixels - mean) / std).numpy()
        assert np.abs(want - golden["embeddings"]).max() < 1e-4


def test_int8_engines_are_about_a_byte_a_parameter(built: tuple[BuildResult, Path]) -> None:
    float_bytes = built[0].report.floating.bytes["tflite"]
    sizes = {candidate.file: candidate.bytes for candidate in built[0].report.images}
    assert sizes["image.static.tflite"] < 0.75 * float_bytes  # a small net: the graph weighs as much


def test_both_schemes_were_measured_and_one_is_kept(built: tuple[BuildResult, Path]) -> None:
    images = {candidate.file: candidate for candidate in built[0].report.images}
    assert set(images) - {"image.openvino.onnx"} == {  # which is there where OpenVINO is installed
        "image.static.tflite",
        "image.dynamic.tflite",
        "image.onnx",
        "image.float.tflite",
        "image.float.onnx",
    }
    kinds = ("static", "dynamic", "float")  # of a tower this small float may be the fastest
    assert sum(images[f"image.{kind}.tflite"].kept for kind in kinds) == 1
    assert all(candidate.distance.centred.mean >= 0.99 for candidate in images.values())


def test_static_engine_computes_in_int8_and_keeps_the_embedding_float(built: tuple[BuildResult, Path]) -> None:
    path = built[1] / "quantize" / "image.static.tflite"
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]
    made: dict[int, list[list[int]]] = {}
    for operator in graph.operators:
        kind = model.operatorCodes[operator.opcodeIndex].builtinCode
        made.setdefault(kind, []).append([graph.tensors[i].type for i in (*operator.inputs[:2], *operator.outputs)])
    int8, float32 = schema.TensorType.INT8, schema.TensorType.FLOAT32
    assert made[schema.BuiltinOperator.CONV_2D] == [[int8] * 3] * len(made[schema.BuiltinOperator.CONV_2D])
    assert made[schema.BuiltinOperator.FULLY_CONNECTED][-1][2] == float32
    assert all(types == [float32] * 3 for types in made[schema.BuiltinOperator.ADD])


def test_second_build_skips_every_step_and_leaves_the_bundle(place: Path, built: tuple[BuildResult, Path]) -> None:
    result, work = built
    before = (result.bundle / "SHA256SUMS").stat().st_mtime_ns
    notes = Notes()
    again = build(place / "small.yaml", work=work, targets=["tflite", "onnx"], out=work / "bundle", progress=notes)
    assert again.skipped == ("export", "calibrate", "quantize", "verify")
    assert not again.changed
    assert notes.stages == ["export", "calibrate", "quantize", "verify", "pack"]
    assert "quantize is up to date, skipped" in notes.notes
    assert (result.bundle / "SHA256SUMS").stat().st_mtime_ns == before


def test_plans_are_a_step_of_the_build(place: Path, built: tuple[BuildResult, Path]) -> None:
    """NVIDIA's builder, ahead of time: nothing before it is done again, and a second time neither is it."""
    _, work = built
    wanted = {"work": work, "targets": ["tflite", "onnx", "tensorrt-rtx"], "out": work / "with-plans"}
    result = build(place / "small.yaml", **wanted)
    assert result.skipped == ("export", "calibrate", "quantize", "verify")
    bundle = open_bundle(result.bundle)
    for role in ("image", "text"):
        # Where INT8 ONNX is not faster than float here, float stands before it.
        assert list(dict.fromkeys(entry.format for entry in bundle.engines(role))) == ["plan", "tflite", "onnx"]
    plan = bundle.engines("image")[0]
    assert plan.target.gpu_arch == "sm_86,sm_89,sm_120"
    table = json.loads(bundle.file(plan.file.replace(".plan", ".layers.json")).read_text())
    assert table["int8"] > 0
    assert table["not_int8"] == []
    again = build(place / "small.yaml", **wanted)
    assert again.skipped == ("export", "calibrate", "quantize", "verify", "compile")
    assert not again.changed


def test_float_of_a_format_that_was_not_asked_for_is_not_kept(
    place: Path, built: tuple[BuildResult, Path], tmp_path: Path
) -> None:
    """Whatever an earlier build of the same graphs had kept."""
    work = shutil.copytree(built[1], tmp_path / "work")
    other = build(place / "small.yaml", work=work, targets=["tflite", "tensorrt-rtx"], out=tmp_path / "bundle")
    assert other.skipped == ("export", "calibrate", "quantize")
    assert not [one.file for one in other.report.kept() if one.file.endswith(".float.onnx")]


def test_engines_that_came_out_otherwise_are_measured_again(
    place: Path, built: tuple[BuildResult, Path], tmp_path: Path
) -> None:
    """A search that was made again, and by another pace of the machine ended elsewhere."""
    work = shutil.copytree(built[1], tmp_path / "work")
    found, stamp = work / "quantize" / "findings.json", work / "quantize" / "stamp.json"
    found.write_text(found.read_text() + "\n")
    facts = json.loads(stamp.read_text())
    facts["outputs"]["findings.json"] = sha256(found)
    stamp.write_text(json.dumps(facts))
    again = build(place / "small.yaml", work=work, targets=["tflite", "onnx"], out=tmp_path / "bundle")
    assert again.skipped == ("export", "calibrate", "quantize")


def test_a_damaged_step_is_made_again_and_the_space_stays(place: Path, built: tuple[BuildResult, Path]) -> None:
    result, work = built
    (work / "quantize" / "image.onnx").write_bytes(b"damaged")
    again = build(place / "small.yaml", work=work, targets=["tflite", "onnx"], out=work / "other.tar")
    assert again.skipped == ("export", "calibrate", "verify")
    assert open_bundle(again.bundle).manifest.space == open_bundle(result.bundle).manifest.space
    with tarfile.open(again.bundle) as tar:
        assert "manifest.json" in tar.getnames()


def test_failing_gate_writes_nothing_and_tells_the_figures(place: Path, built: tuple[BuildResult, Path]) -> None:
    _, work = built
    (place / "strict.yaml").write_text("gates: {centred_cosine: 1.0}\n")
    strict = place / "strict-engine.yaml"
    strict.write_text((place / "small.yaml").read_text().replace("plain.yaml", "strict.yaml"))
    out = work / "refused"
    with pytest.raises(DataError, match=r"image\.onnx .*mean-centred cosine 0\.\d+ is below 1\.0") as caught:
        build(strict, work=work, targets=["tflite", "onnx"], out=out)
    assert caught.value.exit_code == 65
    assert not out.exists()
    assert json.loads((work / "rejected" / "report.json").read_text())["gates"]["centred_cosine"] == 1.0
    assert not list(work.glob(".refused*"))


def test_refused_calibration_set_leaves_nothing(
    place: Path, built: tuple[BuildResult, Path], tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    work = tmp_path / "work"
    shutil.copytree(built[1] / "export", work / "export")
    blank = np.zeros((60, 80, 3), np.uint8)
    for name, frames in (("few", pictures[:20]), ("same", [pictures[0]] * 80), ("blank", [blank] * 80)):
        folder = write_pictures(tmp_path / name, frames)
        with pytest.raises(DataError, match="distinct frames") as caught:
            build(
                place / "small.yaml",
                calibration=str(folder),
                work=work,
                out=tmp_path / "out",
                targets=["tflite", "onnx"],
            )
        assert caught.value.exit_code == 65
        assert not (tmp_path / "out").exists()
        assert not (work / "calibrate").exists()


def test_labelled_data_adds_accuracy(place: Path, built: tuple[BuildResult, Path], tmp_path: Path) -> None:
    _, work = built
    for number, name in enumerate(("dog", "cup", "car")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i, picture in enumerate(textured(6, seed=100 + number)):
            cv2.imwrite(str(tmp_path / "data" / name / f"{i}.png"), picture)
    (tmp_path / "labels.txt").write_text("Dog\ncup\ncar\n")
    # Rankings of untrained towers are near ties: the gate on top-1 is another test's.
    (place / "open.yaml").write_text("gates: {top1_drop: 100.0}\n")
    (place / "open-engine.yaml").write_text((place / "small.yaml").read_text().replace("plain.yaml", "open.yaml"))
    result = build(
        place / "open-engine.yaml",
        work=work,
        targets=["tflite", "onnx"],
        out=tmp_path / "bundle",
        data=tmp_path / "data",
        labels=tmp_path / "labels.txt",
    )
    report = result.report
    assert report.frames == 18
    assert report.labels == 3
    assert report.overlap == 0
    assert report.floating.top1 is not None
    for candidate in report.images:
        assert candidate.top1 is not None
        assert candidate.agreement is not None
        assert candidate.top1_drop == pytest.approx(report.floating.top1 - candidate.top1)
    (tmp_path / "labels.txt").write_text("dog\ncup\n")
    with pytest.raises(DataError, match=r"12 of 18 pictures of .* fewer than 16 says nothing"):
        build(
            place / "open-engine.yaml", work=work, targets=["tflite", "onnx"], out=tmp_path / "few",
            data=tmp_path / "data", labels=tmp_path / "labels.txt",
        )  # fmt: skip
    with pytest.raises(UsageError, match="no labels are given"):
        build(place / "small.yaml", work=work, out=tmp_path / "bundle", data=tmp_path / "data")


def test_model_card_is_carried_over_and_other_directories_are_spared(
    place: Path, built: tuple[BuildResult, Path], tmp_path: Path
) -> None:
    _, work = built
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "README.md").write_text("# the card\n")
    build(place / "small.yaml", work=work, targets=["tflite", "onnx"], out=out)
    assert open_bundle(out).file("README.md").read_text() == "# the card\n"
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "one.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"holds one\.jpg"):
        build(place / "small.yaml", work=work, out=precious)
    assert (precious / "one.jpg").exists()


def test_space_is_of_the_encoders_and_not_of_the_file(place: Path, tmp_path: Path) -> None:
    from edgeclip.build.graphs import space_id

    model, known = load_checkpoint(place / "small.safetensors")
    save_checkpoint(tmp_path / "half.safetensors", model, known, half=True)
    again, _ = load_checkpoint(tmp_path / "half.safetensors")
    save_checkpoint(tmp_path / "renamed.safetensors", again, msgspec.structs.replace(known, name="other"), half=False)
    renamed, _ = load_checkpoint(tmp_path / "renamed.safetensors")

    def space_of(encoders: DualEncoder) -> str:
        return space_id(encoders.image, encoders.text)

    assert space_of(again) == space_of(renamed) != space_of(model)
    with torch.no_grad():
        renamed.log_scale.add_(1.0)
    assert space_of(renamed) == space_of(again)
    with torch.no_grad():
        next(renamed.text.parameters()).view(-1)[0].add_(1.0)
    assert space_of(renamed) != space_of(again)


def test_vit_builds_through_the_same_path(place: Path, tmp_path: Path) -> None:
    tower = ViTTower(patch=8, width=32, depth=2, heads=2, mlp_ratio=2)
    random_checkpoint(tmp_path / "small.safetensors", facts(tower, 32))
    shutil.copytree(place / "frames", tmp_path / "frames")
    (tmp_path / "search.yaml").write_text(
        "search:\n"
        "  observers: [min-max, percentile-99.99, mse, entropy]\n"
        "  smooth: [0.5]\n  centre: [middle]\n  whole_pixels: true\n  bias_correction: true\n"
        "  sensitivity: true\n  fallback: true\n  frames: 16\n"
    )
    recipe = write_recipe(tmp_path, calibration="frames", quantization="search.yaml")
    result = build(recipe, work=tmp_path / "work", out=tmp_path / "bundle", budget=5)
    assert open_bundle(result.bundle).manifest.dim == 16
    found = result.report.search
    assert found is not None
    assert [trial.remedy for trial in found.trials][:2] == ["min-max", "observers"]
    assert len(found.sensitivity) == 10
    assert found.unmatched == ""
    assert "What each remedy gave" in (result.bundle / "report.md").read_text()
    assert (result.bundle / "sensitivity.png").exists()
    assert "farthest from float" in (tmp_path / "work" / "verify" / "report.html").read_text()
    assert not (result.bundle / "report.html").exists()
    assert {candidate.file for candidate in result.report.kept()} >= {"image.onnx", "text.tflite"}
    nodes = onnx.load(str(result.bundle / "image.onnx")).graph.node
    made_by = {node.output[0]: node.op_type for node in nodes}
    kinds = Counter(node.op_type for node in nodes)
    assert kinds["LayerNormalization"] == 5  # two a block, one before the head
    assert "Pow" not in kinds
    # Patch convolution, qkv, out, fc1, fc2 of two blocks, head; attention's four MatMuls have no weight.
    weighted = [node for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul") and "weight" in node.input[1]]
    assert len(weighted) == 10
    assert kinds["MatMul"] + kinds["Conv"] + kinds["Gemm"] == 14
    for node in weighted:
        assert [made_by[tensor] for tensor in node.input[:2]] == ["DequantizeLinear"] * 2
    for node in nodes:
        if node.op_type in ("Add", "LayerNormalization", "Softmax", "Mul"):
            assert "DequantizeLinear" not in {made_by.get(tensor) for tensor in node.input}
    # Other nodes that are to be INT8, and the same search: what was quantized before is not taken for it.
    with (tmp_path / "search.yaml").open("a") as stream:
        stream.write("onnx: {multiply: [Gemm, MatMul]}\n")
    again = build(recipe, work=tmp_path / "work", out=tmp_path / "bundle", budget=5)
    assert "quantize" not in again.skipped
    nodes = onnx.load(str(again.bundle / "image.onnx")).graph.node
    assert next(node.input[1] for node in nodes if node.op_type == "Conv").endswith(".weight")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("targets: [coreml]", r"recipe\.yaml:3: `targets\.0`"),
        ("calibratoin: frames", r"recipe\.yaml:3: unknown key `calibratoin`"),
        ("name: ../up", r"recipe\.yaml:3"),
    ],
)
def test_recipe_errors_name_file_line_and_key(tmp_path: Path, line: str, message: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"# an engine\ncheckpoint: x.safetensors\n{line}\n" + ("" if "name" in line else "name: small\n"))
    with pytest.raises(ConfigError, match=message) as caught:
        build(recipe)
    assert caught.value.exit_code == 78


def test_calibration_set_is_required(place: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    shutil.copy(place / "small.safetensors", tmp_path)
    with pytest.raises(DataError, match="names no calibration set"):
        build(recipe, work=tmp_path / "work")
    with pytest.raises(DataError, match="does not exist"):
        build(write_recipe(tmp_path, calibration="frames", checkpoint="gone.safetensors"), work=tmp_path / "work")
    with pytest.raises(UsageError, match="coreml"):
        build(recipe, calibration="demo", targets=["coreml"])


def test_file_that_is_no_checkpoint(place: Path, tmp_path: Path) -> None:
    (tmp_path / "small.safetensors").write_bytes(b"not tensors")
    with pytest.raises(DataError, match="is not an edgeclip checkpoint"):
        build(write_recipe(tmp_path, calibration=str(place / "frames")), work=tmp_path / "work", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
