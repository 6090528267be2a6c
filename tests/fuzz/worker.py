"""One child process: `python -m fuzz.worker JOB`, JOB being the JSON that campaign.py wrote."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
MEMORY_BYTES = 3 << 30  # of address space: what asks for more is told there is none


def end_with_parent(parent: int) -> None:
    """Killed as soon as the campaign is gone, whatever ended it; at once where it is gone already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main(job: str) -> None:
    facts = json.loads(job)
    end_with_parent(facts["parent"])
    generator, name = facts["generator"], facts["target"]
    folder, out = Path(facts["folder"]), Path(facts["out"])
    state, elsewhere = folder / "state", folder / "elsewhere"
    for made in (state, elsewhere, folder / "corpus", folder / "input"):
        made.mkdir(exist_ok=True)
    os.chdir(elsewhere)  # what is written to a relative path is then seen as stray
    os.environ.update({"EDGECLIP_STATE": str(state), "HOME": str(elsewhere), "TMPDIR": str(state)})
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "corpus")
    with contextlib.ExitStack() as stack:
        if generator == "atheris":
            import atheris

            stack.enter_context(atheris.instrument_imports(include=["edgeclip"], enable_loader_override=False))
        targets = importlib.import_module("fuzz.targets")
    from fuzz.generators import GENERATORS
    from fuzz.guard import Guard, Record

    target = targets.TARGETS[name](state)
    guard = Guard(target.run, name, folder / "input" / target.file, Record(folder / "record"), state, out)
    assert target.seeds
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    GENERATORS[generator](target, name, facts["seed"], facts["first"], facts["count"], guard)


if __name__ == "__main__":
    main(sys.argv[1])
