"""Sites are found by what made their tensors, and rewriting them leaves the network what it was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from clip_vit import ClipViT, QuickGELU
from small import facts, write_graph
from torch import nn

from edgeclip.build.capture import with_outputs
from edgeclip.build.exporter import sample_images
from edgeclip.build.graphs import ImageGraph
from edgeclip.build.onnxgraph import session
from edgeclip.build.rewrite import add_to_bias, product_of, rescale, whole_pixels
from edgeclip.build.sites import Graph, Site, sites_of
from edgeclip.build.spec import Entry, Spec, by_greatest, compute_apart, load_spec, quantized, quantized_graph
from edgeclip.build.waists import behind, waist_before, waists
from edgeclip.train.towers import ConvTower, DualEncoder, ViTTower

KINDS = ("Conv", "Gemm", "MatMul")
VIT = ViTTower(patch=8, width=32, depth=2, heads=2, mlp_ratio=2)


def exported(module: nn.Module, path: Path) -> Graph:
    known = facts(VIT, 32)
    for name, parameter in module.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return Graph.load(write_graph(ImageGraph(module, known.preprocess), path, 32))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """A ViT with GELU, one with QuickGELU, and a convolution tower."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("graphs")
    vit = DualEncoder(facts(VIT, 32).towers).image
    conv = DualEncoder(facts(ConvTower(stem=8, widths=(16,), depths=(1,), neck=16), 32).towers).image
    quick = ClipViT(32, 8, 32, 2, 64, 1, 16, QuickGELU())
    for parameter in quick.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return {
        "gelu": exported(vit, folder / "gelu.onnx"),
        "quick": exported(quick, folder / "quick.onnx"),
        "conv": exported(conv, folder / "conv.onnx"),
    }


def outputs(model: onnx.ModelProto, frame: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    running = session(model.SerializeToString())
    return np.asarray(running.run(None, {running.get_inputs()[0].name: frame})[0])


def test_layers_are_named_as_in_the_checkpoint_and_known_by_what_feeds_them(graphs: dict[str, Graph]) -> None:
    found = {site.name: site.origin for site in sites_of(graphs["gelu"], KINDS)}
    assert found == {
        "patch": "pixels",
        **{
            f"blocks.{i}.{layer}": origin
            for i in range(2)
            for layer, origin in (("qkv", "norm"), ("out", "other"), ("fc1", "norm"), ("fc2", "gate"))
        },
        "head": "norm",
    }
    assert [site.origin for site in sites_of(graphs["quick"], KINDS)] == [
        "pixels", "norm", "other", "norm", "gate", "norm",
    ]  # fmt: skip
    assert {site.origin for site in sites_of(graphs["conv"], KINDS)} == {"other"}  # its first layer is padded


@pytest.mark.parametrize("kind", ["gelu", "quick"])
def test_rescaling_any_site_leaves_the_output(graphs: dict[str, Graph], kind: str) -> None:
    graph, frame = graphs[kind], sample_images(32, 32)[3:4]
    want = outputs(graph.build(), frame)
    random = np.random.default_rng(0)
    for site in sites_of(graph, KINDS):
        copy = graph.copy()
        if site.origin == "pixels":
            whole_pixels(copy, site)
        else:
            scale = np.exp(random.normal(size=site.channels)).astype(np.float32)
            rescale(copy, site, scale, random.normal(size=site.channels).astype(np.float32))
        assert np.abs(outputs(copy.build(), frame) - want).max() < 1e-5, site.name
        if site.origin == "norm":
            assert len(copy.nodes) == len(graph.nodes)  # LayerNorm takes it all in
    assert np.array_equal(outputs(graph.build(), frame), want)  # copies shared nothing that was edited


def test_whole_pixels_are_whole(graphs: dict[str, Graph]) -> None:
    copy = graphs["gelu"].copy()
    site = sites_of(copy, KINDS)[0]
    feed = whole_pixels(copy, site)
    model = copy.build()
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(feed))
    frame = sample_images(32, 32)[:1]
    value = session(model.SerializeToString()).run([feed], {copy.input: frame})[0]
    assert np.array_equal(value, frame.astype(np.float32).transpose(0, 3, 1, 2) - 128.0)


def test_a_layer_without_bias_gets_one(graphs: dict[str, Graph]) -> None:
    for name in ("patch", "head"):  # of ClipViT both have none
        copy = graphs["quick"].copy()
        site = next(site for site in sites_of(copy, KINDS) if site.name == name)
        layer = site.layers[0]
        amount = np.arange(layer.shape[1], dtype=np.float64)
        before, after = copy.build(), copy.copy()
        add_to_bias(after, layer, amount)
        moved = after.build()
        values = []
        for model in (before, moved):
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer.node))
            frame = sample_images(32, 32)[:1]
            values.append(session(model.SerializeToString()).run([layer.node], {copy.input: frame})[0])
        along = amount.reshape(1, -1, 1, 1) if name == "patch" else amount
        assert np.allclose(values[1] - values[0], along, atol=1e-4)


def test_a_product_without_bias_gets_one_and_more() -> None:
    """Bias correction and centring both add to it."""
    node, relu = onnx.helper.make_node("MatMul", ["x", "w"], ["p"], "p"), onnx.helper.make_node("Relu", ["p"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, 3]) for name in "xy")
    weight = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    made = onnx.helper.make_model(onnx.helper.make_graph([node, relu], "one", [x], [y], [weight]))
    graph = Graph(made)
    layer = sites_of(graph, KINDS)[0].layers[0]
    for amount in ([1.0, 0.0, 2.0], [0.5, -9.0, 1.0]):
        add_to_bias(graph, layer, np.array(amount))
    frame = np.ones((1, 2, 3), np.float32)
    assert outputs(graph.build(), frame).tolist() == [[[2.5, 0.0, 4.0]] * 2]


def full(site: Site, **changes: object) -> Entry:
    names = tuple(layer.name for layer in site.layers)
    return Entry(site.source, names, threshold=8.0, greatest=8.0, **changes)  # type: ignore[arg-type]


def test_a_spec_is_applied_site_by_site_and_survives_saving(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["gelu"]
    sites = sites_of(graph, KINDS)
    spec = by_greatest(sites, {site.source: 8.0 for site in sites}, ("blocks.1.*", "head"))
    assert spec.floats() == ["blocks.1.qkv", "blocks.1.out", "blocks.1.fc1", "blocks.1.fc2", "head"]
    fc1, fc2 = (next(site for site in sites if site.name == f"blocks.0.{name}") for name in ("fc1", "fc2"))
    spec.entries[fc2.source] = full(fc2, smooth=0.5, shifted="middle")
    spec.vectors[f"{fc2.source} scale"] = np.full(fc2.channels, 0.25, np.float32)
    spec.vectors[f"{fc2.source} shift"] = np.full(fc2.channels, 0.1, np.float32)
    spec.entries[fc1.source] = full(fc1, corrected=True)
    spec.vectors[f"{fc1.layers[0].node} bias"] = np.full(fc1.layers[0].shape[1], 0.01, np.float32)
    spec.save(tmp_path)
    again = load_spec(tmp_path)
    assert again.entries == spec.entries
    model = quantized(graph, sites, again)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == 5
    assert kinds.count("DequantizeLinear") == 10
    biases = {t.name: list(t.dims) for t in model.graph.initializer if t.name.endswith("wide-bias")}
    assert len(biases) == 4  # ONNX Runtime fuses others into float Gemms
    assert all(shape[:2] == [1, 1] for shape in biases.values())
    frame = sample_images(32, 32)[2:3]
    assert (outputs(model, frame) * outputs(graph.build(), frame)).sum() > 0.97
    alone = quantized_graph(graph, sites, again, {fc2.source}).build()
    assert [node.op_type for node in alone.graph.node].count("QuantizeLinear") == 1


def test_what_is_behind_a_waist_computes_the_same(graphs: dict[str, Graph]) -> None:
    graph = graphs["gelu"]
    narrow = waists(graph)
    sites = sites_of(graph, KINDS)
    starts = {site.name: waist_before(graph, narrow, site) for site in sites}
    assert starts["patch"] == graph.input
    assert starts["blocks.1.fc1"] == starts["blocks.1.fc2"] != starts["blocks.1.qkv"] != starts["blocks.0.fc2"]
    frame = sample_images(32, 32)[1:2]
    want = outputs(graph.build(), frame)
    for site in sites[1:]:
        start = starts[site.name]
        model = graph.build()
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(start))
        value = session(model.SerializeToString()).run([start], {graph.input: frame})[0]
        spec = by_greatest(sites, {other.source: 8.0 for other in sites}, ())
        alone = quantized_graph(graph, sites, spec, {site.source})
        part, whole = behind(alone, start, value.shape).build(), alone.build()
        assert len(part.graph.node) < len(whole.graph.node)
        assert np.abs(outputs(part, value) - outputs(whole, frame)).max() < 1e-5
    assert want.shape == (1, 16)


def test_spec_without_entries_is_the_float_graph(graphs: dict[str, Graph]) -> None:
    graph = graphs["quick"]
    frame = sample_images(32, 32)[:1]
    got = outputs(quantized(graph, sites_of(graph, KINDS), Spec({})), frame)
    assert np.array_equal(got, outputs(graph.build(), frame))


@pytest.mark.parametrize("kind", ["gelu", "quick"])
def test_channels_apart_are_float_and_the_others_as_they_were(graphs: dict[str, Graph], kind: str) -> None:
    graph, frame = graphs[kind], sample_images(32, 32)[:1]
    site = next(site for site in sites_of(graph, KINDS) if site.origin == "gate")
    apart, split = (3, 40), graph.copy()
    for layer in site.layers:
        compute_apart(split, layer, site.source, list(apart))
        stored = split.arrays[product_of(split, layer).input[1]]
        along = stored if stored.shape == layer.shape else stored.T
        assert not along[list(apart)].any()
    assert np.allclose(outputs(split.build(), frame), outputs(graph.build(), frame), atol=2e-6)
    # int8 that reaches as far as the others alone: what it clips is what is computed apart
    model, names = graph.build(), [site.source]
    with_outputs(model, names)
    value = session(model.SerializeToString()).run(names, {graph.input: frame})[0]
    others = np.delete(np.abs(value).reshape(-1, site.channels), apart, 1)
    near = Entry(site.source, tuple(layer.name for layer in site.layers), float(others.max()), float(others.max()))
    spec = Spec({site.source: msgspec.structs.replace(near, apart=apart)})
    wanted = outputs(graph.build(), frame)
    assert np.abs(outputs(quantized(graph, [site], spec), frame) - wanted).max() < 0.02
