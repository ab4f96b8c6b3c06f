"""One fault after the other on the real node: what the user sees, what is trained again, what it costs. `make cluster-soak`.

Every run must end with the step log of the run that nothing happens to, and every fault must be seen to have had its effect.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from control_plane import NODE, ControlPlane, wait_for
from real_node import RealNode
from release import CHART, NAME, ONLY_STAGES, RECIPE, TRAINED, Release

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

FAULT_AT = 5
"""The step after which it happens: one step after a commit."""
STEPS = 40
TABLE: list[dict[str, Any]] = []


def uids(release: Release, kind: str, selector: str = "visionr1.io/run") -> set[str]:
    return {one["metadata"]["uid"] for one in release.get(kind, "-l", selector)["items"]}


def replaced(release: Release, kind: str, selector: str = "visionr1.io/run") -> Callable[[], bool]:
    """Whether, from now on, something that is there now has gone."""
    before = uids(release, kind, selector)
    assert before, f"no {kind} to lose"
    return lambda: bool(before - uids(release, kind, selector))


def lose_the_head(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "pods", "visionr1.io/role=head")
    release.kubectl("delete", "pods", "-l", "visionr1.io/role=head", "--grace-period=0", "--force")
    return seen


def lose_a_worker_pod(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "pods", "visionr1.io/role=worker")
    release.kubectl("delete", "pod", release.pods("visionr1.io/role=worker")[0], "--grace-period=0", "--force")
    return seen


def kill_a_worker_process(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """As the kernel does when memory is short."""
    found = [one for one in psutil.process_iter(["cmdline"]) if "ray::" in "".join(one.info["cmdline"] or [])[:5]]
    actors = [one for one in found if "IDLE" not in one.info["cmdline"][0]]
    assert actors, [one.info["cmdline"][0] for one in found]
    actors[0].kill()
    return lambda: not actors[0].is_running() or actors[0].status() == psutil.STATUS_ZOMBIE


def kill_a_container_shim(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """The process that holds a pod's containers; the kubelet makes its sandbox anew, or KubeRay the pod."""
    name = release.pods("visionr1.io/role=worker")[0]
    container = release.get("pod", name)["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    shim = _shim_of(container)
    shim.kill()
    return lambda: not shim.is_running()


def _shim_of(container: str) -> psutil.Process:
    for process in psutil.process_iter():
        group = Path(f"/proc/{process.pid}/cgroup")
        if group.exists() and container in group.read_text():
            return next(one for one in process.parents() if "containerd-shim" in one.name())
    raise AssertionError(f"no process of container {container}")


def delete_the_rayjob(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "rayjobs")
    release.kubectl("delete", "rayjobs", "--all", "--wait=false")
    return seen


def delete_the_raycluster(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "rayclusters")
    release.kubectl("delete", "rayclusters", "--all", "--wait=false")
    return seen


def lose_the_api_server(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    plane.lose_api_server(60)
    return lambda: True


def lose_the_kubelet(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    node.lose_kubelet(75)
    return lambda: True


def drain_the_node(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "pods")
    plane.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=visionr1.io/run")
    plane.kubectl("uncordon", NODE)
    return seen


def suspend_and_go_on(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    seen = replaced(release, "rayclusters")
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    return seen


def roll_out_a_wrong_image(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    """What runs goes on; the next attempt gets it, and when it is corrected, the one after runs."""
    image = release.get("ptst", "demo")["spec"]["pods"]["image"]
    wrong = {"spec": {"pods": {"image": "docker.io/visionr1-test/pod:no-such"}, "suspend": True}}
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", json.dumps(wrong))
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    wait_for("an image that cannot be pulled", lambda: "Image" in release.kubectl("get", "pods"), 120)
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", json.dumps({"spec": {"pods": {"image": image}}}))
    seen = replaced(release, "rayclusters")
    release.kubectl("delete", "rayclusters", "--all", "--wait=false")
    return seen


def upgrade_the_operator(release: Release, plane: ControlPlane, node: RealNode) -> Callable[[], bool]:
    selector = "app.kubernetes.io/component=operator"
    seen = replaced(release, "pods", selector)
    release.helm("upgrade", NAME, str(CHART), "--reuse-values", "--set", "operator.resyncSeconds=2")
    return seen


FAULTS = [
    lose_the_head,
    lose_a_worker_pod,
    kill_a_worker_process,
    kill_a_container_shim,
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
    made.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not made.get("ptst,rayclusters,rayjobs,pytorchjobs,pods")["items"], 120)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints what was seen when all is over."""
    yield
    print(
        "\n| fault | what the user sees | attempts | steps repeated | longest pause between two steps, s |\n|---|---|---|---|---|"
    )
    for row in TABLE:
        print(f"| {row['fault']} | {'; '.join(row['seen'])} | {row['attempts']} | {row['repeated']} | {row['seconds']} |")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault(
    fault: Callable[..., Callable[[], bool]],
    release: Release,
    platform: ControlPlane,
    node: RealNode,
    undisturbed: list[dict[str, Any]],
) -> None:
    recipe = {**ONLY_STAGES, "stages": ONLY_STAGES["stages"][:1]}
    release.install(recipe, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60})
    wait_for(f"step {FAULT_AT}", lambda: len(release.steps("demo")) >= FAULT_AT, 300)
    known, begun = len(release.steps("demo")), time.monotonic()
    happened = fault(release, platform, node)
    wait_for("it has happened", happened, 60)
    least, seen = known, list[str]()
    while (status := release.status("demo")).get("phase") not in ("Succeeded", "Failed"):
        steps = len(release.steps("demo"))
        least = min(least, steps) if steps else least
        said = next((one for one in status.get("conditions", []) if one["type"] == "Progressing"), {"reason": ""})
        if not seen or seen[-1] != said["reason"]:
            seen.append(said["reason"])
        assert time.monotonic() - begun < 600, f"{status}\n{release.log()}"
        time.sleep(0.5)
    (stage,) = [one for one in release.status("demo")["phases"] if one["name"] == "stage-1"]
    ends = [one.get("reason", "")[:60] for one in stage["attempts"]]
    row = {"fault": fault.__name__.replace("_", " "), "attempts": stage["attemptsBegun"], "seen": seen, "ends": ends}
    times = [one["time"] for one in release.steps("demo")]
    pause = max(after - before for before, after in itertools.pairwise(times))
    TABLE.append({**row, "repeated": known - least, "seconds": round(pause)})
    print(f"\n{json.dumps(TABLE[-1])}", flush=True)
    assert status["phase"] == "Succeeded", release.log()
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed][:STEPS] and len(trained) == STEPS


def test_a_lost_pod_of_sft(release: Release) -> None:
    """It has no step log: what counts is that the next attempt goes on from a checkpoint, and the run to its end."""
    sft = {"max_steps": 40, "processes": 1, "checkpoint_every": 4}
    recipe = {**RECIPE, "sft": sft, "stages": [{**RECIPE["stages"][0], "steps": 2}]}
    release.install(recipe, retry={"firstWaitSeconds": 1})
    folder = release.runs / "demo/checkpoints/sft"
    wait_for("a checkpoint of SFT", lambda: list(folder.glob("step-*/manifest.json")), 300)
    seen = replaced(release, "pods", "visionr1.io/role=sft")
    release.kubectl("delete", "pods", "-l", "visionr1.io/role=sft", "--grace-period=0", "--force")
    wait_for("they are gone", seen, 60)
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 400)
    (phase,) = [one for one in release.status("demo")["phases"] if one["name"] == "sft"]
    print(f"\n{json.dumps(phase)}")
    assert phase["attemptsBegun"] == 2 and phase["attempts"][1]["fromStep"] >= 4
