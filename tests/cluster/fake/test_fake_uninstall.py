"""Everything goes in every order, whatever the run is doing: nothing is left Terminating, claim and checkpoints stay.

The commonest of them, `helm uninstall` in the middle of a stage, is the end of `test_fake_helm`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from release import CHART, NAME, Release

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, Make, ended

pytestmark = pytest.mark.soak

CHILDREN = "pytorchjobs,rayclusters,rayjobs,jobs,pods"
GROUPS = ("", "batch", "ray.io", "kubeflow.org", "trainer.kubeflow.org", "jobset.x-k8s.io", "visionr1.io")
BOUND = 90.0
"""Seconds for everything of a namespace to go."""
Step = Callable[[FakeRelease], object]


def helm(release: FakeRelease) -> None:
    release.helm("uninstall", NAME)


def run(release: FakeRelease) -> None:
    release.kubectl("delete", "ptst", "--all", "--wait=false")


def run_foreground(release: FakeRelease) -> None:
    release.kubectl("delete", "ptst", "--all", "--wait=false", "--cascade=foreground")


def namespace(release: FakeRelease) -> None:
    release.platform.kubectl("delete", "namespace", release.namespace, "--wait=false")


ORDERS: dict[str, list[Step]] = {
    "helm": [helm],
    "run-helm": [run, helm],
    "foreground-helm": [run_foreground, helm],
    "namespace": [namespace],
    "helm-namespace": [helm, namespace],
    "run-namespace": [run, namespace],
}
AFTER_THE_DEFINITION: dict[str, list[Step]] = {"helm": [helm], "namespace": [namespace], "nothing": []}
WITHOUT_KUBERAY: dict[str, list[Step]] = {"helm": [helm], "run": [run], "run-helm": [run, helm], "namespace": [namespace]}
STATES = ("sft", "stage", "suspended", "done")


def bring_to(release: FakeRelease, state: str) -> None:
    """A run that comes to this state and stays in it."""
    never = {"pods": {"env": {"FAKE_PACE": "3600"}}}
    stages = [{"max_completion_tokens": 8, "group_size": 2, "steps": 12 if state == "done" else 2000}]
    recipe = {**release.spec("run")["recipe"], "coldstart": None, "stages": stages}
    sft = {"data": {"path": "/nowhere"}}
    release.install_fake({"recipe": {**recipe, "sft": sft}, "sft": {"nodes": 1, **(never if state == "sft" else {})}})


def reached(release: FakeRelease, state: str) -> None:
    if state == "sft":
        release.wait("run", "SFT", lambda status: (status.get("stage"), status.get("phase")) == ("sft", "Running"), 200)
    elif state == "done":
        ended(release, ["run"], 300)
    else:
        release.wait("run", "steps", lambda status: (status.get("step") or 0) >= 3, 300)
    if state == "suspended":
        release.kubectl("patch", "ptst", "run", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
        release.wait("run", "suspended", lambda status: status.get("phase") == "Suspended", 120)


def left(release: Release, definition: bool = True) -> list[dict[str, Any]]:
    """What there is of the run; the operator itself may stay."""
    runs = release.get("ptst")["items"] if definition else []
    return [*runs, *release.get(CHILDREN, "-l", "visionr1.io/run")["items"]]


def terminating(release: Release) -> list[str]:
    """What is going and has not gone, of any kind that has to do with a run."""
    served = release.kubectl("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name").split()
    # Of Endpoints kubectl says on each call that they are deprecated.
    kinds = ",".join(kind for kind in served if kind.partition(".")[2] in GROUPS and kind != "endpoints")
    items = release.get(kinds)["items"]
    return [f"{one['kind']}/{one['metadata']['name']}" for one in items if "deletionTimestamp" in one["metadata"]]


def nothing_left(release: Release, definition: bool = True) -> None:
    """All that the run had is gone within the bound."""
    what = f"nothing is left in {release.namespace}"
    wait_for(what, lambda: not left(release, definition) and not terminating(release), BOUND)


def kept(release: FakeRelease, steps: list[Step], state: str) -> None:
    """The checkpoints; and the claim, but where its namespace goes."""
    if state != "sft":
        assert list((release.runs / "run/checkpoints/stage-1").glob("step-*/manifest.json"))
    if namespace in steps:
        reported = f'namespaces "{release.namespace}" not found'
        wait_for(reported, lambda: reported in release.platform.kubectl("get", "ns", release.namespace, check=False), BOUND)
    else:
        assert "visionr1-runs" in [one["metadata"]["name"] for one in release.get("pvc")["items"]]


def releases(
    release_in: Make, namespaces: Callable[[], str], orders: dict[str, list[Step]]
) -> dict[tuple[str, str], FakeRelease]:
    """One for each order and state, all of them in their state."""
    made = {(order, state): release_in(namespaces()) for order in orders for state in STATES}
    for (_, state), release in made.items():
        bring_to(release, state)
    for (_, state), release in made.items():
        reached(release, state)
    return made


@pytest.mark.timeout(1500)
def test_every_order_in_every_state(release_in: Make, namespaces: Callable[[], str]) -> None:
    made = releases(release_in, namespaces, ORDERS)
    for (order, _), release in made.items():
        for step in ORDERS[order]:
            step(release)
    for (order, state), release in made.items():
        print(order, state)
        nothing_left(release)
        kept(release, ORDERS[order], state)


@pytest.mark.timeout(900)
def test_the_definition_first(cluster: ControlPlane, release_in: Make, namespaces: Callable[[], str]) -> None:
    """All runs go with it, as Kubernetes does with any definition; their children go, too."""
    made = releases(release_in, namespaces, AFTER_THE_DEFINITION)
    try:
        cluster.kubectl("delete", "crd", "ptstruns.visionr1.io", "--timeout=60s")
        for (order, _), release in made.items():
            for step in AFTER_THE_DEFINITION[order]:
                step(release)
        for (order, state), release in made.items():
            print(order, state)
            nothing_left(release, definition=False)
            kept(release, AFTER_THE_DEFINITION[order], state)
    finally:
        cluster.define(CHART / "crds")


@pytest.mark.timeout(900)
def test_kuberay_and_the_training_operator_first(
    controllers: Controllers, release_in: Make, namespaces: Callable[[], str]
) -> None:
    """A RayJob has KubeRay's finalizer: it stays until that is taken away, or KubeRay is back. Nothing else stays."""
    made = releases(release_in, namespaces, WITHOUT_KUBERAY)
    for name in ("kuberay", "training-operator"):
        controllers.end(name)
    try:
        for (order, _), release in made.items():
            for step in WITHOUT_KUBERAY[order]:
                step(release)
        time.sleep(20)
        for (order, state), release in made.items():
            stay = {(one["kind"], tuple(one["metadata"].get("finalizers", []))) for one in left(release)}
            print(order, state, stay)
            wanted = {("RayJob", ("ray.io/rayjob-finalizer",))} if state in ("stage", "done") else set()
            assert stay <= wanted, (order, state)
            for job in release.get("rayjobs")["items"]:
                release.kubectl(
                    "patch", "rayjob", job["metadata"]["name"], "--type", "merge", "-p", '{"metadata":{"finalizers":null}}'
                )
        for (order, state), release in made.items():
            nothing_left(release)
            kept(release, WITHOUT_KUBERAY[order], state)
    finally:
        controllers.start_training_operator()
        controllers.start_kuberay()
