"""Several pods of one operator: one works, another takes over, and no two at a time hold the lease."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from ptst_operator import leader, logs, main
from ptst_operator.api import Api, ApiError
from ptst_operator.leader import LeaseLock, campaign

from visionr1.errors import BadInput


class Leases:
    """The part of an API server that keeps one Lease, with versions that must fit."""

    namespace = "vision"

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.down = False
        self._versions = 0

    def waiting_for(self, seconds: int) -> Leases:
        return self

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        self._answer()
        found: dict[str, Any] | None = json.loads(json.dumps(self.lease))
        return found

    def create(self, manifest: dict[str, Any]) -> None:
        self._answer()
        if self.lease is not None:
            raise ApiError(409, "it exists")
        self._keep(manifest)

    def replace(self, manifest: dict[str, Any]) -> None:
        self._answer()
        if self.lease is None or manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "it was changed")
        self._keep(manifest)

    def _answer(self) -> None:
        if self.down:
            raise ApiError(0, "no answer")

    def _keep(self, manifest: dict[str, Any]) -> None:
        self._versions += 1
        self.lease = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self._versions)}}


def lock(leases: Leases, identity: str) -> LeaseLock:
    return LeaseLock(leases, "ptst-operator", identity)  # type: ignore[arg-type]


def until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's election takes no less than a second between two tries."""
    for name, seconds in (("LEASE_SECONDS", 4), ("_RENEW_SECONDS", 2), ("_RETRY_SECONDS", 1)):
        monkeypatch.setattr(leader, name, seconds)


def test_one_pod_works_and_another_takes_over_when_it_ends() -> None:
    leases, works = Leases(), {name: threading.Event() for name in "ab"}
    first, second = (lock(leases, name) for name in "ab")
    campaign(first, works["a"].set, lambda: None)
    assert works["a"].wait(5)
    assert leases.lease is not None and leases.lease["spec"]["holderIdentity"] == "a"
    assert leases.lease["spec"]["leaseTransitions"] == 0
    campaign(second, works["b"].set, lambda: None)
    assert not works["b"].wait(1.5), "the first one holds it"
    first.release()
    assert "holderIdentity" not in leases.lease["spec"]
    assert works["b"].wait(2.5), "it need not wait for the end of the lease"
    assert (leases.lease["spec"]["holderIdentity"], leases.lease["spec"]["leaseTransitions"]) == ("b", 1)
    second.release()


def test_a_pod_that_cannot_renew_its_lease_stops() -> None:
    leases, won, lost = Leases(), threading.Event(), threading.Event()
    campaign(lock(leases, "a"), won.set, lost.set)
    assert won.wait(5)
    leases.down = True
    assert lost.wait(8)


def test_a_pod_whose_api_server_says_nothing_stops_before_another_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real seconds
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = client.Configuration(host=f"http://127.0.0.1:{silent.getsockname()[1]}")
        settings.retries = False
        asked = LeaseLock(Api("vision", client.ApiClient(settings)), "ptst-operator", "a")
        begun = time.monotonic()
        assert not asked.get("ptst-operator", "vision")[0]
        seconds = time.monotonic() - begun
    last_try = leader._RETRY_SECONDS + leader._RENEW_SECONDS + 2 * seconds
    assert last_try < leader.LEASE_SECONDS, f"a last try would end {last_try:.1f} s after the renewal before"


def test_an_election_that_breaks_has_lost_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, won, lost = Leases(), threading.Event(), threading.Event()

    def broken(manifest: dict[str, Any]) -> None:
        raise ValueError("an answer that nobody expects")

    campaign(lock(leases, "a"), won.set, lost.set)
    assert won.wait(5)
    monkeypatch.setattr(leases, "replace", broken)
    assert lost.wait(8)


def test_a_lease_that_somebody_else_has_taken_is_not_overwritten() -> None:
    leases = Leases()
    mine, theirs = lock(leases, "a"), lock(leases, "b")
    assert mine.create("", "", None) and not theirs.create("", "", None)
    mine.get("", "")
    theirs.get("", "")
    assert theirs.update("", "", None)
    assert not mine.update("", "", None), "its version is too old"
    mine.release()
    assert leases.lease is not None and leases.lease["spec"]["holderIdentity"] == "b"


class Quiet(Leases):
    """The rest of an API server: no runs, and watches that say nothing."""

    def within(self, namespace: str) -> Quiet:
        return self

    def list(self, kind: str) -> dict[str, Any]:
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[Any]:
        threading.Event().wait()
        return iter(())


def test_a_pod_that_waits_is_ready_and_ends_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    leases = Quiet()
    seen: dict[str, Any] = {}
    leases.create({"metadata": {}, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 4, "renewTime": "x"}})
    leases.lease["spec"] |= {"acquireTime": "x"}  # type: ignore[index]

    class Server:
        def shutdown(self) -> None:
            seen["down"] = True

    def serve(port: int, metrics: Any, healthy: Callable[[], str | None], ready: Callable[[], str | None]) -> Server:
        seen["waits"] = (healthy(), ready())
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
        return Server()

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(main, "serve", serve)
    monkeypatch.setattr(Api, "connected", lambda namespace: leases)
    try:
        assert main.main(["--namespace", "vision", "--lease", "ptst-operator"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == {"waits": (None, None), "down": True}
    assert leases.lease is not None and leases.lease["spec"]["holderIdentity"] == "other"


def test_namespaces_are_one_several_or_all() -> None:
    assert main._namespaces("vision") == ["vision"]
    assert main._namespaces("a, b,") == ["a", "b"]
    assert main._namespaces("a,*") == [""]
    with pytest.raises(BadInput, match="no namespace"):
        main._namespaces(" ")


def test_lines_of_json_are_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        logs.set_up("info", "json")
        log = logging.getLogger("ptst_operator")
        log.debug("not shown")
        log.info('%s: "quoted"\nsecond line', "run")
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("a bug")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "ptst_operator", 'run: "quoted"\nsecond line')
    assert first["time"].endswith("+00:00") and "traceback" not in first
    assert second["level"] == "error" and "ValueError: no" in second["traceback"]
