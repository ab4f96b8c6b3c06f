"""One fault after the other on the real node: what the user sees, what is trained again, what it costs. `make cluster-soak`.

Every run must end with the step log of the run that nothing happens to. Not collected by default: each fault takes minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from control_plane import NODE, ControlPlane, wait_for
from real_node import RealNode
from release import NAME, Release
from test_cluster_faults import ONLY_STAGES, TRAINED, undisturbed

__all__ = ["undisturbed"]

pytestmark = pytest.mark.timeout(900)

FAULT_AT = 5
"""The step after which it happens: one step after a commit."""
TABLE: list[dict[str, Any]] = []
Fault = Callable[[Release, ControlPlane, RealNode], None]


def lose_the_head(release: Release, plane: ControlPlane, node: RealNode) -> None:
    release.kubectl("delete", "pods", "-l", "visionr1.io/role=head", "--grace-period=0", "--force")


def lose_a_worker_pod(release: Release, plane: ControlPlane, node: RealNode) -> None:
    release.kubectl("delete", "pod", release.pods("visionr1.io/role=worker")[0], "--grace-period=0", "--force")


def kill_a_worker_process(release: Release, plane: ControlPlane, node: RealNode) -> None:
    """As the kernel does when memory is short."""
    next(one for one in psutil.process_iter(["name"]) if one.info["name"].startswith("ray::Host")).kill()


def kill_a_container_shim(release: Release, plane: ControlPlane, node: RealNode) -> None:
    pod = release.get("pod", release.pods("visionr1.io/role=worker")[0])
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    sandbox = _sandbox_of(container)
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or []
        if words and "containerd-shim" in words[0] and sandbox in words:
            one.kill()


def _sandbox_of(container: str) -> str:
    """The id by which a container's shim is named."""
    for process in psutil.process_iter():
        group = Path(f"/proc/{process.pid}/cgroup")
        if group.exists() and container in group.read_text():
            shim = next(one for one in process.parents() if "containerd-shim" in one.name())
            words = shim.cmdline()
            return words[words.index("-id") + 1]
    raise AssertionError(f"no process of container {container}")


def delete_the_rayjob(release: Release, plane: ControlPlane, node: RealNode) -> None:
    release.kubectl("delete", "rayjobs", "--all", "--wait=false")


def delete_the_raycluster(release: Release, plane: ControlPlane, node: RealNode) -> None:
    release.kubectl("delete", "rayclusters", "--all", "--wait=false")


def lose_the_api_server(release: Release, plane: ControlPlane, node: RealNode) -> None:
    plane.lose_api_server(60)


def lose_the_kubelet(release: Release, plane: ControlPlane, node: RealNode) -> None:
    node.lose_kubelet(75)


def drain_the_node(release: Release, plane: ControlPlane, node: RealNode) -> None:
    plane.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=visionr1.io/run")
    time.sleep(10)
    plane.kubectl("uncordon", NODE)


def suspend_and_go_on(release: Release, plane: ControlPlane, node: RealNode) -> None:
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')


def roll_out_a_wrong_image(release: Release, plane: ControlPlane, node: RealNode) -> None:
    """The next attempt gets it; corrected, the one after runs."""
    image = release.get("ptst", "demo")["spec"]["pods"]["image"]
    wrong = {"spec": {"pods": {"image": "docker.io/visionr1-test/pod:no-such"}, "deadlines": {"pendingSeconds": 60}}}
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", json.dumps(wrong))
    suspend_and_go_on(release, plane, node)
    wait_for("an image that cannot be pulled", lambda: "ImagePull" in release.kubectl("get", "pods"), 120)
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", json.dumps({"spec": {"pods": {"image": image}}}))
    release.kubectl("delete", "rayclusters", "--all", "--wait=false")


FAULTS: list[Fault] = [
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
]


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    made.install(
        {**ONLY_STAGES, "stages": ONLY_STAGES["stages"][:1]}, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60}
    )
    yield made
    made.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not made.get("ptst,rayclusters,rayjobs,pods")["items"], 120)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints what was seen when all is over."""
    yield
    print(f"\n{json.dumps(TABLE, indent=1)}")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault(
    fault: Fault, release: Release, platform: ControlPlane, node: RealNode, undisturbed: list[dict[str, Any]]
) -> None:
    release.wait("demo", f"step {FAULT_AT}", lambda status: len(release.steps("demo")) >= FAULT_AT, 300)
    begun, known = time.monotonic(), len(release.steps("demo"))
    fault(release, platform, node)
    least, seen, back = known, [], None
    end = time.monotonic() + 500
    while time.monotonic() < end:
        steps = len(release.steps("demo"))
        least = min(least, steps) if steps else least
        if back is None and steps > known and time.monotonic() - begun > 5:
            back = time.monotonic() - begun
        status = release.status("demo")
        said = {one["type"]: one for one in status.get("conditions", [])}.get("Progressing", {})
        word = f"{status.get('phase')}: {said.get('message', '')}"
        if word not in seen:
            seen.append(word)
        if status.get("phase") in ("Succeeded", "Failed"):
            break
        time.sleep(0.5)
    (stage,) = [one for one in release.status("demo")["phases"] if one["name"] == "stage-1"]
    ends = [one.get("reason", "") for one in stage["attempts"]]
    row = {"fault": fault.__name__, "attempts": stage["attemptsBegun"], "ends": ends, "repeated": known - least}
    TABLE.append({**row, "seconds": round(back or -1), "seen": seen})
    print(f"\n{json.dumps(TABLE[-1], indent=1)}", flush=True)
    assert release.status("demo")["phase"] == "Succeeded", release.log()
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed][: len(trained)] and len(trained) == 40
