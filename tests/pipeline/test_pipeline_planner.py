"""The planner: each rule by example, and the promises for any state and any executor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionr1.pipeline.planner import (
    Action,
    Attempt,
    Fail,
    Finish,
    Hold,
    Observed,
    PhaseState,
    Retry,
    RunSpec,
    RunStopped,
    Start,
    Stop,
    Wait,
    backoff,
    plan,
)
from visionr1.recipe import load_recipe, phases

RUN = RunSpec(("sft", "stage-1", "stage-2"), Retry(max_attempts=3, first_wait=10, longest_wait=15))
DONE = PhaseState((Attempt(0, None, 9, 0),), 5, True)
NOW = 100.0


def attempt(code: int | None, from_step: int | None = None, ended: float = NOW) -> Attempt:
    return Attempt(ended - 1, from_step, ended, code)


def on_stage_1(*attempts: Attempt, step: int | None = None, **kwargs: bool) -> Observed:
    return Observed({"sft": DONE, "stage-1": PhaseState(attempts, step)}, **kwargs)


CASES: dict[str, tuple[Observed, Action]] = {
    "nothing yet": (Observed(), Start("sft")),
    "phase before is done": (on_stage_1(), Start("stage-1")),
    "running": (on_stage_1(Attempt(NOW)), Wait("stage-1")),
    "running and already committed its final checkpoint": (
        Observed({"sft": PhaseState((Attempt(NOW),), 5, True)}),
        Wait("sft"),
    ),
    "all done": (Observed(dict.fromkeys(RUN.phases, DONE)), Finish()),
    "done without any attempt of ours": (
        Observed({name: PhaseState((), 5, True) for name in RUN.phases}),
        Finish(),
    ),
    "done though its process failed afterwards": (
        Observed({"sft": PhaseState((attempt(1),), 5, True)}),
        Start("stage-1"),
    ),
    "done though it was killed": (Observed({"sft": PhaseState((attempt(None),), 5, True)}), Start("stage-1")),
    "exit 0 without the final checkpoint is a failure": (on_stage_1(attempt(0)), Wait("stage-1", NOW + 10)),
    "first failure waits": (on_stage_1(attempt(1)), Wait("stage-1", NOW + 10)),
    "the wait is over": (on_stage_1(attempt(1, ended=NOW - 10)), Start("stage-1")),
    "second failure waits longer, up to the limit": (on_stage_1(attempt(1), attempt(-9)), Wait("stage-1", NOW + 15)),
    "third failure ends the run": (
        on_stage_1(attempt(1), attempt(1), attempt(-9)),
        Fail("stage-1", "3 attempts failed without a new checkpoint; the last one was killed by signal 9", -9),
    ),
    "an attempt that nobody saw end counts": (
        on_stage_1(attempt(1), attempt(1), attempt(None)),
        Fail("stage-1", "3 attempts failed without a new checkpoint; nobody saw how the last one ended", None),
    ),
    "progress of the last attempt starts the count again": (
        on_stage_1(attempt(1), attempt(1), attempt(1), step=5),
        Start("stage-1"),
    ),
    "progress of an earlier attempt does, too": (
        on_stage_1(attempt(1), attempt(1), attempt(1, None), attempt(1, 5), attempt(1, 5), step=5),
        Wait("stage-1", NOW + 15),
    ),
    "failures after progress use up the attempts": (
        on_stage_1(attempt(1, None), attempt(1, 5), attempt(1, 5), attempt(0, 5), step=5),
        Fail("stage-1", "3 attempts failed without a new checkpoint; the last one ended without its final checkpoint", 0),
    ),
    "bad input is never tried again": (
        on_stage_1(attempt(64)),
        Fail("stage-1", "bad recipe or data; trying again cannot help", 64),
    ),
    "not even after progress": (
        on_stage_1(attempt(64), step=5),
        Fail("stage-1", "bad recipe or data; trying again cannot help", 64),
    ),
    "what was taken over is no failure, but its retry waits": (
        on_stage_1(attempt(1), attempt(1), attempt(4), attempt(4)),
        Wait("stage-1", NOW + 15),
    ),
    "what was taken over is tried again for ever": (on_stage_1(*[attempt(4, ended=NOW - 15)] * 9), Start("stage-1")),
    "failures around a take-over are counted": (
        on_stage_1(attempt(1), attempt(1), attempt(4), attempt(1)),
        Fail("stage-1", "3 attempts failed without a new checkpoint; the last one ended with exit code 1", 1),
    ),
    "a stop is passed on": (on_stage_1(Attempt(NOW), stop_requested=True), Stop("stage-1")),
    "stopped after its checkpoint": (on_stage_1(attempt(3), step=5, stop_requested=True), RunStopped("stage-1")),
    "stopped between phases": (on_stage_1(stop_requested=True), RunStopped("stage-1")),
    "stopped while a retry was due": (on_stage_1(attempt(1, ended=0), stop_requested=True), RunStopped("stage-1")),
    "a stop after the end changes nothing": (
        Observed(dict.fromkeys(RUN.phases, DONE), stop_requested=True),
        Finish(),
    ),
    "a stopped phase goes on at once when the stop is lifted": (on_stage_1(attempt(3)), Start("stage-1")),
    "a stop is no failure": (on_stage_1(attempt(1), attempt(1), attempt(3), attempt(1)), Wait("stage-1", NOW + 10)),
}


@pytest.mark.parametrize(("observed", "action"), CASES.values(), ids=CASES.keys())
def test_rule(observed: Observed, action: Action) -> None:
    assert plan(RUN, observed, NOW) == action


def test_hold_keeps_a_phase_from_beginning_only() -> None:
    held = RunSpec(RUN.phases, RUN.retry, frozenset({"stage-1"}))
    assert plan(held, Observed(), NOW) == Start("sft"), "other phases are not held"
    assert plan(held, on_stage_1(), NOW) == Hold("stage-1")
    assert plan(held, on_stage_1(stop_requested=True), NOW) == RunStopped("stage-1")
    assert plan(held, on_stage_1(Attempt(NOW)), NOW) == Wait("stage-1")
    assert plan(held, on_stage_1(attempt(1, ended=0)), NOW) == Start("stage-1"), "a retry has begun before"
    assert plan(held, on_stage_1(step=5), NOW) == Start("stage-1"), "so has a phase with a checkpoint"


def test_backoff_doubles_to_its_limit() -> None:
    retry = Retry(first_wait=10, longest_wait=300)
    assert [backoff(retry, failures) for failures in (0, 1, 2, 3, 5, 6, 10_000)] == [0, 10, 20, 40, 160, 300, 300]


@pytest.mark.parametrize("preset", ["demo", "demo-zero", "demo-ci", "vision-r1"])
def test_phases_start_in_the_recipe_s_order(preset: str) -> None:
    names = tuple(phase.name for phase in phases(load_recipe(preset)))
    done: dict[str, PhaseState] = {}
    for name in names:
        assert plan(RunSpec(names), Observed(done), NOW) == Start(name)
        done[name] = DONE
    assert plan(RunSpec(names), Observed(done), NOW) == Finish()


attempts = st.builds(
    Attempt,
    started=st.floats(0, 1e9),
    from_step=st.none() | st.integers(0, 9),
    ended=st.floats(0, 1e9),
    exit_code=st.sampled_from([None, 0, 1, 3, 64, -9]),
)
progress = st.builds(
    PhaseState,
    st.lists(attempts, max_size=5).map(tuple),
    st.none() | st.integers(0, 9),
    st.booleans(),
)
runs = st.builds(
    RunSpec,
    st.integers(1, 5).map(lambda count: tuple(f"phase-{number}" for number in range(count))),
    st.builds(Retry, st.integers(1, 4), st.floats(0, 100), st.floats(0, 1000)),
    st.frozensets(st.sampled_from(["phase-0", "phase-2"])),
)


@given(run=runs, data=st.data(), now=st.floats(0, 2e9), stop=st.booleans())
def test_from_any_state_only_the_first_phase_that_is_not_done_starts(
    run: RunSpec, data: st.DataObject, now: float, stop: bool
) -> None:
    states = {phase: data.draw(progress) for phase in run.phases}
    busy = data.draw(st.none() | st.sampled_from(run.phases))
    if busy is not None:
        states[busy] = PhaseState((*states[busy].attempts, Attempt(now)), states[busy].committed_step, states[busy].complete)
    action = plan(run, Observed(states, stop), now)
    undone = [phase for phase in run.phases if not states[phase].complete]
    if busy is not None:
        assert action == (Stop(busy) if stop else Wait(busy)), "never two phases at once"
    elif not undone:
        assert action == Finish()
    else:
        assert not isinstance(action, Finish | Stop)
        assert action.phase == undone[0], "no phase is skipped"
        assert not (stop and isinstance(action, Start | Wait | Hold)), "a stop is heard"
        if isinstance(action, Wait):
            assert action.until is not None and action.until > now, "a wait ends"


@given(run=runs, data=st.data())
def test_a_run_ends_under_any_executor(run: RunSpec, data: st.DataObject) -> None:
    """Attempts commit some steps or none and end in any way; borders are opened by a person; time passes."""
    final_step = 3
    states: dict[str, PhaseState] = dict.fromkeys(run.phases, PhaseState())
    now, started = 0.0, []
    for _ in range(400):
        action = plan(run, Observed(states), now)
        match action:
            case Start(phase):
                before = states[phase]
                gained = data.draw(st.integers(0, 2))
                code = data.draw(st.sampled_from([None, 0, 1, 3, -9]))
                # Only a finite number of stops without progress, as a person or a drained node sends them.
                code = 1 if code == 3 and gained == 0 else code
                step = min((before.committed_step or 0) + gained, final_step) or None
                ended = Attempt(now, before.committed_step, now + 1, code)
                states[phase] = PhaseState((*before.attempts, ended), step, step == final_step)
                started.append(phase)
                now += 1
            case Wait(_, until):
                assert until is not None
                now = until
            case Hold(phase):
                run = RunSpec(run.phases, run.retry, run.hold_before - {phase})
            case Finish():
                assert all(state.complete for state in states.values())
                break
            case Fail(phase):
                assert not states[phase].complete
                assert len(states[phase].attempts) >= run.retry.max_attempts
                break
            case _:
                raise AssertionError(action)
    else:
        raise AssertionError("the run never ended")
    assert started == sorted(started), "phases start in order"
