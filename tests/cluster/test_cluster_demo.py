"""Runs on the real node with their run directories on S3 inside the cluster: the whole demo, and one whose S3 goes away."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from control_plane import ControlPlane
from real_node import IMAGE, OWN_FILES, RealNode
from release import ONLY_STAGES, PODS, TRAINED, Release, at
from test_cluster_definition import rendered

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

KEYS = {"AWS_ACCESS_KEY_ID": "demo-access-key", "AWS_SECRET_ACCESS_KEY": "demo-secret-key"}
ADDRESS = {"AWS_ENDPOINT_URL_S3": "http://s3:9000", "AWS_REGION": "us-east-1"}
WHERE = {"env": ADDRESS, "envFrom": [{"secretRef": {"name": "s3-keys"}}]}
ALONE = {"sft": 0.645, "stage-3": 0.758}
"""Held-out accuracy of the demo with seed 1 without a cluster, as the README has it."""
ERROR = 0.030
"""Standard error for the 256 problems of the preset."""


@pytest.fixture(scope="module")
def s3(platform: ControlPlane, module_namespace: str) -> Release:
    """A namespace with an S3 server and the bucket `runs`."""
    made = Release(platform, module_namespace)
    made.kubectl("create", "secret", "generic", "s3-keys", *(f"--from-literal={key}={value}" for key, value in KEYS.items()))
    platform.apply(*s3_server(module_namespace))
    made.kubectl("wait", "--for=condition=available", "deployment/s3", "--timeout=120s")
    client(made).create_bucket(Bucket="runs")
    return made


@pytest.fixture
def release(s3: Release) -> Iterator[Release]:
    """The same, for one run."""
    yield s3
    s3.uninstall("ptst,rayclusters,rayjobs,jobs")


def values(url: str, recipe: dict[str, Any], **run: Any) -> dict[str, Any]:
    """Of a release that keeps everything on S3."""
    storage = {"url": url, "claim": None}
    return {
        "claim": {"name": "", "create": False},
        "networkPolicy": {"operatorEgressPorts": [443, 6443, 9000]},
        "operator": WHERE | {"resyncSeconds": 5},
        "run": {"pods": PODS | WHERE, "storage": storage, "sft": {"nodes": 2}, "recipe": recipe, **run},
    }


def records(release: Release, run: str) -> list[dict[str, Any]]:
    """A run's step log."""
    text = client(release).get_object(Bucket="runs", Key=f"{run}/steps.jsonl")["Body"].read()
    return [json.loads(line) for line in text.splitlines()]


def s3_server(namespace: str) -> list[dict[str, Any]]:
    """moto, in a pod without a token, with a service."""
    container = {
        "name": "s3",
        "image": IMAGE,
        "command": ["python", "-m", "moto.server", "-H", "0.0.0.0", "-p", "9000"],
        "ports": [{"containerPort": 9000}],
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    meta, labels = {"name": "s3", "namespace": namespace}, {"app": "s3"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    deployment = {"selector": {"matchLabels": labels}, "template": template}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": [{"port": 9000}]}},
    ]


def client(release: Release) -> Any:
    """boto3's, by the address of the server's pod."""
    (pod,) = release.get("pods", "-l", "app=s3")["items"]
    address = f"http://{pod['status']['podIP']}:9000"
    keys: dict[str, Any] = {name.lower(): value for name, value in KEYS.items()}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def test_the_demo_on_a_cluster_is_the_demo(release: Release, node: RealNode) -> None:
    """From the trainer's own image, as users have it."""
    (image,) = [one["spec"]["pods"]["image"] for one in rendered("cpu-demo") if one["kind"] == "PTSTRun"]
    node.load_trainer(image)
    pods = {"image": image, "runtimeClassName": OWN_FILES, "resources": PODS["resources"], **WHERE}
    begun = time.monotonic()
    release.install_values(values("s3://runs/demo", {"sft": {"processes": 1}}, pods=pods))
    reported: dict[int, dict[str, Any]] = {}

    def over(status: dict[str, Any]) -> bool:
        if status.get("reward") is not None:
            reported[status["step"]] = status
        return status.get("phase") == "Succeeded"

    release.wait("demo", "the end", over, 3000)
    taken = time.monotonic() - begun
    trained = {one["step"]: one for one in records(release, "demo") if one["phase"].startswith("stage-")}
    assert len(reported) > len(trained) / 4, "kubectl shows figures all along"
    for step, status in reported.items():
        assert status["reward"] == pytest.approx(trained[step]["reward_mean"], abs=1e-4)

    def read(key: str) -> bytes:
        data: bytes = client(release).get_object(Bucket="runs", Key=f"demo/{key}")["Body"].read()
        return data

    accuracy = {phase: json.loads(read(f"eval/{phase}.json"))["accuracy"] for phase in ALONE}
    print(f"\n{json.dumps({'seconds': round(taken), 'steps': len(trained), 'accuracy': accuracy}, indent=1)}")
    for phase, alone in ALONE.items():
        assert accuracy[phase] == pytest.approx(alone, abs=2 * 2**0.5 * ERROR)
    assert b"<html" in read("report.html")[:1000].lower() and json.loads(read("summary.json"))
    assert {one["name"]: one["attemptsBegun"] for one in release.status("demo")["phases"]} == dict.fromkeys(
        ("coldstart", "sft", "stage-1", "stage-2", "stage-3", "evaluate"), 1
    )


def test_s3_that_is_away_for_a_minute_costs_a_minute(release: Release, undisturbed: list[dict[str, Any]]) -> None:
    recipe = {**ONLY_STAGES, "stages": ONLY_STAGES["stages"][:1]}
    release.install_values(values("s3://runs/away", recipe, retry={"firstWaitSeconds": 1}))
    release.wait("demo", "step 5", at(5))
    lead_service_to(release, "nowhere")
    known = len(records(release, "away"))
    time.sleep(60)
    assert len(records(release, "away")) <= known + 1, "nothing came through"
    lead_service_to(release, "s3")
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 600)
    (stage,) = [one for one in release.status("demo")["phases"] if one["name"] == "stage-1"]
    log = records(release, "away")
    pause = max(after["time"] - before["time"] for before, after in itertools.pairwise(log))
    print(f"\n{json.dumps({'attempts': stage['attempts'], 'longest pause': round(pause)})}")
    assert [{key: one[key] for key in TRAINED} for one in log] == [
        {key: one[key] for key in TRAINED} for one in undisturbed[: len(log)]
    ] and len(log) == recipe["stages"][0]["steps"]


def lead_service_to(release: Release, app: str) -> None:
    """Pods reach S3 by its service only; the server keeps what it has."""
    release.kubectl("patch", "service", "s3", "--type", "merge", "-p", json.dumps({"spec": {"selector": {"app": app}}}))
