"""`make package`: checksums, and the chart by way of a registry. Wheel and sdist are installed in tests/package."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from control_plane import Cluster, tool, wait_for
from documents import CHART, ROOT

KEY = "releases@example.org"
REGISTRY = "127.0.0.1:5000"
CONFIG = """
version: 0.1
storage: {filesystem: {rootdirectory: %s}}
http: {addr: "%s"}
"""


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


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a key of a moment, whose rings lie beside it."""
    folder = tmp_path_factory.mktemp("signed")
    gpg = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")
    for name in (KEY, "somebody@example.org"):
        run(*gpg, "--quick-generate-key", name, "rsa3072", "sign", "never", cwd=folder)
        run(*gpg, "--output", folder / f"{name}.gpg", "--export", name, cwd=folder)
    run(*gpg, "--output", folder / "keys.gpg", "--export-secret-keys", cwd=folder)
    sign = (f"HELM_KEY={KEY}", f"HELM_KEYRING={folder}/keys.gpg")
    run("make", "-C", ROOT, "package", f"DIST={folder}", f"HELM={tool('helm')}", *sign, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def pushed(signed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Helm's words for the signed chart in a registry."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "config.yaml").write_text(CONFIG % (folder / "data", REGISTRY))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([tool("registry"), "serve", folder / "config.yaml"], stdout=log, stderr=log) as registry,
    ):
        try:
            wait_for("the registry", lambda: b"listening on" in (folder / "log").read_bytes())
            (chart,) = signed.glob("*.tgz")
            run(tool("helm"), "push", chart, f"oci://{REGISTRY}/charts", "--plain-http", cwd=signed)
            yield (f"oci://{REGISTRY}/charts/visionr1-ptst", "--version", chart.stem.rpartition("-")[2], "--plain-http")
        finally:
            registry.kill()


def test_checksums_and_provenance_name_every_file(dist: Path) -> None:
    built = sorted(path.name for path in dist.iterdir() if path.suffix in (".whl", ".gz", ".tgz"))
    assert len(built) == 3
    sums = run("sha256sum", "--check", "SHA256SUMS", cwd=dist)
    assert sorted(line.removesuffix(": OK") for line in sums.splitlines()) == sorted([*built, "bom.json", "provenance.json"])
    reported = json.loads((dist / "provenance.json").read_text())
    assert sorted(one["name"] for one in reported["subject"]) == built
    lines = {f"{one['digest']['sha256']}  {one['name']}" for one in reported["subject"]}
    assert lines < set((dist / "SHA256SUMS").read_text().splitlines())
    source = reported["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert source["digest"]["gitCommit"] == run("git", "-C", ROOT, "rev-parse", "HEAD", cwd=dist).strip()


def test_the_packaged_chart_renders(dist: Path) -> None:
    (package,) = dist.glob("*.tgz")
    assert "0 chart(s) failed" in run(tool("helm"), "lint", "--strict", package, cwd=dist)
    assert "kind: PTSTRun" in run(tool("helm"), "template", "x", package, cwd=dist)


def test_the_chart_comes_out_of_a_registry_as_it_went_in(signed: Path, pushed: tuple[str, ...], tmp_path: Path) -> None:
    run(tool("helm"), "pull", *pushed, "--verify", "--keyring", signed / f"{KEY}.gpg", cwd=tmp_path)
    (chart,) = signed.glob("*.tgz")
    for path in (chart, chart.with_name(f"{chart.name}.prov")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_chart_from_a_registry_installs_if_its_signature_is_the_right_one(
    cluster: Cluster, namespace: str, signed: Path, pushed: tuple[str, ...]
) -> None:
    install: tuple[str | Path, ...] = (
        tool("helm"),
        "install",
        "x",
        *pushed,
        "--kubeconfig",
        cluster.admin,
        "--namespace",
        namespace,
        "--verify",
        "--keyring",
    )
    with pytest.raises(AssertionError, match="signature made by unknown entity"):
        run(*install, signed / "somebody@example.org.gpg", cwd=signed)
    run(*install, signed / f"{KEY}.gpg", cwd=signed)
    (made,) = cluster.get("deploy", "-n", namespace)["items"]
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


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
