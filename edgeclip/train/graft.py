"""Begin a run with the text tower of another: the same words, the same space, another image tower.

python -m edgeclip.train.graft CONFIG.yaml --text-from runs/nano --out runs/nano-vit
edgeclip train CONFIG.yaml --out runs/nano-vit --resume
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from edgeclip.atomic import atomic_write
from edgeclip.errors import ConfigError, DataError, EdgeclipError
from edgeclip.train.config import TrainConfig
from edgeclip.train.towers import DualEncoder
from edgeclip.yamlfile import load_yaml

STATE = "state.pt"
SHARED = ("tokenizer.json", "space.npz")  # what the text tower was trained with


def graft(config_path: Path, text_from: Path, out: Path) -> None:
    """Write out/state.pt: a fresh image tower, and text tower, temperature and bias of the run in `text_from`.

    Raises ConfigError where `out` already holds a run, DataError where the other run's text tower does not fit.
    """
    config = load_yaml(config_path, TrainConfig)
    if (out / STATE).exists():
        raise ConfigError(f"{out / STATE} exists: a run was begun there", "name another --out")
    torch.manual_seed(config.seed)
    model = DualEncoder(config.towers)
    try:
        other = torch.load(text_from / STATE, weights_only=True)["average"]
        given = {name: tensor for name, tensor in other.items() if not name.startswith("image.")}
        missing = model.load_state_dict(given, strict=False).missing_keys
    except (RuntimeError, KeyError, EOFError, OSError) as error:
        raise DataError(f"{text_from / STATE}: {error}", "give the --out of a run with the same text tower") from error
    wanting = [name for name in missing if not name.startswith("image.")]
    if wanting:
        raise DataError(f"{text_from / STATE} has no {wanting[0]}", "give the --out of a run with the same text tower")
    out.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        if (text_from / name).exists():
            shutil.copyfile(text_from / name, out / name)
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "average": model.state_dict(),
        "optimiser": None,
        "history": [],
    }
    with atomic_write(out / STATE) as stream:
        torch.save({**state, "phase": 0, "epoch": 0, "batch": 0}, stream)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--text-from", type=Path, required=True, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    arguments = parser.parse_args()
    try:
        graft(arguments.config, arguments.text_from, arguments.out)
    except EdgeclipError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
