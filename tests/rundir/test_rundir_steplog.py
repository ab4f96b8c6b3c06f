"""The step log keeps one whole record a step, across crashes and restarts."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionr1.errors import BadInput
from visionr1.rundir.steplog import StepLog, read_steps
from visionr1.storage import Store, open_store


def record(phase: str, step: int, **values: Any) -> dict[str, Any]:
    return {"phase": phase, "stage": None, "step": step, "time": 1.5e9 + step, **values}


def steps_of(store: Store, phase: str | None = None) -> list[int]:
    return [item["step"] for item in read_steps(store) if phase in (None, item["phase"])]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def test_records_come_back_as_they_were(store: Store) -> None:
    log = StepLog(store, "stage-1", 0)
    first = record("stage-1", 1, reward_component_mean={"format": 1.0, "accuracy": 0.5}, step_seconds={"rollout": 2.5})
    log.append(first)
    assert read_steps(store) == [first]
    log.append(record("stage-1", 2))
    assert steps_of(store) == [1, 2]


def test_no_log_is_no_steps(store: Store) -> None:
    assert read_steps(store) == []


def test_a_new_attempt_drops_the_steps_that_it_runs_again(store: Store) -> None:
    sft, stage = StepLog(store, "sft", 0), None
    for step in (1, 2):
        sft.append(record("sft", step))
    stage = StepLog(store, "stage-1", 0)
    for step in (1, 2, 3, 4):
        stage.append(record("stage-1", step))
    resumed = StepLog(store, "stage-1", 2)
    assert steps_of(store, "stage-1") == [1, 2]
    assert (stage.resumes_from, resumed.resumes_from) == (None, 1.5e9 + 2), "the newest step that is kept, of this phase"
    resumed.append(record("stage-1", 3))
    assert steps_of(store, "stage-1") == [1, 2, 3]
    assert steps_of(store, "sft") == [1, 2]


def test_a_torn_last_line_is_not_read_and_is_dropped_by_the_next_attempt(store: Store) -> None:
    StepLog(store, "sft", 0).append(record("sft", 1))
    whole = store.read_bytes("steps.jsonl")
    for cut in range(len(whole) - 1):
        store.write_bytes("steps.jsonl", whole + whole[:cut])
        assert steps_of(store) == [1]
    StepLog(store, "sft", 1).append(record("sft", 2))
    assert steps_of(store) == [1, 2]
    assert store.read_bytes("steps.jsonl").count(b"\n") == 2


def test_a_last_line_that_only_lacks_its_end_is_kept(store: Store) -> None:
    StepLog(store, "sft", 0).append(record("sft", 1))
    store.write_bytes("steps.jsonl", store.read_bytes("steps.jsonl").rstrip())
    StepLog(store, "sft", 1).append(record("sft", 2))
    assert steps_of(store) == [1, 2]


def test_a_broken_line_before_the_last_is_one_clear_line(store: Store) -> None:
    StepLog(store, "sft", 0).append(record("sft", 1))
    store.write_bytes("steps.jsonl", b"{}\n" + store.read_bytes("steps.jsonl"))
    with pytest.raises(BadInput, match=r"steps\.jsonl: line 1 is not a step record; correct or delete that line"):
        read_steps(store)


def test_numbers_that_are_not_finite_are_null_as_json_demands(store: Store) -> None:
    log = StepLog(store, "sft", 0)
    log.append(record("sft", 1, loss=math.nan, step_seconds={"update": math.inf}))
    json.loads(store.read_bytes("steps.jsonl"), parse_constant=pytest.fail)
    assert (read_steps(store)[0]["loss"], read_steps(store)[0]["step_seconds"]) == (None, {"update": None})


def test_a_key_that_the_table_lacks_is_a_mistake(store: Store) -> None:
    log = StepLog(store, "sft", 0)
    with pytest.raises(ValueError, match=r"does not know the record keys \['los'\]"):
        log.append(record("sft", 1, los=0.5))
    with pytest.raises(ValueError, match="a record of stage-1 does not belong into the log of sft"):
        log.append(record("stage-1", 1))
    assert read_steps(store) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["sft", "stage-1"]), st.integers(0, 4), st.integers(0, 3)), max_size=6))
def test_the_log_has_every_step_once_whatever_the_restarts(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[tuple[str, int, int]]
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("run")))
    done = {"sft": 0, "stage-1": 0}
    for phase, committed, more in attempts:
        after = min(committed, done[phase])
        log = StepLog(store, phase, after)
        for step in range(after + 1, after + more + 1):
            log.append(record(phase, step))
        done[phase] = after + more
    for phase, last in done.items():
        assert steps_of(store, phase) == list(range(1, last + 1))
