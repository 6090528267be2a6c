"""Begin a run with the text tower of a checkpoint: the same words, the same space, another image tower.

    python -m edgeclip.train.teachers checkpoint --checkpoint nano.safetensors --data 'train-*.tar.gz' --out nano.npz
    python -m edgeclip.train.graft CONFIG.yaml --text-from nano.safetensors --out runs/nano-vit
    edgeclip train CONFIG.yaml --out runs/nano-vit --resume

The run keeps to the checkpoint's space as it is: its image teacher is that checkpoint too, `teachers.image: nano.npz`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeclip.atomic import atomic_write
from edgeclip.errors import ConfigError, DataError, EdgeclipError
from edgeclip.train.checkpoint import load_checkpoint
from edgeclip.train.config import TrainConfig
from edgeclip.train.run import SPACE, STATE, TOKENIZER
from edgeclip.train.towers import DualEncoder
from edgeclip.yamlfile import load_yaml


def graft(config_path: Path, text_from: Path, out: Path) -> None:
    """Write what a run resumes from: a fresh image tower, and text tower, temperature, bias, tokenizer and space of
    the checkpoint `text_from`.

    Raises ConfigError where `out` already holds a run, DataError where the text tower or the space does not fit.
    """
    config = load_yaml(config_path, TrainConfig)
    if (out / STATE).exists():
        raise ConfigError(f"{out / STATE} exists: a run was begun there", "name another --out")
    other, facts = load_checkpoint(text_from)
    if facts.towers.text != config.towers.text or facts.towers.dim != config.towers.dim:
        raise DataError(
            f"{text_from}: text tower and dim are not those of {config_path}",
            f"write into it: {facts.towers.text}, dim {facts.towers.dim}",
        )
    torch.manual_seed(config.seed)
    model = DualEncoder(config.towers)
    own = {name: tensor for name, tensor in other.state_dict().items() if not name.startswith("image.")}
    weights = model.state_dict() | own
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / TOKENIZER, "w") as text:
        text.write(facts.tokenizer)
    with atomic_write(out / SPACE) as stream:  # the teacher's embeddings are in this space already
        dim = config.towers.dim
        np.savez(stream, mean=np.zeros(dim, np.float32), basis=np.eye(dim, dtype=np.float32))
    with atomic_write(out / STATE) as stream:
        state: dict[str, Any] = {"model": weights, "average": weights, "optimiser": None, "history": []}
        torch.save({**state, "phase": 0, "epoch": 0, "batch": 0}, stream)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--text-from", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    arguments = parser.parse_args()
    try:
        graft(arguments.config, arguments.text_from, arguments.out)
    except EdgeclipError as error:
        print(f"error: {error.message}\n  fix: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
