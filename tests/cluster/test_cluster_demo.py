"""The whole demo on the real node, with its run directory on S3 inside the cluster: what `make demo` shows, in pods."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from control_plane import ControlPlane, wait_for
from real_node import IMAGE
from release import NAME, PODS, Release

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

KEYS = {"AWS_ACCESS_KEY_ID": "demo-access-key", "AWS_SECRET_ACCESS_KEY": "demo-secret-key"}
ADDRESS = {"AWS_ENDPOINT_URL_S3": "http://s3:9000", "AWS_REGION": "us-east-1"}
WHERE = {"env": ADDRESS, "envFrom": [{"secretRef": {"name": "s3-keys"}}]}
ALONE = {"sft": 0.359, "stage-3": 0.570}
"""Held-out accuracy of `visionr1 demo --seed 1` without a cluster, as the README has it; 256 problems, standard error 0.031."""
ERROR = 0.031


@pytest.fixture(scope="module")
def release(platform: ControlPlane, module_namespace: str) -> Iterator[Release]:
    made = Release(platform, module_namespace)
    made.kubectl("create", "secret", "generic", "s3-keys", *(f"--from-literal={key}={value}" for key, value in KEYS.items()))
    platform.apply(*s3_server(module_namespace))
    made.kubectl("wait", "--for=condition=available", "deployment/s3", "--timeout=120s")
    yield made
    made.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not made.get("ptst,rayclusters,rayjobs,jobs")["items"], 120)


def s3_server(namespace: str) -> list[dict[str, Any]]:
    """moto, in a pod, with a service."""
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
    keys = {name.lower(): value for name, value in KEYS.items()}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def test_the_demo_on_a_cluster_is_the_demo(release: Release) -> None:
    s3 = client(release)
    s3.create_bucket(Bucket="runs")

    def read(key: str) -> bytes:
        data: bytes = s3.get_object(Bucket="runs", Key=f"demo/{key}")["Body"].read()
        return data

    begun = time.monotonic()
    release.install_values(
        {
            "claim": {"name": "", "create": False},
            "networkPolicy": {"operatorEgressPorts": [443, 6443, 9000]},
            "operator": WHERE | {"resyncSeconds": 5},
            "run": {"pods": PODS | WHERE, "storage": {"url": "s3://runs/demo", "claim": None}, "sft": {"nodes": 2}}
            | {"recipe": {"sft": {"processes": 1}}},
        }
    )
    told: dict[int, dict[str, Any]] = {}

    def over(status: dict[str, Any]) -> bool:
        if status.get("reward") is not None:
            told[status["step"]] = status
        return status.get("phase") == "Succeeded"

    release.wait("demo", "the end", over, 3000)
    taken = time.monotonic() - begun
    records = {one["step"]: one for one in map(json.loads, read("steps.jsonl").splitlines()) if one["phase"].startswith("stage-")}
    assert len(told) > len(records) / 4, "kubectl shows figures all along"
    for step, status in told.items():
        assert status["reward"] == pytest.approx(records[step]["reward_mean"], abs=1e-4)
    accuracy = {phase: json.loads(read(f"eval/{phase}.json"))["accuracy"] for phase in ALONE}
    print(f"\n{json.dumps({'seconds': round(taken), 'steps': len(records), 'accuracy': accuracy}, indent=1)}")
    for phase, alone in ALONE.items():
        assert accuracy[phase] == pytest.approx(alone, abs=2 * 2**0.5 * ERROR)
    assert b"<html" in read("report.html")[:1000].lower() and json.loads(read("summary.json"))
    assert {one["name"]: one["attemptsBegun"] for one in release.status("demo")["phases"]} == dict.fromkeys(
        ("coldstart", "sft", "stage-1", "stage-2", "stage-3", "evaluate"), 1
    )
