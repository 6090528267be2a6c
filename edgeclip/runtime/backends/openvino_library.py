"""OpenVINO without its telemetry, which would tell Google Analytics of each import, and leave a number in ~/intel."""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails: OpenVINO goes on
import openvino  # noqa: E402

__all__ = ["openvino"]
