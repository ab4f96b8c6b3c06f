"""A release stays in sync: what the API server adds to the chart's objects is no difference for Argo CD and Flux."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chart import Manifest, Values, manifests
from control_plane import Cluster, wait_for

VALUES: Values = {
    "operator": {
        "replicas": 2,
        "tolerations": [{"operator": "Exists"}],
        "envValueFrom": {"KEY": {"secretKeyRef": {"name": "a", "key": "b"}}},
    },
    "doctor": {"enabled": True},
    "monitoring": {
        "dashboards": {"enabled": True},
        "rules": {"enabled": True},
        "podMonitor": {
            "enabled": True,
            "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
            "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "python_gc_.*", "action": "drop"}],
        },
    },
    "networkPolicy": {"cloudIdentity": "eks", "monitoringNamespace": {"a": "b"}},
    "proxy": {"httpsProxy": "http://proxy.example:3128"},
    "run": {
        "gates": [{"metric": "completion_truncated_ratio", "max": 0.5}],
        "storage": {"claim": {"name": "visionr1-runs"}},
        "deadlines": {"pendingSeconds": 1800},
        "holdBefore": ["evaluate"],
        "pods": {
            "volumes": [{"name": "data", "configMap": {"name": "a"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        },
    },
}
CUSTOM = ("visionr1.io", "monitoring.coreos.com")
"""Groups of custom resources."""
_CHANGES_BY_ITSELF = ("managedFields", "resourceVersion", "generation")
_REVISION = "deployment.kubernetes.io/revision"


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, by which Argo CD compares custom resources: lists are replaced as a whole."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merged(kept.get(key), value)
    return kept


def compared(manifest: Manifest) -> Manifest:
    """What both tools compare: not the status, nor what the API server counts."""
    meta = {key: value for key, value in manifest["metadata"].items() if key not in _CHANGES_BY_ITSELF}
    # The controller of Deployments writes it a moment later.
    meta["annotations"] = {key: value for key, value in meta.get("annotations", {}).items() if key != _REVISION}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": meta}


def definition(kind: str, endpoints: Manifest) -> Manifest:
    """A definition of the Prometheus operator, of which only the defaults in lists matter here."""
    unknown = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": {**unknown, "properties": endpoints}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.lower()}s.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def items_with(**properties: Manifest) -> Manifest:
    items = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": properties}
    return {"type": "array", "items": items}


@pytest.fixture
def prometheus_operator(cluster: Cluster) -> Iterator[None]:
    """Its definitions, with the one default that they have in lists that the chart writes: the action of a relabelling."""
    changes = items_with(action={"type": "string", "default": "replace"})
    endpoints = items_with(relabelings=changes, metricRelabelings=changes)
    made = [definition("PodMonitor", {"podMetricsEndpoints": endpoints}), definition("PrometheusRule", {})]
    names = [f"crd/{one['metadata']['name']}" for one in made]
    cluster.apply(*made)
    wait_for("its definitions", lambda: "condition met" in cluster.kubectl("wait", "--for=condition=established", *names), 30)
    yield
    cluster.kubectl("delete", *names)


@pytest.fixture
def released(cluster: Cluster, namespace: str, prometheus_operator: None) -> Iterator[list[Manifest]]:
    """The chart's objects, applied as Flux and a modern Argo CD do. Hooks are neither tool's to compare."""
    policy = ("--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")
    made = [
        one
        for one in manifests(VALUES, *policy, namespace=namespace)
        if "helm.sh/hook" not in str(one["metadata"].get("annotations"))
    ]
    applied(cluster, namespace, made)
    yield made
    cluster.kubectl(
        "-n",
        namespace,
        "delete",
        "--wait=false",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}),
    )


def applied(cluster: Cluster, namespace: str, made: list[Manifest], *more: str) -> list[Manifest]:
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    words = ["-n", namespace, "apply", "--server-side", "--field-manager=flux", *more, "-o", "json", "-f", "-"]
    found: list[Manifest] = json.loads(cluster.kubectl(*words, stdin=items))["items"]
    return found


def live(cluster: Cluster, namespace: str, one: Manifest) -> Manifest:
    found: Manifest = cluster.get("-n", namespace, one["kind"], one["metadata"]["name"])
    return found


def test_neither_argo_cd_nor_flux_sees_a_difference(released: list[Manifest], cluster: Cluster, namespace: str) -> None:
    """Flux applies again without doing so. Argo CD merges: custom resources as JSON, other kinds by the keys of their lists."""
    dry = applied(cluster, namespace, released, "--dry-run=server")
    assert {one["kind"] for one in released} >= {
        "PodMonitor",
        "PrometheusRule",
        "Deployment",
        "NetworkPolicy",
        "PTSTRun",
        "Job",
        "ConfigMap",
        "Role",
        "Service",
    }
    for one, again in zip(released, dry, strict=True):
        there = live(cluster, namespace, one)
        assert compared(again) == compared(there), f"Flux: {one['kind']} {one['metadata']['name']}"
        if one["apiVersion"].startswith(CUSTOM):
            after = merged(there, one)
        else:
            words = [
                "-n",
                namespace,
                "patch",
                one["kind"],
                one["metadata"]["name"],
                "--type=strategic",
                "--dry-run=server",
                "-o",
                "json",
            ]
            after = json.loads(cluster.kubectl(*words, "-p", json.dumps(one)))
        assert compared(after) == compared(there), f"Argo CD: {one['kind']} {one['metadata']['name']}"
