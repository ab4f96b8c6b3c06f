"""The Ray actor around a worker; the driver knows only this, so it never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visionr1.grpo.start import Start


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker is told at its start; `place_on_node` counts the workers of its node from 0."""

    recipe_json: str
    run_url: str
    stage_index: int
    rank: int
    world_size: int
    master_address: str
    master_port: int
    start: Start
    place_on_node: int


class Host:
    """Holds one `visionr1.grpo.worker.Worker`; its own constructor cannot fail, so every error reaches the driver as it is."""

    def begin(self, plan: WorkerPlan) -> None:
        """Makes the worker, in this process: loads model, trainer and engine, which takes minutes for a large model."""
        from visionr1.grpo.worker import Worker

        self._worker = Worker(plan)

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the worker by its name and gives what it gives; `begin` comes first."""
        return getattr(self._worker, method)(*arguments)
