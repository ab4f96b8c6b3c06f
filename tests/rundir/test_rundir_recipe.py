"""Which changes of a recipe a run that has begun allows, and what its directory says about each phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionr1.errors import BadInput
from visionr1.recipe import load_recipe, phases
from visionr1.rundir.attempts import AttemptRecord, attempts, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.committed import Committed, committed
from visionr1.rundir.layout import COLDSTART_MANIFEST, eval_key
from visionr1.rundir.recipe import MAY_CHANGE, adopt_recipe, difference, read_recipe
from visionr1.storage import Store, open_store

DEMO = load_recipe("demo")
STAGE = "{max_completion_tokens: 8, group_size: 2, steps: 1}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


ALLOWED = [
    [],
    ["stages.2.steps=5"],
    ["stages.1.steps=5", "stages.2.steps=5"],
    ["rollout.workers=1", "sft.processes=1", "reward.processes=3"],
    ["stages.1.steps=5", "stages.1.group_size=2", "stages.2.max_completion_tokens=500"],
    ["rollout.workers=4", "stages.0.tensor_parallel=2", "stages.2.tensor_parallel=4"],
    ["optimiser.zero_stage=3", "optimiser.micro_batch_tokens=512", "rollout.gpu_memory_utilization=0.4"],
    ["metrics.port=9999", "metrics.host=0.0.0.0", "checkpoint.every=2", "checkpoint.keep_last=9"],
]


@pytest.mark.parametrize("changes", ALLOWED)
def test_allowed_changes(changes: list[str]) -> None:
    assert difference(DEMO, load_recipe("demo", changes), {"coldstart", "sft", "stage-1"}) == []


def test_stages_may_be_appended() -> None:
    more = load_recipe("demo", [f"stages=[{STAGE}, {STAGE}]"])
    fewer = load_recipe("demo", [f"stages=[{STAGE}]"])
    assert difference(fewer, more, {"stage-1"}) == []
    assert difference(more, fewer, {"stage-1"}) == [], "it has not begun"
    assert difference(more, fewer, {"stage-1", "stage-2"}) == ["stages.1: in the run, but not in this recipe"]


REFUSED = [
    ("stages.0.steps=5", ["stages.0.steps: 24 in the run, 5 in this recipe"]),
    ("stages.0.group_size=8", ["stages.0.group_size: 16 in the run, 8 in this recipe"]),
    ("model.base=an/other", ['model.base: "demo" in the run, "an/other" in this recipe']),
    ("data.held_out=null", ["data.held_out: a group of values in the run, null in this recipe"]),
    ("rollout.engine=hf", ['rollout.engine: "vllm" in the run, "hf" in this recipe']),
    ("algorithm.prompts_per_step=8", ["algorithm.prompts_per_step: 16 in the run, 8 in this recipe"]),
    ("data.train.limit=1400", ["data.train.limit: 1500 in the run, 1400 in this recipe"]),
    ("reward.seconds_per_answer=1", ["reward.seconds_per_answer: 5.0 in the run, 1.0 in this recipe"]),
    ("optimiser.betas=[0.9, 0.95]", ["optimiser.betas: [0.9, 0.999] in the run, [0.9, 0.95] in this recipe"]),
]


@pytest.mark.parametrize(("change", "lines"), REFUSED)
def test_refused_changes_are_named(change: str, lines: list[str]) -> None:
    assert difference(DEMO, load_recipe("demo", [change]), {"stage-1"}) == lines


def test_a_fewer_workers_recipe_replaces_the_runs_own_and_all_else_is_refused(store: Store) -> None:
    """What a person does who has lost a machine: visionr1 run --run DIR --set rollout.workers=1."""
    adopt_recipe(store, DEMO)
    commit(store, "stage-1", 5)
    adopt_recipe(store, load_recipe("demo", ["rollout.workers=1"]))
    assert read_recipe(store).rollout.workers == 1
    with pytest.raises(BadInput) as refused:
        adopt_recipe(store, load_recipe("demo", ["rollout.workers=4", "seed=2", "algorithm.kl_beta=0.5"]))
    assert str(refused.value).splitlines()[1:] == [
        "  seed: 1 in the run, 2 in this recipe",
        "  algorithm.kl_beta: 0.01 in the run, 0.5 in this recipe",
    ]
    assert read_recipe(store).rollout.workers == 1


@pytest.mark.parametrize("path", sorted(MAY_CHANGE))
def test_what_may_change_is_in_the_recipe(path: str) -> None:
    value = DEMO.model_dump()
    for name in path.split("."):
        value = value[name]


def commit(store: Store, phase: str, step: int, **state: bool) -> None:
    checkpoints = Checkpoints(store, phase)
    checkpoints.staging(step)
    checkpoints.commit(step, [], state)


def test_nothing_is_committed_in_an_empty_directory(store: Store) -> None:
    assert [committed(store, phase) for phase in phases(DEMO)] == [Committed(None, False)] * 6


def test_what_completes_each_phase(store: Store) -> None:
    coldstart, sft, stage_1, stage_2, _, evaluate = phases(DEMO)
    store.write_bytes(COLDSTART_MANIFEST, b"{}")
    assert committed(store, coldstart) == Committed(None, True)
    commit(store, "sft", 50)
    assert committed(store, sft) == Committed(50, False)
    commit(store, "sft", 94, final=True)
    assert committed(store, sft) == Committed(94, True)
    commit(store, "stage-1", 20)
    assert committed(store, stage_1) == Committed(20, False)
    commit(store, "stage-1", 24)
    assert committed(store, stage_1) == Committed(24, True)
    commit(store, "stage-2", 48)
    assert committed(store, stage_2) == Committed(48, True), "steps go on over stages"
    assert committed(store, evaluate) == Committed(None, False)


def test_evaluation_is_complete_when_the_newest_checkpoint_is_scored(store: Store) -> None:
    evaluate = phases(DEMO)[-1]
    commit(store, "stage-3", 72)
    store.write_bytes(eval_key("stage-3"), b'{"step": 71}')
    assert not committed(store, evaluate).complete
    store.write_bytes(eval_key("stage-3"), b'{"step": 72}')
    assert committed(store, evaluate).complete
    store.write_bytes(eval_key("stage-3"), b"[]")
    with pytest.raises(BadInput, match="eval/stage-3.json: not a score file; delete it to have it made again$"):
        committed(store, evaluate)


def test_attempts_are_counted_from_their_records(store: Store) -> None:
    records = [AttemptRecord(["x"], 1.0, None, 2.0, 1, 5, 10), AttemptRecord(["x"], 3.0, 5)]
    write_attempt(store, "stage-1", 0, records[0])
    write_attempt(store, "stage-1", 10, records[1])
    write_attempt(store, "stage-10", 3, records[1])
    assert attempts(store, "stage-1") == {0: records[0], 10: records[1]}
    store.write_bytes("phases/stage-1/attempt-10/attempt.json", b"{}")
    with pytest.raises(BadInput, match="attempt-10/attempt.json: not the record of an attempt; delete it to continue$"):
        attempts(store, "stage-1")


def test_a_directory_without_a_recipe(store: Store) -> None:
    with pytest.raises(BadInput, match="there is no recipe.yaml, so this is not a run directory; start a run with visionr1 run$"):
        read_recipe(store)
