"""The Ray actor around a worker; the driver knows only this, so it never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray

from visionr1.data.check import CheckReport
from visionr1.data.rows import Row
from visionr1.grpo.parity import Probe
from visionr1.grpo.plan import WorkerPlan
from visionr1.rollout.types import Reply, Sampling
from visionr1.rundir.manifest import FileEntry

if TYPE_CHECKING:
    from visionr1.grpo.effort import Sampled  # which imports torch


class Host:
    """Holds one `visionr1.grpo.worker.Worker`; its own constructor cannot fail, so every error reaches the driver as it is.

    Each method is the worker's of the same name; `ray.method` lets mypy check what the driver passes and gets.
    """

    @ray.method
    def begin(self, plan: WorkerPlan) -> None:
        """Makes the worker, in this process: loads model, trainer and engine, which takes minutes for a large model."""
        from visionr1.grpo.worker import Worker

        self._worker = Worker(plan)

    @ray.method
    def check_problems(self) -> CheckReport:
        return self._worker.check_problems()

    @ray.method
    def rollout(self, rows: list[Row], sampling: Sampling, seeds: list[int]) -> list[list[Reply]]:
        return self._worker.rollout(rows, sampling, seeds)

    @ray.method
    def update_flops(self) -> list[float]:
        return self._worker.update_flops()

    @ray.method
    def hand_over(self, places: list[int]) -> list[Sampled]:
        return self._worker.hand_over(places)

    @ray.method
    def keep(self, places: list[int], *received: list[Sampled]) -> None:
        self._worker.keep(places, *received)

    @ray.method
    def update(self, advantages: list[list[float]], learning_rate: float, upcoming: list[Row]) -> dict[str, float]:
        return self._worker.update(advantages, learning_rate, upcoming)

    @ray.method
    def sync(self) -> None:
        self._worker.sync()

    @ray.method
    def probe(self) -> Probe:
        return self._worker.probe()

    @ray.method
    def save(self, step: int) -> list[FileEntry]:
        return self._worker.save(step)
