"""Which frames are no use for calibration: nothing in them, no light on them, or out of focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.types import Pixels

Fault = Literal["blank", "dark", "blurred"]
Grey = npt.NDArray[np.uint8]

BLANK_BELOW = 4.0  # standard deviation of grey levels; the same as `edgeclip build` asks for
DARK_LEVEL = 24  # a black frame may still carry a clock or a caption: nine tenths of it are darker than this
DARK_SHARE = 0.9
SHORT_SIDE = 256  # sharpness is measured at this size, so that it does not depend on the camera's
MIN_SHARPNESS = 20.0
THUMBNAIL = 16


@dataclass(frozen=True, slots=True)
class Quality:
    """sharpness: variance of the Laplacian, shorter side at most 256. fault: why the frame is no use, or None."""

    sharpness: float
    fault: Fault | None


def judge(pixels: Pixels, seen: Grey, min_sharpness: float = MIN_SHARPNESS) -> Quality:
    """pixels: [h, w, 3] uint8 BGR, as the camera gave it. seen: [H, W] uint8, grey, as the engine gets it."""
    sharp = sharpness(pixels)
    if float(seen.std()) < BLANK_BELOW:
        return Quality(sharp, "blank")
    if np.count_nonzero(seen < DARK_LEVEL) >= DARK_SHARE * seen.size:
        return Quality(sharp, "dark")
    return Quality(sharp, "blurred" if sharp < min_sharpness else None)


def sharpness(pixels: Pixels) -> float:
    """Variance of the Laplacian of grey levels (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
    ICPR 2000): a sharp edge has a large second derivative, and blur takes it away."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    scale = SHORT_SIDE / min(grey.shape)
    if scale < 1.0:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    deviation = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0])
    return deviation * deviation


def thumbnail(seen: Grey) -> npt.NDArray[np.float32]:
    """[256]: the 16 x 16 grey picture by which `edgeclip build` tells frames apart."""
    small = cv2.resize(seen, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(-1)
