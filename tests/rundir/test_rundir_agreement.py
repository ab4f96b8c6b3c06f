"""All readers of one run directory say the same about it, and a phase is done by its result alone."""

import json
from pathlib import Path

import pytest
from small_run import LAST_STEPS, RECIPE, small_run

from visionr1.errors import BadInput
from visionr1.evaluate.phase import _scored_step
from visionr1.recipe import phases
from visionr1.recipe.reads import evaluation_settings
from visionr1.report.collect import read_run
from visionr1.report.measures import series
from visionr1.rundir.attempts import AttemptRecord, phase_state, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.committed import Committed, committed
from visionr1.rundir.layout import STEPS, checkpoint_prefix, eval_key, progress_key
from visionr1.rundir.progress import read_progress
from visionr1.rundir.reading import number
from visionr1.rundir.scores import Scores
from visionr1.storage import Store, open_store
from visionr1.watch.look import look


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return small_run(open_store(str(tmp_path / "run")))


def states(store: Store) -> dict[str, str]:
    return {phase.name: phase.state for phase in read_run(store).phases}


def complete(store: Store) -> dict[str, bool]:
    return {phase.name: committed(store, phase).complete for phase in phases(RECIPE)}


def test_the_report_asks_for_checkpoints_not_for_exit_codes(store: Store) -> None:
    assert set(states(store).values()) == {"done"} and all(complete(store).values())
    store.delete(checkpoint_prefix("sft", LAST_STEPS["sft"]))
    assert states(store)["sft"] == "waiting" and not complete(store)["sft"], "its attempt ended with 0"


def test_the_report_asks_for_checkpoints_not_for_steps_and_scores(store: Store) -> None:
    for phase in ("sft", "stage-1"):
        store.delete(checkpoint_prefix(phase, LAST_STEPS[phase]))
    assert [states(store)[phase] for phase in ("sft", "stage-1", "stage-2")] == ["waiting", "waiting", "done"]
    Checkpoints(store, "stage-2").commit(5, [], {})
    assert states(store)["evaluate"] == "waiting", "the score is of an older checkpoint"
    assert not complete(store)["evaluate"]


@pytest.mark.parametrize(
    ("ended", "exit_code", "state"),
    [(None, None, "running"), (2.0, 3, "stopped"), (2.0, 1, "failed"), (2.0, None, "failed"), (2.0, 0, "waiting")],
)
def test_report_and_watch_say_the_same_of_a_phase_without_its_result(
    ended: float | None, exit_code: int | None, state: str, store: Store
) -> None:
    store.delete(checkpoint_prefix("stage-2", 4))
    write_attempt(store, "stage-2", 1, AttemptRecord(["visionr1"], 1.0, 4, ended, exit_code))
    assert states(store)["stage-2"] == state
    assert look(store, 2000.0).state == state


def test_a_phase_that_nobody_recorded_has_begun_when_it_has_steps() -> None:
    assert [phase_state(False, {}, True), phase_state(False, {}, False), phase_state(True, {}, False)] == [
        "begun",
        "waiting",
        "done",
    ]


def test_a_checkpoint_that_a_newer_one_replaces_while_it_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at a run that trains lists a checkpoint that is gone when its manifest is read."""
    newer, listed = Checkpoints(store, "sft"), Checkpoints.latest

    def latest(self: Checkpoints) -> int | None:
        step = listed(self)
        if step == 3:
            newer.commit(6, [], {"final": True})
            newer.remove(3)
        return step

    monkeypatch.setattr(Checkpoints, "latest", latest)
    assert committed(store, phases(RECIPE)[1]) == Committed(6, True)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "0.5", None, [0.5], 1e300])
def test_what_is_no_number_of_a_run(value: float | bool | str | list[float] | None) -> None:
    assert number(value) is None


def test_numbers_stay_what_they_are() -> None:
    assert [number(value) for value in (0, -3, 0.25, 2**60)] == [0.0, -3.0, 0.25, float(2**60)]


def test_numbers_too_large_to_count_with_are_gaps_for_everybody(store: Store) -> None:
    lines = [json.loads(line) for line in store.read_bytes(STEPS).splitlines()]
    lines[-1] |= {"reward_mean": 10**400, "generated_tokens": 10**308, "loss": 1e308}
    store.write_bytes(STEPS, "".join(json.dumps(line) + "\n" for line in lines).encode())
    last = read_run(store).phases[3]
    assert [step for step, _ in series(last, "reward_mean")] == [3]
    store.delete(checkpoint_prefix("stage-2", 4))
    view = look(store, 2000.0)
    assert (view.records[-1]["step"], view.records[-1]["generated_tokens"], view.tokens_per_second) == (4, None, 0.0)


def test_the_evaluation_reads_scores_as_the_planner_does(store: Store) -> None:
    scores = Scores(store, evaluation_settings(RECIPE))
    assert _scored_step(scores, "sft") == 3 and _scored_step(scores, "base") is None
    for text in (b"[]", b'{"step": "3"}', b'{"step": null}', b"[" * 100_000):
        store.write_bytes(eval_key("sft"), text)
        with pytest.raises(BadInput, match=r"eval/sft\.json: not a score file; delete it to have it made again$"):
            _scored_step(scores, "sft")


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"title": "x", "done": "1", "total": 2, "note": ""}'])
def test_damaged_progress_is_one_line(text: bytes, store: Store) -> None:
    key = progress_key("coldstart", 0)
    assert read_progress(store, "coldstart", 0) is not None
    store.write_bytes(key, text)
    with pytest.raises(BadInput, match=r"progress\.json: not the progress of an attempt; delete it$"):
        read_progress(store, "coldstart", 0)
