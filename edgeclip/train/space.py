"""The teacher's space, made ours: image embeddings centred and reduced to `dim`, and phrases mapped into it.

A CLIP image space has a large common component and a gap between pictures and words (Liang et al., 2022,
"Mind the Gap"). Subtracting the mean of each and keeping the principal directions of the images leaves a
space of `dim` dimensions in which both towers of a small dual encoder can live.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from edgeclip.atomic import atomic_write
from edgeclip.errors import DataError

ADAPTER_STEPS = 1500
ADAPTER_BATCH = 1024
NEIGHBOUR_WIDTH = 0.05  # of the kernel, in cosine


def read_vectors(path: str, key: str = "keys") -> tuple[list[str], npt.NDArray[np.float32]]:
    """An npz of keys [N] and embeddings [N, E] -> (keys, unit float32 rows)."""
    if not Path(path).is_file():
        raise DataError(f"teacher file {path} does not exist", "compute it: python -m edgeclip.train.teachers --help")
    try:
        with Path(path).open("rb") as stream:
            stored = np.load(stream)
            if not isinstance(stored, np.lib.npyio.NpzFile) or key not in stored or "embeddings" not in stored:
                raise DataError(
                    f"{path}: no `{key}` and `embeddings` arrays", "compute it again: edgeclip.train.teachers"
                )
            rows = stored["embeddings"].astype(np.float32)
            keys = [str(name) for name in stored[key]]
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise DataError(f"{path} is not a readable .npz: {error}", "compute it again") from error
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if len(keys) != len(rows) or not np.isfinite(rows).all() or (norms == 0).any():
        raise DataError(f"{path}: empty, non-finite or unpaired rows", "compute it again")
    return keys, rows / norms


@dataclass(frozen=True)
class TeacherSpace:
    """raw [N, E] and images [N, D]: unit rows aligned with the pair set, before and after mean [E] and basis [E, D].

    known [N] bool: pictures the teacher has seen; the rows of the others are zero, and they are not distilled.
    """

    known: Tensor
    raw: Tensor
    images: Tensor
    mean: npt.NDArray[np.float32]
    basis: npt.NDArray[np.float32]


def teacher_space(path: str, keys: list[str], dim: int, kept: Path | None = None) -> TeacherSpace:
    """Centre and reduce the teacher's embeddings of the training images. Raises DataError where too few are there.

    kept: npz of mean and basis. A run writes it when it begins and keeps to it when it resumes: a teacher file that
    has grown since has other principal directions, and what the towers learned would not fit them.
    """
    check_distinct(keys)
    names, rows = read_vectors(path)
    where = {name: index for index, name in enumerate(names)}
    at = np.array([where.get(key, -1) for key in keys])
    known = at >= 0
    if known.sum() < dim:
        raise DataError(f"{path}: knows {known.sum()} of {len(keys)} pictures", f"compute it for at least {dim}")
    rows = rows[at] * known[:, None]
    mean, basis = _kept(kept, (rows.shape[1], dim)) if kept and kept.exists() else _principal(rows[known], dim)
    if kept and not kept.exists():
        with atomic_write(kept) as stream:
            np.savez(stream, mean=mean, basis=basis)
    centred = (rows - mean) * known[:, None]
    images = functional.normalize(torch.from_numpy(centred @ basis), dim=1)
    return TeacherSpace(
        known=torch.from_numpy(known), raw=torch.from_numpy(rows), images=images, mean=mean, basis=basis
    )


def _principal(rows: npt.NDArray[np.float32], dim: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean [E] and the `dim` leading principal directions [E, dim] of rows [N, E]."""
    mean = rows.mean(0)
    centred = rows - mean
    _, directions = np.linalg.eigh(centred.T @ centred)
    return mean, np.ascontiguousarray(directions[:, ::-1][:, :dim])


def _kept(path: Path, shape: tuple[int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    try:
        with path.open("rb") as stream:
            stored = np.load(stream)
            mean, basis = stored["mean"], stored["basis"]
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is damaged: {error}", "start anew in another --out") from error
    if basis.shape != shape or mean.shape != shape[:1]:
        raise DataError(f"{path}: a basis {basis.shape}, and {shape} is wanted", "start anew in another --out")
    return mean, basis


def check_distinct(keys: list[str]) -> None:
    """A teacher knows pictures by key. Raises DataError where two share one."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DataError(f"two pictures are named {key}", "give every shard and folder a file name of its own")
        seen.add(key)


@dataclass(frozen=True)
class PhraseTargets:
    """Where the text teacher's phrases belong in our space: phrases [P], vectors [P, D] unit rows."""

    phrases: list[str]
    vectors: Tensor


def phrase_targets(
    space: TeacherSpace,
    text_path: str,
    classes: list[str],
    class_ids: npt.NDArray[np.int64],
    bank_path: str,
    bank_scale: float,
    seed: int,
) -> PhraseTargets:
    """Fit a linear map from the text teacher to our space, and apply it to every phrase the text teacher knows.

    The map is fitted by cross-entropy of teacher images against the mapped class phrases, and, where a bank
    of the image teacher's own text vectors is given, by KL to that teacher's distribution over the bank.
    """
    phrases, rows = read_vectors(text_path)
    features = torch.from_numpy(rows - rows.mean(0))
    where = {phrase: index for index, phrase in enumerate(phrases)}
    missing = [name for name in classes if name not in where]
    if missing:
        raise DataError(
            f"{text_path}: no phrase {missing[0]!r} and {len(missing) - 1} others", "compute it with --data"
        )
    class_features = features[[where[name] for name in classes]]
    bank_features, bank_vectors = _bank(space, bank_path, where, features)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(features.shape[1], space.images.shape[1], requires_grad=True)
    torch.nn.init.orthogonal_(weight, generator=generator)
    scale = torch.tensor(3.0, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, scale], lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, ADAPTER_STEPS)
    targets = torch.from_numpy(class_ids)
    seen = space.known.nonzero()[:, 0]
    for _ in range(ADAPTER_STEPS):
        rows_at = seen[torch.randint(len(seen), (min(ADAPTER_BATCH, len(seen)),), generator=generator)]
        images = space.images[rows_at]
        factor = scale.exp().clamp(max=100.0)
        # Dropped features keep the map from leaning on any one direction that names a single class.
        kept = (torch.rand(features.shape[1], generator=generator) > 0.1).float() / 0.9
        mapped = functional.normalize((class_features * kept) @ weight, dim=1)
        loss = functional.cross_entropy(factor * images @ mapped.T, targets[rows_at])
        if bank_features is not None and bank_vectors is not None:
            named = functional.normalize((bank_features * kept) @ weight, dim=1)
            wanted = torch.softmax(bank_scale * bank_vectors[rows_at], dim=1)
            given = torch.log_softmax(factor * images @ named.T, dim=1)
            loss = loss + functional.kl_div(given, wanted, reduction="batchmean")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return PhraseTargets(phrases, functional.normalize(features @ weight, dim=1))


def neighbour_targets(text_path: str, anchors: list[str], vectors: Tensor) -> PhraseTargets:
    """Where every phrase the text teacher knows belongs, by its neighbours among phrases whose place is known.

    anchors: phrases [A] (those the text teacher does not know are left out); vectors: [A, D], their places. A phrase
    points to the mean of the anchors' places, weighted by their cosine in the text teacher's space (Nadaraya, 1964;
    Watson, 1964): one with a near synonym follows it, one with none lies among the nearest.
    """
    phrases, rows = read_vectors(text_path)
    where = {phrase: index for index, phrase in enumerate(phrases)}
    kept = [index for index, anchor in enumerate(anchors) if anchor in where]
    if not kept:
        raise DataError(f"{text_path}: none of {len(anchors)} class phrases", "compute it with --data")
    features = torch.from_numpy(rows)
    near, places = features[[where[anchors[index]] for index in kept]], vectors[kept]
    weights = (torch.softmax(part @ near.T / NEIGHBOUR_WIDTH, dim=1) for part in torch.split(features, 2048))
    return PhraseTargets(phrases, functional.normalize(torch.cat([part @ places for part in weights]), dim=1))


def teacher_answers(space: TeacherSpace, bank: str, bank_scale: float) -> tuple[list[str], Tensor]:
    """What the image teacher itself calls every picture: (phrases [L], probabilities [N, L]).

    bank: npz of names and the teacher's own text vectors. Names that are one phrase are added up.
    """
    names, vectors = read_vectors(bank, key="names")
    phrases = sorted({bank_phrase(name) for name in names})
    column = {phrase: index for index, phrase in enumerate(phrases)}
    of_name = torch.tensor([column[bank_phrase(name)] for name in names])
    scores = torch.softmax(bank_scale * space.raw @ torch.from_numpy(vectors).T, dim=1)
    return phrases, torch.zeros(len(scores), len(phrases)).index_add_(1, of_name, scores)


def bank_phrase(name: str) -> str:
    """A bank's class name as a person would say it: `wall-brick` -> "brick wall", `sky-other` -> "sky"."""
    head, dash, tail = name.partition("-")
    if not dash or tail in ("other", "stuff"):
        return head
    return f"{tail} {head}"


def _bank(
    space: TeacherSpace, path: str, where: dict[str, int], features: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """(features of the bank's names [L, F], the image teacher's cosine of every image to each name [N, L])."""
    if not path:
        return None, None
    names, rows = read_vectors(path, key="names")
    known = [index for index, name in enumerate(names) if bank_phrase(name) in where]
    if not known:
        raise DataError(f"{path}: the text teacher knows none of its names", "compute the text teacher with --bank")
    phrases = torch.stack([features[where[bank_phrase(names[index])]] for index in known])
    return phrases, space.raw @ torch.from_numpy(rows[known]).T
