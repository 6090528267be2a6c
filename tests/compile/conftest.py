"""Compiling tests run NVIDIA's own builder, TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import platform

import pytest

from edgeclip.errors import EngineError
from edgeclip.runtime.backends.trt_library import RTX, Library, load_library


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT-RTX. It has wheels for x86-64 alone; there its absence is a failure: CI proves plans with it."""
    try:
        return load_library(RTX)
    except EngineError as error:
        if platform.machine() == "x86_64" and platform.system() == "Linux":
            raise
        pytest.skip(f"TensorRT-RTX has no wheel for {platform.machine()}: {error.message}")
