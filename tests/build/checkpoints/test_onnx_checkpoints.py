"""Plain ONNX in: a pair with its manifest, and an image tower alone with a fixed bank, through to a running bundle."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from small import facts, tokenizer_json, write_pictures

from edgeclip.build import exporter
from edgeclip.build.checkpoints import detect, load, onnx_rewrite
from edgeclip.build.checkpoints.encoders import Bank
from edgeclip.build.checkpoints.onnxpair import tower
from edgeclip.build.checkpoints.place import Facts, Place
from edgeclip.build.graphs import ImageGraph, TextGraph
from edgeclip.build.onnxgraph import check_native, session
from edgeclip.build.order import resolve
from edgeclip.build.source import Model, place_of, plan_of
from edgeclip.build.stages import build
from edgeclip.bundle import open_bundle
from edgeclip.errors import ConfigError, DataError, UsageError
from edgeclip.progress import Silent
from edgeclip.runtime.labelbank import load_bank, usual_labels
from edgeclip.train.towers import DualEncoder, ViTTower
from edgeclip.types import Label

NAMES = ("dog", "cat", "red cup", "Car", "tree")


@pytest.fixture(scope="module")
def towers() -> DualEncoder:
    torch.manual_seed(0)
    known = facts(ViTTower(patch=8, width=32, depth=2, heads=2), 32)
    model = DualEncoder(known.towers)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
            else:
                parameter.mul_(2.0)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def files(towers: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image.onnx and text.onnx as older exporters write them: LayerNorms in pieces, shapes worked out at run time."""
    folder = tmp_path_factory.mktemp("onnx")
    axes = {"dynamic_axes": {"input": {0: "batch"}, "vector": {0: "batch"}}, "dynamo": False, "opset_version": 14}
    names = {"input_names": ["input"], "output_names": ["vector"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(towers.image, (torch.zeros(1, 3, 32, 32),), str(folder / "image.onnx"), **names, **axes)
        ids = torch.ones(1, 12, dtype=torch.int64)
        torch.onnx.export(towers.text, (ids,), str(folder / "text.onnx"), **names, **axes)
        quantize_dynamic(folder / "image.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
    kinds = onnx_rewrite.kinds(onnx.load(str(folder / "int8.onnx")))
    assert kinds["MatMulInteger"] >= 8
    assert kinds["Pow"] == 5
    bank = np.random.default_rng(0).normal(size=(len(NAMES), 16)).astype(np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    np.savez(folder / "text.npz", names=np.array(NAMES), embeddings=bank.astype(np.float16), logit_scale=np.float32(50))
    return folder


def test_a_tower_computes_what_onnxruntime_does(towers: DualEncoder, files: Path) -> None:
    module, _, notes = tower(files / "image.onnx", (1, 3, 32, 32))
    assert notes == ("image.onnx: 5 decomposed LayerNorms made native",)
    layers = [type(part).__name__ for part in module.model.modules()]
    assert layers.count("LayerNorm") == 5
    assert layers.count("Linear") == 9  # qkv, out, fc1, fc2 of two blocks, head
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        got, want = module(pixels).numpy(), towers.image(pixels).numpy()
    assert np.abs(got - want).max() < 1e-4


@pytest.mark.parametrize("io", [True, False])
def test_half_precision_is_made_float32(files: Path, tmp_path: Path, io: bool) -> None:
    """With float32 outside, onnxruntime's converter leaves a node behind those that need it."""
    onnx.save(
        convert_float_to_float16(onnx.load(str(files / "image.onnx")), keep_io_types=io), str(tmp_path / "h.onnx")
    )
    module, plain, notes = tower(tmp_path / "h.onnx", (1, 3, 32, 32))
    assert "h.onnx: half precision made float32, its weights at half precision" in notes
    assert all(value.dtype == torch.float32 for value in module.parameters())
    pixels = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    want = session((files / "image.onnx").read_bytes()).run(None, {"input": pixels})[0]
    with torch.no_grad():
        got = module(torch.from_numpy(pixels)).numpy()
    assert exporter.lowest_cosine(got, want) > 0.9999
    assert exporter.lowest_cosine(session(plain).run(None, {"input": pixels})[0], want) > 0.9999


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        ((8, 3, 32, 32), "FLOAT", r"\[8, 3, 32, 32\] float, and not \[N, 3, H, W\] float pixels with an open batch"),
        ((None, 32, 32, 3), "FLOAT", r"\['N', 32, 32, 3\] float, and not \[N, 3, H, W\]"),
        ((1, 3, 32, 32), "UINT8", r"\[1, 3, 32, 32\] uint8, and not \[N, 3, H, W\] float"),
        ((3, 32, 32), "FLOAT", r"\[3, 32, 32\] float, and not"),
    ],
)
def test_an_input_that_is_no_batch_of_pixels_is_told(
    tmp_path: Path, shape: tuple[int | None, ...], kind: str, said: str
) -> None:
    typed = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DataType.Value(kind), shape)
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [typed], [result])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "image.onnx"))
    with pytest.raises(DataError, match=said):
        tower(tmp_path / "image.onnx", (1, 3, 32, 32))


def test_dynamic_int8_is_unfolded_to_float(towers: DualEncoder, files: Path) -> None:
    module, plain, notes = tower(files / "int8.onnx", (1, 3, 32, 32))
    assert "dynamic INT8 products unfolded" in notes[0]
    assert not {"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear"} & set(
        onnx_rewrite.kinds(onnx.load_model_from_string(plain))
    )
    pixels = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        got = module(torch.from_numpy(pixels)).numpy()
        original = towers.image(torch.from_numpy(pixels)).numpy()
    int8 = session(files / "int8.onnx").run(None, {"input": pixels})[0]
    assert exporter.lowest_cosine(got, session(plain).run(None, {"input": pixels})[0]) >= 0.99999
    assert 0.99 < exporter.lowest_cosine(got, int8) < exporter.lowest_cosine(got, original)


class Normed(torch.nn.Module):
    """An embedding of length 1, as transformers writes it."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.tower(x)
        return rows / torch.pow(torch.pow(rows, 2).sum(-1, keepdim=True), 0.5)


def test_powers_that_exporters_write_are_carried_over(towers: DualEncoder, tmp_path: Path) -> None:
    path, out = tmp_path / "image.onnx", tmp_path / "out.onnx"
    example = torch.randn(1, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Normed(towers.image), (example,), str(path), dynamo=False, opset_version=14)
        module, _, _ = tower(path, (1, 3, 32, 32))
        assert onnx_rewrite.kinds(onnx.load(str(path)))["Pow"] == 7  # five in LayerNorms
        exporter.write_onnx(module, example.numpy(), out)
    check_native(out, 5)
    with torch.no_grad():
        assert np.abs(module(example).numpy() - Normed(towers.image)(example).numpy()).max() < 1e-5


def test_weights_in_a_file_of_their_own_count(files: Path, tmp_path: Path) -> None:
    """As torch writes them by default: the graph stays the same when a tower is trained further."""
    bank = Model(image_onnx=str(tmp_path / "image.onnx"), text_bank=str(files / "text.npz"))
    model = onnx.load(str(files / "image.onnx"))
    onnx.save(model, str(tmp_path / "image.onnx"), save_as_external_data=True, location="image.onnx.data")
    graph = (tmp_path / "image.onnx").read_bytes()

    def digest() -> str:
        order = resolve(None, bank, None, "demo", ["onnx"], None, tmp_path / "work", None, None, None, Silent())
        return order.checkpoint_digest()

    before = digest()
    weights = bytearray((tmp_path / "image.onnx.data").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "image.onnx.data").write_bytes(weights)
    assert (tmp_path / "image.onnx").read_bytes() == graph
    assert digest() != before


def write_pair(folder: Path, files: Path, **changes: str) -> Path:
    folder.mkdir()
    for name in ("image.onnx", "text.onnx"):
        shutil.copy(files / name, folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    lines = {
        "preprocess": "{size: [32, 32], resize: shortest, interpolation: bicubic, mean: [0.48, 0.46, 0.41], "
        "std: [0.27, 0.26, 0.28]}",
        "scoring": "{kind: softmax, scale: 100.0}",
        "context_length": "12",
        **changes,
    }
    (folder / "model.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return folder


def test_a_pair_with_its_manifest(towers: DualEncoder, files: Path, tmp_path: Path) -> None:
    place = detect(write_pair(tmp_path / "pair", files))
    assert place.loader == "onnx"
    encoders = load(place)
    assert not isinstance(encoders.text, Bank)
    ids = exporter.sentence_ids(encoders.text)
    graph = TextGraph(encoders.text.encoder)
    with torch.no_grad():
        got = np.concatenate([graph(torch.from_numpy(row[None])).numpy() for row in ids])
        want = towers.encode_text(torch.from_numpy(ids)).numpy()
        frames = exporter.sample_images(32, 32)[:4]
        image = ImageGraph(encoders.image, encoders.preprocess)
        rows = np.concatenate([image(torch.from_numpy(frame[None])).numpy() for frame in frames])
    assert exporter.lowest_cosine(got, want) > 0.9999
    assert encoders.original is not None
    assert exporter.lowest_cosine(rows, encoders.original.image(frames)) > 0.9999
    with pytest.raises(ConfigError, match=r"model\.yaml:4: unknown key `licens`"):
        load(detect(write_pair(tmp_path / "misspelt", files, licens="MIT")))
    with pytest.raises(DataError, match=r"names other\.onnx, which is missing"):
        load(detect(write_pair(tmp_path / "absent", files, image="other.onnx")))
    with pytest.raises(DataError, match=r"text\.onnx: its input input is .* int64, and not \[N, 3, H, W\]"):
        load(detect(write_pair(tmp_path / "swapped", files, image="text.onnx")))


def test_an_image_tower_with_a_bank_becomes_a_bundle_that_runs(files: Path, tmp_path: Path, pictures: list) -> None:
    frames = write_pictures(tmp_path / "frames", pictures)
    model = Model(image_onnx=str(files / "int8.onnx"), text_bank=str(files / "text.npz"), facts=Facts(size=32))
    work = tmp_path / "work"
    result = build(model=model, calibration=str(frames), targets=["onnx"], out=tmp_path / "bundle", work=work)
    bundle = open_bundle(result.bundle)
    text = bundle.manifest.text
    assert (text.bank, text.tokenizer) == ("text.npz", None)
    assert bundle.engines("text") == []
    assert bundle.manifest.scoring.scale == 50.0
    assert [label.name for label in usual_labels(bundle)] == list(NAMES)
    picked = load_bank(bundle, [Label("car"), Label("pet", ("dog", "CAT"))])
    with np.load(files / "text.npz") as stored:
        rows = stored["embeddings"].astype(np.float32)
    assert picked.names == ("car", "pet")
    assert np.abs(picked.embeddings[0] - rows[3]).max() < 1e-3
    assert picked.embeddings[1] @ (rows[0] + rows[1]) > 0.99 * np.linalg.norm(rows[0] + rows[1])
    with pytest.raises(DataError, match="5 names, and not 'dogs', 'a tram'") as caught:
        load_bank(bundle, [Label("dogs"), Label("cat"), Label("a tram")])
    assert "dog" in caught.value.hint
    assert any("unfolded" in line for line in result.report.provenance)
    assert result.report.images[0].agreement is not None
    again = build(model=model, calibration=str(frames), targets=["onnx"], out=tmp_path / "bundle", work=work)
    assert again.skipped == ("export", "calibrate", "quantize", "verify")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": np.array(["a", "A", "b", "c", "d"])}, "twice"),
        ({"names": np.array(["a", "b"])}, "names <U1"),
        ({"names": np.arange(5)}, "names int64"),
        ({"embeddings": np.ones((5, 16), np.float32)}, "unit vectors: .* has length 4"),
        ({"embeddings": np.eye(8, dtype=np.float32)[:5]}, "vectors of 8 numbers"),
        ({"logit_scale": np.float32(-1)}, "logit_scale -1"),
        ({"embeddings": None}, "has no embeddings"),
    ],
)
def test_a_bank_that_does_not_fit(files: Path, tmp_path: Path, change: dict, message: str) -> None:
    with np.load(files / "text.npz") as stored:
        values = {**{name: stored[name] for name in stored.files}, **change}
    np.savez(tmp_path / "text.npz", **{name: value for name, value in values.items() if value is not None})
    place = Place(
        "onnx-image", str(files / "image.onnx"), "small", text_bank=str(tmp_path / "text.npz"), facts=Facts(size=32)
    )
    with pytest.raises(DataError, match=message):
        load(place)


def test_what_contradicts_itself(files: Path) -> None:
    with pytest.raises(UsageError, match="belong together"):
        build(model=Model(image_onnx=str(files / "image.onnx")))
    with pytest.raises(UsageError, match="either a recipe or a model"):
        build()
    with pytest.raises(DataError, match="an image tower without a text side"):
        build(model=Model(model=str(files / "image.onnx")), calibration="demo")


def test_a_recipe_may_name_a_tower_and_its_bank(files: Path) -> None:
    recipe = files / "small.yaml"
    recipe.write_text("name: small\ncheckpoint: image.onnx\ntext_bank: text.npz\nfacts: {size: 32, resize: squash}\n")
    plan, path = plan_of(recipe, Model())
    place = place_of(plan, path, None, Model(), Silent())
    assert (place.loader, place.facts.resize) == ("onnx-image", "squash")
    assert load(place).preprocess.resize == "squash"
    stated = place_of(plan, path, None, Model(facts=Facts(size=32, resize="shortest")), Silent())
    assert stated.facts.resize == "shortest"
    recipe.write_text("name: small\n")
    with pytest.raises(ConfigError, match="no checkpoint and no model"):
        plan_of(recipe, Model())


def test_graphs_that_cannot_be_carried_over(files: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(DataError, match="is not an ONNX model"):
        tower(tmp_path / "broken.onnx", (1, 3, 32, 32))
    model = onnx.load(str(files / "image.onnx"))
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "Hardmax"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(DataError, match="Hardmax"):
        tower(tmp_path / "odd.onnx", (1, 3, 32, 32))
