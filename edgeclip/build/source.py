"""What a build is of: a recipe, or a model given by name, directory or file, or an image tower with a bank of texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import edgeclip
from edgeclip.build.checkpoints import detect, name_of
from edgeclip.build.checkpoints.hub import fetch
from edgeclip.build.checkpoints.place import Facts, Place
from edgeclip.build.recipe import Plan, Quantization, Recipe, Sampling, load_plan
from edgeclip.errors import DataError, UsageError
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
    path = Path(recipe) if recipe is not None else recipe_named(model.model)
    if path is not None:
        return load_plan(path), path
    name = name_of(Path(model.image_onnx or model.model).expanduser())
    return Plan(Recipe(name=name), Sampling(), Quantization(), Path.cwd(), open=True), None


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
        names = ", ".join(sorted(file.stem for file in recipes_directory().glob("*.yaml") if is_engine(file)))
        raise DataError(f"{model} is neither a model edgeclip knows nor a path", f"known: {names}")
    return None


def is_engine(path: Path) -> bool:
    return not path.stem.endswith("-train")


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
