"""One operator that lives on, a fake cluster and a real run directory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fake_cluster import FakeCluster
from ptst_operator.metrics import OperatorMetrics
from ptst_operator.reconcile import Reconciler
from ptst_operator.status import Status, read_status
from schedules import RECIPE, new_run

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore, newest_epoch
from visionr1.storage import open_store


class Site:
    """A fake cluster, an operator that lives on, and a real run directory."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        url = str(folder / "run")
        storage = {"url": url, "claim": {"name": "runs", "mountPath": str(folder)}}
        self.cluster = FakeCluster(new_run(storage=storage, **changes))
        self.store = open_store(url)
        self.now = 1_000_000.0
        self.metrics = OperatorMetrics()
        self.replace_operator()

    def replace_operator(self) -> None:
        """A new one, which remembers nothing."""
        changed, gone = partial(self.metrics.changed, "default"), partial(self.metrics.gone, "default")
        self.operator = Reconciler(self.cluster, changed, gone, lambda: self.now)  # type: ignore[arg-type]

    def look(self, times: int = 1) -> Status:
        for _ in range(times):
            self.operator.reconcile("run")
            self.now += 1
        return self.status

    @property
    def status(self) -> Status:
        return read_status(self.cluster.run)

    def commit(self, phase: str, step: int, final: bool) -> None:
        checkpoints = Checkpoints(FencedStore(self.store, newest_epoch(self.store)), phase)
        folder = checkpoints.staging(step)
        (folder / "weights").write_bytes(b"w")
        checkpoints.commit(step, checkpoints.publish(step, folder, ["weights"]), {"final": final})

    def begin_stage_1(self) -> None:
        """SFT is done, and the first stage's driver works."""
        self.commit("sft", 3, final=True)
        self.look(2)
        self.cluster.ready()
        self.look(3)
        self.start_child()

    def start_child(self) -> None:
        for kind, child in self.cluster.children():
            self.cluster.start(kind, child)

    def end_child(self, code: int) -> None:
        self.cluster.end(self.cluster.processes[0], code)


def condition(status: Status, kind: str) -> Any:
    return next(one for one in status.conditions if one.type == kind)


def without_coldstart(**changes: Any) -> dict[str, Any]:
    return {"recipe": {**RECIPE, "coldstart": None, "sft": {"data": {"path": "x.jsonl"}}, **changes}}


def at_step_2(folder: Path, **changes: Any) -> Site:
    """A run with its first stage running, at step 2."""
    site = Site(folder, **without_coldstart(), **changes)
    site.begin_stage_1()
    site.commit("stage-1", 2, final=False)
    assert site.look().phase == "Running"
    return site
