"""An API server, the three operators behind it and the processes of a run, in memory; for schedules by the thousand.

It keeps what the decisions depend on: uids, resourceVersions with conflicts, deletion that takes time, drivers that outlive
their RayJob. What it leaves out (schemas, admission, the real controllers) is tested against the real ones.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fake_workers import FakeWorkers
from ptst_operator.api import ApiError
from ptst_operator.children.raycluster import POD_LABEL
from ptst_operator.effects import RunEvent
from ptst_operator.names import RUN_LABEL

from visionr1.recipe import Phase, Recipe
from visionr1.rundir.committed import Committed


def copied(manifest: Any) -> Any:
    """As it goes over the wire."""
    return json.loads(json.dumps(manifest))


NOTHING = Committed(None, False)


class Crash(BaseException):
    """The operator's process is killed here."""


Objects = list[tuple[str, dict[str, Any]]]
"""Kind and manifest of each."""


@dataclass
class Process:
    """A driver, or the pods of a job; `cluster` is the RayCluster it would end with, `stop_key` what it is asked by.

    Attributes:
        epoch: of the attempt; the run directory refuses what an older one writes.
        outlives: its object is gone, and it trains on for its grace time.
        unseen: its node is cut off, and its pods were deleted from the API only.
        cut_off: its node reaches the storage, but not the API server: nobody can end it, and its pods stay in the API.
    """

    phase: str
    child: str
    uid: str
    cluster: str | None
    stop_key: str | None = None
    epoch: int = 0
    outlives: bool = False
    unseen: bool = False
    cut_off: bool = False


Processes = list[Process]


@dataclass
class FakeCluster:
    """`before_call` and `after_call` get every call of the API, and may raise.

    `decided` has the recipes of the run directory by hash. `late` says whether a listing of the run directory misses a phase's
    newest commit, `fate` what becomes of the processes of an object of this name that is deleted: they end before it, live on, or
    live on unseen.
    """

    run: dict[str, Any]
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)
    committed: dict[str, Committed] = field(default_factory=dict)
    committed_before: dict[str, Committed] = field(default_factory=dict)
    late: Callable[[], bool] = lambda: False
    fate: Callable[[str], str] = lambda name: "end"
    epoch: int = 0
    events: list[RunEvent] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    waiting_pods: list[dict[str, Any]] = field(default_factory=list)
    workers: FakeWorkers = field(default_factory=FakeWorkers)
    decided: dict[str, Recipe] = field(default_factory=dict)
    bad_steps: set[tuple[str, int]] = field(default_factory=set)
    asked_to_stop: set[str] = field(default_factory=set)
    recipe_refused: bool = False
    rollbacks: int = 0
    config_maps: dict[str, dict[str, Any]] = field(default_factory=dict)
    served: set[str] = field(default_factory=lambda: {"PyTorchJob"})
    before_call: Callable[[str], object] = lambda call: None
    after_call: Callable[[str], object] = lambda call: None
    _uids: Any = field(default_factory=lambda: itertools.count(1))

    namespace = "default"
    pod_security = "restricted"

    def namespace_labels(self) -> dict[str, str]:
        return {"pod-security.kubernetes.io/enforce": self.pod_security}

    def within(self, namespace: str) -> FakeCluster:
        """There is one namespace."""
        return self

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        self.before_call("get")
        if kind == "ConfigMap":
            given: dict[str, Any] | None = copied(self.config_maps.get(name))
            return given
        found: dict[str, Any] | None = copied(self.run if kind == "PTSTRun" else self.objects.get((kind, name)))
        self.after_call("get")
        return found

    def list(self, kind: str, selector: str = "", fields: str = "") -> dict[str, Any]:
        self.before_call("list")
        if kind == "Event":
            assert fields == "type=Warning"
            return {"items": copied(self.warnings)}
        assert kind == "Pod"
        label, _, name = selector.partition("=")
        alive = [one for one in self.seen() if label == RUN_LABEL or name == (one.cluster if label == POD_LABEL else one.child)]
        ended = self.objects.get(("pods of", name), {"items": []})["items"]
        running = [{"metadata": {"name": one.child}, "status": {"phase": "Running"}} for one in alive]
        waiting = [pod for pod in self.waiting_pods if pod["metadata"]["labels"].get(label) == name]
        workers = self.workers.listed(name) if label == POD_LABEL and ("RayCluster", name) in self.objects else []
        return {"items": [*running, *workers, *copied(waiting), *copied(ended)]}

    def seen(self) -> Processes:
        """Processes with pods that the API server knows."""
        return [one for one in self.processes if not one.unseen]

    def fenced(self, process: Process) -> bool:
        """Whether a newer attempt has taken the run directory over."""
        return process.epoch < self.epoch

    def serves(self, kind: str) -> bool:
        self.before_call("serves")
        return kind in self.served

    def apply(self, manifest: dict[str, Any]) -> None:
        self.before_call("apply")
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == "TrainJob" and ("TrainingRuntime", name) not in self.objects:
            raise ApiError(403, "admission webhook: specified trainingRuntime must be created before the TrainJob is created")
        if (kind, name) not in self.objects:
            made = copied(manifest)
            made["metadata"]["uid"] = f"uid-{next(self._uids)}"
            self.objects[kind, name] = made
            self.made.append((kind, name))
        elif kind == "RayCluster":
            self.objects[kind, name]["spec"]["workerGroupSpecs"] = copied(manifest["spec"]["workerGroupSpecs"])
        self.after_call("apply")

    def delete(self, kind: str, name: str, uid: str) -> None:
        self.before_call("delete")
        found = self.objects.get((kind, name))
        if found is not None and found["metadata"]["uid"] == uid:
            found["metadata"]["deletionTimestamp"] = "now"
        self.after_call("delete")

    def write_status(self, run: dict[str, Any], status: dict[str, Any]) -> None:
        self.before_call("status")
        if run["metadata"]["resourceVersion"] != self.run["metadata"]["resourceVersion"]:
            raise ApiError(409, "the object has been modified")
        self.run["status"] = copied(status)
        self._touch()
        self.after_call("status")

    def post_event(self, run: dict[str, Any], event: RunEvent, now: str) -> None:
        self.before_call("event")
        self.events.append(event)

    def change_spec(self, **changes: Any) -> None:
        """A person edits the run."""
        self.run["spec"] |= changes
        self.run["metadata"]["generation"] += 1
        self._touch()

    def annotate(self, key: str, value: str) -> None:
        self.run["metadata"].setdefault("annotations", {})[key] = value
        self._touch()

    def _touch(self) -> None:
        self.run["metadata"]["resourceVersion"] = str(int(self.run["metadata"]["resourceVersion"]) + 1)

    # What happens in the cluster by itself.

    def children(self) -> Objects:
        """Jobs of all kinds that are not being deleted."""
        kinds = ("Job", "PyTorchJob", "TrainJob", "RayJob")
        return [(kind, one) for (kind, _), one in self.objects.items() if kind in kinds and not _deleting(one)]

    def start(self, kind: str, child: dict[str, Any]) -> None:
        """The child's process begins, if it has none and is not over; a RayJob needs its cluster."""
        meta = child["metadata"]
        if suspended(child) or child.get("status") or any(one.uid == meta["uid"] for one in self.processes):
            return
        cluster = child["spec"].get("clusterSelector", {}).get("ray.io/cluster")
        if cluster is not None and not _runs(self.objects.get(("RayCluster", cluster))):
            return
        child["status"] = _STATUS[kind]["running"]
        stop_key = child["spec"].get("entrypoint", "").partition(" --stop-when ")[2] or None
        self.epoch += 1
        phase = meta["labels"]["visionr1.io/phase"]
        self.processes.append(Process(phase, meta["name"], meta["uid"], cluster, stop_key, self.epoch))

    def write_bytes(self, key: str, data: bytes) -> None:
        """All that is written into a run directory in schedules."""
        self.before_call("ask")
        self.asked_to_stop.add(key)
        self.after_call("ask")

    def exists(self, key: str) -> bool:
        """Whether that was written."""
        return key in self.asked_to_stop

    def commit(self, phase: Phase, step: int | None, complete: bool) -> None:
        self.committed_before[phase.name] = self.committed.get(phase.name, NOTHING)
        self.committed[phase.name] = Committed(step, complete)

    def take_commits_back(self, phase: str, to: Committed = NOTHING) -> None:
        """To an earlier commit or none; no listing is late after it."""
        self.committed[phase] = self.committed_before[phase] = to

    def listed(self, phase: str) -> Committed:
        """What a listing of the run directory shows of a phase."""
        return (self.committed_before if self.late() else self.committed).get(phase, NOTHING)

    def end(self, process: Process, code: int) -> None:
        """The process ends, and its child, if it is there, says so."""
        self.processes.remove(process)
        for kind, child in self.children():
            if child["metadata"]["uid"] == process.uid:
                child["status"] = ended_status(kind, code)
                if kind != "RayJob":  # whose exit code is in its own words
                    name = {"PyTorchJob": "pytorch", "TrainJob": "node", "Job": "visionr1"}[kind]
                    state = {"terminated": {"exitCode": code}}
                    ended = {"phase": "Failed", "containerStatuses": [{"name": name, "state": state}]}
                    pod = {"metadata": {"name": name}, "status": ended}
                    self.objects["pods of", process.child] = {"metadata": {}, "items": [pod]}

    def lose_touch(self, process: Process, status: dict[str, str]) -> None:
        """KubeRay gives up a RayJob although its driver lives, with one of `LOST_TOUCH`."""
        for kind, child in self.children():
            if kind == "RayJob" and child["metadata"]["uid"] == process.uid:
                child["status"] = dict(status)

    def collect(self) -> None:
        """Deletions end: pods of a job with it, those of a TrainJob after it, a driver only with its cluster."""
        there = {one["metadata"].get("uid") for one in self.objects.values()}
        self._end([one for one in self.processes if one.cluster is None and one.uid not in there])
        for key, one in list(self.objects.items()):
            if not _deleting(one):
                continue
            kind, name = key
            if self._held_by_a_node(kind, one):
                continue
            if kind == "RayCluster":
                self._end([one for one in self.processes if one.cluster == name], self.fate(name))
            elif "clusterSelector" not in one["spec"]:
                if kind != "TrainJob":
                    uid = one["metadata"]["uid"]
                    self._end([process for process in self.processes if process.uid == uid], self.fate(name))
                self.objects.pop(("pods of", name), None)
            del self.objects[key]

    def _held_by_a_node(self, kind: str, one: dict[str, Any]) -> bool:
        """Whether it waits, in a foreground deletion, for a pod on a node that is cut off."""
        name, uid = one["metadata"]["name"], one["metadata"]["uid"]
        mine = [process for process in self.seen() if process.cut_off and not process.outlives]
        on_it = any(process.cluster == name if kind == "RayCluster" else process.uid == uid for process in mine)
        return on_it and self.fate(name) == "end"

    def _end(self, chosen: Processes, fate: str = "end") -> None:
        """What becomes of processes whose object goes; those that have outlived it already are left alone."""
        for one in chosen:
            if one.outlives:
                continue
            one.outlives, one.unseen = fate != "end" or one.cut_off, fate == "unseen"
            if not one.outlives:
                self.processes.remove(one)

    def grace_is_over(self) -> None:
        """Pods that have outlived their objects end; a node that is cut off hears of nothing."""
        self.processes = [one for one in self.processes if one.unseen or one.cut_off or not one.outlives]

    def nodes_are_back(self) -> None:
        """Nodes that were cut off hear what they have missed."""
        for one in self.processes:
            one.cut_off = False

    def ready(self) -> None:
        """RayClusters become ready."""
        self.workers.come(self.ray_clusters())

    def ray_clusters(self) -> Objects:
        """Those that KubeRay makes pods for, by their names."""
        found = [(name, one) for (kind, name), one in self.objects.items() if kind == "RayCluster"]
        return [(name, one) for name, one in found if not _deleting(one) and not suspended(one)]

    # A queue, and what training-operator, KubeRay and the Job controller make of its word.

    def queueable(self) -> Objects:
        """What a queue lets in and takes back: whatever brings pods, and is not over."""
        alone = [(kind, one) for kind, one in self.children() if "clusterSelector" not in one["spec"]]
        alone = [(kind, one) for kind, one in alone if one.get("status") in (None, _STATUS[kind]["running"])]
        return alone + [(kind, one) for (kind, _), one in self.objects.items() if kind == "RayCluster" and not _deleting(one)]

    def take_back(self, kind: str, one: dict[str, Any]) -> None:
        """The queue suspends it; its pods are still there."""
        (one["spec"]["runPolicy"] if kind == "PyTorchJob" else one["spec"])["suspend"] = True

    def empty(self, kind: str, one: dict[str, Any]) -> None:
        """The pods of what is suspended are gone."""
        if not suspended(one):
            return
        name = one["metadata"]["name"]
        if kind == "RayCluster":
            self.processes = [process for process in self.processes if process.cluster != name]
            one["status"] = {"state": "suspended"}
            for other, child in self.children():
                on_it = child["spec"].get("clusterSelector") == {"ray.io/cluster": name}
                if on_it and child.get("status") == _STATUS[other]["running"]:
                    child.pop("status")  # KubeRay submits it again once there is a new head
        else:
            self.processes = [process for process in self.processes if process.uid != one["metadata"]["uid"]]
            one.pop("status", None)

    def let_in(self, kind: str, one: dict[str, Any]) -> None:
        """The queue has a place for what is suspended and empty."""
        if suspended(one) and one.get("status") in (None, {"state": "suspended"}):
            (one["spec"]["runPolicy"] if kind == "PyTorchJob" else one["spec"])["suspend"] = False


def suspended(one: dict[str, Any]) -> bool:
    """Whether a queue has not let it in, or takes it back."""
    return bool(one["spec"].get("suspend") or one["spec"].get("runPolicy", {}).get("suspend"))


def _runs(cluster: dict[str, Any] | None) -> bool:
    return cluster is not None and not _deleting(cluster) and not suspended(cluster)


def _deleting(manifest: dict[str, Any]) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def ended_status(kind: str, code: int) -> dict[str, Any]:
    """What a child of this kind says when its process has ended with `code`."""
    return _STATUS[kind]["done"] if code == 0 else copied(_failed(kind, code))


def _failed(kind: str, code: int) -> dict[str, Any]:
    if kind == "RayJob":
        reported = f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\nlogs"
        return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": reported}
    return {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}]}


LOST_TOUCH: tuple[dict[str, str], ...] = (
    {"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING", "reason": "JobStatusCheckTimeoutExceeded"},
    {"jobDeploymentStatus": "Failed", "dashboardURL": "run-ray-0-head-svc:8265", "reason": "SubmissionFailed"},
    {"jobDeploymentStatus": "ValidationFailed", "jobStatus": "RUNNING", "reason": "ValidationFailed"},
)
_STATUS: dict[str, dict[str, dict[str, Any]]] = {
    "Job": {
        "running": {"ready": 1},
        "done": {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]},
    },
    "PyTorchJob": {
        "running": {"conditions": [{"type": "Created", "status": "True"}, {"type": "Running", "status": "True"}]},
        "done": {"conditions": [{"type": "Running", "status": "False"}, {"type": "Succeeded", "status": "True"}]},
    },
    "TrainJob": {
        "running": {"jobsStatus": [{"name": "node", "ready": 1, "active": 1}]},
        "done": {"conditions": [{"type": "Complete", "status": "True"}], "jobsStatus": [{"name": "node", "succeeded": 1}]},
    },
    "RayJob": {
        "running": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        "done": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"},
    },
}
