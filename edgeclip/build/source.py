"""What a build is of: a recipe, or a model given by name, directory or file, or an image tower with a bank of texts."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

import edgeclip
from edgeclip.build.checkpoints import WEIGHTS, detect, name_of
from edgeclip.build.checkpoints.hub import fetch
from edgeclip.build.checkpoints.place import Facts, Place
from edgeclip.build.recipe import TRAINED, Plan, Quantization, Recipe, Sampling, load_plan
from edgeclip.errors import ConfigError, DataError, UsageError
from edgeclip.progress import Progress


@dataclass(frozen=True)
class Model:
    """What --model and its kin say. model: a recipe's name in engines/, a directory or a file."""

    model: str = ""
    architecture: str = ""
    image_onnx: str = ""
    text_bank: str = ""
    facts: Facts = field(default_factory=Facts)

    @property
    def given(self) -> bool:
        return bool(self.model or self.image_onnx or self.text_bank)


def recipes_directory() -> Path:
    """engines/: inside the installed package, or beside it in a source checkout."""
    package = Path(edgeclip.__file__).resolve().parent
    inside = package / "engines"
    return inside if any(inside.glob("*.yaml")) else package.parent / "engines"


def plan_of(recipe: str | Path | None, model: Model) -> tuple[Plan, Path | None]:
    """(the plan, its recipe if there is one). Raises UsageError for neither or both, and as load_plan does."""
    if (recipe is not None) == model.given:
        raise UsageError(
            "give either a recipe or a model",
            "edgeclip build RECIPE.yaml, or --model NAME|DIR|FILE, or --image-onnx FILE --text-bank FILE",
        )
    if model.given and bool(model.image_onnx) != bool(model.text_bank):
        raise UsageError(
            "--image-onnx and --text-bank belong together", "an image tower alone needs the texts' vectors"
        )
    if model.image_onnx and model.model:
        raise UsageError("--model and --image-onnx contradict each other", "give one of them")
    path = recipe_file(Path(recipe)) if recipe is not None else recipe_named(model.model)
    if path is not None:
        return load_plan(path), path
    name = name_of(Path(model.image_onnx or model.model).expanduser())
    return Plan(Recipe(name=name), Sampling(), Quantization(), Path.cwd(), open=True), None


def recipe_file(path: Path) -> Path:
    """`path`, a recipe. Raises UsageError for a model, which --model takes, and ConfigError where there is nothing."""
    if path.is_file() and path.suffix not in (*WEIGHTS, ".onnx"):
        return path
    beside = path.with_name(f"{path.name}.yaml")
    if beside.is_file():
        raise UsageError(f"{path} is not a recipe", f"did you mean {beside}?")
    if path.exists() or str(path) in known_models():
        raise UsageError(f"{path} is not a recipe but a model", f"edgeclip build --model {path}")
    near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], 1)
    raise ConfigError(
        f"recipe {path} does not exist", f"did you mean {path.with_name(near[0])}?" if near else "check the path"
    )


def known_models() -> list[str]:
    return sorted(file.stem for file in recipes_directory().glob("*.yaml") if not file.stem.endswith(TRAINED))


def recipe_named(model: str) -> Path | None:
    """The recipe that `model` names, or None where it is a path of another kind. Raises DataError for neither."""
    if not model:
        return None
    path = Path(model).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return path
    known = recipes_directory() / f"{model}.yaml"
    if "/" not in model and known.is_file():
        return known
    if not path.exists():
        raise DataError(f"{model} is neither a model edgeclip knows nor a path", instead_of(model))
    return None


def instead_of(model: str) -> str:
    """What may have been meant by a --model that does not exist."""
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) and not Path(model).parent.is_dir():
        return (
            "of a hub give the directory it was downloaded to, or a recipe with "
            f"`model: {{repository: {model}, ...}}` (calibration/README.md)"
        )
    if "/" in model:
        return "check the path"
    known = known_models()
    near = difflib.get_close_matches(model.lower(), known, 2, 0.5)
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"known: {', '.join(known)}"


def place_of(plan: Plan, recipe: Path | None, checkpoint: str | Path | None, model: Model, progress: Progress) -> Place:
    """Where the checkpoint is; a hub's is downloaded unless it is in the cache."""
    wanted = plan.recipe
    if model.image_onnx:
        return tower_and_bank(wanted.name, Path(model.image_onnx), Path(model.text_bank), model.facts)
    if recipe is not None and checkpoint is None and wanted.model is not None:
        return fetch(wanted.name, wanted.model, recipe, progress)
    if checkpoint is not None:
        path = Path(checkpoint)
    elif recipe is not None:
        path = plan.path(wanted.checkpoint)
    else:
        path = Path(model.model).expanduser()
    facts = wanted.facts if model.facts == Facts() else model.facts
    if wanted.text_bank:
        return tower_and_bank(wanted.name, path, plan.path(wanted.text_bank), facts)
    return detect(path, model.architecture or wanted.architecture, facts)


def tower_and_bank(name: str, image: Path, bank: Path, facts: Facts) -> Place:
    for path in (image, bank):
        if not path.is_file():
            raise DataError(f"{path} does not exist", "check the path")
    return Place("onnx-image", str(image), name, text_bank=str(bank), facts=facts)
