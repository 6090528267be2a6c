"""What the search for a quantization did, as data: findings.json, and a part of report.json."""

from __future__ import annotations

import msgspec

SENSITIVITY_FRAMES = 8  # on which every layer is tried alone


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """One remedy: centred cosine to float with it (mean and 1st percentile), on frames of the calibration set.

    agrees: percent of frames that are expected to keep float's best label, where the labels are known.
    """

    remedy: str
    centred: float
    p1: float
    kept: bool
    seconds: float
    agrees: float | None = None


class Sensitivity(msgspec.Struct, frozen=True):
    """error: 1 - centred cosine with this site alone in INT8. floating: left float in the end."""

    layers: str
    error: float
    floating: bool = False


class Findings(msgspec.Struct, frozen=True, omit_defaults=True):
    """frames: that remedies were judged on. floating: layers left float. int8_weights: percent of
    the weights that are INT8. out_of_time: what the budget left undone.

    dynamic: what was tried on TFLite's dynamic-range form. unmatched: why the TFLite graph shares no layers, or "".
    """

    frames: int = 0
    trials: list[Trial] = []
    dynamic: list[Trial] = []
    sensitivity: list[Sensitivity] = []
    floating: list[str] = []
    int8_weights: float = 100.0
    seconds: float = 0.0
    out_of_time: str = ""
    unmatched: str = ""
