"""Kueue and a queue for a test: one quota, two priorities, and other runs that want a place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control_plane import ControlPlane, wait_for
from real_node import IMAGE, install_kueue
from release import Release

API = "kueue.x-k8s.io/v1beta2"
QUEUE = "kueue.x-k8s.io/queue-name"
PRIORITY = "kueue.x-k8s.io/priority-class"
FLAVOR = "any-node"
PRIORITIES = {"visionr1-low": 1, "visionr1-high": 100}
MILLICORES = 300
"""What a stage of two workers and a head asks for, by `release.PODS`."""


@contextmanager
def kueue(plane: ControlPlane) -> Iterator[None]:
    """Kueue, with priorities and a flavour that any node has."""
    install_kueue(plane)
    made = [{"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": FLAVOR}}]
    made += [_priority(name, value) for name, value in PRIORITIES.items()]
    # Ready is said before its webhooks can be reached.
    wait_for("Kueue's webhooks", lambda: _applied(plane, made), 120)
    try:
        yield
    finally:
        for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
            plane.kubectl("delete", kind, f"kueue-{kind.removesuffix('webhookconfiguration')}-webhook-configuration")
        plane.kubectl("delete", "namespace", "kueue-system")  # or the next Kueue would be put into one that ends


def _applied(plane: ControlPlane, manifests: list[dict[str, Any]]) -> bool:
    try:
        plane.apply(*manifests)
    except RuntimeError:
        return False
    return True


def _priority(name: str, value: int) -> dict[str, Any]:
    return {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}


class Queue:
    """A ClusterQueue for one namespace. Its LocalQueue has the namespace's name."""

    def __init__(self, release: Release) -> None:
        self._release, self.name = release, release.namespace
        self._set("None")
        local = {"apiVersion": API, "kind": "LocalQueue", "metadata": {"name": self.name, "namespace": self.name}}
        release.platform.apply({**local, "spec": {"clusterQueue": self.name}})

    def labels(self, priority: str = "visionr1-low") -> dict[str, str]:
        """A run's `queueLabels`."""
        return {QUEUE: self.name, PRIORITY: priority}

    def close(self) -> None:
        """Lets nothing in any more; what is in stays."""
        self._set("Hold")

    def drain(self) -> None:
        """The same, and takes everything back."""
        self._set("HoldAndDrain")

    def open(self) -> None:
        """Lets in what there is quota for."""
        self._set("None")

    def _set(self, stop_policy: str) -> None:
        resources = [{"name": "cpu", "nominalQuota": f"{MILLICORES}m"}, {"name": "memory", "nominalQuota": "16Gi"}]
        group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": FLAVOR, "resources": resources}]}
        spec = {
            "namespaceSelector": {},
            "resourceGroups": [group],
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "stopPolicy": stop_policy,
        }
        self._release.platform.apply({"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": self.name}, "spec": spec})

    def workloads(self) -> dict[str, dict[str, Any]]:
        """Workloads by what they are of: `RayCluster demo-ray-0`."""
        made = {}
        for one in self._release.get("workloads.kueue.x-k8s.io")["items"]:
            owner = one["metadata"]["ownerReferences"][0]
            made[f"{owner['kind']} {owner['name']}"] = one
        return made

    def other_run(self, name: str, priority: str) -> None:
        """A run that wants all of the quota, for a Job with a fake pod that never ends by itself."""
        size = {"requests": {"cpu": f"{MILLICORES}m", "memory": "64Mi"}}
        fake = {
            "image": IMAGE,
            "resources": size,
            "nodeSelector": {"kwok.x-k8s.io/node": "fake"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        }
        spec = {
            "recipe": {"preset": "demo"},
            "storage": {"url": f"/runs/{name}", "claim": {"name": "visionr1-runs", "mountPath": "/runs"}},
            "pods": fake,
            "grpo": {"workersPerPod": 2},
            "deadlines": {"pendingSeconds": 5, "stopSeconds": 1},
            "queueLabels": self.labels(priority),
        }
        run = {"apiVersion": "visionr1.io/v1alpha1", "kind": "PTSTRun", "metadata": {"name": name}, "spec": spec}
        self._release.kubectl("create", "-f", "-", stdin=json.dumps(run))
