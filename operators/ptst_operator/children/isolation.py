"""The NetworkPolicy of one run: its pods accept connections from each other. No other rule lets the pods of another run in."""

from __future__ import annotations

from typing import Final

from ptst_operator.children.kind import ApiResource
from ptst_operator.children.pods import metadata
from ptst_operator.names import RUN_LABEL, Manifest
from ptst_operator.run import ResolvedRun

RESOURCE: Final = ApiResource("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", watched=False)


def build(run: ResolvedRun) -> Manifest:
    """All ports, because torch and Ray choose theirs at random. A rule of the chart cannot say "of the same run"."""
    same_run = {"matchLabels": {RUN_LABEL: run.name}}
    return {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata(run, f"{run.name}-pods", "all", "network", queued=False),
        "spec": {"podSelector": same_run, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": same_run}]}]},
    }
