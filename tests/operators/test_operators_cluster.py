"""The RayCluster that stays through the stages: when it is made again, and how long it is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.status import Status
from schedules import SPEC
from site_of_a_run import Site, at_step_2, condition, without_coldstart

from visionr1.rundir.layout import COLDSTART_MANIFEST
from visionr1.storage import StorageError

NEWER = {"image": "trainer:2"}
OWN_CLUSTER = {"grpo": {"workersPerPod": 2, "cluster": "per-stage"}}


def waiting_site(folder: Path) -> Site:
    """A run with a first stage that waits for its RayCluster."""
    site = Site(folder, **without_coldstart())
    site.commit("sft", 3, final=True)
    assert condition(site.look(2), "Progressing").reason == "WaitsForCluster"
    return site


def running_site(folder: Path) -> Site:
    """A run with its first stage running."""
    site = waiting_site(folder)
    site.cluster.ready()
    site.look(2)
    site.start_child()
    assert site.look().phase == "Running"
    return site


def image_of(site: Site, cluster: str) -> Any:
    spec = site.cluster.objects["RayCluster", cluster]["spec"]
    return spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]


def miss_the_deadline(site: Site) -> Status:
    """The wait for the cluster is over its deadline; the cluster goes, and the attempt ends with it."""
    site.now += 300
    site.look(2)
    site.cluster.collect()
    return site.look()


def test_a_cluster_that_waits_for_an_image_that_was_corrected_is_made_anew(tmp_path: Path) -> None:
    site = waiting_site(tmp_path)
    site.cluster.change_spec(pods=NEWER)
    site.look()
    site.cluster.collect()
    site.look(3)
    assert site.cluster.made == [("RayCluster", "run-ray-0"), ("RayCluster", "run-ray-1")]
    assert image_of(site, "run-ray-1") == "trainer:2"


def test_an_image_that_was_changed_in_a_stage_is_for_the_next_one(tmp_path: Path) -> None:
    site = running_site(tmp_path)
    site.cluster.change_spec(pods=NEWER)
    status = site.look(3)
    assert status.phase == "Running" and status.cluster is not None and not status.cluster.deleting, "what trains goes on"
    site.commit("stage-1", 4, final=True)
    site.end_child(0)
    site.look(3)
    site.cluster.collect()
    site.look(2)
    site.cluster.ready()
    site.look(3)
    assert site.cluster.made[2:] == [("RayCluster", "run-ray-1"), ("RayJob", "run-stage-2-0")]
    assert image_of(site, "run-ray-1") == "trainer:2"


def test_a_cluster_stays_as_long_as_nothing_of_it_is_changed(tmp_path: Path) -> None:
    site = running_site(tmp_path)
    site.cluster.change_spec(holdBefore=["evaluate"], retry={"maxAttempts": 2, "firstWaitSeconds": 0})
    site.end_child(1)
    site.look(4)
    assert site.cluster.made[1:] == [("RayJob", "run-stage-1-0"), ("RayJob", "run-stage-1-1")]


def test_a_cluster_of_an_older_operator_stays(tmp_path: Path) -> None:
    """Which did not say what it was made from, nor since when it is not ready."""
    site = waiting_site(tmp_path)
    for key in ("madeAs", "pendingSince"):
        del site.cluster.run["status"]["cluster"][key]
    site.cluster.ready()
    site.look(2)
    assert site.cluster.made == [("RayCluster", "run-ray-0"), ("RayJob", "run-stage-1-0")]


def test_a_cluster_that_does_not_get_ready_is_a_failed_attempt_and_in_the_end_a_failed_run(tmp_path: Path) -> None:
    site = waiting_site(tmp_path)
    status = miss_the_deadline(site)
    (attempt,) = status.of("stage-1").attempts
    assert attempt.reason == "RayCluster run-ray-0 was not ready within deadlines.pendingSeconds (300 s)"
    assert condition(status, "Progressing").reason == "WaitsForRetry" and status.cluster is None
    assert [news.reason for news in site.cluster.events] == ["PhaseComplete", "AttemptStopping", "AttemptEnded"]
    for _ in range(2):
        site.now += 20
        site.look(3)
        status = miss_the_deadline(site)
    assert condition(status, "Failed").message == (
        "stage-1: 3 attempts failed without a new checkpoint; nobody saw how the last one ended (RayCluster run-ray-2 was not "
        "ready within deadlines.pendingSeconds (300 s)); raise spec.restarts to try again"
    )
    assert site.cluster.made == [("RayCluster", f"run-ray-{number}") for number in range(3)], "no RayJob"
    assert not site.cluster.objects


def test_a_cluster_that_was_ready_has_all_its_time_again_when_it_is_so_no_more(tmp_path: Path) -> None:
    site = running_site(tmp_path)
    site.now += 1000
    site.look()
    site.end_child(1)
    site.cluster.objects["RayCluster", "run-ray-0"]["status"] = {}
    site.look()
    site.now += 290
    assert condition(site.look(), "Progressing").reason == "WaitsForCluster"
    assert miss_the_deadline(site).of("stage-1").attempts[1].reason.startswith("RayCluster run-ray-0 was not ready")


def test_a_rayjob_says_what_its_stage_is_and_where_it_begins(tmp_path: Path) -> None:
    def annotations(site: Site, job: str) -> dict[str, str]:
        notes: dict[str, str] = site.cluster.objects["RayJob", job]["metadata"]["annotations"]
        return {key.removeprefix("visionr1.io/"): value for key, value in notes.items()}

    site = running_site(tmp_path)
    stage = {"max-completion-tokens": "8", "group-size": "2", "steps": "4", "tensor-parallel": "1"}
    assert annotations(site, "run-stage-1-0") == {**stage, "from-checkpoint": "sft/step-3"}
    site.commit("stage-1", 2, final=False)
    site.end_child(1)
    (first, _) = site.look(4).of("stage-1").attempts
    assert (first.from_step, first.to_step) == (None, 2), "the history says what each attempt has trained"
    assert first.reason == "AppFailed: Job entrypoint command failed with exit code 1", "and nothing of the driver's log"
    assert not [news for news in site.cluster.events if "logs" in news.message]
    assert annotations(site, "run-stage-1-1") == {**stage, "from-checkpoint": "stage-1/step-2"}
    site.commit("stage-1", 4, final=True)
    site.start_child()
    site.end_child(0)
    site.look(3)
    assert annotations(site, "run-stage-2-0")["from-checkpoint"] == "stage-1/step-4"


def test_a_stage_without_sft_begins_from_the_model(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(sft=None))
    site.look(2)
    site.cluster.ready()
    site.look(3)
    notes = site.cluster.objects["RayJob", "run-stage-1-0"]["metadata"]["annotations"]
    assert notes["visionr1.io/from-checkpoint"] == "demo"


def test_time_in_a_queue_is_no_wait_for_the_cluster(tmp_path: Path) -> None:
    site = waiting_site(tmp_path)
    for kind, one in site.cluster.queueable():
        site.cluster.take_back(kind, one)
    site.look()
    site.now += 4000
    assert site.look().phase == "Queued"
    for kind, one in site.cluster.queueable():
        site.cluster.let_in(kind, one)
    site.look()
    site.now += 290
    assert condition(site.look(), "Progressing").reason == "WaitsForCluster"
    assert miss_the_deadline(site).of("stage-1").attempts[0].stopping is not None


def test_a_driver_with_its_own_cluster_is_asked_to_commit_before_its_rayjob_goes(tmp_path: Path) -> None:
    site = at_step_2(tmp_path, **OWN_CLUSTER)
    site.cluster.change_spec(suspend=True)
    site.look(3)
    (process,) = site.cluster.processes
    assert process.stop_key is not None and site.store.exists(process.stop_key)
    assert site.cluster.children(), "the RayJob, and with it the cluster, stays until the driver has ended"
    site.commit("stage-1", 3, final=False)
    site.end_child(3)
    site.look()
    assert not site.cluster.children()
    site.cluster.collect()
    status = site.look(2)
    (attempt,) = status.of("stage-1").attempts
    assert (status.phase, attempt.exit_code, attempt.to_step) == ("Suspended", 3, 3)

    site.cluster.change_spec(suspend=False)
    site.look(2)
    site.start_child()
    (again,) = site.cluster.processes
    assert again.stop_key is not None and not site.store.exists(again.stop_key), "the next attempt is asked by another name"


def test_a_driver_that_does_not_hear_has_its_time(tmp_path: Path) -> None:
    site = at_step_2(tmp_path, **OWN_CLUSTER)
    site.cluster.change_spec(suspend=True)
    site.look()
    site.now += SPEC["deadlines"]["stopSeconds"] - 5
    site.look()
    assert site.cluster.children()
    site.now += 5
    site.look()
    assert not site.cluster.children()


@pytest.mark.parametrize(
    "state", [{"jobDeploymentStatus": "Initializing"}, {"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING"}]
)
def test_nothing_is_asked_of_a_driver_that_does_not_run_by_its_rayjob(tmp_path: Path, state: dict[str, str]) -> None:
    site = at_step_2(tmp_path, **OWN_CLUSTER)
    site.cluster.children()[0][1]["status"] = state
    site.cluster.change_spec(suspend=True)
    site.look(2)
    assert not site.cluster.children()
    assert not site.store.list("stop")


def test_what_stands_in_the_way_of_the_question_only_costs_the_checkpoint(tmp_path: Path) -> None:
    """Training pods write into the run directory, too."""
    site = at_step_2(tmp_path, **OWN_CLUSTER)
    site.store.write_bytes("stop", b"a file where the folder would be")
    site.cluster.change_spec(suspend=True)
    for _ in range(2):
        with pytest.raises(StorageError):
            site.look()
    reported = condition(site.status, "Progressing")
    assert (reported.reason, "the driver cannot be asked to" in reported.message) == ("Stopping", True)
    site.now += SPEC["deadlines"]["stopSeconds"]
    site.look(2)
    assert not site.cluster.children()
    assert "cannot be asked" not in str(site.look().conditions)


def test_a_driver_that_cannot_be_asked_and_is_deleted_by_hand_leaves_no_message(tmp_path: Path) -> None:
    site = at_step_2(tmp_path, **OWN_CLUSTER)
    site.store.write_bytes("stop", b"")
    site.cluster.change_spec(suspend=True)
    for _ in range(2):
        with pytest.raises(StorageError):
            site.look()
    site.cluster.change_spec(suspend=False)
    with pytest.raises(StorageError):
        site.look()
    reported = condition(site.status, "Progressing")
    assert (site.status.phase, reported.reason) == ("Stopping", "Suspended") and "cannot be asked" in reported.message
    (rayjob,) = [one for _, one in site.cluster.children()]
    rayjob["metadata"]["deletionTimestamp"] = "now"
    for _ in range(4):
        site.look()
        site.cluster.collect()
    assert "cannot be asked" not in str(site.look().conditions)


@pytest.mark.parametrize("changes", [{}, OWN_CLUSTER])
def test_pods_that_outlive_their_objects_are_waited_for(tmp_path: Path, changes: dict[str, Any]) -> None:
    """After `kubectl delete rayjob,raycluster --all --cascade=background`."""
    site = at_step_2(tmp_path, **changes)
    made, site.cluster.fate = list(site.cluster.made), lambda name: "lives on"
    for one in site.cluster.objects.values():
        one["metadata"]["deletionTimestamp"] = "now"
    site.cluster.collect()
    assert not site.cluster.objects and site.cluster.seen()
    for _ in range(5):
        site.now += 20
        status = site.look()
    assert site.cluster.made == made and status.of("stage-1").attempts[-1].ended is None
    site.cluster.grace_is_over()
    site.look(2)
    site.now += 20
    site.look(3)
    assert len(site.cluster.made) == len(made) + 1
    assert site.status.of("stage-1").attempts[0].ended is not None


def test_a_cold_start_with_workers_has_a_rayjob_and_is_asked_to_stop_before_it_goes(tmp_path: Path) -> None:
    teacher: dict[str, Any] = {"base_url": None, "model": "demo", "workers": {}}
    coldstart = {"problems": {"path": "demo://digits/train"}, "describer": teacher}
    recipe = {**SPEC["recipe"], "coldstart": coldstart}
    site = Site(tmp_path, recipe=recipe)
    site.look(2)
    site.start_child()
    status = site.look(2)
    (attempt,) = status.of("coldstart").attempts
    assert (attempt.kind, attempt.own_cluster, attempt.name) == ("RayJob", True, "run-coldstart-0")
    site.cluster.change_spec(suspend=True)
    site.look(3)
    (process,) = site.cluster.processes
    assert process.stop_key is not None and site.store.exists(process.stop_key)
    site.end_child(3)
    site.look()
    site.cluster.collect()
    assert site.look(2).phase == "Suspended" and not site.cluster.children()
    site.cluster.change_spec(suspend=False)
    site.look(2)
    site.start_child()
    site.store.write_bytes(COLDSTART_MANIFEST, b'{"samples": 1}')
    site.end_child(0)
    status = site.look(4)
    assert status.of("coldstart").complete and status.of("sft").attempts, "its cluster goes, and SFT begins"
