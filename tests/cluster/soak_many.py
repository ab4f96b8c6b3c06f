"""Two hundred runs at once: what a look costs, when all have begun, what the operator takes. `make cluster-soak`.

The operator runs in its pod on the real node, KubeRay beside it; the runs' pods are on fake nodes. A fake head answers no
submission, so each run stays at its first stage.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from control_plane import ControlPlane, wait_for
from release import NAME, Release

pytestmark = pytest.mark.timeout(1200)

RUNS = 200
FAKE = {
    "image": "docker.io/visionr1-test/pod:1",
    "nodeSelector": {"kwok.x-k8s.io/node": "fake"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
}


def run(number: int) -> dict[str, Any]:
    recipe = {"preset": "demo", "coldstart": None, "sft": None, "data": {"held_out": None}}
    recipe["stages"] = [{"max_completion_tokens": 8, "group_size": 2, "steps": 4}]
    spec = {
        "recipe": recipe,
        "storage": {"url": f"/runs/many-{number}", "claim": {"name": "visionr1-runs", "mountPath": "/runs"}},
        "pods": FAKE,
        "grpo": {"workersPerPod": 2},
    }
    return {"apiVersion": "visionr1.io/v1alpha1", "kind": "PTSTRun", "metadata": {"name": f"many-{number}"}, "spec": spec}


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    made.install_values({"run": {"enabled": False}, "operator": {"resyncSeconds": 15}})
    yield made
    made.kubectl("delete", "ptst", "--all", "--wait=false")
    made.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not made.get("ptst,rayclusters,rayjobs,pods")["items"], 300)


def operator() -> psutil.Process:
    """Its process: in a pod of this very machine."""
    return next(
        one for one in psutil.process_iter(["cmdline"]) if any("bin/ptst-operator" in w for w in one.info["cmdline"] or [])
    )


def metric(release: Release, name: str) -> float:
    """The sum of all series of a name."""
    (pod,) = release.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


def test_two_hundred_runs_at_once(release: Release) -> None:
    wait_for("the operator", lambda: "True" in release.kubectl("get", "deploy", f"{NAME}-operator", "-o", _AVAILABLE), 90)
    process = operator()
    idle = process.memory_info().rss
    begun, cpu = time.monotonic(), sum(process.cpu_times()[:2])
    release.platform.apply(
        *({**one, "metadata": {**one["metadata"], "namespace": release.namespace}} for one in map(run, range(RUNS)))
    )
    taken: dict[str, float] = {}

    def all_at_their_stage() -> bool:
        phases = [one.get("status", {}).get("phases", []) for one in release.get("ptst")["items"]]
        begun_ = sum(1 for one in phases if one and one[-1]["name"] == "stage-1" and one[-1]["attempts"])
        if begun_ >= RUNS // 2:
            taken.setdefault("half", time.monotonic() - begun)
        return begun_ == RUNS

    wait_for("all runs at their stage", all_at_their_stage, 600)
    taken["all"] = time.monotonic() - begun
    time.sleep(60)  # the steady state: every run is looked at every 15 seconds
    looks = metric(release, "visionr1_ptst_reconcile_seconds_count")
    result = {
        "runs": RUNS,
        "seconds_until_half_have_begun": round(taken["half"], 1),
        "seconds_until_all_have_begun": round(taken["all"], 1),
        "looks": looks,
        "mean_look_ms": round(1000 * metric(release, "visionr1_ptst_reconcile_seconds_sum") / looks, 1),
        "operator_cpu_seconds": round(sum(process.cpu_times()[:2]) - cpu, 1),
        "operator_mib": {"idle": round(idle / 2**20), "with_all": round(process.memory_info().rss / 2**20)},
        "errors": metric(release, "visionr1_ptst_reconcile_errors_total"),
    }
    print(f"\n{json.dumps(result, indent=1)}")
    assert result["operator_mib"]["with_all"] < 150
    names = [one["metadata"]["name"] for one in release.get("rayclusters")["items"]]
    assert len(names) == len(set(names)) == RUNS


_AVAILABLE = 'jsonpath={.status.conditions[?(@.type=="Available")].status}'
