"""A few taught pictures of some labels, and the text classifier of all of them, become one classifier. No training.

Three ways are known to work, each best somewhere, and each is a closed form over embeddings:

    cache       every shot votes for its label by affinity exp(-beta (1 - k.x)): Zhang et al., "Tip-Adapter:
                Training-free Adaption of CLIP for Few-shot Classification", 2022
    prototypes  the mean direction of a label's shots: Snell et al., "Prototypical Networks", 2017
    probe       a linear probe, ridge regression of the labels on the shots, added to the text classifier and so
                shrunk towards it; best where there are many shots

Each is added to the text's similarities with a weight. Where every label was taught, way and weight are what predict
left-out shots best (leave-one-out, in closed form), within reason: the weight is drawn towards one that follows from
how little the text knows the shots and from how many there are, and it is the probe unless another is clearly better.
With few shots the judgement is noise, and these two keep it from doing worse than with fewer. Where labels that nobody
taught are asked for as well, the *negatives*, which show no taught label, have a say: they stay what the text says, and
count the more the more of the labels were not taught.

Embeddings of pictures lie in a narrow cone (Liang et al., "Mind the Gap", 2022): any two have a high cosine. All of
this therefore works on directions from the cone's centre, where pictures of unrelated things are about at right angles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.runtime.shown import OWN_SPREAD, reached
from edgeclip.runtime.taught import Refinement
from edgeclip.types import Embeddings

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

WAYS = ("prototypes", "cache", "probe")
WEIGHTS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)  # in logits
EVERY_SETTING = (  # way and shape: of the cache beta, of the probe ridge
    ("prototypes", 0.0),
    *(("cache", beta) for beta in (2.0, 5.0, 10.0)),
    *(("probe", ridge) for ridge in (0.3, 1.0, 3.0)),
)
SETTINGS = (("probe", 1.0), ("prototypes", 0.0), ("cache", 5.0))  # way and shape, where every label was taught
RATIOS = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0)  # weights there, the text's being 1
SHARES = (1.0, 0.5, 0.25, 0.12)  # of both, there: the text is surer than it is right
USUAL_RATIO = 32.0  # of one shot of each label, where the text knows nothing of them; more by the root of their number
PULL = 3.0  # towards the usual: loss for a weight e times too high or low
CLEARLY = 3.0  # standard errors by which another way must be better than the probe
FIRST_RIDGE = 1.0  # of the probe, where no label has a second shot to judge by
FEW = 4  # shots: with fewer, one left out leaves too little, and its verdict counts where it asks for more
LEAST = 0.02  # probability in the loss: a shot that is hopeless is not what decides
FEW_PICTURES = 8  # of the background: that its mean counts for in the centre, and that stay whatever they show
MOST_OTHERS = 64  # labels that nobody taught, the nearest, that have a say
BALANCE = 2 / 3  # power of the taught labels' share of all: what their shots count against the negatives, there
ENOUGH = 0.8  # of what the loss can gain, where some labels are not taught: more weight would cost these


@dataclass(frozen=True)
class Fit:
    """What was chosen.

    refinement: to add to similarities; None where the text alone predicts left-out shots best.
    way: "text", or one of WAYS; weight: in logits. text, taught: fraction of the shots that the text alone, and this,
    take for their label, each shot left out; taught is None where no label has two shots.
    """

    refinement: Refinement | None
    way: str
    weight: float
    text: float
    taught: float | None


@dataclass(frozen=True)
class _Examples:
    """Shots first, then negatives: M = N + B rows.

    keys: [M, D] unit vectors, from `centre` [D]. own: [N] the shots' labels, in 0..K. targets: [M, K], 1 at a shot's
    own. weights: [M] in regressions. logits: [M, L] by the text alone. wanted: [M] columns of logits.
    """

    keys: Floats
    centre: Floats
    own: Rows
    targets: Floats
    weights: Floats
    logits: Floats
    wanted: Rows

    @property
    def shots(self) -> int:
        return len(self.own)


@dataclass(frozen=True)
class _Setting:
    """One way with its shape (beta, or ridge), and the scores [M, K] it gives each row with that row left out."""

    way: str
    shape: float
    scores: Floats


@dataclass(frozen=True)
class _Trial:
    """A setting with its weight, and the text's share. right: fraction of the shots recognised."""

    loss: float
    weight: float
    share: float
    setting: _Setting
    right: float


def fit(
    texts: Embeddings, scale: float, shots: Embeddings, rows: Rows, background: Embeddings, ways: tuple[str, ...] = WAYS
) -> Fit:
    """The classifier for texts [L, D] of which shots [N, D] show the rows [N]. All unit vectors, float32.

    scale: of the bundle's scoring. background [B, D]: pictures of whatever, at least one; those that are as like a
    label's shots as these are to each other may show it, and say nothing against it. ways: to choose from.
    """
    columns = np.unique(rows)  # [K]
    others = _nearest_others(texts, columns, shots)
    some = np.concatenate([columns, others])  # the labels that have a say, those taught first
    own = np.searchsorted(columns, rows)
    shown = shots.astype(np.float64)
    examples = _examples(texts[some].astype(np.float64), scale, shown, own, _unlike(background, shown, own))
    counts = np.bincount(own)
    judged = np.concatenate([counts[own] > 1, np.ones(len(examples.keys) - len(own), bool)])
    text_right = _right(examples.logits, own)
    doubt = 1.0 - float(_probability(examples.logits[: len(own)], own).mean())
    weight = USUAL_RATIO * doubt**4  # the less the text knows the shots, the more these are needed
    if (counts > 1).any() and not len(others):
        taken = _all_taught(examples, judged[: len(own)], weight * np.sqrt(len(own) / len(counts)), ways)
        if taken.weight == 0.0:
            return Fit(None, "text", 0.0, text_right, text_right)
        refinement = _refinement(examples, taken.setting, taken.weight / scale, columns, taken.share)
        return Fit(refinement, taken.setting.way, taken.weight, text_right, taken.right)
    chosen = _refinement(examples, _Setting("probe", FIRST_RIDGE, np.empty(0)), weight / scale, columns)
    first = Fit(chosen, "probe", weight, text_right, None)
    if not (counts > 1).any():
        return first

    taught = (len(columns) / len(texts)) ** BALANCE
    negatives = len(examples.keys) - len(own)
    say = np.concatenate([np.full(len(own), taught / len(own)), np.full(negatives, (1.0 - taught) / negatives)])
    say[~judged] = 0.0

    start = _loss(examples.logits, examples, say)
    tried: list[_Trial] = []
    for setting in _settings(examples, ways):
        for weight in WEIGHTS:
            refined = examples.logits.copy()
            refined[:, : len(columns)] += weight * setting.scores
            tried.append(_Trial(_loss(refined, examples, say), weight, 1.0, setting, _right(refined, own)))
    best = min(tried, key=lambda one: one.loss)
    if counts.max() < FEW and (best.loss >= start or best.weight < first.weight):
        return first
    if best.loss >= start:
        return Fit(None, "text", 0.0, text_right, text_right)
    limit = start - ENOUGH * (start - best.loss)
    best = next(one for one in tried if one.setting is best.setting and one.loss <= limit)
    refinement = _refinement(examples, best.setting, best.weight / scale, columns)
    return Fit(refinement, best.setting.way, best.weight, text_right, best.right)


def _all_taught(examples: _Examples, judged: npt.NDArray[np.bool_], usual: float, ways: tuple[str, ...]) -> _Trial:
    """What to take where every label was taught. judged: [N], the shots whose label has another. usual: ratio."""
    chosen: tuple[_Trial, Floats, npt.NDArray[np.bool_]] | None = None
    own = examples.own
    for setting in _settings(examples, ways, SETTINGS):
        tried = []
        for ratio in RATIOS:
            pull = PULL * np.log((ratio + 1.0) / (usual + 1.0)) ** 2
            refined = (examples.logits + ratio * setting.scores)[: examples.shots]
            hits = refined.argmax(axis=1) == own
            for share in SHARES:
                losses = _losses(share * refined, own)[judged]
                trial = _Trial(float(losses.sum() + pull), share * ratio, share, setting, float(hits.mean()))
                tried.append((trial, losses, hits[judged]))
        best = min(tried, key=lambda one: one[0].loss)
        if chosen is None or (_clearly(chosen[1] - best[1]) and _clearly(best[2].astype(float) - chosen[2])):
            chosen = best
    assert chosen is not None
    return chosen[0]


def _clearly(gains: Floats) -> bool:
    """Whether the mean of gains [N] is above zero by CLEARLY standard errors."""
    return bool(gains.mean() > CLEARLY * gains.std() / np.sqrt(len(gains)))


def _nearest_others(texts: Embeddings, columns: Rows, shots: Embeddings) -> Rows:
    others = np.setdiff1d(np.arange(len(texts)), columns)
    near = (texts[others] @ shots.T).max(axis=1)
    return others[np.argsort(-near, kind="stable")[:MOST_OTHERS]]


def _unlike(background: Embeddings, shots: Floats, own: Rows) -> Embeddings:
    """Those of the background that show none of the labels, for all that can be said: a site's frames may well."""
    centre = _centre(background, _means(shots, own))
    keys, seen = _unit(shots - centre), _unit(background - centre)
    beyond = np.full(len(background), -np.inf)  # what right pictures of a label reach, less their spread
    for label in range(int(own.max()) + 1):
        mine = keys[own == label]
        beyond = np.maximum(beyond, seen @ _unit(mine.sum(axis=0)) - (reached(_f32(mine)) - OWN_SPREAD))
    count = max(int((beyond < 0.0).sum()), FEW_PICTURES)
    return background[np.sort(np.argsort(beyond, kind="stable")[:count])]


def _centre(background: Embeddings, kinds: Floats) -> Floats:
    count = min(len(background), FEW_PICTURES)
    centre: Floats = (count * background.mean(axis=0) + kinds.sum(axis=0)) / (count + len(kinds))
    return centre


def _examples(texts: Floats, scale: float, shots: Floats, own: Rows, background: Embeddings) -> _Examples:
    """texts: of the K taught labels, then of others. Negatives are the background, and for each of the others pictures
    of it that might be: of the background and of the shots, with the text that fits them best exchanged for its own."""
    count = int(own.max()) + 1
    others = np.repeat(np.arange(count, len(texts)), 2)
    donors = np.concatenate([background.astype(np.float64), shots])
    turn = np.arange(len(others))
    from_shots = len(background) + (turn // 2) % len(shots)
    donor = np.where(turn % 2 == 0, (turn // 2) % len(background), from_shots)
    shown = texts[(donors @ texts.T).argmax(axis=1)]
    supposed = _unit(donors[donor] + texts[others] - shown[donor])
    pictures = np.concatenate([donors[: len(background)], supposed])
    kinds = _means(shots, own) if len(others) else shots  # among others, a taught label counts as one picture
    centre = _centre(background, kinds)
    everything = np.concatenate([shots, pictures])
    logits = scale * everything @ texts.T
    seen = logits[len(shots) : len(shots) + len(background)].argmax(axis=1)
    targets = np.zeros((len(everything), count))
    targets[np.arange(len(shots)), own] = 1.0
    each = min(1.0, len(shots) / (1 if len(others) else count) / len(pictures))
    weights = np.concatenate([np.ones(len(shots)), np.full(len(pictures), each)])
    keys = _unit(everything - centre)
    return _Examples(keys, centre, own, targets, weights, logits, np.concatenate([own, seen, others]))


def _settings(
    examples: _Examples, ways: tuple[str, ...], among: tuple[tuple[str, float], ...] = EVERY_SETTING
) -> Iterator[_Setting]:
    keys, own, shots = examples.keys, examples.own, examples.shots
    for way, shape in among:
        if way not in ways:
            continue
        if way == "prototypes":
            sums = _sums(examples)
            scores = keys @ _unit(sums).T
            scores[np.arange(shots), own] = (keys[:shots] * _unit(sums[own] - keys[:shots])).sum(axis=1)
        elif way == "cache":
            affinity = np.exp(shape * (keys @ keys[:shots].T - 1.0))  # [M, N]
            affinity[np.arange(shots), np.arange(shots)] = 0.0
            scores = affinity @ _votes(examples)
        else:
            inverse, residual, linear = _ridge(examples, shape)
            leverage = (((keys @ inverse) * keys).sum(axis=1) * examples.weights)[:, None]
            scores = (keys @ linear - leverage * residual) / (1.0 - leverage)
        yield _Setting(way, shape, scores)


def _refinement(examples: _Examples, chosen: _Setting, weight: float, columns: Rows, share: float = 1.0) -> Refinement:
    """weight: in similarities."""
    centre = _f32(examples.centre)
    if chosen.way == "cache":
        keys = _f32(examples.keys[: examples.shots].T)
        return Refinement(columns, centre, keys, share, _f32(weight * _votes(examples)), chosen.shape)
    if chosen.way == "prototypes":
        linear = _unit(_sums(examples)).T
    else:
        _, _, linear = _ridge(examples, chosen.shape)
    return Refinement(columns, centre, _f32(weight * linear), share)


def _sums(examples: _Examples) -> Floats:
    """[K, D]: of each label's shots."""
    return np.asarray(examples.targets.T @ examples.keys)


def _votes(examples: _Examples) -> Floats:
    """[N, K]. Sixteen shots of a label say four times as much as one, not sixteen times."""
    counts = np.bincount(examples.own)[examples.own]
    return np.asarray(examples.targets[: examples.shots] / np.sqrt(counts)[:, None])


def _ridge(examples: _Examples, ridge: float) -> tuple[Floats, Floats, Floats]:
    """(Z'WZ + ridge I)^-1 [D, D], the targets less their mean [M, K], and what regresses these on the keys [D, K]."""
    keys, weights = examples.keys, examples.weights[:, None]
    inverse = np.asarray(np.linalg.inv(keys.T @ (weights * keys) + ridge * np.eye(keys.shape[1])), np.float64)
    residual: Floats = examples.targets - (weights * examples.targets).sum(axis=0) / weights.sum()
    return inverse, residual, inverse @ (keys.T @ (weights * residual))


def _means(shots: Floats, own: Rows) -> Floats:
    sums = np.zeros((int(own.max()) + 1, shots.shape[1]))
    np.add.at(sums, own, shots)
    return np.asarray(sums / np.bincount(own)[:, None])


def _right(logits: Floats, own: Rows) -> float:
    return float((logits[: len(own)].argmax(axis=1) == own).mean())


def _loss(logits: Floats, examples: _Examples, say: Floats) -> float:
    """say: [M], weights."""
    return float(np.average(_losses(logits, examples.wanted), weights=say))


def _losses(logits: Floats, wanted: Rows) -> Floats:
    return np.asarray(-np.log(np.maximum(_probability(logits, wanted), LEAST)))


def _probability(logits: Floats, wanted: Rows) -> Floats:
    """[M]: the softmax's at `wanted` [M]."""
    some = logits[: len(wanted)]
    shifted = np.exp(some - some.max(axis=1, keepdims=True))
    return np.asarray(shifted[np.arange(len(wanted)), wanted] / shifted.sum(axis=1))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def _f32(values: Floats) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)
