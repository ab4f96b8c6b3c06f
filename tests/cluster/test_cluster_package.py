"""`make package`: checksums, and the chart. Needs no cluster, but its helm; wheel and sdist are installed in tests/package."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from control_plane import Cluster, tool
from documents import CHART, ROOT


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
