"""A run whose children wait in a queue, and are taken back by it: nothing is a failure, and nothing is made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_cluster import suspended
from ptst_operator.children import job, pytorchjob, raycluster, rayjob, trainjob
from site_of_a_run import Site, at_step_2, condition, without_coldstart
from test_operators_children import OWNED, owner, phase


@pytest.mark.parametrize(
    ("read", "spec"),
    [
        (job.read, {"suspend": True}),
        (rayjob.read, {"suspend": True}),
        (pytorchjob.read, {"runPolicy": {"suspend": True}}),
        (raycluster.read, {"suspend": True}),
    ],
)
def test_what_is_suspended_waits_for_its_queue(read: Any, spec: dict[str, Any]) -> None:
    assert read({"metadata": OWNED, "spec": spec}).queued
    assert not read({"metadata": OWNED, "spec": {}}).queued


def test_a_job_that_is_over_waits_for_no_queue() -> None:
    status = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert not job.read({"metadata": OWNED, "spec": {"suspend": True}, "status": status}).queued


def test_a_cluster_that_is_taken_back_is_not_ready_though_it_says_so() -> None:
    assert not raycluster.read({"metadata": OWNED, "spec": {"suspend": True}, "status": {"state": "ready"}}).ready


def test_volcano_reads_the_queue_of_a_pytorchjob_from_its_spec() -> None:
    plain, queued = owner(), owner(queueLabels={"volcano.sh/queue-name": "team-a"})
    policies = [pytorchjob.build(run, "x", phase(run, "sft"))["spec"]["runPolicy"] for run in (plain, queued)]
    assert [one.get("schedulingPolicy") for one in policies] == [None, {"queue": "team-a"}]


def test_volcano_is_told_of_a_trainjob_by_its_runtime() -> None:
    plain, queued = owner(), owner(queueLabels={"volcano.sh/queue-name": "team-a"})
    asked, with_queue = (trainjob.build(run, "x", phase(run, "sft"))[0]["spec"] for run in (plain, queued))
    assert "podGroupPolicy" not in asked and "metadata" not in asked["template"]
    assert with_queue["podGroupPolicy"] == {"volcano": {}}
    assert with_queue["template"]["metadata"] == {"annotations": {"scheduling.volcano.sh/queue-name": "team-a"}}


def test_volcano_s_own_controller_reads_the_queue_of_a_pod_from_its_annotation() -> None:
    plain, queued = owner(), owner(queueLabels={"volcano.sh/queue-name": "team-a"})
    for run, told in ((plain, None), (queued, "team-a")):
        coldstart = job.build(run, "x", phase(run, "coldstart"))["spec"]["template"]
        sft = pytorchjob.build(run, "x", phase(run, "sft"))["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
        head = raycluster.build(run, "x")["spec"]["headGroupSpec"]["template"]
        found = [pod["metadata"]["annotations"].get("scheduling.volcano.sh/queue-name") for pod in (coldstart, sft, head)]
        assert found == [told] * 3


@pytest.mark.parametrize(("scheduler", "label"), [("volcano", "volcano.sh/queue-name"), ("kai-scheduler", "kai.scheduler/queue")])
def test_another_scheduler_is_given_every_pod_and_finds_the_queue_at_what_owns_it(scheduler: str, label: str) -> None:
    run = owner(queueLabels={label: "team-a"}, pods={"image": "trainer:1", "schedulerName": scheduler})
    sft, stage = phase(run, "sft"), phase(run, "stage-1")
    runtime, trainer = trainjob.build(run, "x", sft)
    own, cluster = rayjob.build(run, "x", stage, None, "sft/step-3"), raycluster.build(run, "x")
    jobs = [job.build(run, "x", phase(run, name)) for name in ("coldstart", "evaluate")]
    sft_job = pytorchjob.build(run, "x", sft)
    found = [one["metadata"]["labels"].get(label) for one in (*jobs, sft_job, trainer, own, cluster)]
    assert found == ["team-a"] * 6
    pods = [one["spec"]["template"] for one in jobs]
    pods.append(sft_job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"])
    pods.append(runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"])
    for ray in (cluster["spec"], own["spec"]["rayClusterSpec"]):
        pods += [ray["headGroupSpec"]["template"], *(group["template"] for group in ray["workerGroupSpecs"])]
        # Both count a gang by these: the head and the least number of each group.
        assert all(group["minReplicas"] == group["replicas"] for group in ray["workerGroupSpecs"])
    assert [pod["spec"]["schedulerName"] for pod in pods] == [scheduler] * 8
    assert own["spec"]["submissionMode"] == "HTTPMode", "KAI takes no RayJob that submits from a pod of its own"


def queue(site: Site, does: str) -> None:
    """The queue suspends or lets in all that brings pods; `empty` is when they are gone."""
    for kind, one in site.cluster.queueable():
        getattr(site.cluster, does)(kind, one)


def test_a_child_waits_without_a_deadline_and_goes_on_where_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    queue(site, "take_back")
    status = site.look()
    reported = condition(status, "Progressing")
    assert (status.phase, reported.status, reported.reason) == ("Queued", "True", "WaitsForQueue")
    assert reported.message == "sft: PyTorchJob run-sft-0 waits until its queue lets it in"
    site.now += 4000  # more than both deadlines
    assert site.look().phase == "Queued"
    queue(site, "let_in")
    site.now += 4000
    assert site.look().phase == "Pending", "its time begins when the operator sees that it was let in"
    site.start_child()
    assert site.look().phase == "Running"

    queue(site, "take_back")
    assert site.look().phase == "Queued"
    queue(site, "empty")
    site.now += 4000
    assert site.look().phase == "Queued"
    queue(site, "let_in")
    site.look()
    site.start_child()
    status = site.look()
    (attempt,) = status.of("sft").attempts
    assert (status.phase, attempt.ended, attempt.stopping) == ("Running", None, None)
    assert site.cluster.made == [("PyTorchJob", "run-sft-0")]
    site.now += 3000
    assert site.look().of("sft").attempts[-1].stopping is not None, "attemptSeconds counts from when it was let in last"


def test_a_child_that_is_let_in_and_does_not_start_is_over_its_deadline(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    queue(site, "take_back")
    site.look()
    site.now += 4000
    queue(site, "let_in")
    site.look()
    site.now += 300
    stopping = site.look().of("sft").attempts[0].stopping
    assert stopping is not None and stopping.reason == "DeadlineExceeded"


def test_a_rayjob_with_its_own_cluster_that_is_taken_back_makes_room_for_a_new_attempt(tmp_path: Path) -> None:
    """KubeRay would start it again as soon as it is let in, its old driver or not."""
    site = Site(tmp_path, **without_coldstart(), grpo={"workersPerPod": 2, "cluster": "per-stage"})
    site.commit("sft", 3, final=True)
    site.look(2)
    queue(site, "take_back")
    assert site.look().phase == "Queued", "it was never let in, so nothing of it runs"
    queue(site, "let_in")
    site.look()
    site.start_child()
    site.commit("stage-1", 2, final=False)
    site.look()
    queue(site, "take_back")
    status = site.look()
    assert (status.phase, condition(status, "Progressing").reason) == ("Stopping", "Preempted")
    (lingering,) = site.cluster.processes
    site.cluster.collect()
    site.cluster.processes.append(lingering)  # its RayJob is gone, its pods have their grace period
    assert site.look(2).of("stage-1").attempts_begun == 1, "its driver may still write"
    site.cluster.processes.clear()
    status = site.look(2)
    first, second = status.of("stage-1").attempts
    assert (first.exit_code, first.reason) == (3, "its queue took RayJob run-stage-1-0 back")
    assert (second.from_step, site.cluster.made[-1]) == (2, ("RayJob", "run-stage-1-1"))


def test_a_shared_cluster_waits_in_the_queue_before_any_attempt(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(2)
    queue(site, "take_back")
    site.now += 4000
    status = site.look()
    assert (status.phase, status.of("stage-1").attempts) == ("Queued", [])
    assert condition(status, "Progressing").message == "stage-1: RayCluster run-ray-0 waits until its queue lets it in"


@pytest.mark.parametrize("driver_fails", [False, True])
def test_a_shared_cluster_is_taken_back_and_its_driver_has_not_failed(tmp_path: Path, driver_fails: bool) -> None:
    site = at_step_2(tmp_path)
    queue(site, "take_back")
    if driver_fails:
        site.end_child(1)
    status = site.look()
    assert (status.phase, condition(status, "Progressing").reason) == ("Stopping", "Preempted")
    site.cluster.collect()
    assert site.look().of("stage-1").attempts[-1].ended is None, "its driver may be alive as long as the head is"
    queue(site, "empty")
    status = site.look(3)
    (attempt,) = status.of("stage-1").attempts
    assert (attempt.exit_code, attempt.reason) == (3, "its queue took the RayCluster back")
    assert status.phase == "Queued" and status.of("stage-1").attempts_begun == 1
    queue(site, "let_in")
    site.cluster.ready()
    site.look(3)
    site.start_child()
    status = site.look()
    assert (status.phase, status.of("stage-1").attempts[-1].from_step) == ("Running", 2)
    assert site.cluster.made[1:] == [("RayJob", "run-stage-1-0"), ("RayJob", "run-stage-1-1")]


def test_a_cluster_that_is_back_before_its_attempt_was_over_is_not_trusted(tmp_path: Path) -> None:
    """Taken back and let in again while nobody looked: a driver may run on it."""
    site = at_step_2(tmp_path)
    queue(site, "take_back")
    site.look()
    site.cluster.collect()
    queue(site, "empty")
    queue(site, "let_in")
    site.cluster.ready()
    site.look(2)
    site.cluster.collect()
    site.look(4)
    assert [name for kind, name in site.cluster.made if kind == "RayCluster"] == ["run-ray-0", "run-ray-1"]


def test_a_run_that_is_suspended_while_it_waits_gives_its_place_up(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    queue(site, "take_back")
    site.look()
    site.cluster.change_spec(suspend=True)
    site.look(2)
    site.cluster.collect()
    assert site.look(2).phase == "Suspended"
    assert not [one for _, one in site.cluster.children() if suspended(one)]
