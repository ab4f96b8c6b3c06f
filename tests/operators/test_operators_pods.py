"""What a user says of pods is in the pods, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ptst_operator.children import raycluster
from ptst_operator.spec import Pods
from test_operators_children import owner

Pod = dict[str, Any]


def container(pod: Pod) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def named(name: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in items if one["name"] == name]


def in_spec(key: str) -> Callable[[Pod], Any]:
    return lambda pod: pod["spec"][key]


TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}}
AFFINITY: dict[str, Any] = {
    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": []}]}}
}
PROXY = {"requests": {"cpu": "50m", "memory": "64Mi"}}
FIELDS: dict[str, tuple[Any, Callable[[Pod], Any]]] = {
    "image": ("trainer@sha256:1", lambda pod: container(pod)["image"]),
    "imagePullPolicy": ("Always", lambda pod: container(pod)["imagePullPolicy"]),
    "imagePullSecrets": ([{"name": "registry"}], in_spec("imagePullSecrets")),
    "gpuResource": ("amd.com/gpu", lambda pod: next(key for key in container(pod)["resources"]["limits"] if "/" in key)),
    "resources": ({"requests": {"cpu": "5"}}, lambda pod: {"requests": {"cpu": container(pod)["resources"]["requests"]["cpu"]}}),
    "scratch": ("8Gi", lambda pod: named("scratch", pod["spec"]["volumes"])[0]["emptyDir"]["sizeLimit"]),
    "sharedMemory": ("8Gi", lambda pod: named("shared-memory", pod["spec"]["volumes"])[0]["emptyDir"]["sizeLimit"]),
    "env": ({"HOME": "/mine"}, lambda pod: {one["name"]: one["value"] for one in named("HOME", container(pod)["env"])}),
    "envValueFrom": (
        {"KEY": {"secretKeyRef": {"name": "s3", "key": "id"}}},
        lambda pod: {one["name"]: one["valueFrom"] for one in named("KEY", container(pod)["env"])},
    ),
    "envFrom": ([{"secretRef": {"name": "s3"}}], lambda pod: container(pod)["envFrom"]),
    "volumes": ([{"name": "ca", "configMap": {"name": "ca"}}], lambda pod: named("ca", pod["spec"]["volumes"])),
    "volumeMounts": ([{"name": "ca", "mountPath": "/ca"}], lambda pod: named("ca", container(pod)["volumeMounts"])),
    "initContainers": (
        [{"name": "p", "image": "p:1", "restartPolicy": "Always", "securityContext": {"runAsUser": 2000}, "resources": PROXY}],
        in_spec("initContainers"),
    ),
    "labels": ({"team": "vision"}, lambda pod: {"team": pod["metadata"]["labels"]["team"]}),
    "annotations": ({"linkerd.io/inject": "enabled"}, lambda pod: pod["metadata"]["annotations"]),
    "nodeSelector": ({"zone": "a"}, in_spec("nodeSelector")),
    "tolerations": ([TOLERATION], in_spec("tolerations")),
    "affinity": (AFFINITY, in_spec("affinity")),
    "topologySpreadConstraints": ([SPREAD], in_spec("topologySpreadConstraints")),
    "priorityClassName": ("high", in_spec("priorityClassName")),
    "schedulerName": ("volcano", in_spec("schedulerName")),
    "runtimeClassName": ("nvidia", in_spec("runtimeClassName")),
    "serviceAccountName": ("trainer", in_spec("serviceAccountName")),
    "runAsUser": (2000, lambda pod: pod["spec"]["securityContext"]["runAsUser"]),
    "fsGroup": (3000, lambda pod: pod["spec"]["securityContext"]["fsGroup"]),
}


def test_no_mesh_puts_a_sidecar_into_a_pod_unless_its_user_wants_one() -> None:
    """A sidecar does not end with the run's container, so a Job would never be complete."""
    image = {"image": "trainer:1"}
    meta = worker(image, {})["metadata"]
    assert meta["labels"]["sidecar.istio.io/inject"] == "false" and meta["annotations"] == {"linkerd.io/inject": "disabled"}
    wanted = worker({**image, "labels": {"sidecar.istio.io/inject": "true"}}, {})["metadata"]["labels"]
    assert wanted["sidecar.istio.io/inject"] == "true"


def worker(pods: dict[str, Any], own: dict[str, Any]) -> Pod:
    made = raycluster.build(owner(recipe={"preset": "vision-r1"}, pods=pods, grpo={"workersPerPod": 8, "workers": own}), "x")
    pod: Pod = made["spec"]["workerGroupSpecs"][0]["template"]
    return pod


@pytest.mark.parametrize("reported", ["of all pods", "of the role", "of both"])
@pytest.mark.parametrize("field", Pods.model_json_schema(by_alias=True)["properties"])
def test_what_is_said_of_pods_is_in_them(field: str, reported: str) -> None:
    """A new field of `Pods` fails here until it has its row."""
    value, there = FIELDS[field]
    image = {"image": "trainer:1"}
    other: Any = {str: "7Gi", int: 7, list: [{"name": "other"}], dict: {}}[type(value)]
    if field == "imagePullPolicy":
        other = "Never"
    pod = {
        "of all pods": lambda: worker({**image, field: value}, {}),
        "of the role": lambda: worker(image, {field: value}),
        "of both": lambda: worker({**image, field: other}, {field: value}),
    }[reported]()
    assert there(pod) == value


def test_what_is_not_said_of_pods_is_left_to_the_cluster() -> None:
    spec = worker({"image": "trainer:1"}, {})["spec"]
    security = spec.pop("securityContext")
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (1000, 1000, 1000)
    assert set(spec) == {
        *("automountServiceAccountToken", "containers", "enableServiceLinks", "shareProcessNamespace"),
        *("terminationGracePeriodSeconds", "volumes"),
    }, "an empty value would own a field that an admission webhook may set"
    (one,) = spec["containers"]
    assert one["resources"]["limits"]["nvidia.com/gpu"] == 8 and one["imagePullPolicy"] == "IfNotPresent"


def test_further_containers_are_as_restricted_as_the_run_s_own() -> None:
    pod = worker({"image": "trainer:1", "initContainers": [{"name": "proxy", "image": "proxy:1"}]}, {})
    (further,) = pod["spec"]["initContainers"]
    assert further["securityContext"] == container(pod)["securityContext"] != {}
