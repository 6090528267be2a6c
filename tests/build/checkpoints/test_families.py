"""Every family's loader on a small random checkpoint that its own library saved: both towers, to the library's rows."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="pip install 'edgeclip[models]'")
pytest.importorskip("transformers", reason="pip install 'edgeclip[models]'")

import saved
import torch
from safetensors.torch import load_file, save_file

from edgeclip.build import exporter
from edgeclip.build.checkpoints import detect, load
from edgeclip.build.checkpoints.encoders import Encoders, TextSide
from edgeclip.build.checkpoints.place import Facts, Place
from edgeclip.build.checkpoints.sentences import SENTENCES
from edgeclip.build.graphs import ImageGraph, TextGraph
from edgeclip.errors import DataError, EngineError

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "open_clip-vit": lambda folder: saved.openclip(folder / "vit", "vit"),
    "open_clip-resnet": lambda folder: saved.openclip(folder / "resnet", "resnet"),
    "open_clip-hybrid": lambda folder: saved.openclip(folder / "hybrid", "hybrid"),
    "open_clip-siglip": lambda folder: saved.openclip(folder / "siglip", "siglip"),
    "openai-archive": lambda folder: saved.openai(folder / "archive.pt", scripted=True),
    "openai-tensors": lambda folder: saved.openai(folder / "tensors.pt", scripted=False),
    "huggingface-clip": lambda folder: saved.huggingface(folder / "clip", "clip"),
    "huggingface-siglip": lambda folder: saved.huggingface(folder / "siglip", "siglip"),
    "huggingface-siglip2": lambda folder: saved.huggingface(folder / "siglip2", "siglip2"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Encoders]:
    torch.backends.mha.set_fastpath_enabled(False)
    path = FAMILIES[request.param](tmp_path_factory.mktemp("saved"))
    place = detect(path)
    assert place.loader == request.param.partition("-")[0]
    return request.param, path, load(place)


def centred(rows: np.ndarray) -> np.ndarray:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows - rows.mean(0)


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    assert exporter.lowest_cosine(got, want) >= 0.9999
    assert exporter.lowest_cosine(centred(got), centred(want)) >= 0.999  # rows that are all alike prove nothing


def test_image_tower_is_the_librarys(family: tuple[str, Path, Encoders]) -> None:
    encoders = family[2]
    assert encoders.original is not None
    frames = exporter.sample_images(*encoders.preprocess.size)
    graph = ImageGraph(encoders.image, encoders.preprocess)
    with torch.no_grad():
        got = np.concatenate([graph(torch.from_numpy(frame[None])).numpy() for frame in frames])
    assert got.shape == (len(frames), encoders.dim)
    assert_same(got, encoders.original.image(frames))


def test_text_tower_and_tokenizer_are_the_librarys(family: tuple[str, Path, Encoders]) -> None:
    encoders = family[2]
    assert encoders.original is not None
    assert isinstance(encoders.text, TextSide)
    graph = TextGraph(encoders.text.encoder)
    with torch.no_grad():
        rows = [graph(torch.from_numpy(ids[None])).numpy() for ids in exporter.sentence_ids(encoders.text)]
    assert_same(np.concatenate(rows), encoders.original.text(SENTENCES))


def test_facts_are_the_checkpoints(family: tuple[str, Path, Encoders]) -> None:
    name, _, encoders = family
    facts = encoders.preprocess
    sigmoid = "siglip" in name
    assert encoders.scoring.kind == ("sigmoid" if sigmoid else "softmax")
    assert facts.resize == ("squash" if sigmoid else "shortest")
    assert facts.interpolation == ("bilinear" if name in ("open_clip-hybrid", "huggingface-siglip2") else "bicubic")
    if name == "open_clip-hybrid":
        assert facts.mean == (0.0, 0.0, 0.0)
        assert encoders.notes[0].startswith("training branches merged")
    if name == "open_clip-vit":
        assert facts.std == (0.27, 0.26, 0.28)
        assert encoders.scoring.scale == pytest.approx(1 / 0.07, rel=1e-3)
    assert not [module for module in encoders.image.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_weights_alone_need_their_architecture(tmp_path: Path) -> None:
    folder = saved.openclip(tmp_path / "vit", "vit")
    weights = folder / "open_clip_model.safetensors"
    with pytest.raises(DataError, match=r"no architecture 'ViT-B-33'") as caught:
        load(detect(weights, "ViT-B-33"))
    assert "ViT-B-32" in caught.value.hint
    with pytest.raises(DataError, match="open_clip cannot load it"):
        load(detect(weights, "ViT-B-32"))
    shutil.copyfile(weights, tmp_path / "alone.safetensors")
    with pytest.raises(DataError, match="does not say what its towers are"):
        load(detect(tmp_path / "alone.safetensors"))


def test_directories_that_lack_something(tmp_path: Path) -> None:
    folder = saved.huggingface(tmp_path / "clip", "clip")
    other = tmp_path / "bert"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DataError, match="model_type 'bert'"):
        load(detect(other))
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    weights = load_file(without / "model.safetensors")
    fewer = {name: tensor for name, tensor in weights.items() if name != "visual_projection.weight"}
    save_file(fewer, without / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"lacks 1 tensors, visual_projection\.weight first"):
        load(detect(without))
    (without / "model.safetensors").unlink()
    with pytest.raises(DataError, match="transformers cannot load it"):
        load(detect(without))
    (without / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="holds no vocabulary"):
        load(detect(without))
    siglip = saved.openclip(tmp_path / "siglip", "siglip")
    (siglip / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="holds no vocabulary"):
        load(detect(siglip))
    facts = json.loads((folder / "preprocessor_config.json").read_text())
    facts["resample"] = 1
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="resample 1"):
        load(detect(folder))
    assert load(detect(folder, facts=Facts(interpolation="bilinear"))).preprocess.interpolation == "bilinear"


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="is not an original CLIP archive"):
        load(Place("openai", str(path), "model"))
    for stored, said in (
        (b"nothing", "is no file of tensors"),
        (torch.nn.Linear(2, 2), "is no file of tensors"),  # a pickled module, which could run anything
        ({"vision_model.post_layernorm.bias": torch.zeros(2)}, "tensors of transformers' CLIP"),
        ({"epoch": 3, "state_dict": {"module.logit_scale": torch.zeros(())}}, "does not say which architecture"),
    ):
        if isinstance(stored, bytes):
            path.write_bytes(stored)
        else:
            torch.save(stored, path)
        with pytest.raises(DataError, match=said):
            load(Place("openai", str(path), "model"))


def test_bare_tensors_are_taken_for_openais_and_it_is_told(tmp_path: Path) -> None:
    bare, scripted = (
        saved.openai(tmp_path / f"{name}.pt", scripted=name == "scripted") for name in ("bare", "scripted")
    )
    assert any("QuickGELU" in note for note in load(detect(bare)).notes)
    assert not any("QuickGELU" in note for note in load(detect(scripted)).notes)
    # A run of open_clip's is refused rather than computed with another activation; the architecture mends it.
    torch.save({"epoch": 1, "state_dict": torch.load(bare)}, tmp_path / "epoch.pt")
    with pytest.raises(DataError) as caught:
        load(detect(tmp_path / "epoch.pt"))
    assert "--architecture" in caught.value.hint


def test_a_library_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved.openclip(tmp_path / "vit", "vit")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(EngineError, match="needs open_clip") as caught:
        load(detect(folder))
    assert "edgeclip[models]" in caught.value.hint


@pytest.mark.parametrize("kind", ["hybrid", "siglip"])
def test_onnx_of_a_hybrid_and_of_tanh_gelu(kind: str, tmp_path: Path) -> None:
    """Through the process that exports: native LayerNorms, no Pow, no BatchNormalization, and the library's rows."""
    from edgeclip.build.export import export
    from edgeclip.progress import Silent

    path = saved.openclip(tmp_path / kind, "hybrid") if kind == "hybrid" else saved.huggingface(tmp_path / kind, kind)
    exported = export(detect(path), ["image.onnx", "text.onnx"], tmp_path, tmp_path / "log", Silent())
    assert set(exported.original) == {"image.onnx", "text.onnx"}
    assert min((*exported.cosine.values(), *exported.original.values())) >= 0.9999
    assert exported.provenance()[0].startswith("Weights: ")
