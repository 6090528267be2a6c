"""A bundle beside the real CLIP ViT-B/16, where their names overlap; and how well it takes a synonym for a name.

    python benchmarks/against_clip.py --clip clip_encoder.int8.onnx --text-bank text.npz --data dev.tar.gz \
        --labels dev-labels.txt [--bundle DIR]

The text bank holds CLIP's own text vectors of a few hundred names. Pictures whose label is one of them and one of the
labels are shown to both, and both choose among exactly those names. CLIP sees 224 px, the bundle its own size.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgeclip.bundle import open_bundle
from edgeclip.datasets import iter_samples
from edgeclip.progress import progress_for
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.train.space import bank_phrase
from edgeclip.train.teachers import clip_pixels
from edgeclip.types import Label

# A dev label, and another word for the same thing.
SYNONYMS = {
    "airplane": "aeroplane", "aubergines (eggplants)": "eggplants", "baseball": "baseball game", "cabbages": "cabbage",
    "car seen from the side": "automobile", "cardboard box / carton": "carton", "carousel": "merry-go-round",
    "carrots": "carrot", "cassette player": "tape recorder", "cat": "kitten", "chainsaw": "power saw",
    "church": "chapel", "cliff": "rock face", "coast": "seashore", "corn cob": "sweetcorn", "crayfish": "crawfish",
    "crocodile": "alligator", "cup": "coffee mug", "cycling": "riding a bike", "dishcloth": "tea towel",
    "dog": "puppy", "dollar bill": "banknote", "ferry": "ferryboat", "fog": "mist", "forest": "woods",
    "frying pan": "skillet", "garbage truck": "dustcart", "gas pump": "petrol pump", "gramophone": "record player",
    "grand piano": "piano", "headphones": "earphones", "hedgehog": "porcupine", "helicopter": "chopper",
    "highway": "motorway", "industrial plant": "factory", "inside of a shop": "store interior", "jacket": "coat",
    "ladybug": "ladybird", "lamp": "desk lamp", "laptop": "notebook computer", "leopard": "panther",
    "lipstick": "make-up", "living room": "lounge", "mobile phone": "cell phone", "motorbike": "motorcycle",
    "mountain": "mountains", "pair of pants": "trousers", "pair of shoes": "sneakers", "photocopier": "copy machine",
    "pigeon": "dove", "revolver handgun": "pistol", "rooster": "cockerel", "school bus": "yellow bus",
    "soccer": "football match", "soccer ball": "football", "spider web": "cobweb", "street": "road",
    "sunny sky": "clear sky", "sunrise": "dawn", "surfing": "riding a wave", "t-shirt": "tee shirt",
    "tall buildings": "skyscrapers", "traffic or street sign": "road sign", "trash can": "rubbish bin",
    "wheelchair": "invalid chair", "wristwatch": "watch", "zucchini": "courgette",
}  # fmt: skip


def overlap(arguments: argparse.Namespace) -> dict[str, Any]:
    """Top-1 and top-5 of both over the names that both have."""
    with np.load(arguments.text_bank) as stored:
        names = [bank_phrase(str(name)) for name in stored["names"]]
        texts = dict(zip(names, stored["embeddings"].astype(np.float32), strict=True))
    wanted = [label.name for label in parse_labels(arguments.labels) if label.name in texts]
    place = {name: index for index, name in enumerate(wanted)}
    bundle = open_bundle(arguments.bundle)
    engine, preprocess = load_engine(bundle, "image"), Preprocessor(bundle.manifest.preprocess)
    ours = load_bank(bundle, [Label(name) for name in wanted]).embeddings
    clip_texts = np.stack([texts[name] for name in wanted])
    session = onnxruntime.InferenceSession(str(arguments.clip), providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name
    truth, mine, theirs = [], [], []
    with progress_for(sys.stderr) as progress:
        progress.stage(f"pictures of {len(wanted)} names")
        for sample in iter_samples(arguments.data):
            if not sample.label or sample.label.lower() not in place:
                continue
            truth.append(place[sample.label.lower()])
            mine.append(engine.run(preprocess(sample.pixels)).copy()[0])
            rgb = np.ascontiguousarray(sample.pixels[:, :, ::-1])
            theirs.append(session.run(None, {taken: clip_pixels(rgb)[None]})[0][0])
            progress.advance(1)
    return {
        "names": wanted,
        "n": len(truth),
        "bundle": figures(np.stack(mine) @ ours.T, truth),
        "clip_vit_b16": figures(np.stack(theirs) @ clip_texts.T, truth),
    }


def figures(similarities: npt.NDArray[np.float32], truth: list[int]) -> dict[str, float]:
    order = np.argsort(-similarities, axis=1)
    right = order == np.array(truth)[:, None]
    return {"top1": float(right[:, 0].mean()), "top5": float(right[:, :5].any(1).mean())}


def synonyms(arguments: argparse.Namespace) -> dict[str, Any]:
    """Top-1 and top-5 over the whole label set, of the labels with a synonym: by their name, and by the synonym."""
    labels = [label.name for label in parse_labels(arguments.labels)]
    taken = {name: word for name, word in SYNONYMS.items() if name in labels and word not in labels}
    bundle = open_bundle(arguments.bundle)
    engine, preprocess = load_engine(bundle, "image"), Preprocessor(bundle.manifest.preprocess)
    rows, truth = [], []
    for sample in iter_samples(arguments.data):
        if sample.label and sample.label.lower() in taken:
            rows.append(engine.run(preprocess(sample.pixels)).copy()[0])
            truth.append(sample.label.lower())
    images = np.stack(rows)
    named = load_bank(bundle, [Label(name) for name in labels]).embeddings
    other = load_bank(bundle, [Label(taken.get(name, name)) for name in labels]).embeddings
    where = [labels.index(name) for name in truth]
    by_word = {}
    for name, word in taken.items():
        own = np.array([index for index, label in enumerate(truth) if label == name])
        if len(own):
            target = [labels.index(name)] * len(own)
            both = [figures(images[own] @ bank.T, target)["top1"] for bank in (named, other)]
            by_word[f"{name} -> {word}"] = [len(own), *both]
    return {
        "n": len(truth),
        "words": len(by_word),
        "by_name": figures(images @ named.T, where),
        "by_synonym": figures(images @ other.T, where),
        "each (pictures, top-1 by name, by synonym)": by_word,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="ONNX image tower of CLIP; without it only synonyms are measured")
    parser.add_argument("--text-bank", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--bundle")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"synonyms": synonyms(arguments)}
    if arguments.clip:
        result["overlap"] = overlap(arguments)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
