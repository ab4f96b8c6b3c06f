"""Whole runs while the operator's way to the API server fails at random, and an API server that goes away."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from control_plane import wait_for
from ptst_operator.api_watch import WATCHED
from ptst_operator.main import STALLED_SECONDS

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, Make, check_undisturbed, ended
from fake.proxy import FAULTS, Faults, Proxy

PORT = 17080
MOST = 20.0
"""Requests a second of an operator with one or a few runs, whatever goes wrong."""


@pytest.fixture
def faults() -> Iterator[Faults]:
    made = Faults(seed=1, part=0.1)
    with Proxy(made, PORT):
        yield made


@pytest.fixture
def proxied(release_in: Make, namespace: str, faults: Faults) -> FakeRelease:
    return release_in(namespace, f"http://127.0.0.1:{PORT}")


def health(release: FakeRelease, path: str = "healthz") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{release.port}/{path}", timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()
    except urllib.error.URLError as error:  # it does not listen yet
        return 0, str(error.reason)


@pytest.mark.timeout(300)
def test_a_run_on_a_bad_network(controllers: Controllers, proxied: FakeRelease, faults: Faults) -> None:
    begun = time.monotonic()
    proxied.install_fake({})
    ended(proxied, ["run"], 200)
    check_undisturbed(controllers, proxied, ["run"])
    assert proxied.starts == 1, proxied.log()
    assert health(proxied) == (200, "ok")
    assert sum(faults.done.values()) >= 10 and faults.rate(begun) < MOST


@pytest.mark.timeout(300)
def test_an_operator_does_not_spin(proxied: FakeRelease, faults: Faults) -> None:
    """Neither when all is refused, nor when watches end as soon as they begin."""
    faults.part = 0.0
    proxied.install_fake({"suspend": True})
    proxied.wait("run", "suspended", lambda status: status.get("phase") == "Suspended", 60)
    for fault in ("429", "reset", "empty"):
        faults.choose = lambda method, watch, fault=fault: fault if watch or fault != "empty" else None  # type: ignore[misc]
        faults.end_watches()
        # It may still back off from the fault before.
        wait_for(fault, lambda fault=fault: faults.done[fault], 45)  # type: ignore[misc]
        since = time.monotonic()
        time.sleep(6)
        assert faults.rate(since) < MOST, fault
    faults.choose = lambda method, watch: None
    proxied.kubectl("patch", "ptst", "run", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    proxied.wait("run", "it goes on", lambda status: status.get("phase") in ("Running", "Succeeded"), 40)
    assert proxied.starts == 1, proxied.log()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_an_api_server_that_is_killed_in_a_stage(controllers: Controllers, release: FakeRelease) -> None:
    release.install_fake({})
    release.wait("run", "stage 1", lambda status: status.get("stage") == "stage-1", 60)
    controllers.plane.lose_api_server(2)
    ended(release, ["run"], 150)
    check_undisturbed(controllers, release, ["run"])
    assert release.starts == 1, release.log()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_ten_runs_on_a_bad_network(controllers: Controllers, proxied: FakeRelease, faults: Faults) -> None:
    """With an API server that is killed twice, too."""
    names = [f"run-{number}" for number in range(10)]
    faults.part = 0.25
    proxied.install_fake()
    begun = time.monotonic()
    proxied.create(*names)
    for _ in range(2):
        time.sleep(20)
        controllers.plane.lose_api_server(2)
    ended(proxied, names, 600)
    check_undisturbed(controllers, proxied, names)
    assert proxied.starts == 1, proxied.log()
    assert set(faults.done) == set(FAULTS)
    result = {"seconds": round(time.monotonic() - begun), "requests": len(faults.requests), "faults": dict(faults.done)}
    print(f"\n{json.dumps(result)}")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_silent_api_server_is_told_by_healthz(controllers: Controllers, release: FakeRelease) -> None:
    release.install_fake()
    wait_for("ready", lambda: health(release, "readyz") == (200, "ok"))
    with controllers.plane.silent_api_server():
        time.sleep(STALLED_SECONDS + 80)
        assert health(release) == (503, f"watch-{WATCHED[0]} has stalled")  # not later: the watches go on at once
    end = time.monotonic() + 120
    while health(release)[0] != 200:
        assert time.monotonic() < end, release.log()
        time.sleep(1)
    release.create("run")
    ended(release, ["run"], 120)
