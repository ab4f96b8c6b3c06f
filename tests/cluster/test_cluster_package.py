"""`make package`: what it builds installs and runs where nothing of the checkout is seen. Needs no cluster, but its helm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from control_plane import Cluster, tool
from documents import CHART, ROOT

BASE = ROOT / ".venv/bin"


def run(*words: str | Path, cwd: Path) -> str:
    bare = {"PATH": os.environ["PATH"], "HOME": str(cwd), "UV_OFFLINE": "1"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, env=bare)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make package` builds."""
    folder = tmp_path_factory.mktemp("dist")
    run("make", "-C", ROOT, "package", f"DIST={folder}", f"HELM={tool('helm')}", cwd=folder)
    return folder


def test_checksums_and_provenance_name_every_file(dist: Path) -> None:
    built = sorted(path.name for path in dist.iterdir() if path.suffix in (".whl", ".gz", ".tgz"))
    assert len(built) == 3
    sums = run("sha256sum", "--check", "SHA256SUMS", cwd=dist)
    assert sorted(line.removesuffix(": OK") for line in sums.splitlines()) == built
    said = json.loads((dist / "provenance.json").read_text())
    assert sorted(one["name"] for one in said["subject"]) == built
    lines = {f"{one['digest']['sha256']}  {one['name']}" for one in said["subject"]}
    assert lines == set((dist / "SHA256SUMS").read_text().splitlines())
    source = said["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert source["digest"]["gitCommit"] == run("git", "-C", ROOT, "rev-parse", "HEAD", cwd=dist).strip()


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_the_package_runs_in_an_environment_of_its_own(pattern: str, dist: Path, tmp_path: Path) -> None:
    """The locked packages are lent by .venv, whose editable install of the checkout is not seen by that."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (environment / f"lib/{version}/site-packages/lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (package,) = dist.glob(pattern)
    python = environment / "bin/python"
    run(BASE / "uv", "pip", "install", "--python", python, "--no-deps", "--no-build-isolation", package, cwd=tmp_path)
    assert str(environment) in run(python, "-c", "import visionr1, ptst_operator; print(visionr1.__file__)", cwd=tmp_path)
    assert "Usage" in run(environment / "bin/visionr1", "--help", cwd=tmp_path)
    assert "usage" in run(environment / "bin/ptst-operator", "--help", cwd=tmp_path)
    assert "group_size: 16" in run(environment / "bin/visionr1", "recipe", "show", "vision-r1", cwd=tmp_path)
    shipped = "from importlib.resources import files; print(*(p.name for p in files('visionr1').rglob('*') if p.is_file()))"
    here = {path.name for path in (ROOT / "visionr1").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert here <= set(run(python, "-c", shipped, cwd=tmp_path).split())


def test_the_packaged_chart_renders(dist: Path) -> None:
    (package,) = dist.glob("*.tgz")
    assert "0 chart(s) failed" in run(tool("helm"), "lint", "--strict", package, cwd=dist)
    assert "kind: PTSTRun" in run(tool("helm"), "template", "x", package, cwd=dist)


def test_the_chart_says_what_artifact_hub_shows(cluster: Cluster, namespace: str) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    shown = {key.removeprefix("artifacthub.io/"): yaml.safe_load(text) for key, text in chart["annotations"].items()}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    operator = f"{values['operator']['image']['repository']}:{chart['appVersion']}"
    assert [one["image"] for one in shown["images"]] == [operator, values["run"]["pods"]["image"]]
    definition = yaml.safe_load((CHART / "crds/ptstruns.yaml").read_text())
    assert [one["name"] for one in shown["crds"]] == [definition["metadata"]["name"]]
    assert f'\nversion = "{chart["version"]}"\n' in (ROOT / "pyproject.toml").read_text()
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": shown["crdsExamples"]})
    cluster.kubectl("-n", namespace, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=items)
