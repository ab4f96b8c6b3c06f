"""One operator, look by look: what it writes, says and shows."""

from __future__ import annotations

import json
import math
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ptst_operator.api import ApiError, NameTaken
from ptst_operator.api_watch import run_of
from ptst_operator.look import driver
from ptst_operator.spec import Spec, Storage, resolve_recipe
from ptst_operator.status import read_status
from ptst_operator.world import Progress
from pydantic import ValidationError
from schedules import RECIPE, STAGE
from site_of_a_run import Site, condition, without_coldstart

from visionr1.rundir.layout import COLDSTART_MANIFEST
from visionr1.storage import StorageError, open_store


def test_the_name_is_written_before_the_child_is_made(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    status = site.look()
    assert status.of("sft").attempts[0].name == "run-sft-0"
    assert site.cluster.made == []
    site.look()
    assert site.cluster.made == [("PyTorchJob", "run-sft-0")]
    assert (tmp_path / "run/recipe.yaml").exists(), "pods read the recipe there"


def test_the_kind_of_sft_is_what_the_cluster_has_when_an_attempt_begins(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.cluster.served = set()
    reported = condition(site.look(), "Progressing")
    assert reported.reason == "WaitsForBackend" and "PyTorchJob comes with the training-operator v1" in reported.message
    assert "TrainJob with Kubeflow Trainer v2" in reported.message and site.cluster.made == []
    site.cluster.served = {"TrainJob"}
    assert site.look().of("sft").attempts[0].kind == "TrainJob"
    site.cluster.served = {"PyTorchJob", "TrainJob"}
    site.look()
    assert site.cluster.made == [("TrainingRuntime", "run-sft-0"), ("TrainJob", "run-sft-0")], "what the status says"
    site.start_child()
    site.look()
    site.end_child(1)
    site.look()
    site.now += 10
    site.look(2)
    assert site.cluster.made[2:] == [("PyTorchJob", "run-sft-1")], "auto takes it first"


def test_a_run_may_ask_for_one_kind_of_sft(tmp_path: Path) -> None:
    site = Site(tmp_path, sft={"backend": "trainjob"}, **without_coldstart())
    assert condition(site.look(), "Progressing").reason == "WaitsForBackend"
    site.cluster.served = {"PyTorchJob", "TrainJob"}
    site.look(2)
    assert site.cluster.made == [("TrainingRuntime", "run-sft-0"), ("TrainJob", "run-sft-0")]


def test_a_trainjob_that_is_gone_has_ended_only_once_its_pods_have(tmp_path: Path) -> None:
    site = Site(tmp_path, sft={"backend": "trainjob"}, **without_coldstart())
    site.cluster.served = {"TrainJob"}
    site.look(2)
    site.start_child()
    site.look()
    site.cluster.change_spec(suspend=True)
    site.look()
    site.cluster.collect()
    assert site.cluster.children() == [] and site.cluster.processes, "it goes before its pods"
    assert site.look().phase == "Stopping"
    site.cluster.collect()
    assert site.look(2).phase == "Suspended"


def test_an_exit_without_the_final_checkpoint_is_a_failure_and_a_checkpoint_without_an_exit_is_success(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    site.end_child(0)
    status = site.look()
    assert condition(status, "Progressing").reason == "WaitsForRetry"
    assert "the next attempt at sft starts at 1970-01-12T" in condition(status, "Progressing").message
    site.now += 5
    site.look(2)
    site.start_child()
    site.look()
    site.commit("sft", 3, final=True)
    site.end_child(1)
    status = site.look(2)
    assert status.of("sft").complete
    assert status.stage == "stage-1"
    assert status.cluster is not None and status.cluster.name == "run-ray-0"


def test_a_recipe_that_cannot_be_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe={**RECIPE, "algorithm": {"prompts_per_step": 15}})
    status = site.look(3)
    reported = condition(status, "RecipeValid")
    assert (reported.status, reported.message) == (
        "False",
        "spec.recipe: algorithm.prompts_per_step (15) is not a multiple of rollout.workers (2)",
    )
    assert site.cluster.made == [] and site.cluster.objects == {}
    assert [(news.kind, news.reason) for news in site.cluster.events] == [("Warning", "Invalid")]
    site.cluster.change_spec(**without_coldstart())
    assert condition(site.look(), "RecipeValid").status == "True"


def test_an_evaluation_that_a_new_stage_has_made_fail_is_forgiven(tmp_path: Path) -> None:
    """Its pod starts late, finds a recipe with a stage that has no checkpoint, and calls it bad."""
    site = Site(tmp_path, **without_coldstart(stages=[STAGE]))
    site.commit("sft", 3, final=True)
    site.commit("stage-1", 4, final=True)
    site.look(2)
    assert site.cluster.made == [("Job", "run-evaluate-0")]
    site.cluster.change_spec(**without_coldstart(stages=[STAGE, STAGE]))
    site.look()
    site.start_child()
    site.end_child(64)
    status = site.look(2)
    assert status.phase == "Pending" and status.stage == "stage-2"
    site.commit("stage-2", 8, final=True)
    site.look(2)
    site.cluster.collect()
    site.look(3)
    assert ("Job", "run-evaluate-1") in site.cluster.made, "it is tried again, on the new checkpoint"


@pytest.mark.parametrize(
    ("answered", "ended", "newer", "kept"),
    [(True, False, True, True), (True, True, False, False), (True, None, True, False), (True, None, False, True)]
    + [(False, True, False, True), (False, True, True, False)],
    ids=["a commit that was due", "nothing left to commit", "it cannot be asked, committed", "it cannot be asked"]
    + ["it never answered there", "it never answered there, committed"],
)
def test_a_cluster_is_kept_until_the_driver_that_was_asked_to_stop_has_ended(
    answered: bool, ended: bool | None, newer: bool, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "driver_has_ended", lambda address: ended)
    monkeypatch.setattr(driver, "ask_driver", lambda address, stage: Progress() if answered else None)
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(2)
    site.cluster.ready()
    site.cluster.objects["RayCluster", "run-ray-0"]["status"]["head"] = {"podIP": "127.0.0.1"}
    site.look(2)
    site.start_child()
    site.commit("stage-1", 2, final=False)
    site.look()
    site.cluster.change_spec(suspend=True)
    site.look()
    if newer:
        site.commit("stage-1", 3, final=False)
    site.cluster.collect()
    site.look(3)
    assert ("deletionTimestamp" in site.cluster.objects["RayCluster", "run-ray-0"]["metadata"]) != kept
    site.now += 60
    site.look()
    assert "deletionTimestamp" in site.cluster.objects["RayCluster", "run-ray-0"]["metadata"], "stopSeconds are over"


def test_a_driver_whose_rayjob_nobody_has_seen_ends_with_its_cluster(tmp_path: Path) -> None:
    """Made, begun and deleted by hand between two looks; found by the schedules."""
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(2)
    site.cluster.ready()
    site.look(2)
    site.start_child()
    del site.cluster.objects["RayJob", "run-stage-1-0"]
    site.cluster.change_spec(suspend=True)
    status = site.look(2)
    assert status.of("stage-1").attempts[0].ended is None and site.cluster.processes, "its driver runs"
    site.cluster.collect()
    assert site.look(2).phase == "Suspended" and not site.cluster.processes


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_driver_that_listens_no_more_has_ended(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        address = listening.getsockname()[:2]
        assert driver.driver_has_ended(address) is False, "whatever it would answer"
    assert driver.driver_has_ended(address) is True
    assert driver.driver_has_ended(("no-such-host.invalid", 9464)) is None


def test_a_change_of_what_has_begun_is_refused_and_what_runs_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    site.store.write_bytes("phases/sft/attempt-0/log.txt", b"")
    site.cluster.change_spec(**without_coldstart(seed=2))
    status = site.look()
    assert "seed: 1 in the run, 2 in this recipe" in condition(status, "RecipeValid").message
    assert status.phase == "Running" and len(site.cluster.processes) == 1
    assert {status.observed_generation, *(one.observed_generation for one in status.conditions)} == {2}
    site.cluster.change_spec(**without_coldstart(stages=[STAGE, STAGE, STAGE]))
    assert condition(site.look(), "RecipeValid").status == "True", "stages may be added"


@pytest.mark.parametrize("owner", ["another-run", None])
def test_an_object_of_somebody_else_with_the_name_of_a_child_is_left_alone(owner: str | None, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), sft={"backend": "trainjob"})
    owners = [] if owner is None else [{"controller": True, "uid": owner}]
    other = {"kind": "TrainingRuntime", "metadata": {"name": "run-sft-0", "uid": "x", "ownerReferences": owners}, "spec": {}}
    site.cluster.objects["TrainingRuntime", "run-sft-0"] = other
    site.cluster.served = {"TrainJob"}
    for _ in range(3):
        with suppress(NameTaken):
            site.look()
    assert site.cluster.objects["TrainingRuntime", "run-sft-0"] is other and not site.cluster.children()
    message = condition(site.status, "Progressing").message
    assert "TrainingRuntime run-sft-0 exists and is not of this run; delete it, or give the run another name" in message


@pytest.mark.parametrize("url", ["s3://bucket/../other", "/runs/../etc", "/runs/a/.."])
def test_a_run_directory_outside_its_mount_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="it must not contain '..'"):
        Storage.model_validate({"url": url})


def test_what_the_api_server_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())

    def refuse(call: str) -> None:
        if call == "apply":
            raise ApiError(403, 'pods "x" is forbidden: exceeded quota')

    site.look()
    site.cluster.before_call = refuse
    for _ in range(2):
        with suppress(ApiError):
            site.look()
    site.cluster.before_call = lambda call: None
    status = read_status(site.cluster.run)
    assert condition(status, "Progressing").reason == "ChildRefused"
    assert (status.phase, condition(status, "Reconciling").status) == ("Pending", "True"), "nothing of it runs"
    assert "PyTorchJob run-sft-0: pods" in condition(status, "Progressing").message
    site.look(2)
    assert condition(site.look(), "Progressing").reason != "ChildRefused"


def test_a_run_directory_that_cannot_be_read_is_said_and_tried_again(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    before = site.look()

    def unreadable(url: str) -> Any:
        raise StorageError(f"{url}: no answer; check the endpoint")

    site.operator.store = unreadable
    with pytest.raises(StorageError):
        site.look()
    status = read_status(site.cluster.run)
    assert condition(status, "Progressing").reason == "StorageUnavailable"
    assert "no answer; check the endpoint" in condition(status, "Progressing").message
    assert status.phases == before.phases and len(site.cluster.processes) == 1, "what runs goes on"
    site.operator.store = open_store
    assert condition(site.look(), "Progressing").reason == "Running"


def test_events_tell_the_story_in_order(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), holdBefore=["stage-1"])
    site.look(2)
    site.start_child()
    site.commit("sft", 3, final=True)
    site.look()
    site.end_child(0)
    site.look(2)
    assert [news.message for news in site.cluster.events] == [
        "Started attempt 0 of sft: PyTorchJob run-sft-0",
        "sft is done: its final checkpoint or output is committed",
        "Attempt 0 of sft ended: Succeeded",
        "stage-1 waits for your approval; to start it: "
        "kubectl -n default annotate ptst run --overwrite visionr1.io/approve=stage-1",
    ]


def test_a_run_that_goes_on_with_more_workers_gets_a_cluster_for_them(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(2)
    site.cluster.change_spec(**without_coldstart(rollout={"workers": 4}))
    cluster = site.look().cluster
    assert cluster is not None and cluster.deleting
    site.cluster.collect()
    cluster = site.look(4).cluster
    assert cluster is not None and (cluster.name, cluster.workers) == ("run-ray-1", 4)
    assert site.cluster.made == [("RayCluster", "run-ray-0"), ("RayCluster", "run-ray-1")]


def test_the_numbers_shown_are_of_the_step_that_is_shown(tmp_path: Path) -> None:
    """The driver is gone before anybody has asked for its last step: that step's numbers are in the step log."""
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(2)
    records: list[dict[str, Any]] = [
        {"phase": "stage-1", "step": step, "reward_mean": step / 10, "completion_tokens_mean": 8.0 * step, "kl_mean": math.nan}
        | {"step_seconds": {"rollout": 3.0, "update": 1.0}}
        for step in (1, 2, 3)
    ]
    site.store.write_bytes("steps.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())
    site.commit("stage-1", 2, final=False)
    status = site.look()
    assert (status.step, status.reward, status.length, status.kl) == (2, 0.2, 16.0, None)
    group = resolve_recipe(Spec.model_validate(site.cluster.run["spec"]), "run").algorithm.prompts_per_step * 2
    assert status.tokens_per_second_per_gpu == 16.0 * group / 4 / 2
    records[-1] |= {"reward_mean": None, "completion_tokens_mean": 10**400}
    site.store.write_bytes("steps.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())
    site.commit("stage-1", 3, final=False)
    status = site.look()
    assert (status.step, status.reward, status.length) == (3, None, None), "none of step 2's stays"
    site.store.write_bytes("steps.jsonl", b"not a record\n{}\n")
    site.commit("stage-1", 4, final=False)
    assert (site.look().step, condition(status, "RecipeValid").status) == (3, "True"), "a damaged log hides numbers, no more"


def test_a_child_of_an_earlier_run_of_the_same_name_is_waited_for(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    old = {
        "kind": "PyTorchJob",
        "metadata": {"name": "run-sft-0", "uid": "old", "ownerReferences": [{"controller": True, "uid": "other"}]},
    }
    site.cluster.objects["PyTorchJob", "run-sft-0"] = old
    status = site.look(3)
    assert site.cluster.made == []
    assert status.of("sft").attempts[0].uid is None
    del site.cluster.objects["PyTorchJob", "run-sft-0"]
    site.look()
    assert site.cluster.made == [("PyTorchJob", "run-sft-0")]


def test_cold_start_data_is_done_by_its_manifest(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.store.write_bytes(COLDSTART_MANIFEST, b"{}")
    status = site.look()
    assert status.of("coldstart").complete and status.of("sft").attempts[0].name == "run-sft-0"


def test_the_series_of_a_run_go_with_it(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)

    def shown() -> set[str]:
        return {
            sample.labels["run"] for one in site.metrics.registry.collect() for sample in one.samples if "run" in sample.labels
        }

    assert shown() == {"run"}
    site.cluster.run["metadata"]["deletionTimestamp"] = "now"
    assert site.operator.reconcile("run") == math.inf
    assert shown() == set()


def test_objects_of_others_wake_nobody() -> None:
    assert run_of("PTSTRun", {"metadata": {"name": "a", "namespace": "n"}}) == "n/a"
    assert run_of("RayJob", {"metadata": {"name": "x", "namespace": "n", "labels": {"visionr1.io/run": "a"}}}) == "n/a"
    assert run_of("RayJob", {"metadata": {"name": "x"}}) is None
