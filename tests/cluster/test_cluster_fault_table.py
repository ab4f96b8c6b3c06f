"""One fault after the other on the real node: what the user sees, what is trained again, what it costs. `make cluster-soak`.

Every run must end with the step log of the run that nothing happens to, and every fault must be seen to have had its effect.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from control_plane import NODE, ControlPlane, wait_for
from real_node import RealNode
from release import CHART, NAME, ONLY_STAGES, PODS, RECIPE, TRAINED, Release, train_alone

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import open_store

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

FAULT_AT = 5
"""The step after which it happens: one step after a commit."""
STEPS = 40
DISK = "1Gi"
"""What a pod may write outside its volumes."""
TABLE: list[dict[str, Any]] = []


def pods_of(release: Release, role: str) -> list[dict[str, Any]]:
    """The pods of a run with this role."""
    pods: list[dict[str, Any]] = release.get("pods", "-l", f"visionr1.io/role={role}")["items"]
    return pods


def replaced(release: Release, kind: str, selector: str = "visionr1.io/run") -> Callable[[], bool]:
    """Whether, from now on, something that is there now has gone."""

    def uids() -> set[str]:
        return {one["metadata"]["uid"] for one in release.get(kind, "-l", selector)["items"]}

    before = uids()
    assert before, f"no {kind} to lose"
    return lambda: bool(before - uids())


def processes(pod: dict[str, Any], name: str) -> list[psutil.Process]:
    """A pod's processes with a command that begins like this."""
    containers = [one["containerID"].rpartition("/")[2] for one in pod["status"]["containerStatuses"]]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        group = Path(f"/proc/{process.pid}/cgroup")
        if (process.info["cmdline"] or [""])[0].startswith(name) and group.exists():
            found += [process for container in containers if container in group.read_text()]
    return found


def kill(process: psutil.Process) -> Callable[[], bool]:
    process.kill()
    return lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def lose_the_head(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "pods", "visionr1.io/role=head")
    release.kubectl("delete", "pods", "-l", "visionr1.io/role=head", "--grace-period=0", "--force")
    return seen


def lose_a_worker_pod(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "pods", "visionr1.io/role=worker")
    release.kubectl("delete", "pod", release.pods("visionr1.io/role=worker")[0], "--grace-period=0", "--force")
    return seen


def kill_a_worker_process(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    return kill(processes(pods_of(release, "worker")[0], "ray::Host")[0])


def run_a_worker_out_of_memory(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """Its pod gets no more than it has, until the kernel kills."""
    (worker,) = processes(pods_of(release, "worker")[0], "ray::Host")
    with node.memory_limit(worker.pid) as squeeze:
        wait_for("the kernel kills", lambda: squeeze() and not worker.is_running(), 120, every=0.05)
    return lambda: not worker.is_running()


def kill_the_head_s_raylet(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    return kill(_raylet(pods_of(release, "head")[0]))


def kill_a_worker_s_raylet(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    return kill(_raylet(pods_of(release, "worker")[0]))


def _raylet(pod: dict[str, Any]) -> psutil.Process:
    return next(one for one in processes(pod, "/") if one.name() == "raylet")


def kill_a_container_shim(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """The process that holds a pod's containers; the kubelet makes its sandbox again, or KubeRay the pod."""
    (worker,) = processes(pods_of(release, "worker")[0], "ray::Host")
    return kill(next(one for one in worker.parents() if "containerd-shim" in one.name()))


def fill_the_disk(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """A worker's pod writes more than it may; the kubelet, which looks only now and then, takes it away."""
    seen, pod = replaced(release, "pods", "visionr1.io/role=worker"), pods_of(release, "worker")[0]
    processes(pod, "ray::Host")[0].suspend()
    release.kubectl("exec", pod["metadata"]["name"], "--", "fallocate", "-l", "2G", "/tmp/full")
    wait_for("an eviction", lambda: "Evicted" in release.kubectl("get", "events"), 180)
    return seen


def delete_the_rayjob(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "rayjobs")
    release.kubectl("delete", "rayjobs", "--all", "--wait=false")
    return seen


def delete_the_raycluster(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "rayclusters")
    release.kubectl("delete", "rayclusters", "--all", "--wait=false")
    return seen


def lose_the_api_server(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """Training does not need it."""
    before = len(release.steps("demo"))
    plane.lose_api_server(60)
    return lambda: len(release.steps("demo")) > before + 5


def lose_the_kubelet(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """Long enough for the node to be taken for lost; its pods go on."""

    def ready() -> dict[str, Any]:
        return next(one for one in plane.get("node", NODE)["status"]["conditions"] if one["type"] == "Ready")

    before = ready()["lastTransitionTime"]
    node.lose_kubelet(75)
    return lambda: ready()["status"] == "True" and ready()["lastTransitionTime"] != before


def drain_the_node(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "pods")
    plane.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=visionr1.io/run")
    plane.kubectl("uncordon", NODE)
    return seen


def suspend_and_go_on(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "rayclusters")
    change(release, {"suspend": True})
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    change(release, {"suspend": False})
    return seen


def roll_out_a_wrong_image(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """What runs goes on; the next attempt gets it, and waits until it is corrected."""
    image = release.get("ptst", "demo")["spec"]["pods"]["image"]
    change(release, {"pods": {"image": "docker.io/visionr1-test/pod:no-such"}})
    release.kubectl("delete", "rayjobs", "--all", "--wait=false")
    wait_for("an image that cannot be pulled", lambda: "Image" in release.kubectl("get", "pods"), 120)
    seen = replaced(release, "rayclusters")
    change(release, {"pods": {"image": image}})
    return seen


def change(release: Release, spec: dict[str, Any]) -> None:
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", json.dumps({"spec": spec}))


def upgrade_the_operator(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    selector = "app.kubernetes.io/component=operator"
    seen = replaced(release, "pods", selector)
    release.helm("upgrade", NAME, str(CHART), "--reuse-values", "--set", f"operator.image.tag={node.next_operator()}")
    release.kubectl("rollout", "status", f"deploy/{NAME}-operator", "--timeout=60s")
    return seen


FAULTS = [
    lose_the_head,
    kill_the_head_s_raylet,
    lose_a_worker_pod,
    kill_a_worker_process,
    run_a_worker_out_of_memory,
    kill_a_worker_s_raylet,
    kill_a_container_shim,
    fill_the_disk,
    delete_the_rayjob,
    delete_the_raycluster,
    lose_the_api_server,
    lose_the_kubelet,
    drain_the_node,
    suspend_and_go_on,
    roll_out_a_wrong_image,
    upgrade_the_operator,
]


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    yield made
    made.uninstall("ptst,rayclusters,rayjobs,pytorchjobs,pods")


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints what was seen when all is over."""
    yield
    print(
        "\n| fault | attempts and how they ended | steps trained again | longest pause between two steps, s |\n|---|---|---|---|"
    )
    for row in TABLE:
        print(f"| {row['fault']} | {row['attempts']}: {'; '.join(row['ends'])} | {row['repeated']} | {row['seconds']} |")


class Repeated(threading.Thread):
    """Counts the steps that a step log loses, because the driver trains them again."""

    def __init__(self, release: Release) -> None:
        super().__init__(daemon=True)
        self._file = release.runs / "demo/steps.jsonl"
        self._ended = threading.Event()
        self.steps = 0

    def __enter__(self) -> Repeated:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        before = 0
        while not self._ended.wait(0.05):
            now = self._file.read_bytes().count(b"\n")
            self.steps += max(0, before - now)
            before = now


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault(
    fault: Callable[..., Callable[[], bool]],
    release: Release,
    platform: ControlPlane,
    node: RealNode,
    undisturbed: list[dict[str, Any]],
) -> None:
    recipe = {**ONLY_STAGES, "stages": ONLY_STAGES["stages"][:1]}
    resources = {**PODS["resources"], "limits": {"ephemeral-storage": DISK}}
    release.install(recipe, pods={**PODS, "resources": resources}, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60})
    wait_for(f"step {FAULT_AT}", lambda: len(release.steps("demo")) >= FAULT_AT, 300)
    with Repeated(release) as repeated:
        happened = fault(release, platform, node)
        wait_for("it has happened", happened, 60)
        release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 600)
    (stage,) = [one for one in release.status("demo")["phases"] if one["name"] == "stage-1"]
    ends = [one.get("reason", "")[:80] for one in stage["attempts"]]
    pauses = [after["time"] - before["time"] for before, after in itertools.pairwise(release.steps("demo"))]
    row = {"fault": fault.__name__.replace("_", " "), "attempts": stage["attemptsBegun"], "ends": ends}
    TABLE.append({**row, "repeated": repeated.steps, "seconds": round(max(pauses))})
    print(f"\n{json.dumps(TABLE[-1])}", flush=True)
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed][:STEPS] and len(trained) == STEPS


def test_a_pod_of_every_other_phase_is_lost(release: Release, tmp_path: Path) -> None:
    """Cold start, each of SFT's two pods, evaluation."""
    sft = {"max_steps": 60, "processes": 1, "checkpoint_every": 4}
    recipe = {**RECIPE, "coldstart": {"problems": {"limit": 1500}}, "sft": sft, "stages": [{**RECIPE["stages"][0], "steps": 2}]}
    release.install(recipe, retry={"firstWaitSeconds": 1})
    checkpoints = Checkpoints(open_store(str(release.runs / "demo")), "sft")

    def lose(phase: str, pod: str = "") -> None:
        selector = f"visionr1.io/run=demo,visionr1.io/phase={phase}"
        wait_for(f"a pod of {phase}", lambda: _running(release, selector, pod), 200)
        before = checkpoints.latest() or 0
        if phase == "sft":
            wait_for("a checkpoint", lambda: (checkpoints.latest() or 0) > before, 200)
        seen = replaced(release, "pods", selector)
        release.kubectl("delete", "pod", _running(release, selector, pod)[0], "--grace-period=0", "--force")
        wait_for("it is gone", seen, 60)

    lose("coldstart")
    lose("sft", "demo-sft-0-worker-0")
    # The training-operator makes a pod again that was deleted; its neighbour has stopped with it, so there is a second attempt.
    lose("sft", "demo-sft-1-worker-1")
    lose("evaluate")
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 400)
    phases = {one["name"]: one for one in release.status("demo")["phases"]}
    print(f"\n{json.dumps(phases)}")
    assert [phases[name]["attemptsBegun"] for name in ("coldstart", "sft", "stage-1", "evaluate")] == [2, 3, 1, 2]
    assert all(one["fromStep"] >= 4 for one in phases["sft"]["attempts"][1:])
    trained = [{key: one.get(key) for key in TRAINED} for one in release.steps("demo")]
    assert trained == [
        {key: one.get(key) for key in TRAINED} for one in train_alone({**recipe, "sft": {**sft, "processes": 2}}, tmp_path)
    ]


def _running(release: Release, selector: str, name: str) -> list[str]:
    """Running pods with a name that begins like this."""
    pods = [pod for pod in release.get("pods", "-l", selector)["items"] if pod["status"]["phase"] == "Running"]
    return [pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"].startswith(name)]
