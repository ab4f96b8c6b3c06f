"""The operator's process: what its probes say, and what its metrics count."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ptst_operator import workers
from ptst_operator.api import ApiError, NameTaken
from ptst_operator.main import STALLED_SECONDS, Operator
from ptst_operator.metrics import OperatorMetrics
from ptst_operator.reconcile import Reconciler
from ptst_operator.run_queue import RunQueue
from site_of_a_run import Site, without_coldstart

from visionr1.storage import StorageError


class Silent:
    """An API server that takes every watch, and says nothing more after it has listed."""

    def within(self, namespace: str) -> Silent:
        return self

    def list(self, kind: str) -> dict[str, Any]:
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    def watch(self, kind: str, version: str, seconds: int) -> Iterable[Any]:
        threading.Event().wait()
        return []


@pytest.fixture
def operator() -> Any:
    made, stopped = Operator(Silent(), 15.0, ["vision"]), threading.Event()  # type: ignore[arg-type]
    assert made.unready() == "watch-PTSTRun has not listed yet"
    running = threading.Thread(target=made.run, args=(2, stopped))
    running.start()
    assert all(watcher.ready.wait(10) for watcher in made.watchers)
    yield made
    stopped.set()
    running.join(10)


def test_an_operator_at_work_is_ready_and_healthy(operator: Operator) -> None:
    assert (operator.unready(), operator.unhealthy()) == (None, None)


def test_an_operator_with_a_watch_that_hangs_is_neither_ready_nor_healthy(operator: Operator) -> None:
    operator.watchers[3].beat = time.monotonic() - STALLED_SECONDS - 1
    assert (operator.unready(), operator.unhealthy()) == ("watch-RayCluster has stalled", "watch-RayCluster has stalled")


def test_an_operator_with_a_dead_worker_is_neither_ready_nor_healthy(operator: Operator) -> None:
    operator._workers._stop.set()
    deadline = time.monotonic() + 10
    while not operator._workers._threads or any(thread.is_alive() for thread in operator._workers._threads):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert operator.unready() == operator.unhealthy()
    assert str(operator.unhealthy()).startswith("worker-")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_that_hang_delay_no_other_run_and_at_last_fail_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SLOW_SECONDS", 0.1)
    go_on, seen = threading.Event(), []

    def look(name: str) -> float:
        if name.startswith("hangs"):
            go_on.wait()
        seen.append(name)
        return math.inf

    queue, stopped = RunQueue(), threading.Event()
    pool = workers.Workers(queue, look)
    for name in ("hangs-1", "hangs-2", "hangs-3", "hangs-4", "sound"):
        queue.add(name)
    running = threading.Thread(target=pool.run, args=(2, stopped, 5.0))
    running.start()
    until(lambda: "sound" in seen)
    assert pool.unhealthy() is None
    monkeypatch.setattr(workers, "HUNG_SECONDS", 0.2)
    until(lambda: pool.unhealthy() is not None)
    assert str(pool.unhealthy()).startswith("a look at hangs-")
    go_on.set()
    until(lambda: len(seen) == 5)
    until(lambda: sum(thread.is_alive() for thread in pool._threads) == 2)
    assert pool.unhealthy() is None, "those that hung have been replaced"
    stopped.set()
    running.join(10)


def counted(metrics: OperatorMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ApiError(503, "no"), "api_503"),
        (NameTaken("no"), "name_taken"),
        (StorageError("no"), "storage"),
        (KeyError(), "bug"),
    ],
)
def test_a_look_that_failed_is_counted_by_its_reason(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Operator(Silent(), 15.0, ["vision"])  # type: ignore[arg-type]

    def fail(self: Reconciler, name: str) -> None:
        raise error

    monkeypatch.setattr(Reconciler, "reconcile", fail)
    assert operator._look("vision/run") < 15, "it is tried again soon"
    assert counted(operator.metrics, "visionr1_ptst_reconcile_errors_total", reason=reason) == 1


@pytest.mark.parametrize("error", [ApiError(422, "no \x1b[2J"), NameTaken("no \x1b[2J"), StorageError("no \x1b[2J")])
def test_no_message_in_the_log_controls_a_terminal(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(Silent(), 15.0, ["vision"])  # type: ignore[arg-type]

    def fail(self: Reconciler, name: str) -> None:
        raise error

    monkeypatch.setattr(Reconciler, "reconcile", fail)
    operator._look("vision/run")
    assert r"vision/run: no \x1b[2J" in caplog.text and "\x1b" not in caplog.text


def test_attempts_after_the_first_are_counted(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    again = {"namespace": "default", "run": "run", "stage": "sft"}
    site.look(2)
    assert counted(site.metrics, "visionr1_ptst_child_restarts_total", **again) == 0, "there before the first, to be seen rising"
    for _ in range(2):
        site.start_child()
        site.look()
        site.end_child(1)
        site.look()
        site.now += 20
        site.look(2)
    assert counted(site.metrics, "visionr1_ptst_child_restarts_total", **again) == 2


@pytest.mark.parametrize("phase", ["Suspended", "Held", "Failed", "Succeeded", "Pending"])
def test_a_run_that_rests_has_its_metrics_after_a_restart_of_the_operator(phase: str, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {"Suspended": {"suspend": True}, "Held": {"holdBefore": ["sft"]}}
    changes = settings.get(phase, {})
    site = Site(tmp_path, **without_coldstart(), **changes)
    if phase == "Failed":
        site.look(2)
        site.start_child()
        site.end_child(64)
    elif phase == "Succeeded":
        for name, step in (("sft", 3), ("stage-1", 4), ("stage-2", 8)):
            site.commit(name, step, final=True)
        site.store.write_bytes("eval/stage-2.json", b'{"step": 8}')
    elif phase == "Pending":
        site.cluster.served = set()
    assert site.look(3).phase == phase
    metrics = OperatorMetrics()
    changed, gone = partial(metrics.changed, "default"), partial(metrics.gone, "default")
    site.operator = Reconciler(site.cluster, changed, gone, lambda: site.now)  # type: ignore[arg-type]
    site.look()
    assert counted(metrics, "visionr1_ptst_run_phase", namespace="default", run="run", phase=phase) == 1
