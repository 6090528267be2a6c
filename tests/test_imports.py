"""Who may import whom, and what a plain command may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgeclip

PACKAGE = Path(edgeclip.__file__).parent

# A layer imports itself and the layers above it in this table. Within RUN, stages import no other stage.
LEAVES = {
    "",
    "archive",
    "arenas",
    "atomic",
    "bundle",
    "container",
    "cuda",
    "errors",
    "lettering",
    "npz",
    "nvrtc",
    "picture",
    "progress",
    "region",
    "rotation",
    "registry",
    "signature",
    "state",
    "store",
    "turns",
    "types",
    "wording",
    "yamlfile",
}
STAGES = {
    "backends": {"backends"},
    "decision": {"decision", "evidence", "presence"},
    "golden": {"golden", "frames"},
    "labels": {"labels", "watches", "thresholds", "editedfile"},
    "preprocess": {"preprocess", "preprocess_gpu", "crops"},
    "similarity": {"similarity"},
    "sinks": {"sinks"},
    "sources": {"sources", "supervisor", "connection", "box", "flood", "outage"},
    "taught": {"taught", "fewshot", "shots", "shown"},
    "text": {"text", "text_bank", "text_cache", "tokenizer"},
}
HEAVY = ("torch", "onnx", "onnxscript", "litert_torch", "ai_edge_quantizer", "timm", "PIL", "skimage", "matplotlib")


def modules() -> dict[str, Path]:
    """Dotted name below edgeclip -> file."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path) -> set[str]:
    """Modules of edgeclip that a file imports anywhere, and those it names in a "module:attr" table."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("edgeclip."):
            found.add(node.value.partition(":")[0])
    known = modules()
    return {name.removeprefix("edgeclip.") for name in found if name.removeprefix("edgeclip.") in known}


def stage_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "runtime" or len(parts) < 2:
        return None
    return next((stage for stage, members in STAGES.items() if parts[1] in members), None)


def level(module: str) -> int:
    """cli -> commands -> {lifecycle, build, ...} -> pipeline -> stages -> leaves: larger may import smaller."""
    if module in ("cli", "__main__"):
        return 5
    if module.partition(".")[0] == "commands":
        return 4
    if module in LEAVES:
        return 0
    if stage_of(module) is not None or module == "runtime":
        return 1
    if module in ("runtime.asked", "runtime.lifecycle", "runtime.service") or not module.startswith("runtime."):
        return 3
    return 2


@pytest.mark.parametrize("module", modules())
def test_imports_point_one_way(module: str) -> None:
    for imported in imports(modules()[module]):
        if module == imported:
            continue
        assert level(imported) <= level(module), f"{module} imports {imported}, which is above it"


@pytest.mark.parametrize("module", [name for name in modules() if stage_of(name)])
def test_stages_import_no_other_stage(module: str) -> None:
    for imported in imports(modules()[module]):
        assert stage_of(imported) in (None, stage_of(module)), f"{module} imports {imported}"


def test_training_and_building_are_not_known_to_the_runtime() -> None:
    for module, path in modules().items():
        if module.startswith("runtime"):
            upwards = {
                name for name in imports(path) if name.split(".")[0] in ("build", "train", "tune", "cli", "commands")
            }
            assert not upwards, f"{module} imports {upwards}"


def writes_or_ends(path: Path) -> set[str]:
    """What a file calls that writes to standard output or ends the process, but for where it is itself started."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in tree.body):
        return set()
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return calls & {"print", "exit", "quit", "sys.exit", "sys.stdout.write", "SystemExit", "os._exit", "os.execvp"}


@pytest.mark.parametrize("module", [name for name in modules() if level(name) < 4])
def test_only_the_command_line_prints_or_exits(module: str) -> None:
    assert not writes_or_ends(modules()[module])


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("commands.")])
def test_commands_leave_exiting_to_what_called_them_and_stay_short(module: str) -> None:
    path = modules()[module]
    assert not writes_or_ends(path) & {"exit", "quit", "sys.exit", "SystemExit", "os._exit"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250


def loaded(*statements: str) -> set[str]:
    """Top-level modules in a fresh interpreter after these statements."""
    code = "\n".join(["import sys", *statements, "print(*{name.partition('.')[0] for name in sys.modules})"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_the_runtime_loads_neither_torch_nor_onnx() -> None:
    statements = ["import edgeclip.runtime, edgeclip.runtime.service, edgeclip.runtime.sinks.table"]
    assert not loaded(*statements) & set(HEAVY)


def test_compiling_on_the_device_loads_neither_torch_nor_onnx() -> None:
    assert not loaded("import edgeclip.compile.bundles") & set(HEAVY)


@pytest.mark.parametrize(
    "arguments", ["--help", "run --help", "labels check FILE", "train --help", "capture --help", "tune --help"]
)
def test_help_loads_nothing_heavy(arguments: str, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n")
    words = [str(labels) if word == "FILE" else word for word in arguments.split()]
    statements = ["import contextlib, io", "from edgeclip.cli import main", "quiet = io.StringIO()"]
    run = f"with contextlib.redirect_stdout(quiet), contextlib.suppress(SystemExit): main({words!r})"
    heavy = {"cv2", "rich", "yaml", *HEAVY}
    if arguments.endswith("--help"):
        heavy |= {"numpy", "msgspec"}
    assert not loaded(*statements, run) & heavy


@pytest.mark.parametrize("module", [name for name in modules() if not name.startswith(("build", "train", "__main__"))])
def test_every_module_of_the_runtime_imports_without_what_builds_it(module: str) -> None:
    assert not imported_at_load(modules()[module]) & set(HEAVY)


def imported_at_load(path: Path) -> set[str]:
    """Top-level names of what a file imports when it is itself imported."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_no_two_test_files_are_one_module_to_pytest() -> None:
    """Outside packages a test is imported by its bare name: of two alike a run of all tests collects neither."""
    found: dict[str, Path] = {}
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        if (path.parent / "__init__.py").exists():
            continue
        assert path.name not in found, f"{path} and {found[path.name]}"
        found[path.name] = path
