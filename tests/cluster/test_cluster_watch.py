"""`visionr1 watch ptst/NAME` before a real API server: what it says of a run's status, and of what it cannot read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from control_plane import Cluster
from moto.server import ThreadedMotoServer
from ptst_run import run

from visionr1.rundir.steplog import StepLog
from visionr1.storage import open_store

STAGES = [
    {"max_completion_tokens": 64, "group_size": 4, "steps": 100},
    {"max_completion_tokens": 128, "group_size": 2, "steps": 100},
]
RECIPE = {"preset": "demo", "stages": STAGES}


def watch(cluster: Cluster, namespace: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visionr1.cli", "watch", "ptst/run", "--once", "-n", namespace, *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFIG": str(cluster.admin), "COLUMNS": "160", **environment},
    )


def make(cluster: Cluster, namespace: str, status: dict[str, Any], **changes: Any) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(run(recipe=RECIPE, **changes)))
    if status:
        reported = json.dumps({"status": status})
        cluster.kubectl("-n", namespace, "patch", "ptst", "run", "--subresource=status", "--type", "merge", "-p", reported)


RUNNING = {
    "phase": "Running",
    "stage": "stage-2",
    "step": 108,
    "reward": 0.75,
    "length": 40,
    "truncated": 0.125,
    "tokensPerSecondPerGpu": 25,
    "conditions": [
        {
            "type": "Progressing",
            "status": "True",
            "reason": "Running",
            "message": "stage-2 runs as RayJob run-stage-2-0",
            "lastTransitionTime": "2026-11-25T00:00:00Z",
        }
    ],
}


def test_a_run_without_a_readable_directory_is_told_by_its_status(cluster: Cluster, namespace: str) -> None:
    claim = {"url": "/runs/run", "claim": {"name": "c", "mountPath": "/runs"}}
    make(cluster, namespace, RUNNING, storage=claim)
    done = watch(cluster, namespace)
    assert done.returncode == 0, done.stderr
    for reported in (
        "run  ptst/run in",
        "running",
        "✓ stage 1",
        "● stage 2",
        "8/100",
        "50 tokens/s",
        "0.750",
        "40 of 128 tokens",
    ):
        assert reported in done.stdout
    assert "stage-2 runs as RayJob run-stage-2-0" in done.stdout and "no problem seen" in done.stdout


def test_the_speed_is_that_of_the_workers_that_there_are(cluster: Cluster, namespace: str) -> None:
    started = {"number": 0, "kind": "RayJob", "name": "run-stage-2-0", "started": "2026-11-25T00:00:00Z", "workers": 1}
    phases = [{"name": "stage-2", "attempts": [started]}]
    claim = {"url": "/runs/run", "claim": {"name": "c", "mountPath": "/runs"}}
    make(cluster, namespace, {**RUNNING, "phases": phases}, storage=claim)
    assert "25 tokens/s" in watch(cluster, namespace).stdout


def test_what_a_person_must_act_on_is_said_first(cluster: Cluster, namespace: str) -> None:
    held = {
        "type": "Held",
        "status": "True",
        "reason": "GateBreached",
        "message": "kl_mean is 0.3; to start stage-2 all the same: kubectl annotate ptst run ...",
        "lastTransitionTime": "2026-11-25T00:00:00Z",
    }
    make(cluster, namespace, {**RUNNING, "phase": "Held", "step": 100, "conditions": [held]})
    done = watch(cluster, namespace)
    assert "held" in done.stdout and "! GateBreached: kl_mean is 0.3" in done.stdout.replace("\n", " ")


def test_a_run_that_nobody_has_looked_at_yet(cluster: Cluster, namespace: str) -> None:
    make(cluster, namespace, {})
    done = watch(cluster, namespace)
    assert done.returncode == 0
    assert "waiting" in done.stdout and "● cold start" in done.stdout and "the operator has not looked at it yet" in done.stdout


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (settings := {**keys, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}).items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
        yield settings
    server.stop()


def test_the_curves_are_the_step_logs_where_it_can_be_read(cluster: Cluster, namespace: str, bucket: dict[str, str]) -> None:
    make(cluster, namespace, RUNNING)
    log = StepLog(open_store("s3://bucket/run"), "stage-2", 100)
    for step in range(101, 109):
        log.append(
            {"phase": "stage-2", "stage": 2, "step": step, "time": 1000.0 + step, "reward_mean": step / 108, "loss": None}
            | {"completion_tokens_mean": 40.0, "completion_truncated_ratio": 0.0, "generated_tokens": 300}
        )
    done = watch(cluster, namespace, **bucket)
    assert "▁▂▃▄▅▆▇█" in done.stdout and "300 tokens/s" in done.stdout and "0:01:32 left" in done.stdout
    assert "! loss of step 108 is not finite" in done.stdout


def test_what_cannot_be_read_is_one_line(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    nothing = watch(cluster, namespace)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (64, 1)
    assert f"no such run in the namespace {namespace}" in nothing.stderr
    context = watch(cluster, namespace, "--context", "nowhere")
    assert (context.returncode, context.stderr.count("\n")) == (64, 1) and "kubectl's configuration" in context.stderr
    config = json.loads(cluster.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": cluster.kubectl("-n", namespace, "create", "token", "default").strip()}
    stranger = tmp_path / "stranger.json"
    stranger.write_text(json.dumps(config))
    refused = watch(cluster, namespace, KUBECONFIG=str(stranger))
    assert (refused.returncode, refused.stderr.count("\n")) == (64, 1) and "you are not allowed to read runs" in refused.stderr
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    stranger.write_text(json.dumps(config))
    away = watch(cluster, namespace, KUBECONFIG=str(stranger))
    assert (away.returncode, away.stderr.count("\n")) == (1, 1) and "cannot be reached" in away.stderr
