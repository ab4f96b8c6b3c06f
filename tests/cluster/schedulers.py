"""Volcano and KAI on the real node, in pods with the rights that their own charts give, and a queue of each for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control_plane import BIN, ControlPlane
from real_node import IMAGE, install_operators, ready, shipped

KAI = "kai-scheduler"
_KAI_PROGRAMS = {"scheduler": "scheduler", "binder": "binder", "podgrouper": "pod-grouper"}
"""KAI's programs, and the service accounts that its chart gives their rights; its operator would make their Deployments."""


@contextmanager
def volcano(plane: ControlPlane) -> Iterator[None]:
    """Volcano's scheduler and controllers; KubeRay and the training-operator ask it for gangs."""
    manifests = shipped("volcano")
    for one in manifests:
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            program = one["metadata"]["name"].replace("controllers", "controller-manager")
            container.update(image=IMAGE, imagePullPolicy="IfNotPresent", command=[str(BIN / program)])
    with _installed(plane, "volcano-system", manifests, ("volcano-scheduler", "volcano-controllers")):
        # As KubeRay's chart gives it with batchScheduler.name=volcano.
        plane.apply(*_right_to_groups("kuberay-operator", "default"))
        with _asked_for_gangs(plane, ["--gang-scheduler-name=volcano"], ["--batch-scheduler=volcano"]):
            yield


@contextmanager
def kai(plane: ControlPlane, batch_scheduler: str) -> Iterator[None]:
    """KAI's scheduler, binder and pod grouper. `batch_scheduler` is KubeRay's option; "" for none."""
    manifests = [
        one for one in shipped("kai") if one["kind"] in ("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding")
    ]
    manifests += [one for name, account in _KAI_PROGRAMS.items() for one in _kai_program(name, account)]
    with (
        _installed(plane, KAI, manifests, tuple(_KAI_PROGRAMS)),
        _asked_for_gangs(plane, [], [f"--batch-scheduler={batch_scheduler}"] if batch_scheduler else []),
    ):
        yield


def volcano_queue(plane: ControlPlane, name: str, millicores: int) -> None:
    """A queue of this size, or one that is there already made so."""
    spec = {"weight": 1, "capability": {"cpu": f"{millicores}m"}}
    plane.apply({"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": name}, "spec": spec})


def kai_queue(plane: ControlPlane, name: str, millicores: int) -> None:
    """The same, in a parent that has no limit."""
    for queue, parent, limit in ((f"{name}-parent", {}, -1), (name, {"parentQueue": f"{name}-parent"}, millicores)):
        size = {"quota": limit, "limit": limit, "overQuotaWeight": 1}
        free = {"quota": -1, "limit": -1, "overQuotaWeight": 1}
        spec = {**parent, "resources": {"cpu": size, "memory": free, "gpu": free}}
        plane.apply({"apiVersion": "scheduling.run.ai/v2", "kind": "Queue", "metadata": {"name": queue}, "spec": spec})


@contextmanager
def _installed(plane: ControlPlane, namespace: str, manifests: list[dict[str, Any]], programs: tuple[str, ...]) -> Iterator[None]:
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    definitions = [one for one in manifests if one["kind"] == "CustomResourceDefinition"]
    plane.apply(*definitions)
    plane.kubectl(
        "wait", "--for=condition=established", "--timeout=30s", *[f"crd/{one['metadata']['name']}" for one in definitions]
    )
    plane.apply(*[one for one in manifests if one["kind"] != "CustomResourceDefinition"])
    ready(plane, *[(namespace, program) for program in programs])
    try:
        yield
    finally:
        # The next one may have the same namespace, and would lose its pods to this deletion.
        plane.kubectl("delete", "namespace", namespace, "--timeout=180s")


@contextmanager
def _asked_for_gangs(plane: ControlPlane, training_operator: list[str], kuberay: list[str]) -> Iterator[None]:
    install_operators(plane, training_operator, kuberay)
    try:
        yield
    finally:
        install_operators(plane)


def _right_to_groups(account: str, namespace: str) -> list[dict[str, Any]]:
    name, group = "kuberay-volcano", "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": ["scheduling.volcano.sh"],
        "resources": ["podgroups"],
        "verbs": ["create", "delete", "get", "list", "update", "watch"],
    }
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    ]


def _kai_program(name: str, account: str) -> list[dict[str, Any]]:
    """Its service account, and a Deployment with the defaults that KAI's operator would write."""
    meta = {"namespace": KAI}
    pod = {"serviceAccountName": account, "containers": [{"name": name, "image": IMAGE, "command": [str(BIN / f"kai-{name}")]}]}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**meta, "name": account}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**meta, "name": name}, "spec": spec},
    ]
