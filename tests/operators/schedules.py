"""One schedule: a run, an operator that is killed anywhere, a cluster and people that do what they like."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from random import Random
from typing import Any

from fake_cluster import LOST_TOUCH, NOTHING, Crash, FakeCluster, Process
from fake_directory import run_directory_of
from fake_workers import check_workers
from ptst_operator.api import ApiError
from ptst_operator.reconcile import Reconciler
from ptst_operator.spec import Spec, resolve_recipe
from ptst_operator.status import Status, read_status

from visionr1.recipe import Phase, phases

STAGE = {"max_completion_tokens": 8, "group_size": 2, "steps": 4}
RECIPE: dict[str, Any] = {"preset": "demo", "stages": [STAGE, STAGE]}
SFT_KINDS = ("PyTorchJob", "TrainJob")
SPEC: dict[str, Any] = {
    "recipe": RECIPE,
    "storage": {"url": "s3://bucket/run"},
    "pods": {"image": "trainer:1"},
    "grpo": {"workersPerPod": 2},
    "retry": {"maxAttempts": 3, "firstWaitSeconds": 5, "longestWaitSeconds": 20},
    "deadlines": {"pendingSeconds": 300, "workersSeconds": 100, "attemptSeconds": 3000, "stopSeconds": 60},
}


_MODES: tuple[dict[str, Any], ...] = ({"cluster": "shared"}, {"cluster": "per-stage"}, {"cluster": "shared", "minWorkers": 4})
_GATE: dict[str, Any] = {"metric": "reward_mean", "steps": 1, "min": 0.5, "action": "Stop"}
_FAR_BACK = {"action": "Rollback", "rollbackTo": "stage-1/step-4"}


def new_run(**changes: Any) -> dict[str, Any]:
    meta = {"name": "run", "namespace": "default", "uid": "run-uid", "generation": 1, "resourceVersion": "1"}
    return {"apiVersion": "visionr1.io/v1alpha1", "kind": "PTSTRun", "metadata": meta, "spec": {**SPEC, **changes}}


def chain_of(run: dict[str, Any]) -> tuple[Phase, ...]:
    return _chain(len(run["spec"]["recipe"]["stages"]))


@cache
def _chain(stages: int) -> tuple[Phase, ...]:
    return phases(resolve_recipe(Spec.model_validate({**SPEC, "recipe": {**RECIPE, "stages": [STAGE] * stages}}), "run"))


class Schedule:
    """Time, cluster and operator of one schedule."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.queue = self.random.random() < 0.5
        gates = self.random.choice([[], [_GATE], [{**_GATE, "action": "Rollback"}], [{**_GATE, **_FAR_BACK}]])
        served = set(self.random.choice([SFT_KINDS, SFT_KINDS[:1], SFT_KINDS[1:]]))
        held = self.random.choice([[], ["stage-2"]])
        recipe = {**RECIPE, "rollout": {"workers": 8}}
        self.cluster = FakeCluster(new_run(recipe=recipe, grpo=self._mode(), gates=gates, holdBefore=held), served=served)
        self.now = 1_000_000.0
        self.failures, self.bad = self.random.choice([0, 1, 1, 12]), self.random.choice([0, 0, 0, 1])
        done = self.random.choice([0, 1, 1, 2, 2, 2, 3])  # most walks end before they are far
        for phase in chain_of(self.cluster.run)[:done]:
            self.cluster.commit(phase, phase.first_step + 4 if phase.kind in ("sft", "grpo") else None, True)
        self.deleted_by_hand: set[str] = set()
        self.added_under: set[tuple[str, str]] = set()  # attempts by name, and stages that are newer than they
        self.cluster.late = lambda: self.random.random() < 0.1
        self.cluster.fate = self._fate
        self.made, self.elastic = 0, False
        self.short = self.random.random() < 0.5  # in the end, there are nodes for three of four worker pods
        self.hangs = self.random.random() < 0.3  # in the end, processes do their work, but do not end by themselves
        self.begun: dict[str, int] = {}
        self.complete: set[str] = set()
        self.steps: dict[str, int] = {}
        self.rollbacks_shown = 0
        self.restarts_at_failure: int | None = None
        self.stages_at_success: int | None = None

    def _mode(self) -> dict[str, Any]:
        """How the stages run. With a queue none may begin with fewer workers."""
        return {"workersPerPod": 2, **self.random.choice(_MODES[:2] if self.queue else _MODES)}

    # The operator.

    def reconcile(
        self, fault: Callable[[str], object] = lambda call: None, after: Callable[[str], object] = lambda call: None
    ) -> None:
        """A new operator looks once; what it knew before is lost."""
        self.cluster.before_call, self.cluster.after_call = fault, after
        wrong = self.random.choice([0, 0, 0, -45, 45])  # operators on two nodes, whose clocks differ
        operator = Reconciler(self.cluster, clock=lambda: self.now + wrong, store=lambda url: self.cluster)  # type: ignore[arg-type, return-value]
        try:
            operator.reconcile("run")
        except (Crash, ApiError):
            pass
        finally:
            self.cluster.before_call = self.cluster.after_call = lambda call: None
        self.check()

    def reconcile_faultily(self) -> None:
        """Killed, refused or overtaken by another operator at a random call."""
        at, seen, kind = self.random.randrange(8), [0], self.random.choice(["crash", "refuse", "overtake", "unheard"])

        def act(call: str) -> None:
            seen[0] += 1
            if seen[0] - 1 != at:
                return
            if kind == "crash":
                raise Crash
            if kind == "refuse":
                raise ApiError(self.random.choice([0, 429, 500]), "no")
            if kind == "overtake":
                hooks = self.cluster.before_call, self.cluster.after_call
                self.reconcile()
                self.cluster.before_call, self.cluster.after_call = hooks

        def unheard(call: str) -> None:
            act(call)
            if kind == "unheard" and seen[0] - 1 == at:
                raise ApiError(0, "the answer was lost")  # what was asked has been done

        self.reconcile(*((act, lambda call: None) if kind != "unheard" else (lambda call: None, unheard)))

    # The cluster, the training code and people.

    def happen(self) -> None:
        """One random thing."""
        cluster, random = self.cluster, self.random
        processes = list(cluster.processes)
        choices: list[Callable[[], object]] = [
            self.reconcile,
            self.reconcile,
            self.reconcile_faultily,
            cluster.ready,
            cluster.collect,
            lambda: cluster.workers.scale(cluster.ray_clusters()),
        ]
        for name, _ in cluster.ray_clusters():
            choices += [partial(cluster.workers.node_comes, name), partial(cluster.workers.node_goes, name)]
        choices.append(lambda: self._wait(random.choice([1, 10, 70, 400])))
        for kind, child in cluster.children():
            choices += [partial(cluster.start, kind, child)] * 2
            choices.append(partial(self._perhaps, 0.1, partial(self._delete, child)))
        for kind, one in cluster.queueable() if self.queue else []:
            choices.append(partial(self._perhaps, 0.3, partial(cluster.take_back, kind, one)))
            choices.append(partial(cluster.empty, kind, one))
            choices.append(partial(cluster.let_in, kind, one))
        for process in processes:
            choices += (
                [partial(self._perhaps, 0.3, partial(self._work, process))]
                if process.outlives
                else [partial(self._work, process)] * 4
            )
            choices.append(partial(self._perhaps, 0.2, partial(cluster.lose_touch, process, random.choice(LOST_TOUCH))))
            choices.append(partial(self._perhaps, 0.02, partial(setattr, process, "cut_off", True)))
            choices.append(partial(self._perhaps, 0.5, self._delete_all))
        choices.append(partial(self._perhaps, 0.15, self._meddle))
        choices.append(partial(self._perhaps, 0.1, cluster.grace_is_over))
        choices.append(partial(self._perhaps, 0.5, cluster.nodes_are_back))
        choice = random.choice(choices)
        choice()
        self.check()

    def _perhaps(self, chance: float, act: Callable[[], object]) -> None:
        if self.random.random() < chance:
            act()

    def _wait(self, seconds: float) -> None:
        self.now += seconds

    def _delete(self, child: dict[str, Any]) -> None:
        child["metadata"]["deletionTimestamp"] = "now"
        self.deleted_by_hand.add(child["metadata"]["name"])

    def _delete_all(self) -> None:
        """kubectl delete rayjob,raycluster --all, of which nothing is left a moment later."""
        for (kind, _), one in self.cluster.objects.items():
            if kind in ("RayJob", "RayCluster"):
                self._delete(one)
        self.cluster.collect()

    def _fate(self, name: str) -> str:
        """The operator deletes in the foreground, so pods end first. A person may delete in the background, or by force."""
        return self.random.choice(["end", "lives on", "unseen"]) if name in self.deleted_by_hand else "end"

    def _meddle(self) -> None:  # noqa: C901, PLR0912 - a list of what people do
        """A person does something."""
        kind = self.random.choice(
            [
                *("suspend", "resume", "resume", "hold", "approve", "let go", "let go", "extend"),
                *("restart", "cluster", "mode", "install", "backend", "image", "mistake", "mistake", "correct", "correct"),
                "workers",
            ]
        )
        run, spec = self.cluster, self.cluster.run["spec"]
        if kind in ("suspend", "resume"):
            run.change_spec(suspend=kind == "suspend")
        elif kind == "hold":
            run.change_spec(holdBefore=["stage-2"])
        elif kind == "approve":
            run.annotate("visionr1.io/approve", "stage-2")
        elif kind == "let go":
            self._let_go()
        elif kind == "extend" and len(spec["recipe"]["stages"]) < 4:
            run.change_spec(recipe={**spec["recipe"], "stages": [*spec["recipe"]["stages"], STAGE]})
            run.take_commits_back("evaluate")  # its score is of another checkpoint now
            new = f"stage-{len(spec['recipe']['stages'])}"
            live = read_status(run.run).live()
            self.added_under |= {(live[1].name, new)} if live else set()
        elif kind == "restart":
            run.change_spec(restarts=spec.get("restarts", 0) + 1)
        elif kind == "mode":
            run.change_spec(grpo=self._mode())
        elif kind == "workers":
            run.change_spec(recipe={**spec["recipe"], "rollout": {"workers": self.random.choice([4, 8])}})
        elif kind == "install":
            run.served ^= {self.random.choice(SFT_KINDS)}
        elif kind == "backend":
            run.change_spec(sft={"backend": self.random.choice(["auto", "pytorchjob", "trainjob"])})
        elif kind in ("mistake", "correct"):
            run.recipe_refused = kind == "mistake"
            run.change_spec()
        elif kind == "image":
            run.change_spec(pods={"image": f"trainer:{self.random.randint(1, 3)}"})
        elif kind == "cluster":
            for (what, _), one in run.objects.items():
                if what == "RayCluster":
                    self._delete(one)

    def _let_go(self) -> None:
        breach = self.cluster.run.get("status", {}).get("breach")
        if breach is not None:
            self.cluster.annotate("visionr1.io/approve", f"breach-{breach['number']}")

    def _work(self, process: Process) -> None:
        """The process commits something, ends well, or fails."""
        if self.cluster.fenced(process):
            self.cluster.end(process, 4)
            return
        phase = next(one for one in chain_of(self.cluster.run) if one.name == process.phase)
        known = self.cluster.committed.get(phase.name, NOTHING)
        last = phase.first_step + 4
        if process.stop_key in self.cluster.asked_to_stop and self.random.random() < 0.5:
            step = min(last, (known.step or phase.first_step) + 1)
            self.cluster.commit(phase, step, step == last)
            self.cluster.end(process, 0 if step == last else 3)
            return
        what = self.random.choice(["commit", "commit", "end", "end", *["fail"] * self.failures, *["stop"], *["bad"] * self.bad])
        if what == "commit" and phase.kind in ("sft", "grpo"):
            step = min(last, (known.step or phase.first_step) + self.random.randint(1, 2))
            self.cluster.commit(phase, step, step == last)
            if self.random.random() < 0.5:
                self.cluster.bad_steps.add((phase.name, step))
        elif what == "end":
            self.cluster.commit(phase, last if phase.kind in ("sft", "grpo") else None, True)
            self.cluster.end(process, 0)
        elif what in ("fail", "stop", "bad"):
            self.cluster.end(process, {"fail": 1, "stop": 3, "bad": 64}[what])

    # What always holds.

    def check(self) -> None:
        """The invariants."""
        cluster, status = self.cluster, read_status(self.cluster.run)
        alive = {process.uid for process in cluster.seen()}
        assert len(alive) <= 1, f"two processes of one run live: {cluster.processes}"
        writers = [process for process in cluster.processes if not cluster.fenced(process)]
        assert len(writers) <= 1, f"two processes write: {writers}"
        clusters = [name for kind, name in cluster.objects if kind == "RayCluster"]
        assert len(clusters) <= 1, f"two RayClusters: {clusters}"
        twice = {one[1] for one in cluster.made if cluster.made.count(one) > 1}
        assert twice <= self.deleted_by_hand, f"made twice: {twice}"
        for process in cluster.seen():
            made = cluster.objects.get(("RayCluster", str(process.cluster)), {"metadata": {}})
            kept = "deletionTimestamp" not in made["metadata"]
            attempt = status.live()
            ending = attempt is not None and attempt[1].stopping is not None
            assert kept or ending or process.cluster in self.deleted_by_hand, "what trains was disturbed"
        self.elastic |= check_workers(cluster, status)
        names = [phase.name for phase in chain_of(cluster.run)]
        assert status.phase != "Suspended" or not alive, "said to be suspended while it trains"
        live = [phase.name for phase in status.phases for attempt in phase.attempts if attempt.ended is None]
        assert len(live) <= 1, f"two attempts live in the status: {live}"
        for process in cluster.seen():
            before = [name for name in names[: names.index(process.phase)] if (process.child, name) not in self.added_under]
            assert all(cluster.committed.get(name, NOTHING).complete for name in before), "a phase was skipped"
        going_back = status.breach is not None and status.breach.rollback_phase is not None and not status.breach.rolled_back
        assert not (going_back and cluster.seen() and not live), "something began in the middle of a rollback"
        for phase in status.phases:
            there = cluster.committed.get(phase.name, NOTHING)
            assert phase.complete <= there.complete or phase.name == "evaluate" or going_back
            counted = [one for one in phase.attempts if one.number >= phase.count_from]
            fruitless = 0
            for one in reversed(counted):
                if one.exit_code == 3 or one.from_step != phase.committed_step or phase.complete:
                    break
                fruitless += 1
            assert fruitless <= 3, f"{phase.name} had {fruitless} attempts without a checkpoint"
        self._check_new_attempts(status)
        self._check_terminal(status)

    def _check_new_attempts(self, status: Status) -> None:
        """What has begun since the last check; nobody has changed the spec in between."""
        spec, meta = self.cluster.run["spec"], self.cluster.run["metadata"]
        may_make = not (spec.get("suspend") or self.cluster.recipe_refused)
        assert len(self.cluster.made) == self.made or may_make, f"made while suspended or refused: {self.cluster.made}"
        self.made = len(self.cluster.made)
        for phase in status.phases:
            if phase.attempts_begun > self.begun.get(phase.name, 0):
                there = self.cluster.committed.get(phase.name, NOTHING)  # a rollback may have taken it back
                assert phase.name not in self.complete or not there.complete, f"{phase.name} was started after it was complete"
                newest = phase.attempts[-1]
                listed = (self.cluster.committed.get(phase.name, NOTHING), self.cluster.committed_before.get(phase.name, NOTHING))
                assert newest.from_step in {one.step for one in listed}, f"{newest.name} begins at a step that is not there"
                assert not spec.get("suspend"), f"{newest.name} began while suspended"
                again = phase.attempts_begun - 1 > phase.count_from or newest.from_step is not None
                held = phase.name in spec.get("holdBefore", []) and not again
                approved = meta.get("annotations", {}).get("visionr1.io/approve") == phase.name
                assert approved or not held, f"{newest.name} began without approval"
            self.begun[phase.name] = phase.attempts_begun
        self.complete = {phase.name for phase in status.phases if phase.complete and phase.name != "evaluate"}
        steps = {phase.name: phase.committed_step or 0 for phase in status.phases}
        if lost := [name for name, step in self.steps.items() if steps[name] < step]:
            assert self.cluster.rollbacks > self.rollbacks_shown, f"{lost} went back from {self.steps} to {steps}"
            self.rollbacks_shown = self.cluster.rollbacks
        self.steps = steps

    def _check_terminal(self, status: Status) -> None:
        spec = self.cluster.run["spec"]
        restarts, stages = spec.get("restarts", 0), len(spec["recipe"]["stages"])
        if status.phase == "Failed":
            assert not self.cluster.seen(), "a run that failed holds GPUs"
            if self.restarts_at_failure is None:
                self.restarts_at_failure = restarts
        elif self.restarts_at_failure is not None:
            assert restarts > self.restarts_at_failure, "a run that had failed went on by itself"
            self.restarts_at_failure = None
        if status.phase == "Succeeded":
            if self.stages_at_success is None:
                self.stages_at_success = stages
        elif self.stages_at_success is not None:
            assert stages > self.stages_at_success, "a run that had succeeded went on by itself"
            self.stages_at_success = None

    def settle(self) -> str:
        """Everybody behaves from now on: the run must come to an end. Gives its phase."""
        self.cluster.recipe_refused = False
        self.cluster.change_spec(suspend=False, holdBefore=[])
        self.cluster.bad_steps.clear()
        self.cluster.late = lambda: False
        self.cluster.served = set(SFT_KINDS)
        for _ in range(400):
            self._let_go()
            self.reconcile()
            phase = self.cluster.run["status"]["phase"]
            if phase in ("Succeeded", "Failed") and not any(kind == "RayCluster" for kind, _ in self.cluster.objects):
                self._stays(phase)
                return str(phase)
            self.cluster.nodes_are_back()
            self.cluster.collect()
            self.cluster.grace_is_over()
            for kind, queued in self.cluster.queueable():
                self.cluster.empty(kind, queued)
                self.cluster.let_in(kind, queued)
            few = self.short and self.cluster.run["spec"]["grpo"].get("minWorkers")
            self.cluster.workers.come(self.cluster.ray_clusters(), 3 if few else None)
            for process in list(self.cluster.processes):
                if self.cluster.fenced(process):
                    self.cluster.end(process, 4)
                    continue
                one = next(phase for phase in chain_of(self.cluster.run) if phase.name == process.phase)
                self.cluster.commit(one, one.first_step + 4 if one.kind in ("sft", "grpo") else None, True)
                if not self.hangs or process.outlives:
                    self.cluster.end(process, 0)
            for kind, child in self.cluster.children():
                self.cluster.start(kind, child)
            self._wait(30)
        raise AssertionError(f"the run never ended: {json.dumps(self.cluster.run['status'], indent=1)}")

    def _stays(self, phase: str) -> None:
        """A run that is over is so whatever else a person changes."""
        made = list(self.cluster.made)
        for suspend in (True, False):
            self.cluster.change_spec(suspend=suspend)
            for _ in range(3):
                self.reconcile()
                assert self.cluster.run["status"]["phase"] == phase and self.cluster.made == made, f"no longer {phase}"


def play(seed: int, length: int) -> tuple[str, int, bool]:
    """One whole schedule; gives the run's phase at its end, how often it was rolled back, and whether it had fewer workers."""
    schedule = Schedule(seed)
    with run_directory_of(schedule.cluster):
        for _ in range(length):
            schedule.happen()
        return schedule.settle(), schedule.cluster.rollbacks, schedule.elastic
