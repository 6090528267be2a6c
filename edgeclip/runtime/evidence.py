"""How much a frame speaks for a text, as log-odds against nothing asked. Pure functions over arrays.

A cosine means nothing by itself: in one embedding space unrelated pictures and texts reach 0.02 on average, in another
0.2. What they reach is measured when a run starts (`measure_null`), and cosines are counted in its standard deviations.

Constants: logistic regression, classes weighted equally, on the 2,226 photographs and 295 names that nano was not
trained on, each name a watch of its own; docs/watches.md has what they give. In the space of CLIP ViT-B/16 (70 of these
photographs, 25 names) right texts reach 3.1 deviations (1.4 about it), wrong ones -0.5 (1.2): nearly the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings

Floats = npt.NDArray[np.float32]

EVEN = 1.5  # deviations above unrelated at which a text is as likely right as wrong
STEEP = 2.25  # log-odds per deviation
MATCHED = (3.26, 1.16)  # mean and deviation of what the right text reaches, in deviations of the unrelated ones
UNRELATED = (-0.2, 1.03)  # the same of wrong names: less than the background, which is broader
SCENE = 0.25  # share of a frame's own likeness to the background that counts against the watches
SAME = 0.8  # alike() from which on a background text says what the watch says
LIMIT = 30.0  # log-odds beyond it are cut: 1 - 1e-13


@dataclass(frozen=True, slots=True)
class Null:
    """What the texts of the background reach on frames that they have nothing to do with, in one space.

    mean, spread: of cosines. scene: mean over frames of background_likeness(). scale: the space's own logit scale.
    """

    mean: float
    spread: float
    scene: float
    scale: float


def measure_null(frames: Embeddings, background: Embeddings, scale: float) -> Null:
    """Of frames [G, D], usually the golden ones, and background texts [B, D], all unit vectors."""
    cosines = frames @ background.T
    spread = max(float(cosines.std()), 1e-6)
    return Null(float(cosines.mean()), spread, float(likeness(cosines, scale).mean()), scale)


def likeness(cosines: Floats, scale: float) -> Floats:
    """log sum exp(scale * cosine) over the last axis: [..., B] -> [...]. Where a cosine is -inf, it does not count."""
    scaled = cosines * np.float32(scale)
    most = scaled.max(axis=-1, keepdims=True, initial=np.float32(-1e30))
    with np.errstate(divide="ignore"):  # where nothing counts, the logarithm of 0 is -inf
        sums: Floats = np.log(np.exp(scaled - most).sum(axis=-1)) + most[..., 0]
    return sums


def alike(texts: Embeddings, others: Embeddings, mean: Embeddings) -> Floats:
    """Cosines [T, O] of texts [T, D] and others [O, D] less `mean` [D], that of many texts: in some spaces any two
    sentences have a cosine of 0.8."""
    one, two = (rows - mean for rows in (texts, others))
    one = one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-6)
    two = two / np.maximum(np.linalg.norm(two, axis=1, keepdims=True), 1e-6)
    cosines: Floats = one @ two.T
    return cosines


def log_odds(positive: Floats, negatives: Floats, background: Floats, null: Null) -> Floats:
    """Log-odds [W] that a frame shows what each watch says, rather than nothing asked or one of its own negatives.

    positive: cosines [W]; negatives [W, K] and background [W, B]: cosines, -inf where a watch has no such text.
    """
    deviations = (positive - np.float32(null.mean)) / np.float32(null.spread)
    scene = likeness(background, null.scale) - np.float32(null.scene)
    scene = np.where(np.isfinite(scene), np.float32(SCENE) * scene, np.float32(0.0))  # no background, no scene
    odds = np.float32(STEEP) * (deviations - np.float32(EVEN)) - scene
    if negatives.shape[1]:
        against = likeness(negatives - positive[:, None], null.scale)
        odds = -np.logaddexp(-odds, against)
    return np.clip(odds, -LIMIT, LIMIT, out=odds)


def probability(odds: Floats) -> npt.NDArray[np.float64]:
    """The logistic function, in float64: thresholds near 1 stay apart."""
    result: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-odds.astype(np.float64)))
    return result


def unknown_level(labels: int, missed: float) -> float:
    """Deviations that the best of `labels` labels reaches on all but a share `missed` of frames that show one of them.

    The right label and the others are taken for independent normal variables; the best falls below t with
    P(right < t) P(other < t)^(labels - 1).
    """
    low, high = -10.0, 20.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        below = _normal(middle, MATCHED) * _normal(middle, UNRELATED) ** (labels - 1)
        low, high = (middle, high) if below < missed else (low, middle)
    return high


class Unknown:
    """How likely a frame shows none of the labels. missed: the rate of unknown_level(); None: never."""

    def __init__(self, null: Null, missed: float | None) -> None:
        self._null = null
        self._missed = missed
        self._labels = 0
        self._level = 0.0

    def among(self, labels: int) -> None:
        """How many labels there are from now on."""
        self._labels = labels
        self._level = unknown_level(labels, self._missed) if labels and self._missed is not None else -np.inf

    def miss(self, missed: float | None) -> None:
        """The rate from now on."""
        self._missed = missed
        self.among(self._labels)

    def probability(self, cosines: Floats, shown: float = -LIMIT) -> Floats:
        """Of a frame's cosines with its labels [1, L]: [1], 0.5 where the best of them stands at the level. shown:
        log-odds, by taught shots, that it is one of them; what these know is not unknown, whatever the words say."""
        deviations = (float(cosines.max()) - self._null.mean) / self._null.spread
        odds = max(STEEP * (deviations - self._level), shown)
        return np.array([1.0 / (1.0 + math.exp(max(odds, -LIMIT))) if odds < LIMIT else 0.0], np.float32)


def _normal(value: float, of: tuple[float, float]) -> float:
    """The normal distribution function."""
    mean, deviation = of
    return 0.5 * (1.0 + math.erf((value - mean) / deviation / math.sqrt(2.0)))
