"""When a run is looked at again: at its next deadline, and now and then whatever the watches say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster
from ptst_operator.api import ApiError
from ptst_operator.main import Operator
from schedules import new_run
from site_of_a_run import Site, without_coldstart


def test_a_run_is_looked_at_again_when_its_next_deadline_is_over(tmp_path: Path) -> None:
    site = Site(tmp_path, deadlines={"pendingSeconds": 100, "attemptSeconds": 1000}, **without_coldstart())
    started = site.look(3).of("sft").attempts[0].started.timestamp()
    assert site.operator.reconcile("run") == started + 100
    site.start_child()
    site.look()
    assert site.operator.reconcile("run") == started + 1000, "it runs, so it waits no more"
    site.now = started + 1000
    stopping = site.look().of("sft").attempts[0].stopping
    assert stopping is not None and stopping.reason == "DeadlineExceeded"


class Silent(FakeCluster):
    """Its watches say nothing after the first list."""

    def list(self, kind: str, selector: str = "", fields: str = "") -> dict[str, Any]:
        if kind in ("Pod", "Event"):
            return super().list(kind, selector, fields)
        if kind != "PTSTRun":
            raise ApiError(404, "no such kind")
        return {"items": [self.run], "metadata": {"resourceVersion": "1"}}

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        time.sleep(seconds)
        return iter(())


@pytest.mark.parametrize("suspend", [True, False], ids=["nothing is due", "a deadline is far away"])
def test_a_run_is_looked_at_again_though_no_watch_says_so(suspend: bool, tmp_path: Path) -> None:
    storage = {"url": str(tmp_path / "run"), "claim": {"name": "runs", "mountPath": str(tmp_path)}}
    cluster = Silent(new_run(storage=storage, suspend=suspend, **without_coldstart()))
    looks: list[float] = []
    cluster.before_call = lambda call: looks.append(time.monotonic()) if call == "get" else None
    operator, stopped = Operator(cluster, 0.05, ["default"]), threading.Event()  # type: ignore[arg-type]
    running = threading.Thread(target=operator.run, args=(1, stopped), daemon=True)
    running.start()
    try:
        end = time.monotonic() + 20
        while len(looks) < 20:
            assert time.monotonic() < end, f"looked at {len(looks)} times"
            time.sleep(0.05)
    finally:
        stopped.set()
        running.join(10)


class Namespaces:
    """A cluster with a run of the same name in each of several namespaces; without a namespace it lists all of them."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.parts = {}
        for name in names:
            storage = {"url": str(folder / name), "claim": {"name": "runs", "mountPath": str(folder)}}
            run = new_run(storage=storage, suspend=True, **without_coldstart())
            self.parts[name] = Silent({**run, "metadata": {**run["metadata"], "namespace": name}})

    def within(self, namespace: str) -> Any:
        return self.parts[namespace] if namespace else self

    def list(self, kind: str) -> dict[str, Any]:
        if kind != "PTSTRun":
            raise ApiError(404, "no such kind")
        return {"items": [part.run for part in self.parts.values()], "metadata": {"resourceVersion": "1"}}

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        time.sleep(seconds)
        return iter(())


@pytest.mark.parametrize("watched", [["a", "b"], [""]], ids=["a list", "every namespace"])
def test_runs_of_one_name_in_several_namespaces_are_kept_apart(watched: list[str], tmp_path: Path) -> None:
    cluster = Namespaces(tmp_path, ["a", "b", "c"])
    operator, stopped = Operator(cluster, 0.05, watched), threading.Event()  # type: ignore[arg-type]
    running = threading.Thread(target=operator.run, args=(2, stopped), daemon=True)
    running.start()

    def phases() -> dict[str, Any]:
        return {name: part.run.get("status", {}).get("phase") for name, part in cluster.parts.items()}

    wanted = {name: "Suspended" if name in watched or watched == [""] else None for name in cluster.parts}
    try:
        end = time.monotonic() + 20
        while phases() != wanted:
            assert time.monotonic() < end, phases()
            time.sleep(0.05)
    finally:
        stopped.set()
        running.join(10)
    for name, phase in wanted.items():
        labels = {"namespace": name, "run": "run", "phase": "Suspended"}
        assert operator.metrics.registry.get_sample_value("visionr1_ptst_run_phase", labels) == (1 if phase else None)


def test_the_operator_s_own_namespace_is_known_to_each_look(tmp_path: Path) -> None:
    cluster = Namespaces(tmp_path, ["home", "away"])
    operator, stopped = Operator(cluster, 0.05, [""], home="home"), threading.Event()  # type: ignore[arg-type]
    running = threading.Thread(target=operator.run, args=(2, stopped), daemon=True)
    running.start()

    def valid() -> dict[str, str | None]:
        found = {name: part.run.get("status", {}).get("conditions", []) for name, part in cluster.parts.items()}
        return {name: next((c["status"] for c in there if c["type"] == "RecipeValid"), None) for name, there in found.items()}

    try:
        end = time.monotonic() + 20
        while valid() != {"home": "True", "away": "False"}:
            assert time.monotonic() < end, valid()
            time.sleep(0.05)
    finally:
        stopped.set()
        running.join(10)
