"""The chart's NetworkPolicies where they are enforced: kube-router drops what they do not let through, and a run goes its way.

`test_cluster_policies` works out the same from the manifests alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_plane import NODE, ControlPlane, wait_for
from real_node import IMAGE
from release import NAME, PODS, RECIPE, STAGE, Release

pytestmark = [pytest.mark.timeout(1200), pytest.mark.soak]

GCS, HTTP, JOBS, DRIVER, WORKER, LISTENER = 6379, 8080, 8265, 9464, 9465, 23456
REACH = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), 3).close()
        print(port)
    except OSError:
        pass
"""
LISTEN = f"import socket\nserver = socket.create_server(('', {LISTENER}))\nwhile True: server.accept()[0].close()"
MONITORING = {"team": "observers"}


@pytest.fixture
def firewall(platform: ControlPlane) -> Iterator[None]:
    """kube-router on the node. Only its firewall is used."""
    alone = ["--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false"]
    account = [f"--kubeconfig={platform.admin}", f"--hostname-override={NODE}"]
    process = platform.start("kube-router", "kube-router", *alone, *account)
    wait_for("the firewall", lambda: b"KUBE-ROUTER-FORWARD" in subprocess.check_output(["iptables-save"]), 60)
    yield
    process.terminate()
    process.wait()
    # Its own --cleanup-config needs ipvs. kube-proxy's rules are nftables' and stay.
    subprocess.run(["iptables", "--flush"], check=True)


@pytest.fixture
def release(firewall: None, platform: ControlPlane, namespace: str) -> Iterator[Release]:
    """An installed run; Prometheus would be in a namespace of `MONITORING`."""
    made = Release(platform, namespace)
    run = {"recipe": {**RECIPE, "stages": [{**STAGE, "steps": 60}]}, "pods": PODS, "sft": {"nodes": 2}}
    policy = {"monitoringNamespace": MONITORING, "kuberayNamespace": {"kubernetes.io/metadata.name": "default"}}
    made.install_values({"run": run, "networkPolicy": policy})
    yield made
    made.helm("uninstall", NAME)


class Client:
    """A pod that listens, and asks others from inside."""

    def __init__(self, platform: ControlPlane, namespace: str, name: str, **labels: str) -> None:
        self._platform, self._namespace, self._name = platform, namespace, name
        container = {
            "name": "client",
            "image": IMAGE,
            "command": ["python", "-c", LISTEN],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 0,
            "nodeName": NODE,
            "containers": [container],
        }
        meta = {"name": name, "namespace": namespace, "labels": labels}
        platform.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        platform.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        self.address = platform.get("-n", namespace, "pod", name)["status"]["podIP"]

    def reaches(self, address: str, *ports: int) -> set[int]:
        return reached(self._platform, self._namespace, self._name, address, *ports)


def reached(platform: ControlPlane, namespace: str, pod: str, address: str, *ports: int) -> set[int]:
    """Those of the ports where somebody answers a pod."""
    command = ["python", "-c", REACH, address, *map(str, ports)]
    return {int(port) for port in platform.kubectl("-n", namespace, "exec", pod, "--", *command).split()}


def address(release: Release, selector: str) -> str:
    """Of the first pod that runs, of those that a label selector finds."""
    pods: list[dict[str, Any]] = release.get("pods", "-l", selector)["items"]
    return next(str(one["status"]["podIP"]) for one in pods if one["status"]["phase"] == "Running")


def test_a_run_goes_its_way_and_others_reach_nothing_of_it(release: Release, namespaces: Callable[[], str]) -> None:
    platform, elsewhere, observers = release.platform, namespaces(), namespaces()
    platform.kubectl("label", "namespace", observers, *(f"{key}={value}" for key, value in MONITORING.items()))
    release.wait("demo", "a step", lambda status: (status.get("stage") == "stage-1" and status.get("step") or 0) >= 1)
    head, worker = (address(release, f"visionr1.io/role={role}") for role in ("head", "worker"))
    operator = address(release, "app.kubernetes.io/component=operator")
    asked = (GCS, HTTP, JOBS, DRIVER)

    stranger = Client(platform, elsewhere, "stranger")
    neighbour = Client(platform, release.namespace, "neighbour", **{"app.kubernetes.io/name": NAME})
    kin = Client(platform, release.namespace, "kin", **{"visionr1.io/run": "demo"})
    other_run = Client(platform, release.namespace, "other-run", **{"visionr1.io/run": "another"})
    prometheus = Client(platform, observers, "prometheus")
    wait_for("the rules for a new pod", lambda: kin.reaches(head, *asked) == set(asked), 60)
    for outsider in (stranger, neighbour, other_run):
        assert outsider.reaches(head, *asked) == outsider.reaches(worker, WORKER) == outsider.reaches(operator, HTTP) == set()
    assert prometheus.reaches(head, *asked) == {HTTP, DRIVER}
    assert (prometheus.reaches(worker, WORKER), prometheus.reaches(operator, HTTP)) == ({WORKER}, {HTTP})
    assert neighbour.reaches(stranger.address, LISTENER) == kin.reaches(stranger.address, LISTENER) == {LISTENER}
    (pod,) = release.pods("app.kubernetes.io/component=operator")
    assert reached(platform, release.namespace, pod, head, *asked) == {DRIVER}
    assert reached(platform, release.namespace, pod, stranger.address, LISTENER) == set()

    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")
    phases = {one["name"]: len(one["attempts"]) for one in release.status("demo")["phases"]}
    assert phases == dict.fromkeys(("coldstart", "sft", "stage-1", "evaluate"), 1)
    assert "Phase:          Succeeded" in release.helm("test", NAME)
