"""How much of this machine's INT8 multiplying an engine uses: its operations a frame, and the peak of a plain GEMM."""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIDES = (1024, 2048)  # of the matrices multiplied
REPEATS = 8


@dataclass(frozen=True)
class Peak:
    """The fastest INT8 GEMM found. ops: multiplications and additions a second."""

    ops: float
    library: str
    threads: int


def multiplications(path: Path) -> int:
    """Of one frame, in products with stored weights, from an ONNX graph: what INT8 may speed up."""
    import onnx
    from onnx import shape_inference

    model = shape_inference.infer_shapes(onnx.load(path))
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    made = {
        value.name: [item.dim_value for item in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    total = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in stored:
            continue
        weight = stored[node.input[1]]
        turned = any(item.name == "transB" and item.i for item in node.attribute)
        summed = math.prod(weight[1:]) if node.op_type == "Conv" or turned else weight[0]
        total += math.prod(made[node.output[0]]) * summed
    return total


def peak(threads: int) -> Peak:
    """Best of the libraries at hand, each in a process of its own."""
    found = []
    context = multiprocessing.get_context("spawn")
    for measure in (torch_gemm, onnxruntime_gemm):
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                found.append(pool.submit(measure, threads).result())
            except (ImportError, RuntimeError, concurrent.futures.BrokenExecutor):
                continue
    return max(found, key=lambda one: one.ops)


def torch_gemm(threads: int) -> Peak:
    """oneDNN's, through torch._int_mm."""
    import torch

    torch.set_num_threads(threads)
    best = 0.0
    for side in SIDES:
        a, b = (torch.randint(-127, 127, (side, side), dtype=torch.int8) for _ in range(2))
        best = max(best, rate(side, lambda a=a, b=b: torch._int_mm(a, b)))
    return Peak(best, "oneDNN through torch._int_mm", threads)


def onnxruntime_gemm(threads: int) -> Peak:
    """MatMulInteger of uint8 by stored int8, as it runs what was quantized dynamically."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    best = 0.0
    for side in SIDES:
        weight = np.random.default_rng(0).integers(-127, 127, (side, side)).astype(np.int8)
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
            "gemm",
            [helper.make_tensor_value_info("x", TensorProto.UINT8, [side, side])],
            [helper.make_tensor_value_info("y", TensorProto.INT32, [side, side])],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        x = np.random.default_rng(1).integers(0, 255, (side, side)).astype(np.uint8)
        best = max(best, rate(side, lambda session=session, x=x: session.run(None, {"x": x})))
    return Peak(best, "onnxruntime's MatMulInteger", threads)


def rate(side: int, run: object) -> float:
    """Operations a second at the fastest of a few runs."""
    assert callable(run)
    run()
    fastest_s = math.inf
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        fastest_s = min(fastest_s, time.perf_counter() - began)
    return 2 * side**3 / fastest_s
