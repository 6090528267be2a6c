"""TFLite's dynamic-range form: smoothing and rounding keep the float network, and bring INT8 nearer to it."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small import facts, textured, write_graph

from edgeclip.build import rows, tflite
from edgeclip.build.capture import Sample, sample
from edgeclip.build.exporter import sample_images, write_tflite
from edgeclip.build.graphs import ImageGraph
from edgeclip.build.local import Local
from edgeclip.build.measure import distance
from edgeclip.build.opened import rows_of
from edgeclip.build.quantize import dynamic, match, ordered_layers
from edgeclip.build.recipe import Quantization, Search, TFLite
from edgeclip.build.sites import Graph, sites_of
from edgeclip.build.tflite_rewrite import Rewriting, with_feeds
from edgeclip.progress import Silent
from edgeclip.train.towers import DualEncoder, ViTTower

RECIPE = Quantization(
    Search(smooth=(0.5, 0.75), centre=("mean", "middle"), weight_rounding=True),
    TFLite(multiply=("FULLY_CONNECTED",), schemes=("dynamic",)),
)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image.onnx and image.tflite of a transformer with outliers behind LayerNorm, as trained ones have them."""
    torch.manual_seed(0)
    known = facts(ViTTower(patch=8, width=32, depth=2, heads=2, mlp_ratio=2), 32)
    tower = DualEncoder(known.towers).image
    for name, parameter in tower.named_parameters():
        if name.endswith(("norm1.bias", "norm2.bias")):
            parameter.data[5] += 4.0
        if name.endswith(("norm1.weight", "norm2.weight")):
            parameter.data.mul_(torch.linspace(0.05, 2.0, len(parameter)))
    module = ImageGraph(tower, known.preprocess).eval().requires_grad_(False)
    folder = tmp_path_factory.mktemp("work") / "export"
    folder.mkdir()
    write_graph(module, folder / "image.onnx", 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_tflite(module, sample_images(32, 32)[:1], folder / "image.tflite")
    return folder


@pytest.fixture(scope="module")
def graph(graphs: Path) -> Graph:
    return Graph.load(graphs / "image.onnx")


@pytest.fixture(scope="module")
def seen(graph: Graph) -> Sample:
    frames = [cv2.resize(picture, (32, 32))[None] for picture in textured(48)]
    return sample(graph, sites_of(graph, ("Conv", "Gemm", "MatMul")), frames, 16)


def chosen(graphs: Path, graph: Graph, seen: Sample) -> list[rows.Chosen]:
    sites = sites_of(graph, ("Conv", "Gemm", "MatMul"))
    matched, why = match(ordered_layers(graph, sites), tflite.operators(graphs / "image.tflite"))
    assert not why
    return rows.choose(
        graph, sites, lambda site: Local(graph, site, seen.seen[site.source]), matched,
        (graphs / "image.tflite").read_bytes(), (0.5, 0.75), ("mean", "middle"), True, lambda _: False,
    )  # fmt: skip


def test_smoothing_keeps_what_the_float_network_computes(graphs: Path, graph: Graph, seen: Sample) -> None:
    found = chosen(graphs, graph, seen)
    smoothed = [one for one in found if one.feed is not None]
    assert {one.site.origin for one in smoothed} >= {"norm"}
    assert all(one.after < one.before for one in smoothed)
    model = with_feeds((graphs / "image.tflite").read_bytes(), [one.feed for one in smoothed if one.feed])
    assert np.allclose(rows_of(tflite.TFLiteGraph(model), seen.judged), seen.reference, atol=2e-5)


def test_smoothing_and_rounding_take_error_off_and_are_told(graphs: Path, graph: Graph, seen: Sample) -> None:
    sites = sites_of(graph, ("Conv", "Gemm", "MatMul"))
    matched, _ = match(ordered_layers(graph, sites), tflite.operators(graphs / "image.tflite"))
    source = graphs / "image.tflite"
    model, trials = dynamic(source, graph, sites, seen, matched, RECIPE, 0.0, np.inf, Silent())
    assert [trial.remedy for trial in trials] == ["every position's own range", "smoothing", "weight rounding"]
    assert trials[1].kept
    assert 1.0 - trials[1].centred < 0.7 * (1.0 - trials[0].centred)
    reached = distance(seen.reference, rows_of(tflite.TFLiteGraph(model), seen.judged)).centred.mean
    assert reached == pytest.approx(max(trial.centred for trial in trials if trial.kept))
    plain, untold = dynamic(source, graph, sites, None, matched, RECIPE, 0.0, np.inf, Silent())
    assert plain == tflite.quantize_dynamic(source, RECIPE.tflite)
    assert untold == []


def test_rounded_weights_are_in_the_graph(graphs: Path, graph: Graph, seen: Sample) -> None:
    found = chosen(graphs, graph, seen)
    output, (integers, scales) = next(item for one in found for item in one.rounded.items())
    model = tflite.quantize_dynamic(graphs / "image.tflite", RECIPE.tflite)
    rewriting = Rewriting(model)
    rewriting.round(output, integers, scales)
    assert np.array_equal(Rewriting(rewriting.bytes()).weight(output), integers)
    with pytest.raises(ValueError, match="no int8 weights"):
        rewriting.round(output, integers[:-1], scales)


def test_rows_have_ranges_of_their_own() -> None:
    values = np.array([[0.0, 2.55, 1.0], [-100.0, 155.0, 1.0]], np.float32)
    assert np.allclose(rows.fake_quantize_rows(values), values, atol=1e-4)
    assert np.abs(rows.fake_quantize_rows(values * [1.0, 1.0, 0.003]) - values * [1.0, 1.0, 0.003]).max() < 0.5
