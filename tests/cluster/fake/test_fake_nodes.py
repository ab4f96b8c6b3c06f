"""A node is lost with a run's pods on it: the run goes on elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import fake_node, wait_for

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, ended

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

STAGE = {"max_completion_tokens": 8, "group_size": 2, "steps": 400}
QUICK = [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]


@pytest.fixture
def lost(controllers: Controllers) -> Iterator[list[str]]:
    """Names of nodes that a test takes away; they come back."""
    names: list[str] = []
    yield names
    for name in names:
        controllers.plane.kubectl("delete", "node", name, "--ignore-not-found")
        controllers.plane.apply(fake_node(name))


def node_of(release: FakeRelease, role: str) -> str:
    (pod,) = release.get("pods", "-l", f"visionr1.io/role={role}")["items"]
    return str(pod["spec"]["nodeName"])


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_node_that_is_deleted(role: str, controllers: Controllers, release: FakeRelease, lost: list[str]) -> None:
    """As a cloud does with a machine that is gone."""
    recipe = {**release.spec("run")["recipe"], "coldstart": None, "sft": None, "stages": [{**STAGE, "steps": 300}]}
    release.install_fake({"recipe": recipe})
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    pods = {one["metadata"]["uid"] for one in release.get("pods", "-l", "visionr1.io/run")["items"]}
    lost.append(node_of(release, role))
    begun = time.monotonic()
    controllers.plane.kubectl("delete", "node", lost[0])
    ended(release, ["run"], 400)
    print(
        json.dumps(
            {
                "lost": role,
                "seconds": round(time.monotonic() - begun),
                "attempts": release.status("run")["phases"][0]["attemptsBegun"],
            }
        )
    )
    assert pods, "there were some"
    assert controllers.told(release.namespace, "overlap") == []
    assert [one["step"] for one in release.steps("run")] == list(range(1, 301))


def test_a_node_that_falls_silent(controllers: Controllers, release: FakeRelease, lost: list[str]) -> None:
    """Its pods cannot be seen to have ended, so nothing of the run begins elsewhere until the node is known to be gone."""
    spec = release.spec("run")
    pods = {**spec["pods"], "tolerations": [*spec["pods"]["tolerations"], *QUICK]}
    slow = {"nodes": 1, "pods": {"env": {"FAKE_PACE": "20"}}}
    release.install_fake({"recipe": {**spec["recipe"], "stages": [{**STAGE, "steps": 6}]}, "pods": pods, "sft": slow})
    release.wait("run", "SFT", lambda status: (status.get("stage"), status.get("phase")) == ("sft", "Running"), 60)
    lost.append(node_of(release, "sft"))
    # kwok looks after the node no longer: no heartbeat, and its pods stay as they are.
    controllers.plane.kubectl("annotate", "node", lost[0], "kwok.x-k8s.io/node-")
    wait_for("its pod is to go", lambda: "deletionTimestamp" in _sft_pod(release)["metadata"], 150)
    time.sleep(20)
    print(release.kubectl("get", "ptst,pods"), json.dumps(release.status("run").get("conditions")))
    assert [one["phase"] for one in controllers.told(release.namespace)] == ["coldstart", "sft"]
    controllers.plane.kubectl("delete", "node", lost[0])
    ended(release, ["run"], 300)
    assert controllers.told(release.namespace, "overlap") == []
    assert [one["step"] for one in release.steps("run")] == list(range(1, 7))


def _sft_pod(release: FakeRelease) -> dict[str, Any]:
    (pod,) = release.get("pods", "-l", "visionr1.io/role=sft")["items"]
    return dict(pod)
