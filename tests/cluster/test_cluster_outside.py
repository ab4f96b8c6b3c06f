"""The operator as a process on a developer's machine, by nothing but a kubeconfig: the command that CONTRIBUTING.md names."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from control_plane import Cluster, wait_for
from documents import ROOT, commands
from ptst_run import run

PROGRAM = ROOT / ".venv/bin/ptst-operator"
(DOCUMENTED,) = [command for command in commands(ROOT / "CONTRIBUTING.md") if command.words[0] == PROGRAM.name]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def operator(cluster: Cluster, namespace: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The documented command in another namespace, ready; Ctrl-C ends it, and it ends well."""
    port = free_port()
    values = {"--namespace": namespace, "--port": port}
    words = [values.get(before, word) for before, word in zip(DOCUMENTED.words, DOCUMENTED.words[1:], strict=False)]
    environment = {name: value for name, value in os.environ.items() if name not in ("POD_NAMESPACE", "KUBERNETES_SERVICE_HOST")}
    with log.open("ab") as written:
        process = subprocess.Popen(
            [PROGRAM, *words], env={**environment, "KUBECONFIG": str(cluster.admin)}, stdout=written, stderr=written
        )
    try:
        wait_for("the operator is ready", lambda: process.poll() is None and answers(f"http://127.0.0.1:{port}/readyz"), 60)
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def attempts(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Uids of the run's Jobs by their names."""
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in cluster.get("-n", namespace, "jobs")["items"]}


def test_an_operator_outside_the_cluster_begins_a_run_and_another_goes_on(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    claim = {"url": f"{tmp_path}/run", "claim": {"name": "none", "mountPath": str(tmp_path)}}
    made = json.dumps(run(recipe={"preset": "demo"}, grpo={"workersPerPod": 2}, storage=claim))
    log = tmp_path / "operator.log"
    with operator(cluster, namespace, log):
        cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=made)
        first = wait_for("the cold start's Job", lambda: attempts(cluster, namespace), 60)
    assert list(first) == ["run-coldstart-0"]
    assert (tmp_path / "run/recipe.yaml").exists(), "it reaches the run directory from here"

    with operator(cluster, namespace, log):
        suspended = '{"spec":{"suspend":true}}'
        assert attempts(cluster, namespace) == first, "a second operator makes nothing twice"
        cluster.kubectl("-n", namespace, "patch", "ptst", "run", "--type", "merge", "-p", suspended)
        wait_for("it is stopped", lambda: phase(cluster, namespace) == "Suspended" and not attempts(cluster, namespace), 60)
    assert "bug" not in log.read_text()


def phase(cluster: Cluster, namespace: str) -> Any:
    return cluster.get("-n", namespace, "ptst", "run").get("status", {}).get("phase")
