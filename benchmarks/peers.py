"""The INT8 that a peer's own documentation makes of the same float graph, from the same calibration frames."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.build.steps import STAMP, Stamp

Frames = npt.NDArray[np.uint8]


def kept_in(place: Path, build: Path) -> Path:
    """Where in `place` the peers' files are kept that were made of what lies in a build's work directory now: a float
    graph or calibration frames of an earlier build would make them look worse than they are."""
    stamps = [msgspec.json.decode((build / step / STAMP).read_bytes(), type=Stamp) for step in ("export", "calibrate")]
    digest = hashlib.sha256(msgspec.json.encode([stamp.outputs for stamp in stamps], order="sorted"))
    folder = place / f"peers-{digest.hexdigest()[:12]}"
    folder.mkdir(exist_ok=True)
    return folder


def onnxruntime_int8(source: Path, target: Path, frames: Frames) -> None:
    """onnxruntime.quantization as its documentation begins: pre-process, then quantize_static with its defaults."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".pre.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    name = onnx.load(prepared, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(frames)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self._left, None)
            return None if row is None else {name: row[None]}

    quantize_static(str(prepared), str(target), Reader())
    prepared.unlink()


def nncf_int8(source: Path, target: Path, frames: Frames, transformer: bool) -> None:
    """nncf.quantize with its defaults, and with what its documentation says for transformers where it is one.

    target: the .xml; the weights lie beside it.
    """
    import logging

    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino.Core().read_model(source)
    dataset = nncf.Dataset([frame[None] for frame in frames])
    kind = {"model_type": nncf.ModelType.TRANSFORMER} if transformer else {}
    openvino.save_model(nncf.quantize(model, dataset, subset_size=len(frames), **kind), target)
