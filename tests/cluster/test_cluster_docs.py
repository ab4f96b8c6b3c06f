"""The documents' commands of helm and kubectl, and the files that they show, before a real API server.

What a command touches is there: the namespace `vision` with all that the chart makes, the runs and RayJobs that the documents
name, every file that they show, and KubeRay's and Kueue's definitions. Nothing runs in it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import HOME, Cluster, tool, wait_for
from documents import CHART, DOCUMENTS, Command, commands, files, yaml_blocks
from ptst_operator.spec import Spec, resolve_recipe

from visionr1.recipe import phases

NAMESPACE = "vision"
YOURS = ("ca.crt",)
"""Files that a reader has already."""
ALL = [command for document in DOCUMENTS for command in commands(document)]
HELM = [command for command in ALL if command.words[0] == "helm" and len(command.words) > 2]
KUBECTL = [command for command in ALL if command.words[0] == "kubectl" and len(command.words) > 2]
INSIDE = ("exec", "logs", "port-forward")
"""They need a pod that runs."""
OTHERS = {"kuberay": "rayjobs.ray.io", "kueue": "workloads.kueue.x-k8s.io"}
"""Projects whose kinds the documents name, and by which kind one sees that they are there."""
NOT_DONE = ("create", "delete")
"""They are asked of the API server and not carried out, so that every command finds the same."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works: the checkout's chart, and the files that the documents show."""
    made = tmp_path_factory.mktemp("reader")
    (made / "charts").symlink_to(CHART.parent)
    shown = [(name, text) for document in DOCUMENTS for name, text in files(document).items()]
    assert len(dict(shown)) == len(shown), "two files have one name"
    for name, text in [*shown, *((name, "") for name in YOURS)]:
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def others(cluster: Cluster) -> Iterator[None]:
    """The API server knows the kinds of KubeRay and Kueue; where it did not before, it does not afterwards."""
    served = cluster.kubectl("api-resources", "--output=name").split()
    files = [HOME / f"manifests/{name}.json" for name, kind in OTHERS.items() if kind not in served]
    made = [one for file in files for one in json.loads(file.read_text()) if one["kind"] == "CustomResourceDefinition"]
    for one in made:
        one["spec"].pop("conversion", None)  # by webhooks of operators that are not there
    names = [f"crd/{one['metadata']['name']}" for one in made]
    if made:
        cluster.apply(*made)
        cluster.kubectl("wait", "--for=create", *names)
        cluster.kubectl("wait", "--for=condition=established", *names, "--timeout=30s")
    yield
    if made:
        cluster.kubectl("delete", *names)


@pytest.fixture(scope="module")
def vision(cluster: Cluster, folder: Path, others: None) -> Iterator[Cluster]:
    """The namespace of the documents, as after `helm install`, with the runs that they name in all conditions at once."""
    cluster.kubectl("apply", "-f", str(folder / "namespace.yaml"))
    wait_for("service account", lambda: "default" in cluster.kubectl("-n", NAMESPACE, "get", "sa", "default", check=False))
    never = "operator.nodeSelector.no=such"
    rendered = run(folder, "helm", "template", "visionr1-ptst", "charts/visionr1-ptst", "--namespace", NAMESPACE, "--set", never)
    manifests = [
        one for one in yaml.safe_load_all(rendered) if one and "helm.sh/hook" not in one["metadata"].get("annotations", {})
    ]
    (sample,) = [one for one in manifests if one["kind"] == "PTSTRun"]
    runs = [{**sample, "metadata": {"name": name}} for name in named("ptst")]
    ray = {"apiVersion": "ray.io/v1", "kind": "RayJob", "spec": {"suspend": True}}
    jobs = [{**ray, "metadata": {"name": name}} for name in named("rayjob")]
    for one in [*manifests, *runs, *jobs]:
        one["metadata"]["namespace"] = NAMESPACE
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": True}}
        for name in named("node")
    ]
    cluster.apply(*manifests, *runs, *jobs, *nodes)
    reported = {"status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [{"type": kind, **reported} for kind in ("Held", "Suspended", "Complete", "Failed")]
    status = json.dumps({"status": {"conditions": conditions}})
    for one in runs:
        name = one["metadata"]["name"]
        cluster.kubectl("-n", NAMESPACE, "patch", "ptst", name, "--subresource=status", "--type=merge", "-p", status)
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "node", *named("node"))


def named(kind: str) -> set[str]:
    """Names behind that kind in the commands."""
    lines = [" ".join(filled(command)).replace(f"{kind}/", f"{kind} ").split() for command in KUBECTL]
    pairs = [pair for words in lines for pair in zip(words, words[1:], strict=False)]
    return {name for before, name in pairs if before == kind and not name.startswith("-")}


def filled(command: Command) -> list[str]:
    """The words, with a name in the place of NAME, and no waiting for changes."""
    return ["vision-r1" if word == "NAME" else word for word in command.words[1:] if word != "--watch"]


def only_words(words: list[str]) -> list[str]:
    """The same command as one that only looks at its flags; what comes after `--` is another program's."""
    return [*words[: words.index("--") if "--" in words else None], "--help"]


def run(folder: Path, *words: str, kubeconfig: Path | None = None) -> str:
    environment = {**os.environ, "HOME": str(folder), **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})}
    done = subprocess.run([tool(words[0]), *words[1:]], cwd=folder, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", HELM, ids=str)
def test_a_documented_helm_command_renders(command: Command, folder: Path) -> None:
    """What installs our chart is rendered; of the rest the words are checked, and that others' charts have a version."""
    verb, *rest = command.words[1:]
    if verb in ("install", "upgrade", "template") and "charts/visionr1-ptst" in rest:
        kept = [word for word in rest if word not in ("--install", "--reset-then-reuse-values", "--create-namespace")]
        accepted(run(folder, "helm", "template", *kept))
    elif verb == "lint":
        assert "0 chart(s) failed" in run(folder, "helm", *command.words[1:])
    else:
        run(folder, "helm", *only_words([verb, *rest]))
        assert verb != "install" or "--version" in rest, f"{command}: which version?"


@pytest.mark.parametrize("command", KUBECTL, ids=str)
def test_a_documented_kubectl_command_works(command: Command, folder: Path, vision: Cluster) -> None:
    """It is run; where it needs a pod that runs, or the internet, its words are checked."""
    words = filled(command)
    verb = next(word for word in words if word not in ("-n", NAMESPACE, "monitoring"))
    if verb in INSIDE or "-k" in words:
        run(folder, "kubectl", *only_words(words))
        assert "-k" not in words or "?ref=" in words[-1], f"{command}: which version?"
        return
    dry = ["--dry-run=server"] if verb in NOT_DONE else []
    run(folder, "kubectl", "--namespace", NAMESPACE, *words, *dry, kubeconfig=vision.admin)


def accepted(rendered: str) -> None:
    """The chart's run is one that the operator would act on."""
    (made,) = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "PTSTRun"]
    assert phases(resolve_recipe(Spec.model_validate(made["spec"]), made["metadata"]["name"]))


BLOCKS = [(document, kind, parts) for document in DOCUMENTS for kind, parts in yaml_blocks(document)]


@pytest.mark.parametrize(
    ("document", "parts"),
    [(one, parts) for one, kind, parts in BLOCKS if kind == "values"],
    ids=lambda value: getattr(value, "name", ""),
)
def test_documented_values_are_the_chart_s(document: Path, parts: list[Any], folder: Path) -> None:
    (folder / "shown.yaml").write_text(yaml.safe_dump(parts[0]))
    rendered = run(folder, "helm", "template", "visionr1-ptst", "charts/visionr1-ptst", "--values", "shown.yaml")
    if parts[0].get("run", {}).get("enabled", True):
        accepted(rendered)
    else:
        assert "kind: Deployment" in rendered and "kind: PTSTRun" not in rendered


@pytest.mark.parametrize(
    ("document", "parts"),
    [(one, parts) for one, kind, parts in BLOCKS if kind == "manifests"],
    ids=lambda value: getattr(value, "name", ""),
)
def test_documented_manifests_are_taken_by_the_api_server(document: Path, parts: list[Any], vision: Cluster) -> None:
    """Those of others only where their definitions are installed."""
    served = vision.kubectl("api-versions").split()
    known = [one for one in parts if one["apiVersion"] in served or one["apiVersion"].startswith("visionr1.io/")]
    if known:
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": known})
        vision.kubectl("-n", NAMESPACE, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=items)
