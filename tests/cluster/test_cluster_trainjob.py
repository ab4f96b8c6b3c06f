"""SFT as a TrainJob on a real node, with Kubeflow Trainer and JobSet in pods from their own manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from queues import Queue, kueue
from real_node import install_trainer
from release import RECIPE, Release, train_alone
from test_cluster_verbs import NEED_TRAINER, asked

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import open_store

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

ONLY_SFT: dict[str, Any] = {
    **RECIPE,
    "coldstart": {"problems": {"limit": 60}},
    "sft": {"max_steps": 60, "processes": 1, "checkpoint_every": 4},
    "data": {"train": {"limit": 80}, "held_out": None},
    "stages": [],
}
THREE_STAGES = [{"max_completion_tokens": tokens, "group_size": size, "steps": 2} for tokens, size in ((16, 8), (32, 4), (64, 2))]
TRAINED = ("step", "loss", "grad_norm")


@pytest.fixture(scope="module")
def trainer(platform: ControlPlane) -> ControlPlane:
    """The platform with Trainer and JobSet beside the training-operator."""
    install_trainer(platform)
    return platform


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The step log of as many ranks on this machine, without a cluster."""
    two = {**ONLY_SFT, "sft": {**ONLY_SFT["sft"], "processes": 2}}
    return train_alone(two, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def release(trainer: ControlPlane, namespace: str) -> Iterator[Release]:
    """An installed run that stops after SFT."""
    made = Release(trainer, namespace)
    sft = {"backend": "trainjob", "nodes": 2}
    made.install(ONLY_SFT, sft=sft, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60})
    yield made
    made.uninstall("ptst,trainjobs,trainingruntimes,jobsets,jobs,pods")


def sft_of(status: dict[str, Any]) -> dict[str, Any]:
    """SFT's part of a status."""
    return next((one for one in status.get("phases", []) if one["name"] == "sft"), {})


def committed(release: Release) -> int:
    """The newest step of SFT that is committed."""
    return Checkpoints(open_store(str(release.runs / "demo")), "sft").latest() or 0


def test_a_trainjob_trains_loses_its_first_pod_and_is_suspended(release: Release, undisturbed: list[dict[str, Any]]) -> None:
    release.wait("demo", "SFT runs", lambda status: any("runningSince" in one for one in sft_of(status).get("attempts", [])))
    wait_for("a checkpoint", lambda: committed(release) >= 4, 120)
    pods = release.get("pods", "-l", "visionr1.io/role=sft")["items"]
    assert [pod["spec"].get("initContainers") for pod in pods] == [None, None]
    env = {one["name"]: one.get("value") for one in pods[0]["spec"]["containers"][0]["env"]}
    assert (env["PET_NNODES"], env["PET_MASTER_ADDR"]) == ("2", "demo-sft-0-node-0-0.demo-sft-0")
    release.kubectl("delete", "pod", "-l", "visionr1.io/role=sft,batch.kubernetes.io/job-completion-index=0", "--wait=false")
    release.wait("demo", "a second attempt", lambda status: len(sft_of(status)["attempts"]) == 2)
    second = committed(release)
    wait_for("a checkpoint of the second", lambda: committed(release) > second, 120)

    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    left = release.get("trainjobs,pods", "-l", "visionr1.io/phase=sft")["items"]
    assert [one["metadata"]["name"] for one in left] == ["demo-sft-0"], "which had failed by itself"
    stopped_at = committed(release)
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")

    attempts = sft_of(release.status("demo"))["attempts"]
    assert [one["kind"] for one in attempts] == ["TrainJob"] * 3
    assert attempts[1]["fromStep"] >= 4 and attempts[2]["fromStep"] == stopped_at
    assert [one.get("exitCode") for one in attempts][1:] == [3, 0]
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed]
    assert asked(release.platform, "allow") >= NEED_TRAINER


@pytest.fixture
def queued(trainer: ControlPlane, namespace: str) -> Iterator[tuple[Release, Queue]]:
    """The same run and three stages with clusters of their own, in a queue of Kueue that lets nothing in yet."""
    with kueue(trainer):
        made = Release(trainer, namespace)
        queue = Queue(made)
        queue.close()
        sft = {"backend": "trainjob", "nodes": 2}
        grpo = {"workersPerPod": 1, "cluster": "per-stage"}
        deadlines = {"pendingSeconds": 120, "stopSeconds": 60}
        recipe = {**ONLY_SFT, "stages": THREE_STAGES}
        made.install(recipe, sft=sft, grpo=grpo, queueLabels=queue.labels(), deadlines=deadlines)
        yield made, queue
        made.kubectl("delete", "ptst", "--all", "--wait=false")
        made.uninstall("ptst,trainjobs,jobsets,jobs,pods")


def test_a_trainjob_waits_in_a_queue_and_is_taken_back_and_the_stages_follow(
    queued: tuple[Release, Queue], undisturbed: list[dict[str, Any]]
) -> None:
    release, queue = queued
    release.wait("demo", "queued", lambda status: status.get("phase") == "Queued")
    queue.open()
    release.wait("demo", "SFT", lambda status: sft_of(status).get("attempts"))
    wait_for("a checkpoint", lambda: committed(release) >= 4, 240)
    queue.drain()
    release.wait("demo", "taken back", lambda status: status.get("phase") == "Queued")
    wait_for("no pod", lambda: not release.pods("visionr1.io/role=sft"), 90)
    stopped_at = committed(release)
    queue.open()
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 900)
    stages = {f"RayJob demo-stage-{number}-0" for number in (1, 2, 3)}
    assert queue.workloads().keys() == {"Job demo-coldstart-0", "TrainJob demo-sft-0", *stages}, "what brings pods, once each"
    assert 4 <= stopped_at < 60
    phases = release.status("demo")["phases"]
    attempts = {one["name"]: [(attempt["kind"], attempt["exitCode"]) for attempt in one["attempts"]] for one in phases}
    assert attempts.pop("coldstart") == [("Job", 0)]
    assert attempts.pop("sft") == [("TrainJob", 0)], "it is the same attempt that goes on"
    assert attempts == dict.fromkeys(("stage-1", "stage-2", "stage-3"), [("RayJob", 0)])
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo") if one["phase"] == "sft"]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed]
    assert [one["step"] for one in release.steps("demo") if one["phase"] != "sft"] == [1, 2, 3, 4, 5, 6]
