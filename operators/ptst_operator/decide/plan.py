"""Asks the planner. Translates the status into its input, and changes its answer if a gate was not passed."""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.decide.situation import Situation
from ptst_operator.status import PhaseStatus, Status
from visionr1.pipeline import planner


def planned(at: Situation, status: Status) -> planner.Action:
    """What the planner decides. A gate that was not passed stops the run and holds it.

    A phase that the recipe has lost ends first, because the planner knows only those of the recipe.
    """
    live = status.live()
    if live is not None and not at.wanted.has(live[0].name):
        return planner.Stop(live[0].name)
    run, observed, breach = _run_spec(at, status), _observed(at, status), status.breach
    if breach is None:
        return planner.plan(run, observed, at.now)
    stopping = planner.plan(run, replace(observed, stop_requested=True), at.now)
    if isinstance(stopping, planner.Stop):
        return stopping
    return planner.RunStopped(breach.stage) if at.run.spec.suspend else planner.Hold(breach.stage)


def _run_spec(at: Situation, status: Status) -> planner.RunSpec:
    spec = at.run.spec
    due = [phase.name for phase in at.wanted.chain if not status.of(phase.name).complete][:1] if at.world.breaches else []
    retry = planner.Retry(spec.retry.max_attempts, spec.retry.first_wait_seconds, spec.retry.longest_wait_seconds)
    held = frozenset([*spec.hold_before, *due]) - {at.wanted.approved}
    return planner.RunSpec(tuple(phase.name for phase in at.wanted.chain), retry, held)


def _observed(at: Situation, status: Status) -> planner.Observed:
    states = {phase.name: _state(status.of(phase.name)) for phase in at.wanted.chain}
    return planner.Observed(states, stop_requested=at.run.spec.suspend)


def _state(phase: PhaseStatus) -> planner.PhaseState:
    counted = [one for one in phase.attempts if one.number >= phase.count_from or one.ended is None]
    tried = tuple(
        planner.Attempt(one.started.timestamp(), one.from_step, one.ended.timestamp() if one.ended else None, one.exit_code)
        for one in counted
    )
    return planner.PhaseState(tried, phase.committed_step, phase.complete)
