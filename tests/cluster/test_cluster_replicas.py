"""Two pods of the operator on the real node: one is evicted, the next one is cut off, and the run goes its way."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from fake.fake_release import FAKE
from ptst_operator.leader import LEASE_SECONDS
from real_node import IMAGE
from release import NAME, RECIPE, Release
from test_cluster_kueue import applied_once

pytestmark = pytest.mark.timeout(600)

OPERATOR = "app.kubernetes.io/component=operator"
POD = "authentication.kubernetes.io/pod-name"
"""Where the API server's audit names the pod that a service account's token was made for."""


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    """Two pods of the operator on the real node, and a run whose pod is a fake one: it does what the test says."""
    made = Release(platform, namespace)
    run = {"recipe": RECIPE, "pods": {"image": IMAGE, **FAKE}, "retry": {"firstWaitSeconds": 1, "maxAttempts": 5}}
    made.install_values({"operator": {"resyncSeconds": 3, "replicas": 2}, "run": run})
    yield made
    made.kubectl("delete", "ptst", "--all", "--wait=false")
    made.uninstall("ptst,jobs,pods")


def holder(release: Release) -> str:
    """The pod that holds the lease; "" if none does."""
    return str(release.get("lease", f"{NAME}-operator")["spec"].get("holderIdentity", ""))


def taken_over_from(release: Release, pod: str) -> tuple[str, float]:
    """The pod that holds the lease after another one, and the seconds until then."""
    begun = time.monotonic()
    new = wait_for("another holder", lambda: holder(release) not in ("", pod) and holder(release), 60)
    return str(new), time.monotonic() - begun


def budget_allows(release: Release) -> int:
    """How many of the operator's pods may be evicted now."""
    (budget,) = release.get("poddisruptionbudgets")["items"]
    return int(budget.get("status", {}).get("disruptionsAllowed", 0))


def evict(release: Release, pod: str) -> str:
    """Asks for it as `kubectl drain` does; what the API server says."""
    meta = {"name": pod, "namespace": release.namespace}
    asked = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta})
    path = f"/api/v1/namespaces/{release.namespace}/pods/{pod}/eviction"
    return release.kubectl("create", "--raw", path, "-f", "-", stdin=asked, check=False)


@contextmanager
def cut_off(address: str) -> Iterator[None]:
    """Nothing that a pod sends reaches the API server, and nobody tells it so."""
    rule = f"ip saddr {address} tcp dport 6443 drop"
    chain = f"chain from_pods {{\n type filter hook input priority 0\n {rule}\n }}"
    table = f"table inet cut {{\n {chain}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "cut"], check=True)


def writers(release: Release) -> list[str]:
    """The operator's pods in the order in which they have written: each pod once for all that it wrote without a break."""
    account = f"system:serviceaccount:{release.namespace}:{NAME}-operator"
    pods = []
    for line in release.platform.audit.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        wrote = event["verb"] in ("create", "update", "patch", "delete") and event["responseStatus"]["code"] < 400
        if wrote and event["user"]["username"] == account and event["objectRef"]["resource"] != "leases":
            pods.append(event["user"]["extra"][POD][0])
    return [pod for pod, _ in itertools.groupby(pods)]


def attempt_runs(release: Release, number: int) -> None:
    """The cold start is at this attempt."""

    def runs(status: dict[str, Any]) -> bool:
        attempts = [attempt for one in status.get("phases", []) for attempt in one["attempts"]]
        return len(attempts) == number and "runningSince" in attempts[-1]

    release.wait("demo", f"attempt {number} runs", runs, 90)


def fail(release: Release, attempt: int) -> None:
    """The pod of an attempt ends with code 1."""
    (pod,) = release.get("pods", "-l", f"job-name=demo-coldstart-{attempt}")["items"]
    ended = {**pod["status"]["containerStatuses"][0], "ready": False, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    patch = json.dumps({"status": {"phase": "Failed", "containerStatuses": [ended]}})
    release.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch)


def test_the_other_pod_takes_over_when_the_holder_is_evicted_or_cut_off(release: Release) -> None:
    release.kubectl("rollout", "status", f"deploy/{NAME}-operator", "--timeout=120s")
    attempt_runs(release, 1)
    first = holder(release)
    (other,) = set(release.pods(OPERATOR)) - {first}
    begun = len(writers(release))  # both may have had the lease by now, where they begin slowly
    wait_for("the budget has counted the pods", lambda: budget_allows(release) == 1, 60)

    assert "Success" in evict(release, first)
    assert "disruption budget" in evict(release, other), "one at a time"
    # The pod that was there, or the new one, if that asks for the lease first.
    second, in_order = taken_over_from(release, first)
    assert in_order < LEASE_SECONDS, "the lease was given back"
    fail(release, 0)
    attempt_runs(release, 2)
    release.kubectl("rollout", "status", f"deploy/{NAME}-operator", "--timeout=120s")

    with cut_off(release.get("pod", second)["status"]["podIP"]):
        third, lost = taken_over_from(release, second)
        assert lost < LEASE_SECONDS + 10
        fail(release, 1)
        attempt_runs(release, 3)

        def has_ended() -> bool:
            return bool(release.get("pod", second)["status"]["containerStatuses"][0]["restartCount"])

        wait_for("the pod that was cut off has begun again", has_ended, 90)
    fail(release, 2)
    attempt_runs(release, 4)

    assert holder(release) == third
    assert writers(release)[begun:] in ([second, third], [first, second, third]), "and never two in turn"
    assert {f"Job demo-coldstart-{number}" for number in range(4)} <= applied_once(release)
    print(f"taken over: {in_order:.1f} s after an eviction, {lost:.1f} s after a cut")
