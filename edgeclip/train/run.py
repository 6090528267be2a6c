"""`edgeclip train`: phases of contrastive training, resumable after kill -9, seeded, measured each epoch."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgeclip.atomic import atomic_write
from edgeclip.bundle import Preprocess, Scoring
from edgeclip.errors import ConfigError, DataError
from edgeclip.progress import Progress, duration
from edgeclip.train import losses
from edgeclip.train.checkpoint import CheckpointFacts, save_checkpoint
from edgeclip.train.config import Phase, TrainConfig
from edgeclip.train.corpus import read_synonyms, synonyms_of
from edgeclip.train.curves import draw_curves
from edgeclip.train.data import Batch, PairSet, epoch_batches, read_lines, read_pairs
from edgeclip.train.space import (
    PhraseTargets,
    TeacherSpace,
    neighbour_targets,
    phrase_targets,
    teacher_answers,
    teacher_space,
)
from edgeclip.train.towers import DualEncoder
from edgeclip.train.vocabulary import encode, train_tokenizer
from edgeclip.train.zeroshot import accuracy, embed_pictures, label_bank, normalised, retrieval
from edgeclip.yamlfile import load_yaml

STATE = "state.pt"
TOKENIZER = "tokenizer.json"
SPACE = "space.npz"
OWN_TEXT = 0.3  # how often a pair's own text is used instead of a template around its class phrase
BANK_NEGATIVES = 256  # class phrases added to a text-only batch


@dataclass
class State:
    """Where a run stands; all that a resumed run needs beside the configuration."""

    model: DualEncoder
    average: DualEncoder
    phase: int = 0
    epoch: int = 0
    batch: int = 0
    losses: list[float] = field(default_factory=list)  # of this epoch's batches so far
    optimiser: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Material:
    """What the phases learn from, read once."""

    config: TrainConfig
    train: PairSet
    dev: PairSet
    dev_labels: list[str]
    tokenizer: str
    space: TeacherSpace | None
    targets: PhraseTargets | None

    def ids(self, phrases: list[str]) -> Tensor:
        return torch.from_numpy(encode(self.tokenizer, phrases, self.config.towers.text.context_length))


@dataclass(frozen=True)
class Answers:
    """What the image teacher calls every picture: our texts [L, D] of its names, its probabilities [N, L]."""

    texts: Tensor
    probabilities: Tensor


def train(config_path: Path, out: Path, resume: bool, progress: Progress) -> dict[str, Any]:
    """Run every phase of `config_path` and write out/checkpoint.safetensors, history.jsonl, curves.png.

    Returns the last dev figures. Raises ConfigError, DataError.
    """
    config = load_yaml(config_path, TrainConfig)
    state_path = out / STATE
    if state_path.exists() and not resume:
        raise ConfigError(
            f"{state_path} exists: a run was begun there", "continue it with --resume, or name another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = DualEncoder(config.towers)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this form out
    state = State(model, copy.deepcopy(model))
    if resume and state_path.exists():
        _load_state(state_path, state)
    material = _material(config, state.phase, out, progress)
    if resume and state_path.exists():
        progress.note(
            f"resumed in phase {config.phases[min(state.phase, len(config.phases) - 1)].name}, epoch {state.epoch + 1}"
        )
    while state.phase < len(config.phases):
        _run_phase(state, config.phases[state.phase], material, state_path, out, progress)
        state.phase, state.epoch, state.batch, state.optimiser = state.phase + 1, 0, 0, None
        state.model.load_state_dict(state.average.state_dict())
        _save_state(state_path, state)
    _write_history(out, state.history)  # a run stopped between its last state and its history has none of this epoch
    figures = state.history[-1]
    save_checkpoint(out / "checkpoint.safetensors", state.average, _facts(config, material, state), half=True)
    return figures


def _material(config: TrainConfig, phase_now: int, out: Path, progress: Progress) -> Material:
    pairs = read_pairs(config.data.train, progress)
    dev = read_pairs([config.data.dev], progress)
    labels = sorted(set(dev.classes))
    if config.data.dev_labels:
        labels = read_lines(config.data.dev_labels)
        if not {label.lower() for label in labels} & set(dev.classes):
            raise DataError(
                f"{config.data.dev_labels}: no picture of {config.data.dev} is of any of these",
                "name its classes there",
            )
    corpus = read_lines(config.corpus) if config.corpus else []
    teachers = config.teachers
    space = teacher_space(teachers.image, pairs.keys, config.towers.dim, out / SPACE) if teachers.image else None
    targets = None
    if space and teachers.text and any(phase.anchor for phase in config.phases[phase_now:]):
        progress.stage("mapping the text teacher")
        targets = phrase_targets(
            space, teachers.text, pairs.classes, pairs.class_ids, teachers.bank, teachers.bank_scale, config.seed
        )
        progress.done()
    tokenizer_path = out / TOKENIZER
    if not tokenizer_path.exists():
        words = {text.lower() for texts in pairs.texts for text in texts} | set(pairs.classes) | set(corpus)
        words |= {template.replace("{}", "") for template in config.templates}
        with atomic_write(tokenizer_path, "w") as stream:
            stream.write(train_tokenizer(words, config.towers.text.vocabulary))
    return Material(config, pairs, dev, labels, tokenizer_path.read_text(encoding="utf-8"), space, targets)


def _run_phase(state: State, phase: Phase, material: Material, state_path: Path, out: Path, progress: Progress) -> None:
    config, pairs, model = material.config, material.train, state.model
    model.image.requires_grad_("image" in phase.train)
    model.text.requires_grad_("text" in phase.train)
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": phase.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=phase.learning_rate, betas=(0.9, 0.98),
    )  # fmt: skip
    if state.optimiser:
        try:
            optimiser.load_state_dict(state.optimiser)
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{state_path} does not continue phase {phase.name}: {error}", "start anew in another --out"
            ) from error
    bank = _class_bank(state.model, material) if phase.loss == "bank" or phase.soft else None
    answers = _teacher_answers(state.model, material) if phase.answers else None
    places = _neighbours(state.average, material) if phase.neighbours else material.targets
    among = np.arange(len(pairs))
    if phase.images == "teacher" and material.space:
        among = among[material.space.known.numpy()]
    per_epoch = len(among) // phase.batch
    if per_epoch == 0:
        raise DataError(f"{len(among)} pairs are fewer than a batch of {phase.batch}", "lower the batch")
    total, saved_s = per_epoch * phase.epochs, time.monotonic()
    for epoch in range(state.epoch, phase.epochs):
        side = _side(phase, config.towers.size, epoch / phase.epochs)
        model.train()
        if "image" not in phase.train:
            model.image.eval()
        progress.stage(f"{phase.name} epoch {epoch + 1}/{phase.epochs}" + (f" at {side} px" if side else ""), per_epoch)
        progress.advance(state.batch)
        began_s = time.monotonic()
        seed = (config.seed, state.phase, epoch)
        batches = epoch_batches(pairs, among, phase.batch, side, phase.crop, seed, state.batch)
        for batch in batches:
            step = epoch * per_epoch + state.batch
            for group in optimiser.param_groups:
                group["lr"] = phase.learning_rate * _schedule(step / total, phase.warmup)
            rng = np.random.default_rng((*seed, state.batch, 1))
            loss = _loss(model, phase, material, batch, bank, answers, places, rng)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(decayed + others, 3.0)
            optimiser.step()
            with torch.no_grad():
                model.log_scale.clamp_(0.0, math.log(config.max_scale))
            _follow(state.average, model, min(config.ema, (1 + step) / (10 + step)))
            state.losses.append(loss.item())
            if not math.isfinite(state.losses[-1]):
                raise DataError(f"phase {phase.name}: the loss is {state.losses[-1]}", "lower its learning_rate")
            state.batch += 1
            progress.advance(1)
            if time.monotonic() - saved_s > config.checkpoint_every_s:
                state.optimiser, saved_s = optimiser.state_dict(), time.monotonic()
                _save_state(state_path, state)
        figures = _measure(state.average, material)
        mean_loss = float(np.mean(state.losses)) if state.losses else math.nan
        state.history.append(
            {
                "phase": phase.name, "epoch": epoch + 1, "loss": mean_loss,
                "scale": model.log_scale.exp().item(), "seconds": round(time.monotonic() - began_s, 1), **figures,
            }
        )  # fmt: skip
        progress.note(
            f"{phase.name} {epoch + 1}/{phase.epochs}: loss {mean_loss:.3f}, top-1 {figures['top1']:.3f}, "
            f"top-5 {figures['top5']:.3f}, R@1 {figures['r1']:.3f} in {duration(time.monotonic() - began_s)}"
        )
        state.epoch, state.batch, state.losses = epoch + 1, 0, []
        state.optimiser, saved_s = optimiser.state_dict(), time.monotonic()
        _save_state(state_path, state)
        _write_history(out, state.history)
    progress.done()


def _write_history(out: Path, history: list[dict[str, Any]]) -> None:
    with atomic_write(out / "history.jsonl", "w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in history)
    draw_curves(history, out / "curves.png")


def _loss(
    model: DualEncoder, phase: Phase, material: Material, batch: Batch,
    bank: Tensor | None, answers: Answers | None, places: PhraseTargets | None, rng: np.random.Generator,
) -> Tensor:  # fmt: skip
    """The phase's weighted sum of losses over one batch."""
    space, scale = material.space, model.log_scale.exp()
    classes = torch.from_numpy(material.train.class_ids[batch.indices])
    if phase.images == "teacher" and space:
        image = space.images[batch.indices]
    else:
        with torch.autocast("cpu", torch.bfloat16, enabled=material.config.bfloat16):
            image = model.image(normalised(torch.from_numpy(batch.pixels)))
        image = functional.normalize(image.float(), dim=1)
    loss = torch.zeros(())
    if phase.loss == "bank":
        assert bank is not None
        target = functional.one_hot(classes, len(bank)).float()
        loss = loss + phase.pair * losses.against_bank(image, bank, scale, target)
    elif phase.pair:
        phrases = [_phrase(material, index, rng) for index in batch.indices]
        if phase.images == "teacher":  # text alone is cheap: more negatives
            extra = rng.choice(len(material.train.classes), BANK_NEGATIVES)
            classes = torch.cat([classes, torch.from_numpy(extra)])
            phrases += [_templated(material, material.train.classes[index], rng) for index in extra]
        text = model.encode_text(material.ids(phrases))
        same = classes[: len(image), None] == classes[None, :]
        if len(text) > len(image):
            target = same.float() / same.sum(1, keepdim=True)
            loss = loss + phase.pair * losses.against_bank(image, text, scale, target)
        elif phase.loss == "sigmoid":
            loss = loss + phase.pair * losses.sigmoid(image, text, scale, model.bias, same)
        else:
            loss = loss + phase.pair * losses.contrastive(image, text, scale, same)
    if (phase.distill or phase.soft or answers) and space:
        seen = space.known[batch.indices].nonzero()[:, 0]
        image, teacher = image[seen], space.images[batch.indices][seen]
        if len(seen):
            loss = loss + phase.distill * losses.distil_cosine(image, teacher)
        if len(seen) and bank is not None:
            loss = loss + phase.soft * losses.distil_soft(image, teacher, bank, scale, scale.item())
        if len(seen) and answers:
            named = answers.probabilities[batch.indices][seen]
            loss = loss + phase.answers * losses.distil_answers(image, named, answers.texts, scale)
    if phase.anchor or phase.neighbours:
        assert places is not None
        rows = rng.choice(len(places.phrases), phase.batch)
        wanted = [_templated(material, places.phrases[row], rng) for row in rows]
        anchored = model.encode_text(material.ids(wanted))
        loss = loss + (phase.anchor or phase.neighbours) * losses.distil_cosine(anchored, places.vectors[rows])
    return loss


def _phrase(material: Material, index: int, rng: np.random.Generator) -> str:
    """A pair's own text, or a template around its class phrase."""
    if rng.random() < OWN_TEXT:
        texts = material.train.texts[index]
        return texts[rng.integers(len(texts))]
    return _templated(material, material.train.classes[material.train.class_ids[index]], rng)


def _templated(material: Material, phrase: str, rng: np.random.Generator) -> str:
    templates = material.config.templates
    return phrase if rng.random() < 0.3 else templates[rng.integers(len(templates))].replace("{}", phrase)


def _class_bank(model: DualEncoder, material: Material) -> Tensor:
    """[classes, D]: the locked texts of every class of the training set."""
    with torch.no_grad():
        return label_bank(material.train.classes, material.config.templates, _text_encoder(model, material)).clone()


def _teacher_answers(model: DualEncoder, material: Material) -> Answers:
    assert material.space is not None
    teachers = material.config.teachers
    phrases, probabilities = teacher_answers(material.space, teachers.bank, teachers.bank_scale)
    with torch.no_grad():
        texts = label_bank(phrases, material.config.templates, _text_encoder(model, material)).clone()
    return Answers(texts, probabilities)


def _neighbours(model: DualEncoder, material: Material) -> PhraseTargets:
    """Every phrase's place by those of the class phrases and their synonyms; class phrases many times over, so that
    they are learned as often as all others together."""
    classes, config = material.train.classes, material.config
    synonyms = read_synonyms(config.synonyms) if config.synonyms else {}
    taken = set(classes)
    others = [(word, row) for row, name in enumerate(classes) for word in synonyms_of(name, synonyms)]
    others = [(word, row) for word, row in others if word not in taken]
    with torch.no_grad():
        vectors = label_bank(classes, config.templates, _text_encoder(model, material))
    anchors = classes + [word for word, _ in others]
    placed = neighbour_targets(
        config.teachers.text, anchors, vectors[[*range(len(classes)), *(row for _, row in others)]]
    )
    own = PhraseTargets(anchors, vectors[[*range(len(classes)), *(row for _, row in others)]])
    times = max(len(placed.phrases) // len(own.phrases), 1)
    return PhraseTargets(
        placed.phrases + own.phrases * times, torch.cat([placed.vectors, own.vectors.repeat(times, 1)])
    )


def _text_encoder(model: DualEncoder, material: Material) -> Any:
    def embed(phrases: list[str]) -> Tensor:
        with torch.no_grad():
            chunks = [phrases[start : start + 512] for start in range(0, len(phrases), 512)]
            return torch.cat([model.encode_text(material.ids(chunk)) for chunk in chunks])

    return embed


def _measure(model: DualEncoder, material: Material) -> dict[str, float]:
    model.eval()
    embed = _text_encoder(model, material)
    images = embed_pictures(model, material.dev, material.config.towers.size)
    bank = label_bank(material.dev_labels, material.config.templates, embed)
    return {**accuracy(images, bank, material.dev, material.dev_labels), **retrieval(images, material.dev, embed)}


def _side(phase: Phase, size: int, done: float) -> int:
    """The image side at this fraction of the phase; 0 where it needs no pixels."""
    if phase.images != "pixels":
        return 0
    sides = [side for fraction, side in phase.sizes if done >= fraction - 1e-9]
    return sides[-1] if sides else size


def _schedule(done: float, warmup: float) -> float:
    """Linear warm-up, then cosine to 1 % (Loshchilov and Hutter, 2017)."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _follow(average: DualEncoder, model: DualEncoder, decay: float) -> None:
    """Exponential moving average of the weights; batch-norm statistics too."""
    with torch.no_grad():
        current = model.state_dict()
        mine = average.state_dict()
        floats = [name for name in mine if mine[name].is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [current[name] for name in floats], 1 - decay)


def _save_state(path: Path, state: State) -> None:
    with atomic_write(path) as stream:
        torch.save(
            {
                "model": state.model.state_dict(), "average": state.average.state_dict(), "phase": state.phase,
                "epoch": state.epoch, "batch": state.batch, "losses": state.losses, "optimiser": state.optimiser,
                "history": state.history,
            },
            stream,
        )  # fmt: skip


def _load_state(path: Path, state: State) -> None:
    try:
        stored = torch.load(path, weights_only=True)
        state.model.load_state_dict(stored["model"])
        state.average.load_state_dict(stored["average"])
        state.phase, state.epoch, state.batch = stored["phase"], stored["epoch"], stored["batch"]
        state.losses, state.optimiser = stored.get("losses", []), stored["optimiser"]
        state.history = stored["history"]
    except (RuntimeError, LookupError, TypeError, AttributeError, EOFError, OSError, UnpicklingError) as error:
        raise DataError(
            f"{path} does not continue this configuration: {error}", "start anew in another --out"
        ) from error


def _facts(config: TrainConfig, material: Material, state: State) -> CheckpointFacts:
    size = config.towers.size
    kind: Literal["sigmoid", "softmax"] = "sigmoid" if config.phases[-1].loss == "sigmoid" else "softmax"
    return CheckpointFacts(
        name=config.name,
        towers=config.towers,
        preprocess=Preprocess(
            size=(size, size), resize="shortest", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        ),
        scoring=Scoring(
            kind=kind,
            scale=state.average.log_scale.exp().item(),
            bias=state.average.bias.item() if kind == "sigmoid" else 0.0,
        ),
        templates=config.templates,
        tokenizer=material.tokenizer,
        training={key: value for key, value in state.history[-1].items() if isinstance(value, (int, float, str))},
    )
