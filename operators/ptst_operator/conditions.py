"""Conditions, phase and printed values of a status, and Events: pure, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ptst_operator.children.pods import Owner
from ptst_operator.status import BreachStatus, Condition, RunPhase, Status, moment
from ptst_operator.world import World
from visionr1.pipeline import planner
from visionr1.recipe import phases

_NO_BACKEND: Final = (
    "sft waits: the cluster has no kind that spec.sft.backend allows; PyTorchJob comes with the training-operator v1, "
    "TrainJob with Kubeflow Trainer v2"
)
TYPES: Final = ("RecipeValid", "Progressing", "Held", "Suspended", "Complete", "Failed")
_PROGRESSING: Final = ("Pending", "Queued", "Running", "Stopping")


@dataclass(frozen=True)
class News:
    """An Event."""

    kind: str
    reason: str
    message: str


@dataclass(frozen=True)
class _Said:
    """What a decision means for a person."""

    phase: RunPhase
    reason: str
    message: str


def settled(
    status: Status, before: Status, action: planner.Action | None, owner: Owner, world: World, now: float, recipe_fault: str
) -> Status:
    """The status with phase, printed values and conditions; `recipe_fault` says what is wrong with the recipe, if anything is."""
    said = _said(status, before, action, owner, world)
    current = next((phase.name for phase in phases(owner.recipe) if not status.of(phase.name).complete), None)
    status = status.model_copy(update={"phase": said.phase, "stage": current, **_printed(world)})
    holds = {
        "RecipeValid": ("False", "Invalid", recipe_fault) if recipe_fault else ("True", "Valid", ""),
        "Progressing": ("True" if said.phase in _PROGRESSING else "False", said.reason, said.message),
        "Held": _is(said, "Held"),
        "Suspended": _is(said, "Suspended"),
        "Complete": _is(said, "Succeeded"),
        "Failed": _is(said, "Failed"),
    }
    return _with_conditions(status, before, holds, now)


def refused(before: Status, generation: int, message: str, now: float) -> Status:
    """The status of a run whose recipe cannot be acted on; what runs goes on."""
    status = before.model_copy(update={"observed_generation": generation})
    said = {one.type: (one.status, one.reason, one.message) for one in before.conditions}
    said |= {"RecipeValid": ("False", "Invalid", message)}
    if before.live() is None and before.phase not in ("Succeeded", "Failed"):
        said |= {"Progressing": ("False", "RecipeInvalid", "waiting until the recipe is corrected")}
    return _with_conditions(status, before, {**dict.fromkeys(TYPES, ("False", "Unknown", "")), **said}, now)


def unreachable(before: Status, message: str, now: float) -> Status:
    """The status of a run whose run directory cannot be read now; nothing else is new in it."""
    said = {one.type: (one.status, one.reason, one.message) for one in before.conditions}
    said |= {"Progressing": (said.get("Progressing", ("False",))[0], "StorageUnavailable", message)}
    return _with_conditions(before, before, {**dict.fromkeys(TYPES, ("False", "Unknown", "")), **said}, now)


def _is(said: _Said, phase: RunPhase) -> tuple[str, str, str]:
    return ("True", said.reason, said.message) if said.phase == phase else ("False", f"Not{phase}", "")


def _with_conditions(status: Status, before: Status, holds: dict[str, tuple[str, str, str]], now: float) -> Status:
    old = {one.type: one for one in before.conditions}
    made = []
    for kind in TYPES:
        value, reason, message = holds[kind]
        same = kind in old and old[kind].status == value
        made.append(
            Condition(
                type=kind,
                status="True" if value == "True" else "False",
                reason=reason,
                message=message[:4096],
                last_transition_time=old[kind].last_transition_time if same else moment(now),
                observed_generation=status.observed_generation,
            )
        )
    return status.model_copy(update={"conditions": made})


def _said(  # noqa: C901, PLR0911, PLR0912 - one line for each action is easier to read than the same in parts
    status: Status, before: Status, action: planner.Action | None, owner: Owner, world: World
) -> _Said:
    live = status.live()
    ending = live is not None and live[1].stopping is not None
    if world.refused is not None and isinstance(action, planner.Start | planner.Wait) and not ending:
        return _Said("Pending" if live is None else "Running", "ChildRefused", world.refused)
    match action:
        case planner.Finish():
            return _Said("Succeeded", "Finished", "all phases are done")
        case planner.Fail(name, reason, _):
            return _Said(
                "Failed", "AttemptsFailed", f"{name}: {reason}{_last_words(status, name)}; raise spec.restarts to try again"
            )
        case planner.Hold() if status.breach is not None:
            return _held_by(status.breach, owner, world.refused)
        case planner.Hold(name):
            line = _approval(owner, name)
            if world.breaches:
                return _Said("Held", "GateBreached", f"{'; '.join(world.breaches)}; to let {name} begin all the same: {line}")
            return _Said("Held", "WaitsForApproval", f"{name} waits for a person; to let it begin: {line}")
        case planner.Stopped(name):
            return _Said("Suspended", "StoppedOnRequest", f"stopped before or in {name}; it goes on when spec.suspend is false")
        case planner.Stop(name):
            why = f": {status.breach.message}" if status.breach is not None else ""
            reason = "Stopping" if status.breach is None else "GateBreached"
            return _Said("Stopping", reason, f"{name} commits a checkpoint and ends{why}{_unasked(world)}")
        case planner.Wait(name, None):
            return _running(status, name, world)
        case planner.Wait(name, until):
            assert until is not None
            return _Said(
                "Pending",
                "WaitsForRetry",
                f"{name} is tried again at {moment(until):%Y-%m-%dT%H:%M:%SZ}{_last_words(status, name)}",
            )
        case planner.Start("sft") if status.live() is None and world.sft_kind is None:
            return _Said("Pending", "WaitsForBackend", _NO_BACKEND)
        case planner.Start(name):
            cluster = status.cluster
            if cluster is not None and not cluster.deleting and world.cluster is not None and world.cluster.queued:
                return _queued(f"{name}: RayCluster {cluster.name}")
            waits = "the RayCluster" if name.startswith("stage-") else "the RayCluster's end"
            return (
                _Said("Pending", "Starting", f"{name} begins")
                if live
                else _Said("Pending", "WaitsForCluster", f"{name} waits for {waits}")
            )
        case _:
            held = {one.type: one for one in before.conditions}["Failed"]
            return _Said("Failed", held.reason, held.message)


def _approval(owner: Owner, what: str) -> str:
    return f"kubectl -n {owner.namespace} annotate ptst {owner.name} --overwrite visionr1.io/approve={what}"


def _held_by(breach: BreachStatus, owner: Owner, refused: str | None) -> _Said:
    go_on = _approval(owner, f"breach-{breach.number}")
    if breach.rollback_phase is None:
        return _Said("Held", "GateBreached", f"{breach.message}; to let {breach.stage} go on all the same: {go_on}")
    back = f"{breach.rollback_phase} at step {breach.rollback_step}"
    if not breach.rolled_back:
        return _Said(
            "Stopping", "RollingBack", f"{breach.message}; the run goes back to {back}{f': {refused}' if refused else ''}"
        )
    return _Said(
        "Held", "RolledBack", f"{breach.message}; the run went back to {back}; change what is to be different, then: {go_on}"
    )


def _running(status: Status, name: str, world: World) -> _Said:
    attempt = status.of(name).attempts[-1]
    if attempt.stopping is not None:
        return _Said("Stopping", attempt.stopping.reason, f"{name} is being ended: {attempt.stopping.message}{_unasked(world)}")
    if attempt.queued:
        return _queued(f"{name}: {attempt.kind} {attempt.name}")
    if attempt.running_since is None:
        why = world.child.reason if world.child is not None else "not made yet"
        return _Said("Pending", "WaitsForChild", f"{name}: {attempt.kind} {attempt.name} has not started to run ({why})")
    return _Said("Running", "Running", f"{name} runs as {attempt.kind} {attempt.name}")


def _unasked(world: World) -> str:
    return f"; {world.refused}" if world.refused is not None else ""


def _queued(what: str) -> _Said:
    return _Said("Queued", "WaitsForQueue", f"{what} is suspended until its queue lets it in")


def _last_words(status: Status, name: str) -> str:
    attempts = status.of(name).attempts
    return f" ({attempts[-1].reason})" if attempts and attempts[-1].reason else ""


def _printed(world: World) -> dict[str, Any]:
    """What `kubectl get` shows: the numbers of one step, kept as they were where nobody tells others."""
    seen = world.progress
    if seen is None:
        return {}
    numbers = {
        "reward": seen.reward,
        "length": seen.length,
        "tokens_per_second_per_gpu": seen.tokens_per_second,
        "truncated": seen.truncated,
        "kl": seen.kl,
    }
    if seen.step is None:
        return {}
    # All of them: a value that this step does not have must not stay from another one.
    return {"step": seen.step} | {key: None if value is None else round(value, 4) for key, value in numbers.items()}


def news(before: Status, after: Status) -> list[News]:
    """Events for what has changed between two statuses."""
    told = []
    for phase in after.phases:
        old = before.of(phase.name)
        for attempt in phase.attempts:
            was = next((one for one in old.attempts if one.number == attempt.number), None)
            if was is None and attempt.stopping is None:  # else it ends before its child is made
                told.append(
                    News(
                        "Normal",
                        "AttemptStarted",
                        f"Started attempt {attempt.number} of {phase.name}: {attempt.kind} {attempt.name}",
                    )
                )
            if attempt.stopping is not None and (was is None or was.stopping is None):
                told.append(News("Normal", "AttemptStopping", f"Ending {attempt.name}: {attempt.stopping.message}"))
            if attempt.ended is not None and (was is None or was.ended is None):
                kind = "Normal" if attempt.exit_code in (0, 3) else "Warning"
                told.append(News(kind, "AttemptEnded", f"Attempt {attempt.number} of {phase.name} ended: {attempt.reason}"))
        if phase.complete and not old.complete:
            told.append(News("Normal", "PhaseComplete", f"{phase.name} is done: its final checkpoint or output is committed"))
    was_said = {one.type: one.status for one in before.conditions}
    for one in after.conditions:
        if one.status == was_said.get(one.type) or (one.type == "Progressing"):
            continue
        bad = one.type == "RecipeValid" and one.status == "False"
        if bad or (one.status == "True" and one.type != "RecipeValid"):
            told.append(News("Warning" if bad or one.type == "Failed" else "Normal", one.reason, one.message))
    return told
