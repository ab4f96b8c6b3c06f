"""Gates: a stage that does not look as it must holds, stops or rolls back the run, and a person lets it go on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from ptst_operator import act
from ptst_operator.look.gates import breaches, first_breach
from ptst_operator.spec import Gate
from ptst_operator.status import Status, read_status
from schedules import STAGE
from site_of_a_run import Site, condition, without_coldstart

from visionr1.errors import Fenced
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import newest_epoch
from visionr1.rundir.rollback import Rollback
from visionr1.storage import NotFound, StorageError

STOP = {"metric": "reward_mean", "steps": 2, "min": 0.5, "action": "Stop"}
BACK = {**STOP, "action": "Rollback"}


def test_a_gate_holds_the_next_stage_and_says_why(tmp_path: Path) -> None:
    gates = [{"metric": "reward_mean", "steps": 2, "min": 0.5}, {"metric": "kl_mean", "steps": 2, "max": 1}]
    site = Site(tmp_path, **without_coldstart(), gates=gates)
    records = [{"phase": "stage-1", "step": step, "reward_mean": 0.1 * step, "kl_mean": 0.0} for step in (1, 2, 3, 4)]
    site.store.write_bytes("steps.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())
    site.commit("sft", 3, final=True)
    site.commit("stage-1", 4, final=True)
    status = site.look(3)
    assert status.phase == "Held" and site.cluster.made == []
    held = condition(status, "Held")
    assert held.reason == "GateBreached"
    assert held.message.startswith(
        "reward_mean of stage-1 is 0.35 over its last 2 steps, less than 0.5; to start stage-2 all the same"
    )
    site.cluster.annotate("visionr1.io/approve", "stage-2")
    site.look(2)
    assert site.cluster.made == [("RayCluster", "run-ray-0")]


@pytest.mark.parametrize(
    ("gate", "lines"),
    [
        ({"metric": "reward_mean", "min": 0.5}, ()),
        ({"metric": "reward_mean", "max": 0.5}, ("reward_mean of stage-1 is 0.6 over its last 2 steps, more than 0.5",)),
        (
            {"metric": "reward_mean", "steps": 1, "min": 0.75},
            ("reward_mean of stage-1 is 0.7 over its last 1 steps, less than 0.75",),
        ),
        ({"metric": "kl_mean", "max": 1}, ("stage-1 has no kl_mean in steps.jsonl",)),
    ],
)
def test_a_gate_is_a_mean_over_the_stage_s_last_steps(gate: dict[str, Any], lines: tuple[str, ...]) -> None:
    records = [
        {"phase": "sft", "reward_mean": 9.0},
        {"phase": "stage-1", "reward_mean": 0.5, "kl_mean": None},
        {"phase": "stage-1", "reward_mean": 0.7, "kl_mean": math.nan},
    ]
    assert breaches([Gate.model_validate(gate)], records, "stage-1") == lines


def gates_of(*gates: dict[str, Any]) -> list[Gate]:
    return [Gate.model_validate(gate) for gate in gates]


def record(step: int, reward: float, phase: str = "stage-1") -> dict[str, Any]:
    return {"phase": phase, "step": step, "reward_mean": reward}


def test_a_gate_of_a_running_stage_waits_for_its_steps_and_looks_at_no_later_ones() -> None:
    records = [record(1, 0.1), record(2, 0.2), record(3, 0.9), record(4, 0.9)]
    (gate,) = gates_of(STOP)
    assert first_breach([gate], records, "stage-1", 0, 1, done=False) is None, "one step of the two that it looks at"
    assert first_breach([gate], records, "stage-1", 0, 1, done=True) is not None, "there will be no more"
    found = first_breach([gate], records, "stage-1", 0, 2, done=False)
    assert found is not None and found.to is None
    assert found.message == "reward_mean of stage-1 is 0.15 over its last 2 steps, less than 0.5"
    assert first_breach([gate], records, "stage-1", 0, 4, done=False) is None
    assert first_breach(gates_of({**STOP, "action": "Hold"}), records, "stage-1", 0, 2, done=False) is None


def test_going_back_wins_over_stopping() -> None:
    records = [record(101, 0.1, "stage-2"), record(102, 0.1, "stage-2")]
    found = first_breach(gates_of(STOP, BACK), records, "stage-2", 100, 102, done=False)
    assert found is not None and found.to == Rollback("stage-2", 100), "without a name: to where the stage began"
    found = first_breach(gates_of(STOP, {**BACK, "rollbackTo": "stage-1/step-80"}), records, "stage-2", 100, 102, done=False)
    assert found is not None and found.to == Rollback("stage-1", 80)


def log(site: Site, *records: dict[str, Any]) -> None:
    site.store.write_bytes("steps.jsonl", "".join(json.dumps(one) + "\n" for one in records).encode())


def stage_1_runs(folder: Path, *gates: dict[str, Any]) -> Site:
    """A run with a first stage that has begun."""
    site = Site(folder, **without_coldstart(), gates=list(gates))
    site.commit("sft", 3, final=True)
    begin(site)
    assert site.cluster.processes[0].phase == "stage-1"
    return site


def begin(site: Site) -> None:
    site.look(2)
    site.cluster.ready()
    site.look(3)
    site.start_child()
    site.look()


def end(site: Site) -> Status:
    """What was asked to stop ends, and everything that is deleted goes."""
    for _ in range(6):
        site.look()
        site.now += 100
        site.cluster.collect()
    return site.look()


def test_a_gate_stops_a_stage_in_its_middle_until_a_person_lets_it_go_on(tmp_path: Path) -> None:
    site = stage_1_runs(tmp_path, STOP)
    log(site, record(1, 0.9), record(2, 0.0))
    site.commit("stage-1", 2, final=False)
    status = site.look(2)
    assert (status.phase, condition(status, "Progressing").reason) == ("Stopping", "GateBreached")
    status = end(site)
    assert status.phase == "Held" and status.cluster is None and not site.cluster.processes, "its GPUs are given back"
    held = condition(status, "Held")
    assert held.reason == "GateBreached"
    assert held.message == (
        "reward_mean of stage-1 is 0.45 over its last 2 steps, less than 0.5; to continue stage-1 all the same: "
        "kubectl -n default annotate ptst run --overwrite visionr1.io/approve=breach-0"
    )
    assert Checkpoints(site.store, "stage-1").steps() == [2], "nothing is taken back"
    site.cluster.annotate("visionr1.io/approve", "stage-1")
    assert site.look(3).phase == "Held", "that lets a phase begin, it does not answer this gate"
    site.cluster.annotate("visionr1.io/approve", "breach-0")
    begin(site)
    log(site, record(1, 0.9), record(2, 0.0), record(3, 0.0))
    site.commit("stage-1", 3, final=False)
    status = site.look(3)
    assert status.phase == "Running" and status.of("stage-1").attempts[-1].number == 1, "this stage's gates do not stop it again"
    assert [one.exit_code for one in status.of("stage-1").attempts] == [3, None], "no failure"


def test_a_suspended_run_that_a_gate_has_stopped_says_so_and_is_held_after(tmp_path: Path) -> None:
    site = stage_1_runs(tmp_path, STOP)
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 2, final=False)
    site.look()
    site.cluster.change_spec(suspend=True)
    assert end(site).phase == "Suspended"
    site.cluster.change_spec(suspend=False)
    assert site.look(3).phase == "Held"


def test_a_rollback_takes_everything_after_the_checkpoint_back_and_opens_its_stages_again(tmp_path: Path) -> None:
    site = stage_1_runs(tmp_path, {**BACK, "rollbackTo": "stage-1/step-2"})
    good = [record(step, 0.9) for step in (1, 2, 3, 4)]
    log(site, *good)
    site.commit("stage-1", 2, final=False)
    site.look()
    site.commit("stage-1", 4, final=True)
    site.end_child(0)
    site.look()
    begin(site)
    assert site.cluster.processes[0].phase == "stage-2"
    log(site, *good, record(5, 0.0, "stage-2"), record(6, 0.0, "stage-2"))
    site.commit("stage-2", 6, final=False)
    status = end(site)
    assert status.phase == "Held" and condition(status, "Held").reason == "RolledBack"
    assert "the run went back to stage-1 at step 2; change the recipe if needed, then: " in condition(status, "Held").message
    assert (Checkpoints(site.store, "stage-1").steps(), Checkpoints(site.store, "stage-2").folders()) == ([2], [])
    assert [json.loads(line)["step"] for line in site.store.read_bytes("steps.jsonl").splitlines()] == [1, 2]
    kept = site.store.read_bytes("rolled-back/run-uid-0/steps.jsonl").splitlines()
    assert [json.loads(line)["step"] for line in kept] == [3, 4, 5, 6], "no record is lost"
    assert (status.of("stage-1").committed_step, status.of("stage-1").complete, status.stage) == (2, False, "stage-1")
    assert (status.of("stage-2").committed_step, status.stages_begun, status.step, status.reward) == (None, 1, 2, 0.9)

    site.cluster.change_spec(
        recipe={**site.cluster.run["spec"]["recipe"], "stages": [STAGE, {**STAGE, "carry": "weights+optimizer"}]}
    )
    site.cluster.annotate("visionr1.io/approve", "breach-0")
    begin(site)
    status = site.look()
    assert condition(status, "RecipeValid").status == "True", "stage 2 has not begun any more"
    assert status.of("stage-1").attempts[-1].from_step == 2 and site.cluster.processes[0].phase == "stage-1"
    log(site, *good[:2], record(3, 0.0), record(4, 0.0))
    site.commit("stage-1", 4, final=True)
    status = end(site)
    assert condition(status, "Held").reason == "RolledBack" and "approve=breach-1" in condition(status, "Held").message
    assert Checkpoints(site.store, "stage-1").steps() == [2], "a rolled back run is looked at as before"


def test_a_rollback_to_where_a_stage_began_and_one_to_nowhere(tmp_path: Path) -> None:
    site = stage_1_runs(tmp_path / "a", BACK)
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 2, final=False)
    status = end(site)
    assert condition(status, "Held").reason == "RolledBack" and status.stages_begun == 0
    assert Checkpoints(site.store, "stage-1").steps() == [] and Checkpoints(site.store, "sft").steps() == [3]
    nowhere = stage_1_runs(tmp_path / "b", {**BACK, "rollbackTo": "stage-1/step-1"})
    log(nowhere, record(1, 0.0), record(2, 0.0))
    nowhere.commit("stage-1", 2, final=False)
    status = end(nowhere)
    assert condition(status, "Held").reason == "GateBreached"
    assert (
        "the rollback is not possible: checkpoints/stage-1/step-1 is not there (there are: 2)"
        in condition(status, "Held").message
    )
    assert Checkpoints(nowhere.store, "stage-1").steps() == [2]


def test_a_rollback_that_is_cut_short_is_ended_by_the_next_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = stage_1_runs(tmp_path, BACK)
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 1, final=False)
    site.look()
    site.commit("stage-1", 2, final=False)
    removed: list[int] = []

    def remove(self: Checkpoints, step: int) -> None:
        if removed:
            raise KeyboardInterrupt("killed")
        removed.append(step)
        original(self, step)

    original = Checkpoints.remove
    monkeypatch.setattr(Checkpoints, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        end(site)
    assert removed == [2] and Checkpoints(site.store, "stage-1").folders() == [1], "the newest went first"
    monkeypatch.setattr(Checkpoints, "remove", original)
    status = end(site)
    assert condition(status, "Held").reason == "RolledBack" and Checkpoints(site.store, "stage-1").steps() == []
    assert len(site.store.read_bytes("rolled-back/run-uid-0/steps.jsonl").splitlines()) == 2


def test_a_checkpoint_that_the_last_commit_has_pruned_is_not_gone_back_to(tmp_path: Path) -> None:
    """Found by reading: the driver commits once more when it is stopped, and keeps the newest few."""
    site = stage_1_runs(tmp_path, {**BACK, "rollbackTo": "stage-1/step-1"})
    site.commit("stage-1", 1, final=False)
    site.look()
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 2, final=False)
    site.look()
    site.commit("stage-1", 3, final=False)
    Checkpoints(site.store, "stage-1").remove(1)
    status = end(site)
    held = condition(status, "Held")
    assert (
        held.reason == "GateBreached" and "the rollback is not possible: checkpoints/stage-1/step-1 is not there" in held.message
    )
    assert Checkpoints(site.store, "stage-1").steps() == [2, 3], "nothing is deleted"


def test_what_an_earlier_run_has_left_is_not_judged(tmp_path: Path) -> None:
    """A run that is made again on the same directory: its person has seen those stages."""
    site = Site(tmp_path, **without_coldstart(), gates=[BACK])
    log(site, *(record(step, 0.0) for step in (1, 2, 3, 4)))
    site.commit("sft", 3, final=True)
    site.commit("stage-1", 4, final=True)
    status = site.look(3)
    assert status.breach is None and Checkpoints(site.store, "stage-1").steps() == [4]


def test_a_stage_of_an_earlier_run_is_taken_back_whole(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), gates=[{**BACK, "rollbackTo": "stage-1/step-2"}])
    good = [record(step, 0.9) for step in (1, 2, 3, 4)]
    log(site, *good)
    site.commit("sft", 3, final=True)
    site.commit("stage-1", 2, final=False)
    site.commit("stage-1", 4, final=True)
    begin(site)
    log(site, *good, record(5, 0.0, "stage-2"), record(6, 0.0, "stage-2"))
    site.commit("stage-2", 6, final=False)
    status = end(site)
    assert condition(status, "Held").reason == "RolledBack"
    assert (status.of("stage-1").committed_step, status.of("stage-1").complete, status.stage) == (2, False, "stage-1")
    assert status.stages_begun == 1, "it has a checkpoint, so it stays frozen"


def test_a_score_of_a_checkpoint_that_stays_stays(tmp_path: Path) -> None:
    site = stage_1_runs(tmp_path, {**BACK, "rollbackTo": "stage-1/step-4"})
    good = [record(step, 0.9) for step in (1, 2, 3, 4)]
    log(site, *good)
    site.commit("stage-1", 4, final=True)
    site.end_child(0)
    site.store.write_bytes("eval/stage-1.json", b'{"step": 4}')
    site.store.write_bytes("eval/stage-2.json", b'{"step": 6}')
    begin(site)
    log(site, *good, record(5, 0.0, "stage-2"), record(6, 0.0, "stage-2"))
    site.commit("stage-2", 6, final=False)
    assert condition(end(site), "Held").reason == "RolledBack"
    assert site.store.exists("eval/stage-1.json") and not site.store.exists("eval/stage-2.json")


def test_a_rollback_that_the_storage_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = stage_1_runs(tmp_path, BACK)
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 2, final=False)

    def refuse(self: Checkpoints, step: int) -> None:
        raise StorageError("s3://bucket/run: you may not delete")

    monkeypatch.setattr(Checkpoints, "remove", refuse)
    with pytest.raises(StorageError):
        end(site)
    with pytest.raises(StorageError):
        site.look()
    status = read_status(site.cluster.run)
    assert (
        "the run goes back to stage-1 at step 0: s3://bucket/run: you may not delete" in condition(status, "Progressing").message
    )
    begun = newest_epoch(site.store)
    with pytest.raises(StorageError):
        site.look()
    assert newest_epoch(site.store) == begun, "each look reads the records of all epochs after the newest checkpoint's"
    monkeypatch.undo()
    assert condition(site.look(3), "Held").reason == "RolledBack"


def test_a_rollback_that_waits_for_pods_names_them(tmp_path: Path) -> None:
    site = stage_1_runs(tmp_path, BACK)
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 2, final=False)
    labels = {"visionr1.io/run": "run"}
    site.cluster.waiting_pods = [{"metadata": {"name": "old", "labels": labels}, "spec": {"nodeName": "gpu-7"}, "status": {}}]
    said = condition(end(site), "Progressing")
    assert (
        said.reason == "RollingBack" and "goes back to stage-1 at step 0; pod old on node gpu-7 may still run; " in said.message
    )
    site.cluster.waiting_pods.clear()
    assert condition(end(site), "Held").reason == "RolledBack"


@pytest.mark.parametrize("error", [Fenced("run: another attempt took this run over"), NotFound("epochs/2.json")])
def test_a_rollback_that_another_one_overtakes_is_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = stage_1_runs(tmp_path, BACK)
    log(site, record(1, 0.0), record(2, 0.0))
    site.commit("stage-1", 2, final=False)

    def overtaken(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(act, "roll_back", overtaken)
        end(site)
    assert str(error) in condition(site.look(), "Progressing").message
    assert condition(site.look(3), "Held").reason == "RolledBack"
