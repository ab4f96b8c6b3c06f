"""A real quota of the namespace: a run says in words that it waits for room, and goes on when there is some."""

from __future__ import annotations

import time
from typing import Any

import pytest
from control_plane import wait_for
from fake.fake_release import FAKE
from release import ONLY_STAGES, PODS, RECIPE, Release

pytestmark = pytest.mark.timeout(300)

WITHIN = 30.0
"""Seconds until the reason is in the status."""
KINDS: dict[str, dict[str, Any]] = {
    "Job": {"recipe": RECIPE},
    "PyTorchJob": {"recipe": {**RECIPE, "coldstart": None, "sft": {**RECIPE["sft"], "data": {"path": "/runs/chains.jsonl"}}}},
    "RayCluster": {"recipe": ONLY_STAGES},
    "RayJob": {"recipe": ONLY_STAGES, "grpo": {"cluster": "per-stage"}},
}


def allow_pods(release: Release, count: int) -> None:
    meta = {"name": "team", "namespace": release.namespace}
    hard = {"pods": str(count)}
    release.platform.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})
    wait_for("the quota", lambda: release.get("resourcequota", "team").get("status", {}).get("hard") == hard, 30)


def progress(release: Release) -> dict[str, Any]:
    """The Progressing condition; {} before there is one."""
    found = release.status("demo").get("conditions", [])
    return next((one for one in found if one["type"] == "Progressing"), {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_room_says_so_and_begins_when_there_is_some(release: Release, kind: str) -> None:
    allow_pods(release, 1)  # the operator's
    release.install_values({"run": {"pods": {**PODS, **FAKE}, "sft": {"nodes": 2}, **KINDS[kind]}})
    wait_for("the child", lambda: release.get(kind.lower())["items"], 60)
    begun = time.monotonic()
    waits = wait_for("the reason", lambda: progress(release).get("reason") == "QuotaExceeded" and progress(release), WITHIN)
    took = time.monotonic() - begun
    assert "a quota of the namespace has no room for its pods: exceeded quota: team, requested: pods=1" in waits["message"]
    print(f"{kind}: {took:.1f} s: {waits['message']}")

    allow_pods(release, 50)
    wait_for("its pods", lambda: release.pods("visionr1.io/run=demo"), 120)
    wait_for("another word", lambda: progress(release)["reason"] != "QuotaExceeded", WITHIN)
