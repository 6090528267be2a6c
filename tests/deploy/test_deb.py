"""The Debian package's scripts where they must refuse; `make test-deb` installs and runs what they make."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parent.parent.parent / "deploy"


def build(*arguments: str, interpreter: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "BUILD_PYTHON": sys.executable, "DEB_INTERPRETER": interpreter}
    command = ["sh", str(DEPLOY / "deb/build.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"), [(("riscv64", "3.11"), "riscv64 is not"), (("arm64", "3.9"), "Python 3.9 is not")]
)
def test_what_there_is_no_package_for_is_refused(arguments: tuple[str, str], said: str, tmp_path: Path) -> None:
    done = build(*arguments, str(tmp_path / "dist"))
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_python_of_another_version_does_not_say_what_dependencies_need(tmp_path: Path) -> None:
    other = "3.10" if sys.version_info[:2] != (3, 10) else "3.12"
    done = build("arm64", other, str(tmp_path / "dist"), interpreter=sys.executable)
    assert done.returncode == 69
    assert f"make deb DEB_PYTHON={other} DEB_INTERPRETER=" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((DEPLOY / "containers").iterdir()), ids=lambda path: path.stem)
def test_a_container_file_takes_the_package_that_its_comment_makes(path: Path) -> None:
    text = path.read_text()
    made = re.search(r"make deb(?: DEB_ARCH=arm64 DEB_PYTHON=([\d.]+))?", text)
    assert made is not None
    assert f"ARG PYTHON={made[1] or '3.11'}\n" in text
    assert "COPY dist/edgeclip_*+py${PYTHON}_${TARGETARCH}.deb " in text
    assert 'version=$(basename "$wheel" | cut -d- -f2)+py$python' in (DEPLOY / "deb/build.sh").read_text()
