"""With the real Kueue: a waiting run is reported, a run taken back has not failed, and the steps equal those of a run alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from queues import Queue, kueue
from release import NAME, ONLY_STAGES, RECIPE, TRAINED, Release, at

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
CHILDREN = {"Job": "jobs", "PyTorchJob": "pytorchjobs", "RayCluster": "rayclusters", "RayJob": "rayjobs"}


@pytest.fixture(scope="module", autouse=True)
def installed(platform: ControlPlane) -> Iterator[None]:
    with kueue(platform):
        yield


def is_in(phase: str) -> Any:
    """A check: the run is in this phase."""
    return lambda status: status.get("phase") == phase


def newest_attempt(status: dict[str, Any], phase: str) -> dict[str, Any]:
    """The newest attempt of a phase; {} before there is one."""
    attempts = [attempt for one in status.get("phases", []) if one["name"] == phase for attempt in one["attempts"]]
    return attempts[-1] if attempts else {}


def reported(release: Release, run: str) -> str:
    """What the Progressing condition says."""
    (one,) = [one for one in release.status(run)["conditions"] if one["type"] == "Progressing"]
    return str(one["message"])


def applied_once(release: Release) -> set[str]:
    """Children that the operator has written exactly once, by the API server's audit: `RayJob demo-stage-1-0`."""
    writes: dict[str, int] = {}
    for line in release.platform.audit.read_text().splitlines():
        event = json.loads(line)
        what, verb = event.get("objectRef", {}), event["verb"]
        who = event["user"].get("username", "")  # nobody: refused at the door
        if who.endswith(f":{release.namespace}:{NAME}-operator") and verb in ("patch", "update", "create"):
            for kind, plural in CHILDREN.items():
                if what["resource"] == plural and what.get("namespace") == release.namespace:
                    writes[f"{kind} {what['name']}"] = writes.get(f"{kind} {what['name']}", 0) + 1
    return {child for child, count in writes.items() if count == 1}


def test_every_child_waits_to_be_let_in_and_a_phase_that_is_taken_back_goes_on(release: Release) -> None:
    queue = Queue(release)
    queue.close()
    release.install(RECIPE, sft={"nodes": 1}, queueLabels=queue.labels(), deadlines={"pendingSeconds": 60})
    release.wait("demo", "queued", is_in("Queued"))
    assert reported(release, "demo") == "coldstart: Job demo-coldstart-0 waits until its queue lets it in"
    assert "Queued" in release.kubectl("get", "ptst", "demo", "--no-headers")
    assert release.get("job", "demo-coldstart-0")["spec"]["suspend"] is True
    assert release.pods("visionr1.io/run=demo") == []
    queue.open()
    release.wait("demo", "SFT", lambda status: "runningSince" in newest_attempt(status, "sft"))
    queue.drain()
    release.wait("demo", "taken back", is_in("Queued"))
    wait_for("no pod", lambda: not release.pods("visionr1.io/phase=sft"), 60)
    queue.open()
    waited: set[str] = set()

    def ended(status: dict[str, Any]) -> bool:
        waited.update(queue.workloads())
        for kind, plural in CHILDREN.items():
            for one in release.get(plural, "-l", "visionr1.io/run=demo", "--show-managed-fields")["items"]:
                ours = [field for field in one["metadata"]["managedFields"] if field["manager"] == "ptst-operator"]
                wrote = [field for field in ours if field["operation"] == "Apply"]
                assert "f:suspend" not in json.dumps(wrote), f"{kind} {one['metadata']['name']}"
        return status.get("phase") == "Succeeded"

    release.wait("demo", "the end", ended)
    brought = {"Job demo-coldstart-0", "PyTorchJob demo-sft-0", "RayCluster demo-ray-0", "Job demo-evaluate-0"}
    assert waited == brought, "and the RayJob on the cluster needs no place of its own"
    assert applied_once(release) == brought | {"RayJob demo-stage-1-0"}
    ends = {one["name"]: [attempt["exitCode"] for attempt in one["attempts"]] for one in release.status("demo")["phases"]}
    assert ends == {"coldstart": [0], "sft": [0], "stage-1": [0], "evaluate": [0]}


@pytest.mark.parametrize("mode", ["shared", "per-stage"])
def test_a_run_that_another_one_takes_the_place_of_ends_with_the_same_steps(
    release: Release, undisturbed: list[dict[str, Any]], mode: str
) -> None:
    queue = Queue(release)
    release.install(
        ONLY_STAGES,
        grpo={"workersPerPod": 1, "cluster": mode},
        queueLabels=queue.labels(),
        deadlines={"pendingSeconds": 120, "stopSeconds": 30},
        retry={"maxAttempts": 1},
    )
    release.wait("demo", "step 5", at(5))
    queue.other_run("patient", "visionr1-low")
    release.wait("patient", "queued", is_in("Queued"))

    queue.other_run("urgent", "visionr1-high")
    release.wait("demo", "taken back", is_in("Queued"))
    waits = {"shared": "RayCluster demo-ray-0", "per-stage": "RayJob demo-stage-1-1"}[mode]
    why = f"stage-1: {waits} waits until its queue lets it in: its queue has no room for it: "
    wait_for("the queue's reason", lambda: reported(release, "demo").startswith(why), 30)
    assert not release.pods("visionr1.io/run=demo")
    release.wait("urgent", "running", is_in("Running"))
    assert release.status("patient")["phase"] == "Queued"
    stopped_at = release.steps("demo")[-1]["step"]
    release.kubectl("delete", "ptst", "urgent")
    if mode == "shared":
        release.wait("demo", "running", is_in("Running"))
        assert release.status("patient")["phase"] == "Queued", "a cluster that was taken back keeps its place"
    else:
        release.wait("patient", "its turn", is_in("Running"))
        assert release.status("demo")["phase"] == "Queued", "an attempt asks again"
        release.kubectl("delete", "ptst", "patient")
    release.wait("demo", "the end", is_in("Succeeded"))
    if mode == "shared":
        release.wait("patient", "its turn", is_in("Running"))

    ends = {one["name"]: [attempt["exitCode"] for attempt in one["attempts"]] for one in release.status("demo")["phases"]}
    assert ends == {"stage-1": [3, 0], "stage-2": [0]}, "3 is stopped on request, which is no failure"
    assert 5 <= stopped_at < 40
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed]
    made = {"RayJob demo-stage-1-0", "RayJob demo-stage-1-1", "RayJob demo-stage-2-0"}
    made |= {"RayCluster demo-ray-0"} if mode == "shared" else set()
    assert {one for one in applied_once(release) if one.split()[1].startswith("demo-")} == made
