"""The operator's rights are the least: every verb that the chart grants is used in these tests, by the API server's own audit.

After `test_cluster_faults` and `test_cluster_run`, which use most of them. What they leave out is done here on fake nodes, whose
pods never end by themselves: stopping a Job and a PyTorchJob, and a recipe from a ConfigMap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from real_node import IMAGE
from release import NAME, Release

Right = tuple[str, str, str]

NOT_IN_THE_AUDIT = {
    # A server-side apply that makes an object is written down as a patch; the right to create is asked for all the same.
    *((group, kind, "create") for group, kind in (("batch", "jobs"), ("kubeflow.org", "pytorchjobs"))),
    *(("trainer.kubeflow.org", kind, "create") for kind in ("trainjobs", "trainingruntimes")),
    *(("ray.io", kind, "create") for kind in ("rayclusters", "rayjobs")),
    ("networking.k8s.io", "networkpolicies", "create"),
    # Only clusters with the admission plugin OwnerReferencesPermissionEnforcement ask for it.
    ("visionr1.io", "ptstruns/finalizers", "update"),
}
NEED_TRAINER = {
    *(("trainer.kubeflow.org", "trainjobs", verb) for verb in ("get", "watch", "patch", "delete")),
    *(("trainer.kubeflow.org", "trainingruntimes", verb) for verb in ("get", "patch")),
}
"""Used in `test_cluster_trainjob`, where there are TrainJobs."""
OF_TWO_PODS = {("coordination.k8s.io", "leases", verb) for verb in ("create", "get", "update")}
"""Granted where two operator pods stand by, as in `test_cluster_replicas`."""
FAKE = {
    "image": IMAGE,
    "nodeSelector": {"kwok.x-k8s.io/node": "fake"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
}
RECIPES: dict[str, dict[str, Any]] = {
    "jobs": {"preset": "demo"},
    "pytorchjobs": {"preset": "demo", "coldstart": None, "sft": {"data": {"path": "/runs/samples.json"}}},
}


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    made.install_values({"run": {"enabled": False}})
    yield made
    made.kubectl("delete", "ptst", "--all", "--wait=false")
    made.helm("uninstall", NAME)


@pytest.mark.parametrize("kind", RECIPES)
def test_a_suspended_run_takes_its_child_away(kind: str, release: Release) -> None:
    storage = {"url": "/runs/stopped", "claim": {"name": "visionr1-runs", "mountPath": "/runs"}}
    spec: dict[str, Any] = {"storage": storage, "pods": FAKE, "grpo": {"workersPerPod": 2}, "deadlines": {"stopSeconds": 5}}
    if kind == "jobs":
        spec["recipe"] = RECIPES[kind]
    else:
        file = release.platform.folder / "recipe.yaml"
        file.write_text(json.dumps(RECIPES[kind]))
        release.kubectl("create", "configmap", "recipes", f"--from-file=recipe.yaml={file}")
        spec["recipeFrom"] = {"configMap": "recipes"}
    one = {"apiVersion": "visionr1.io/v1alpha1", "kind": "PTSTRun", "metadata": {"name": "stopped"}, "spec": spec}
    release.kubectl("create", "-f", "-", stdin=json.dumps(one))
    wait_for("its child runs", lambda: release.status("stopped").get("phase") == "Running", 60)
    assert len(release.get(kind)["items"]) == 1
    release.kubectl("patch", "ptst", "stopped", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    wait_for("suspended", lambda: release.status("stopped").get("phase") == "Suspended", 60)
    assert release.get(f"{kind},pods", "-l", "visionr1.io/run=stopped")["items"] == []


def granted(release: Release) -> set[Right]:
    (role,) = release.rendered("Role")
    return {
        (group, kind, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(plane: ControlPlane, decision: str) -> set[Right]:
    """What operators asked for in every namespace, and were given (`allow`) or refused (`forbid`)."""
    found = set()
    for line in plane.audit.read_text().splitlines():
        event = json.loads(line)
        if (
            # A pod that goes has a token that nobody knows any more, so its last calls are nobody's.
            event["user"].get("username", "").endswith(f":{NAME}-operator")
            and event["annotations"]["authorization.k8s.io/decision"] == decision
        ):
            what = event["objectRef"]
            kind = "/".join(filter(None, (what["resource"], what.get("subresource"))))
            found.add((what.get("apiGroup", ""), kind, event["verb"]))
    return found


def test_every_right_is_used_and_none_is_missing(platform: ControlPlane, release: Release) -> None:
    def own() -> list[str]:
        return [line for line in platform.audit.read_text().splitlines() if f":{release.namespace}:{NAME}-operator" in line]

    wait_for("its operator has looked at every kind", lambda: len(own()) >= 5, 60)
    assert [line for line in own() if '"authorization.k8s.io/decision":"forbid"' in line] == []
    # An operator that is being uninstalled has lost its rights before it is gone: it may be refused what the chart grants.
    assert asked(platform, "forbid") - granted(release) - OF_TWO_PODS == set()
    assert granted(release) - asked(platform, "allow") - NEED_TRAINER == NOT_IN_THE_AUDIT
