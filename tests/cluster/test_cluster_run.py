"""A run from `helm install` to Succeeded on a real control plane; the pods are played, the controllers are not."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from control_plane import wait_for
from installed import CHART, STAGE, Platform

DONE = ["coldstart", "sft", "stage-1", "stage-2", "evaluate"]


def begun(platform: Platform) -> list[str]:
    return [phase for _, phase, _ in platform.player.starts]


@pytest.mark.timeout(600)
def test_a_run_goes_from_helm_install_to_succeeded_and_leaves_nothing(platform: Platform) -> None:
    platform.player.seconds_a_step = 0.7
    notes = platform.install()
    assert "kubectl -n" in notes and "WARNING" not in notes
    operator = platform.start_operator()
    wait_for("the driver's numbers", lambda: platform.run().get("status", {}).get("reward") == 0.625, 200)
    line = platform.plane.kubectl("-n", platform.namespace, "get", "ptst")
    assert line.split()[:8] == ["NAME", "PHASE", "STAGE", "STEP", "REWARD", "LENGTH", "TOK/S/GPU", "AGE"]
    platform.wait_phase("Succeeded", 240)
    assert begun(platform) == DONE, "one attempt at each phase, in order"
    assert platform.player.overlaps == []
    status = platform.run()["status"]
    assert [phase["attempts"][-1]["kind"] for phase in status["phases"]] == ["Job", "PyTorchJob", "RayJob", "RayJob", "Job"]
    assert all(phase["complete"] for phase in status["phases"])
    assert status["step"] == 8
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert (conditions["Complete"], conditions["Progressing"], conditions["Failed"]) == ("True", "False", "False")
    assert {one["observedGeneration"] for one in status["conditions"]} == {platform.run()["metadata"]["generation"]}
    wait_for("GPUs given back", lambda: not [one for one in platform.children() if "raycluster" in one])
    reasons = {one["reason"] for one in platform.plane.get("-n", platform.namespace, "events")["items"]}
    assert {"AttemptStarted", "AttemptEnded", "PhaseComplete", "Finished"} <= reasons
    _extended(platform)
    assert _memory_mib(operator.pid) < 150
    platform.helm("uninstall", "ptst")
    wait_for(
        "nothing left", lambda: platform.children() == [] and platform.plane.get("-n", platform.namespace, "ptst")["items"] == []
    )
    kept = platform.plane.kubectl("-n", platform.namespace, "get", "pvc", "-o", "name") + platform.plane.kubectl(
        "get", "crd", "-o", "name"
    )
    assert "visionr1-runs" in kept and "ptstruns.visionr1.io" in kept


def _extended(platform: Platform) -> None:
    """A third stage, added to a finished run by `helm upgrade`."""
    stages = json.dumps([STAGE, STAGE, STAGE])
    platform.helm("upgrade", "ptst", str(CHART), "--reuse-values", "--set-json", f"run.recipe.stages={stages}")
    wait_for("stage 3", lambda: begun(platform)[5:] == ["stage-3", "evaluate"], 120)
    platform.wait_phase("Succeeded")


def _memory_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.timeout(600)
def test_suspend_frees_the_gpus_after_a_checkpoint_and_a_hold_waits_for_a_person(platform: Platform) -> None:
    platform.player.seconds_a_step = 1.5
    platform.install("run.holdBefore={stage-2}", "run.recipe.coldstart=null", "run.recipe.sft.data.path=x.jsonl")
    platform.start_operator()
    wait_for("stage 1", lambda: "stage-1" in begun(platform), 200)
    _patch(platform, {"suspend": True})
    platform.wait_phase("Suspended")
    assert not [one for one in platform.children() if one.startswith("raycluster")]
    committed = next(one for one in platform.run()["status"]["phases"] if one["name"] == "stage-1")["committedStep"]
    assert committed < 4
    _patch(platform, {"suspend": False})
    platform.wait_phase("Held", 200)
    assert [step for _, phase, step in platform.player.starts if phase == "stage-1"] == [None, committed], "it went on from there"
    held = next(one for one in platform.run()["status"]["conditions"] if one["type"] == "Held")
    assert "kubectl annotate ptst NAME --overwrite visionr1.io/approve=stage-2" in held["message"]
    platform.plane.kubectl("-n", platform.namespace, "annotate", "ptst", "demo", "--overwrite", "visionr1.io/approve=stage-2")
    platform.wait_phase("Succeeded", 200)
    assert platform.player.overlaps == []


def _patch(platform: Platform, spec: dict[str, Any]) -> None:
    platform.plane.kubectl("-n", platform.namespace, "patch", "ptst", "demo", "--type", "merge", "-p", json.dumps({"spec": spec}))


@pytest.mark.timeout(600)
def test_bad_data_fails_a_run_at_once_and_a_person_may_restart_it(platform: Platform) -> None:
    platform.player.codes = {"coldstart": [1], "sft": [64]}
    platform.install("run.retry.firstWaitSeconds=1")
    platform.start_operator()
    platform.wait_phase("Failed")
    assert begun(platform) == ["coldstart", "coldstart", "sft"], "a failure is tried again, bad data is not"
    failed = next(one for one in platform.run()["status"]["conditions"] if one["type"] == "Failed")
    assert "sft: bad recipe or data" in failed["message"]
    _patch(platform, {"restarts": 1})
    platform.wait_phase("Succeeded", 200)
    assert begun(platform)[3:] == DONE[1:]


@pytest.mark.timeout(900)
def test_an_operator_that_is_killed_again_and_again_does_nothing_twice(platform: Platform) -> None:
    chance = random.Random(1)
    platform.player.seconds_a_step = 0.3
    platform.install()
    kills = 0
    end = time.monotonic() + 400
    while platform.phase() != "Succeeded" and time.monotonic() < end:
        operator = platform.start_operator()
        time.sleep(chance.uniform(0.1, 5.0))
        if platform.phase() != "Succeeded":
            operator.kill()
            operator.wait()
            kills += 1
    platform.wait_phase("Succeeded", 1)
    assert kills >= 3
    assert begun(platform) == DONE
    assert platform.player.overlaps == []
    made = [one["metadata"]["name"] for one in platform.plane.get("-n", platform.namespace, "pytorchjobs,rayjobs,jobs")["items"]]
    assert sorted(made) == sorted(f"demo-{phase}-0" for phase in DONE)


@pytest.mark.timeout(600)
def test_restarts_of_the_api_server_change_nothing(platform: Platform) -> None:
    platform.player.seconds_a_step = 1.0
    platform.install()
    operator = platform.start_operator()
    for phase in ("sft", "stage-1"):
        wait_for(phase, lambda phase=phase: phase in begun(platform), 200)  # type: ignore[misc]
        platform.plane.restart_api_server()
    platform.wait_phase("Succeeded", 240)
    assert operator.poll() is None, "the operator has lived through it"
    assert begun(platform) == DONE
    assert platform.player.overlaps == []


@pytest.mark.timeout(600)
def test_a_rayjob_deleted_by_hand_is_tried_again_on_a_new_cluster(platform: Platform) -> None:
    platform.player.seconds_a_step = 2.0
    platform.install("run.retry.firstWaitSeconds=1")
    platform.start_operator()
    wait_for("stage 1", lambda: "stage-1" in begun(platform), 200)
    platform.plane.kubectl("-n", platform.namespace, "delete", "rayjob", "demo-stage-1-0", "--wait=false")
    platform.player.seconds_a_step = 0.1
    platform.wait_phase("Succeeded", 300)
    assert platform.player.overlaps == []
    assert platform.run()["status"]["clustersBegun"] == 2


def test_the_operator_used_every_right_that_it_has_and_no_other(platform: Platform) -> None:
    """By the API server's audit log of all tests before this one."""
    used: set[tuple[str, str, str]] = set()
    refused = set()
    for line in platform.plane.audit.read_text().splitlines():
        event = json.loads(line)
        if not event["user"]["username"].endswith(":ptst-operator") or "objectRef" not in event:
            continue
        where = event["objectRef"]
        resource = "/".join(part for part in (where["resource"], where.get("subresource")) if part)
        call = (where.get("apiGroup", ""), resource, event["verb"])
        (refused if event["responseStatus"]["code"] == 403 else used).add(call)
    assert refused == set()
    platform.install("run.enabled=false")
    role = platform.plane.get("-n", platform.namespace, "role", "ptst-operator")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # Asked only of clusters with OwnerReferencesPermissionEnforcement; apply of a new object is a create to authorisation.
    unseen = {("visionr1.io", "ptstruns/finalizers", "update")}
    assert used - granted == set()
    assert {call for call in granted - used if call[2] != "create"} == unseen
