"""The phase, the conditions and the numbers that a status shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ptst_operator.decide.situation import Situation
from ptst_operator.decide.summary import Summary, summary_of
from ptst_operator.forecast import Done, faults, hours_left
from ptst_operator.names import ENFORCE
from ptst_operator.status import Condition, RunPhase, Status, moment
from ptst_operator.world import Progress
from visionr1.errors import printable
from visionr1.pipeline import planner
from visionr1.recipe import StagePhase

TYPES: Final = (
    *("RecipeValid", "Progressing", "Held", "Suspended", "Complete", "Failed"),
    *("PodSecurity", "Reconciling", "Stalled"),
)
_PROGRESSING: Final = ("Pending", "Queued", "Running", "Stopping")

Conditions = dict[str, tuple[str, str, str]]
"""By the type of a condition: its status (True or False), the reason, and the message."""


def with_report(at: Situation, status: Status, before: Status, action: planner.Action | None) -> Status:
    """The status with phase, printed values and conditions."""
    summary = summary_of(at, status, before, action)
    stage = next((phase.name for phase in at.wanted.chain if not status.of(phase.name).complete), None)
    status = _with_figures(replace(status, phase=summary.phase, stage=stage), at.world.progress)
    status = replace(status, hours_left=_hours_left(at, status))
    fault = at.wanted.recipe_fault
    conditions: Conditions = {
        "RecipeValid": ("False", "Invalid", fault) if fault else ("True", "Valid", _warning(at)),
        "Progressing": ("True" if summary.phase in _PROGRESSING else "False", summary.reason, summary.message),
        "Held": _holds_in("Held", summary),
        "Suspended": _holds_in("Suspended", summary),
        "Complete": _holds_in("Succeeded", summary),
        "Failed": _holds_in("Failed", summary),
        **_for_tools(summary, fault),
    }
    if at.world.restricted is not None:
        enforced = ("True", "Restricted", "") if at.world.restricted else ("False", "NotRestricted", _unrestricted(at))
        conditions["PodSecurity"] = enforced
    return _with_conditions(status, before, conditions, at.now)


def with_refused_recipe(before: Status, generation: int, message: str, now: float) -> Status:
    """The status of a run with a wrong recipe. Running phases continue."""
    status = replace(before, observed_generation=generation)
    invalid = {"RecipeValid": ("False", "Invalid", message), "Reconciling": ("False", "Stalled", "")}
    conditions = _conditions_of(before) | invalid | {"Stalled": ("True", "RecipeInvalid", message)}
    if before.live() is None and before.phase not in ("Succeeded", "Failed"):
        conditions |= {"Progressing": ("False", "RecipeInvalid", "waits until the recipe is corrected")}
    return _with_conditions(status, before, conditions, now)


def without_look(before: Status, reason: str, message: str, now: float) -> Status:
    """The status of a run when its run directory or its objects cannot be read. Nothing else changes."""
    conditions = _conditions_of(before)
    holds = conditions["Progressing"][0]
    waits = {
        "Progressing": (holds, reason, message),
        "Reconciling": ("True", reason, message),
        "Stalled": ("False", "NotStalled", ""),
    }
    return _with_conditions(before, before, conditions | waits, now)


def _conditions_of(status: Status) -> Conditions:
    unknown: Conditions = dict.fromkeys((one for one in TYPES if one != "PodSecurity"), ("False", "Unknown", ""))
    return unknown | {one.type: (one.status, one.reason, one.message) for one in status.conditions}


def _holds_in(phase: RunPhase, summary: Summary) -> tuple[str, str, str]:
    """A condition that is true in one phase of the run only."""
    return ("True", summary.reason, summary.message) if summary.phase == phase else ("False", f"Not{phase}", "")


def _for_tools(summary: Summary, fault: str) -> Conditions:
    """Reconciling and Stalled, by which kstatus, Flux and `helm --wait` judge a resource.

    As with a Job, a run that trains is what was asked for: nobody waits days for its end. So are a hold and a suspension.
    """
    if fault:
        return {"Reconciling": ("False", "Stalled", ""), "Stalled": ("True", "RecipeInvalid", fault)}
    if summary.phase == "Failed":
        return {"Reconciling": ("False", "Stalled", ""), "Stalled": ("True", summary.reason, summary.message)}
    under_way = summary.phase in ("Pending", "Queued", "Stopping")
    reconciling = ("True", summary.reason, summary.message) if under_way else ("False", summary.phase, "")
    return {"Reconciling": reconciling, "Stalled": ("False", "NotStalled", "")}


def _with_conditions(status: Status, before: Status, conditions: Conditions, now: float) -> Status:
    old = {one.type: one for one in before.conditions}
    made = []
    for kind in (one for one in TYPES if one in conditions):
        value, reason, message = conditions[kind]
        same = kind in old and old[kind].status == value
        made.append(
            Condition(
                type=kind,
                status="True" if value == "True" else "False",
                reason=reason,
                message=printable(message, keep="\n")[:4096],
                last_transition_time=old[kind].last_transition_time if same else moment(now),
                observed_generation=status.observed_generation,
            )
        )
    return replace(status, conditions=made)


def _with_figures(status: Status, seen: Progress | None) -> Status:
    """The numbers that `kubectl get` shows, all of one step. They stay as they were if no newer ones were seen."""
    if seen is None or seen.step is None:
        return status
    # All of them, so that no value of an older step stays.
    return replace(
        status,
        step=seen.step,
        reward=_rounded(seen.reward),
        length=_rounded(seen.length),
        tokens_per_second_per_gpu=_rounded(seen.tokens_per_second),
        truncated=_rounded(seen.truncated),
        kl=_rounded(seen.kl),
    )


def _warning(at: Situation) -> str:
    """What surely does not fit, of a run that starts all the same."""
    return "\n".join(faults(at.run.spec, at.run.recipe)) if at.run.recipe.preflight == "warn" else ""


def _unrestricted(at: Situation) -> str:
    return (
        f"namespace {at.run.namespace} does not enforce the restricted Pod Security level, so whoever may make a PTSTRun may ask "
        f"for more rights than its pods need: kubectl label namespace {at.run.namespace} {ENFORCE}=restricted"
    )


def _hours_left(at: Situation, status: Status) -> float | None:
    """Without a newer step, a value that measured steps have given stays."""
    if status.phase == "Succeeded":
        return 0.0
    seen = at.world.progress
    if (seen is None or seen.step_seconds is None) and status.step is not None:
        return status.hours_left
    done = {}
    for phase in at.wanted.chain:
        step = status.of(phase.name).committed_step or phase.first_step
        seconds = None
        newest = None if seen is None else seen.step
        if isinstance(phase, StagePhase) and newest is not None and phase.first_step < newest <= phase.last_step:
            step, seconds = max(step, newest), seen.step_seconds if seen else None
        done[phase.name] = Done(step - phase.first_step, seconds)
    complete = frozenset(phase.name for phase in at.wanted.chain if status.of(phase.name).complete)
    hours = hours_left(at.run.spec, at.run.recipe, done, complete)
    return None if hours is None else round(hours, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
