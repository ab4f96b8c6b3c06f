"""Looking at a run: its child, its cluster, its run directory, its driver. Reads only, but for the run's recipe.yaml."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from ptst_operator.api import Api
from ptst_operator.children import job, pytorchjob, raycluster, rayjob, trainjob
from ptst_operator.children.phase import Child
from ptst_operator.children.pods import ATTEMPT_LABEL
from ptst_operator.decide import Wanted
from ptst_operator.gates import breaches, first_breach
from ptst_operator.spec import METRICS_PORT
from ptst_operator.status import SftKind, Status
from ptst_operator.world import Breach, Progress, World
from visionr1.errors import EXIT_BAD_INPUT, BadInput
from visionr1.recipe import StagePhase, phases_from, stage_phases
from visionr1.rundir.committed import Committed, committed
from visionr1.rundir.reading import number
from visionr1.rundir.rollback import Rollback, is_rolled_back, refusal
from visionr1.rundir.steplog import read_steps
from visionr1.storage import Store

READERS: Final = {"PyTorchJob": pytorchjob.read, "TrainJob": trainjob.read, "RayJob": rayjob.read, "Job": job.read}
_POD_LABELS: Final = {
    "PyTorchJob": "training.kubeflow.org/job-name",
    "TrainJob": "jobset.sigs.k8s.io/jobset-name",
    "Job": "batch.kubernetes.io/job-name",
}
_CONTAINERS: Final = (pytorchjob.CONTAINER, trainjob.CONTAINER, job.CONTAINER)
_SFT_KINDS: Final[dict[str, tuple[SftKind, ...]]] = {
    "auto": ("PyTorchJob", "TrainJob"),
    "pytorchjob": ("PyTorchJob",),
    "trainjob": ("TrainJob",),
}
_METRICS_SECONDS: Final = 2.0
_METRICS_BYTES: Final = 2_000_000


def look(api: Api, wanted: Wanted, status: Status, store: Store, refused: str | None) -> World:
    """All that a decision needs, by the names that the status holds."""
    child: Child | None = None
    leftover, code, head = False, None, None
    live = status.live()
    if live is not None:
        attempt = live[1]
        seen = api.get(attempt.kind, attempt.name)
        child = READERS[attempt.kind](seen) if seen is not None else None
        head = rayjob.head_of(seen) if seen is not None and attempt.own_cluster else None
        label = ATTEMPT_LABEL if attempt.own_cluster else _POD_LABELS.get(attempt.kind)
        if label is not None and (child is None or child.phase in ("Succeeded", "Failed")):
            pods = api.list("Pod", f"{label}={attempt.name}")["items"]
            leftover, code = read_pods(pods)
    cluster = None
    if status.cluster is not None:
        seen = api.get("RayCluster", status.cluster.name)
        cluster = raycluster.read(seen) if seen is not None else None
        head = cluster.head if cluster is not None else None
    ended = None
    if live is not None and live[1].kind == "RayJob" and live[1].stopping is not None and child is None and head:
        ended = driver_has_ended((head, METRICS_PORT))
    progress = None
    if live is not None and live[1].kind == "RayJob" and child is not None and child.phase == "Running" and head:
        progress = ask_driver((head, METRICS_PORT), _stage(wanted, live[0].name))
    seen_phases = look_at_run_directory(store, wanted, status)
    if progress is None:
        progress = look_at_step_log(store, wanted, status, seen_phases)
    at_rest = live is None and status.cluster is None
    return replace(
        look_at_rollback(store, wanted, status) if at_rest else World(),
        child=child,
        leftover=leftover,
        pod_exit_code=code,
        cluster=cluster,
        driver_ended=ended,
        committed=seen_phases,
        breaches=look_at_gates(store, wanted, status, seen_phases),
        breach=look_at_running_gates(store, wanted, status, seen_phases),
        progress=progress,
        refused=refused,
        sft_kind=find_sft_kind(api, wanted) if "sft" in seen_phases and not seen_phases["sft"].complete else None,
    )


def find_sft_kind(api: Api, wanted: Wanted) -> SftKind | None:
    """The first kind that the run may use for SFT and the API server has."""
    return next((kind for kind in _SFT_KINDS[wanted.owner.spec.sft.backend] if api.serves(kind)), None)


@dataclass(frozen=True)
class Stage:
    """What a stage's numbers are measured by: its global steps (after the first, to the last), completions of a step, workers."""

    first_step: int
    last_step: int
    completions: int
    workers: int

    def speed(self, length: float | None, seconds: float) -> float | None:
        """Completion tokens a second and worker, of a step with this mean length that took so long."""
        return number(length * self.completions / seconds / self.workers) if length is not None and seconds > 0 else None


def _stage(wanted: Wanted, phase: str) -> Stage:
    recipe = wanted.owner.recipe
    found = next(one for one in stage_phases(recipe) if one.name == phase)
    completions = recipe.algorithm.prompts_per_step * found.stage.group_size
    return Stage(found.first_step, found.last_step, completions, recipe.rollout.workers)


def look_at_run_directory(store: Store, wanted: Wanted, status: Status) -> dict[str, Committed]:
    """What is committed of each phase in order, up to the first that is not complete."""
    seen: dict[str, Committed] = {}
    for phase in wanted.chain:
        if status.of(phase.name).complete and phase.kind != "evaluate":
            continue
        seen[phase.name] = committed(store, phase)
        if not seen[phase.name].complete:
            return seen
    return seen


def look_at_step_log(store: Store, wanted: Wanted, status: Status, seen: Mapping[str, Committed]) -> Progress | None:
    """Numbers of the newest committed step of a stage, if that is newer than what the status shows: its driver is gone."""
    stages = {phase.name for phase in stage_phases(wanted.owner.recipe)}
    known = [(one.name, one.committed_step) for one in status.phases] + [(name, one.step) for name, one in seen.items()]
    steps = [step for name, step in known if name in stages and step is not None]
    if not steps or max(steps) <= (status.step or 0):
        return None
    try:
        records = read_steps(store)
    except BadInput:  # these are figures to look at; what must read the log (a gate) says what is wrong with it
        return None
    record = next((one for one in reversed(records) if one["step"] == max(steps) and one["phase"] in stages), None)
    if record is None:
        return None
    told = {
        key: number(record.get(key)) for key in ("reward_mean", "completion_tokens_mean", "completion_truncated_ratio", "kl_mean")
    }
    parts = record.get("step_seconds")
    seconds = sum(filter(None, map(number, parts.values()))) if isinstance(parts, dict) else 0.0
    length = told["completion_tokens_mean"]
    return Progress(
        step=record["step"],
        reward=told["reward_mean"],
        length=length,
        tokens_per_second=_stage(wanted, record["phase"]).speed(length, seconds),
        truncated=told["completion_truncated_ratio"],
        kl=told["kl_mean"],
    )


def look_at_gates(store: Store, wanted: Wanted, status: Status, seen: Mapping[str, Committed]) -> tuple[str, ...]:
    """What keeps the next phase from beginning, if that is a stage after another one."""
    due = next((phase for phase in wanted.chain if phase.name in seen and not seen[phase.name].complete), None)
    gates = [gate for gate in wanted.owner.spec.gates if gate.action == "Hold"]
    if not gates or not isinstance(due, StagePhase) or due.number == 1:
        return ()
    if status.of(due.name).attempts_begun > status.of(due.name).taken_back:
        return ()
    assert due.input_phase is not None, "a later stage starts from the one before"
    return breaches(gates, read_steps(store), due.input_phase)


def look_at_running_gates(store: Store, wanted: Wanted, status: Status, seen: Mapping[str, Committed]) -> Breach | None:
    """What keeps a stage of which a new checkpoint is seen from going on."""
    gates, recipe = wanted.owner.spec.gates, wanted.owner.recipe
    if status.breach is not None or all(gate.action == "Hold" for gate in gates):
        return None
    for phase in wanted.chain:
        step = seen[phase.name].step if phase.name in seen and isinstance(phase, StagePhase) else None
        known = status.of(phase.name)
        # A stage that this run has not begun is an earlier run's, over which a person has decided then.
        if step is None or step == known.committed_step or known.past_gates or known.attempts_begun <= known.taken_back:
            continue
        found = first_breach(gates, read_steps(store), phase.name, phase.first_step, step, seen[phase.name].complete)
        if found is not None:
            why = refusal(store, recipe, found.to, found.stage) if found.to is not None else None
            return found if why is None else Breach(found.stage, f"{found.message}; it cannot be rolled back: {why}")
    return None


def look_at_rollback(store: Store, wanted: Wanted, status: Status) -> World:
    """What there is to know of the rollback that is due, when nothing of the run is at work any more."""
    breach, recipe = status.breach, wanted.owner.recipe
    if breach is None or breach.rollback_phase is None or breach.rollback_step is None or breach.rolled_back:
        return World()
    to = Rollback(breach.rollback_phase, breach.rollback_step)
    # Asked again: the stage may have given that checkpoint up when it committed its last one.
    if why := refusal(store, recipe, to, breach.stage):
        return World(rollback_refusal=why)
    if not is_rolled_back(store, recipe, to):
        return World(may_roll_back=True)
    return World(rolled_back={phase.name: committed(store, phase) for phase in phases_from(recipe, to.phase)})


def read_pods(pods: list[Mapping[str, Any]]) -> tuple[bool, int | None]:
    """Whether one of a job's pods has not ended, and how they ended: 64 wins, then any failure, then 0."""
    leftover = any(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in pods)
    codes = [
        container["state"]["terminated"]["exitCode"]
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses", [])
        if container["name"] in _CONTAINERS and "terminated" in container.get("state", {})
    ]
    if EXIT_BAD_INPUT in codes:
        return leftover, EXIT_BAD_INPUT
    return leftover, next((code for code in codes if code), 0 if codes else None)


def ask_driver(address: tuple[str, int], stage: Stage) -> Progress | None:
    """The driver's numbers; None if it does not answer in time, or with anything but metrics. Never raises."""
    try:
        return read_metrics(_ask(address), stage)
    except (OSError, HTTPException, ValueError):
        return None


def _ask(address: tuple[str, int]) -> str:
    """The text of /metrics, in two seconds in all; a training pod does not choose whom the operator talks to, so no redirects."""
    end = time.monotonic() + _METRICS_SECONDS
    connection = HTTPConnection(*address, timeout=_METRICS_SECONDS)
    connection.connect()
    # A timeout is for one read, and a server may send a byte a second: at the deadline the reading ends, wherever it is.
    cut = threading.Timer(max(0.0, end - time.monotonic()), _shut, [connection.sock])
    cut.start()
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read(_METRICS_BYTES).decode(errors="replace")
        if response.status != 200 or time.monotonic() >= end:
            raise HTTPException("no metrics, or not all of them")
        return text
    finally:
        cut.cancel()
        connection.close()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have been closed this very moment
        connection.shutdown(socket.SHUT_RDWR)


def driver_has_ended(address: tuple[str, int]) -> bool | None:
    """Whether nothing listens any more where the driver serves its metrics; None if that cannot be told. Never raises."""
    try:
        with socket.create_connection(address, timeout=_METRICS_SECONDS):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return None


def read_metrics(text: str, stage: Stage) -> Progress:
    """The newest step's values from the driver's /metrics; what is no finite number, or no step of the stage, is passed over.

    Raises:
        ValueError: the text is not metrics.
    """
    values: dict[str, float] = {}
    seconds = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if math.isfinite(sample.value):
                values[sample.name] = sample.value
                seconds += sample.value if sample.name == "visionr1_step_seconds" else 0.0
    step, length = values.get("visionr1_step"), values.get("visionr1_completion_tokens_mean")
    return Progress(
        step=int(step) if step is not None and stage.first_step < step <= stage.last_step else None,
        reward=values.get("visionr1_reward_mean"),
        length=length,
        tokens_per_second=stage.speed(length, seconds),
        truncated=values.get("visionr1_completion_truncated_ratio"),
        kl=values.get("visionr1_kl_mean"),
    )
