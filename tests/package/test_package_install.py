"""Wheel and sdist install and run where nothing is but what they ask for, at the locked versions. Needs the package index."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from documents import ROOT

from visionr1.version import version_line

UV = ROOT / ".venv/bin/uv"
LOCK = ROOT / "images/locks/operator.txt"
LOCKED = set(re.findall(r"^([\w.-]+==[\w.]+)", LOCK.read_text(), re.MULTILINE))


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist as `make package` builds them."""
    folder = tmp_path_factory.mktemp("reader") / "dist"
    build = ("-m", "hatchling", "build", "--target", "wheel", "--target", "sdist", "--directory", str(folder))
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    return folder


def installed(asked: str, folder: Path, cwd: Path) -> Path:
    """A new environment's programs. The lock only bounds: a package that the metadata does not name is not there."""
    environment = folder / "environment"
    run(UV, "venv", "--python", sys.executable, environment)
    run(UV, "pip", "install", "--python", environment, "--constraint", LOCK, asked, cwd=cwd)
    run(UV, "pip", "check", "--python", environment)
    return environment / "bin"


def documented() -> str:
    """What install.md tells a reader to give to pip, in the folder that dist/ is in."""
    (found,) = re.findall(r"`pip install ('[^`]+')`", (ROOT / "docs/install.md").read_text())
    return shlex.split(found)[0]


def test_the_wheel_has_the_program_and_the_operator_and_nothing_that_builds_them(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name) for name in archive.namelist()]
    assert {name.parts[0] for name in names} == {"visionr1", "ptst_operator", "visionr1_ptst-0.1.0.dist-info"}
    parts = {part for name in names for part in (*name.parts, name.stem)}
    assert not parts & {"generators", "grafana", "dashboards", "alerts"}


@pytest.mark.parametrize("asked", [documented(), "dist/visionr1_ptst-0.1.0.tar.gz[operator]"])
def test_the_operator_s_packages_are_the_locked_ones_and_run(asked: str, dist: Path, tmp_path: Path) -> None:
    programs = installed(asked, tmp_path, dist.parent)
    frozen = run(UV, "pip", "freeze", "--python", programs.parent).splitlines()
    assert {line for line in frozen if not line.startswith("visionr1-ptst ")} == LOCKED
    assert "usage" in run(programs / "ptst-operator", "--help")
    assert run(programs / "visionr1", "--version").strip() == version_line()
    nowhere = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    watched = subprocess.run([programs / "visionr1", "watch", "ptst/x"], capture_output=True, text=True, env=nowhere)
    assert watched.stderr.startswith("ptst/x: kubectl's configuration cannot be used")


def test_the_package_without_extras_has_all_its_files_and_runs(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    programs = installed(str(wheel), tmp_path, dist)
    assert "Usage" in run(programs / "visionr1", "--help")
    assert "group_size: 16" in run(programs / "visionr1", "recipe", "show", "vision-r1")
    assert "demo: good" in run(programs / "visionr1", "recipe", "check", "demo")
    shipped = "from importlib.resources import files; print(*(p.name for p in files('visionr1').rglob('*') if p.is_file()))"
    here = {path.name for path in (ROOT / "visionr1").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert here <= set(run(programs / "python", "-c", shipped).split())
