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
