"""What a PTSTRun may not ask for, before a real API server: the chart's ValidatingAdmissionPolicy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import Cluster, wait_for
from ptst_operator.rules import ROLES
from ptst_run import run
from test_cluster_definition import rendered

KIND = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"
VALUES = {
    "serviceAccounts": ["trainer"],
    "images": ["registry.example/team/"],
    "storage": ["s3://bucket/", "/runs/", "s3://shared/{namespace}/"],
    "priorityClasses": ["research"],
    "tolerations": ["nvidia.com/gpu"],
}


def create(cluster: Cluster, namespace: str, made: dict[str, Any]) -> str:
    return cluster.kubectl("-n", namespace, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(made), check=False)


def pods(**changes: Any) -> dict[str, Any]:
    return run(pods={"image": "registry.example/team/trainer:1", **changes})


BEFORE = "before"
"""A run from before the policy, which it would refuse."""


@pytest.fixture(scope="module")
def guarded(cluster: Cluster, module_namespace: str) -> Iterator[str]:
    words = [word for key, value in VALUES.items() for word in ("--set-json", f"admission.{key}={json.dumps(value)}")]
    manifests = rendered("values", "--namespace", module_namespace, "--api-versions", KIND, "--set", "run.enabled=false", *words)
    policy = [one for one in manifests if one["kind"].startswith("ValidatingAdmissionPolicy")]
    assert len(policy) == 2
    before = json.dumps({**run(), "metadata": {"name": BEFORE}})
    cluster.kubectl("-n", module_namespace, "create", "-f", "-", stdin=before)
    cluster.apply(*policy)
    strange = pods(volumes=[{"name": "node", "hostPath": {"path": "/"}}])
    wait_for("the policy holds", lambda: "hostPath" in create(cluster, module_namespace, strange))
    yield module_namespace
    for one in policy:
        cluster.kubectl("delete", one["kind"], one["metadata"]["name"])


TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a folder of the node": (pods(volumes=[{"name": "node", "hostPath": {"path": "/"}}]), "such as hostPath"),
    "NFS": (pods(volumes=[{"name": "n", "nfs": {"server": "s", "path": "/"}}]), "a volume of a kind that is not allowed"),
    "a token": (pods(volumes=[TOKEN]), "a projected volume with a service account token"),
    "the operator's account": (pods(serviceAccountName="ptst-operator"), "a service account that runs may not use"),
    "a privileged container": (
        pods(initContainers=[{"name": "x", "image": "registry.example/team/x", "securityContext": {"privileged": True}}]),
        "an init container that is privileged",
    ),
    "a capability": (
        pods(
            initContainers=[
                {"name": "x", "image": "registry.example/team/x", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
            ]
        ),
        "adds capabilities",
    ),
    "a port of the node": (
        pods(initContainers=[{"name": "x", "image": "registry.example/team/x", "ports": [{"containerPort": 1, "hostPort": 1}]}]),
        "takes a port of its node",
    ),
    "an image from elsewhere": (pods(image="evil.example/trainer:1"), "an image from elsewhere"),
    "an init container from elsewhere": (
        pods(initContainers=[{"name": "x", "image": "evil.example/x"}]),
        "an image from elsewhere",
    ),
    "a volume with an image from elsewhere": (
        pods(volumes=[{"name": "x", "image": {"reference": "evil.example/x:1"}}]),
        "an image from elsewhere",
    ),
    **{
        f"an init container with {next(iter(context))}": (
            pods(initContainers=[{"name": "x", "image": "registry.example/team/x", "securityContext": context}]),
            "an init container that is root, or without the limits of its runtime",
        )
        for context in (
            {"runAsUser": 0},
            {"runAsNonRoot": False},
            {"procMount": "Unmasked"},
            {"seccompProfile": {"type": "Unconfined"}},
            {"appArmorProfile": {"type": "Unconfined"}},
        )
    },
    "another bucket": (
        {**pods(), "spec": {**pods()["spec"], "storage": {"url": "s3://other/run"}}},
        "a run directory elsewhere",
    ),
    "a priority": (pods(priorityClassName="system-node-critical"), "a priority class that runs may not use"),
    "any node": (pods(tolerations=[{"operator": "Exists"}]), "a toleration that runs may not have"),
}


@pytest.mark.parametrize("case", BAD)
def test_the_api_server_refuses(case: str, cluster: Cluster, guarded: str) -> None:
    made, message = BAD[case]
    assert message in create(cluster, guarded, made)


@pytest.mark.parametrize(("part", "role"), ROLES)
def test_no_role_is_left_out(part: str, role: str, cluster: Cluster, guarded: str) -> None:
    made = pods()
    made["spec"][part] = {role: {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}}
    assert "such as hostPath" in create(cluster, guarded, made)
    made["spec"][part] = {role: {"serviceAccountName": "ptst-operator"}}
    assert "a service account that runs may not use" in create(cluster, guarded, made)


def test_what_runs_need_is_let_in(cluster: Cluster, guarded: str) -> None:
    made = pods(
        serviceAccountName="trainer",
        priorityClassName="research",
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
        volumes=[
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "rewards"}},
            {"name": "i", "image": {"reference": "registry.example/team/tools:1"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "keys"}}]}},
        ],
        initContainers=[{"name": "x", "image": "registry.example/team/x", "ports": [{"containerPort": 80}]}],
    )
    assert "created" in create(cluster, guarded, made)


def test_each_namespace_has_a_place_of_its_own(cluster: Cluster, guarded: str) -> None:
    def stored_in(url: str) -> str:
        made = pods()
        made["spec"]["storage"] = {"url": url}
        return create(cluster, guarded, made)

    assert "created" in stored_in(f"s3://shared/{guarded}/demo")
    for other in ("s3://shared/other/demo", f"s3://shared/{guarded}-2/demo", "s3://shared/demo"):
        assert "a run directory elsewhere" in stored_in(other)


def test_a_run_from_before_can_be_steered_and_deleted_and_gets_nothing_that_is_refused(cluster: Cluster, guarded: str) -> None:
    def kubectl(verb: str, *words: str) -> str:
        return cluster.kubectl("-n", guarded, verb, "ptst", BEFORE, *words, check=False)

    def patch(spec: dict[str, Any]) -> str:
        return kubectl("patch", "--type", "merge", "-p", json.dumps({"spec": spec}))

    assert "an image from elsewhere" in create(cluster, guarded, run())
    assert "patched" in patch({"suspend": True})
    assert "patched" in patch({"sft": {"nodes": 3}})
    assert "annotated" in kubectl("annotate", "visionr1.io/approve=stage-1")
    assert "an image from elsewhere" in patch({"pods": {"image": "evil.example/trainer:2"}})
    assert "a service account that runs may not use" in patch({"sft": {"pods": {"serviceAccountName": "ptst-operator"}}})
    # The garbage collector takes its finalizer off.
    kubectl("delete", "--cascade=foreground", "--timeout=90s")
    assert "NotFound" in kubectl("get")


def test_another_namespace_is_not_meant(cluster: Cluster, guarded: str, namespace: str) -> None:
    assert "created" in create(cluster, namespace, pods(serviceAccountName="ptst-operator"))


@pytest.mark.parametrize(("part", "role"), ROLES)
def test_the_policy_looks_at_the_pods_of_each_role(part: str, role: str) -> None:
    """Needs no cluster."""
    policy, _ = [one for one in rendered("values", "--api-versions", KIND) if one["kind"].startswith("ValidatingAdmissionPolicy")]
    (pods,) = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "pods"]
    assert f"object.spec.?{part}.?{role}" in pods
    (changed,) = policy["spec"]["matchConditions"]
    assert f"object.spec.?{part}.?{role}" in changed["expression"] and f"oldObject.spec.?{part}.?{role}" in changed["expression"]


def test_the_policy_can_be_left_out() -> None:
    manifests = rendered("values", "--api-versions", KIND, "--set", "admission.enabled=false")
    assert not [one for one in manifests if one["kind"].startswith("ValidatingAdmissionPolicy")]
