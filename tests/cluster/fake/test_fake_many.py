"""Two hundred whole runs at once: what the operator takes, and how soon it has looked at all of them. `make cluster-soak`.

What else they need is played or shared by all (one machine with two cores does the work of a cluster), so the times say what the
operator adds at most; its own processor time, memory and requests are its own.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from typing import Any

import psutil
import pytest
from release import NAME

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, check_undisturbed

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

RUNS = 200
SECONDS = 2400


def metrics(release: FakeRelease) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{release.port}/metrics", timeout=20) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def p99(reported: dict[str, float]) -> float:
    """Upper bound of the histogram's bucket that holds it, in seconds."""
    found = {re.search(r'le="([^"]+)"', name)[1]: value for name, value in reported.items() if "reconcile_seconds_bucket" in name}  # type: ignore[index]
    return next(float(bound) for bound, count in found.items() if count >= 0.99 * found["+Inf"])


def requests_of(controllers: Controllers, release: FakeRelease) -> int:
    """What the operator has asked the API server, by the server's own audit."""
    account = f":{release.namespace}:{NAME}-operator"
    with controllers.plane.audit.open() as lines:
        return sum(account in line for line in lines)


def test_two_hundred_runs_at_once(controllers: Controllers, release: FakeRelease) -> None:
    names = [f"run-{number}" for number in range(RUNS)]
    # Before there is an operator, which then finds all of them at once.
    release.create(*names, sft={"nodes": 1})
    release.install_fake(resyncSeconds=15)
    assert release.process is not None
    begun, process = time.monotonic(), psutil.Process(release.process.pid)
    peak, taken = 0, dict[str, float]()
    while len(taken) < 3:
        statuses: list[dict[str, Any]] = [one.get("status", {}) for one in release.get("ptst")["items"]]
        now, peak = time.monotonic() - begun, max(peak, process.memory_info().rss)
        for what, done in (
            ("seen", all(statuses)),
            ("begun", all(one.get("phases") for one in statuses)),
            ("ended", all(one.get("phase") == "Succeeded" for one in statuses)),
        ):
            if done:
                taken.setdefault(what, now)
        assert now < SECONDS, release.kubectl("get", "ptst,pods")
        assert not [one for one in statuses if one.get("phase") == "Failed"]
        time.sleep(1)
    reported = metrics(release)
    looks = reported["visionr1_ptst_reconcile_seconds_count"]
    result = {
        "runs": RUNS,
        "seconds_until_all_have_begun": round(taken["begun"], 1),
        "seconds_until_all_have_ended": round(taken["ended"], 1),
        "looks": int(looks),
        "look_mean_ms": round(1000 * reported["visionr1_ptst_reconcile_seconds_sum"] / looks, 1),
        "look_p99_below_ms": round(1000 * p99(reported)),
        "operator_cpu_seconds": round(sum(process.cpu_times()[:2]), 1),
        "operator_most_mib": round(peak / 2**20),
        "requests_a_second": round(requests_of(controllers, release) / taken["ended"], 1),
        "conflicts": int(reported.get('visionr1_ptst_reconcile_errors_total{reason="api_409"}', 0)),
        "errors": int(sum(value for name, value in reported.items() if "errors_total" in name and "409" not in name)),
    }
    print(
        f"\n{json.dumps(result, indent=1)}\n"
        + "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in result.items())
    )
    check_undisturbed(controllers, release, names)
    assert result["errors"] == 0
    assert result["operator_most_mib"] < 150
    assert release.starts == 1
