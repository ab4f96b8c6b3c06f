"""The workers as the loop sees them: one call to all of them, results in the order of the rows."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import ray
from ray.actor import ActorHandle, ActorProxy
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from visionr1.data.check import CheckReport
from visionr1.data.rows import Row
from visionr1.engine.saving import Parts
from visionr1.grpo.host import Host
from visionr1.grpo.parity import Probe
from visionr1.grpo.plan import WorkerPlan
from visionr1.grpo.saving import Saving
from visionr1.grpo.start import StageStart
from visionr1.grpo.upload import upload
from visionr1.recipe.phases import StagePhase
from visionr1.recipe.schema import Recipe
from visionr1.rollout.types import Completion, Sampling
from visionr1.rundir.checkpoints import Checkpoints, kept
from visionr1.storage import open_store

PLACEMENT_SECONDS = 1800

Result = TypeVar("Result")


class Crew:
    """Starts one worker a GPU (or CPU slot) and speaks to all of them at once.

    A lost worker ends the call with Ray's error and so the phase: collectives do not survive a lost
    member, and the next attempt goes on from the last committed checkpoint.
    """

    def __init__(
        self, recipe: Recipe, run_url: str, phase: StagePhase, start: StageStart, on_commit: Callable[[int, float], None]
    ):
        """`on_commit` is called with each committed step and the seconds that its upload and commit took, in any thread."""
        self._recipe, self._phase = recipe, phase
        self._tensor_parallel = phase.stage.tensor_parallel
        self._run_url = run_url
        self._saving = Saving(Checkpoints(open_store(run_url), phase.name), self._upload, self._kept, on_commit)
        self._group = _reserve(recipe)
        # Tensor-parallel peers are consecutive ranks, so ranks are counted node by node.
        nodes = ray.util.placement_group_table(self._group)["bundles_to_node_id"]
        bundles = sorted(range(recipe.rollout.workers), key=lambda bundle: (nodes[bundle], bundle))
        self._beside = [_slot(self._group, bundle, recipe, workers=0) for bundle in bundles]
        address, port = ray.get(_rendezvous.options(**self._beside[0]).remote())
        places = places_on_nodes([nodes[bundle] for bundle in bundles])
        plans = [
            WorkerPlan(
                recipe=recipe,
                run_url=run_url,
                phase=phase,
                rank=rank,
                world_size=recipe.rollout.workers,
                master_address=address,
                master_port=port,
                start=start,
                place_on_node=place,
            )
            for rank, place in enumerate(places)
        ]
        actor = ray.remote(Host)
        slots = [_slot(self._group, bundle, recipe, workers=1) for bundle in bundles]
        self._workers: list[ActorProxy[Host]] = [actor.options(max_restarts=0, **slot).remote() for slot in slots]
        _results([worker.begin.remote(plan) for worker, plan in zip(self._workers, plans, strict=True)])

    def usable_problems(self) -> CheckReport:
        """The check of every train problem, made by the first worker, which has the tokenizer."""
        return _results([self._workers[0].check_problems.remote()])[0]

    def rollout(self, rows: list[Row], sampling: Sampling, seeds: list[int]) -> list[list[Completion]]:
        """A group of completions for each row, in the order of the rows."""
        calls = [
            worker.rollout.remote(rows[part], sampling, seeds[part])
            for worker, part in zip(self._workers, self._engine_parts(len(rows)), strict=True)
        ]
        return self._in_row_order(_results(calls), len(rows))

    def update(self, advantages_PG: np.ndarray, learning_rate: float) -> dict[str, float]:
        """One rollout batch's update; the statistics are of the global batch."""
        parts = self._worker_rows(len(advantages_PG))
        calls = [
            worker.update.remote(advantages_PG[part].tolist(), learning_rate)
            for worker, part in zip(self._workers, parts, strict=True)
        ]
        return _results(calls)[0]

    def check(self) -> None:
        """Raises StorageError if the checkpoint before could not be uploaded or committed."""
        self._saving.check()

    def sync(self) -> None:
        """Gives every rollout engine the new weights."""
        _results([worker.sync.remote() for worker in self._workers])

    def probe(self) -> list[Probe]:
        """How far every worker's engine is from its trainer, right after `sync`."""
        return _results([worker.probe.remote() for worker in self._workers])

    def save(self, step: int) -> Parts:
        """Writes the files of global step `step` on the workers' machines, once the commit before is through."""
        self._saving.begin(step)
        return _results([worker.save.remote(step) for worker in self._workers])

    def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        """Makes what `save` wrote a checkpoint, then drops those that are no longer kept.

        On S3 the next steps train meanwhile, unless `wait` says to return only when the checkpoint is there. What fails is
        raised by the next `check`, `save` or `commit`.
        """
        self._saving.commit(step, parts, state, wait=wait)

    def _upload(self, step: int, parts: Parts) -> None:
        where = self._run_url, self._phase.name, step
        _results([upload.options(**beside).remote(*where, part) for beside, part in zip(self._beside, parts, strict=True)])

    def _kept(self, steps: list[int]) -> set[int]:
        rules = self._recipe.checkpoint
        return kept(steps, rules.keep_last, self._phase.last_step, rules.keep_stage_end)

    def _engine_parts(self, n_rows: int) -> list[slice]:
        """For each worker, the rows that its engine samples (the same for tensor-parallel peers)."""
        engines = len(self._workers) // self._tensor_parallel
        size = n_rows // engines
        return [
            slice(size * (rank // self._tensor_parallel), size * (rank // self._tensor_parallel + 1))
            for rank in range(len(self._workers))
        ]

    def _worker_rows(self, n_rows: int) -> list[np.ndarray]:
        """For each worker, the indices of its rows. It keeps their groups and trains on them."""
        indices = np.arange(n_rows)
        parts = self._engine_parts(n_rows)
        return [indices[part][rank % self._tensor_parallel :: self._tensor_parallel] for rank, part in enumerate(parts)]

    def _in_row_order(self, results: list[list[Any]], n_rows: int) -> list[Any]:
        ordered: list[Any] = [None] * n_rows
        for part, groups in zip(self._worker_rows(n_rows), results, strict=True):
            for index, group in zip(part, groups, strict=True):
                ordered[index] = group
        return ordered

    def close(self) -> None:
        """Ends the workers and gives their places back."""
        for worker in self._workers:
            ray.kill(cast("ActorHandle[Host]", worker))  # Ray types what it returns otherwise than what it takes
        ray.util.remove_placement_group(self._group)


def places_on_nodes(nodes: list[str]) -> list[int]:
    """For each rank, how many ranks before it are on its node. Only workers of the same pod need different ports."""
    return [nodes[:rank].count(node) for rank, node in enumerate(nodes)]


def _results(calls: list[ray.ObjectRef[Result]]) -> list[Result]:
    """The calls' results in order; a failure is raised at once, for the others may wait for the failed one for ever."""
    pending = calls
    try:
        while pending:
            done, pending = ray.wait(pending)
            ray.get(done)
        return ray.get(calls)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _reserve(recipe: Recipe) -> PlacementGroup:
    """One bundle per worker, on as few nodes as possible.

    Raises:
        RuntimeError: the cluster has no room within PLACEMENT_SECONDS.
    """
    bundle = {"CPU": 1.0, "GPU": 1.0} if _on_gpu(recipe) else {"CPU": 1.0}
    group = placement_group([bundle] * recipe.rollout.workers, strategy="PACK")
    if not group.wait(PLACEMENT_SECONDS):
        raise RuntimeError(
            f"no room for {recipe.rollout.workers} workers of {bundle} in {PLACEMENT_SECONDS} s; "
            f"Ray has {ray.cluster_resources()}"
        )
    return group


def _on_gpu(recipe: Recipe) -> bool:
    return recipe.rollout.on_gpu("GPU" in ray.cluster_resources())


def _slot(group: PlacementGroup, bundle: int, recipe: Recipe, workers: int) -> dict[str, Any]:
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    return {"scheduling_strategy": strategy, "num_cpus": workers, "num_gpus": workers if _on_gpu(recipe) else 0}


@ray.remote
def _rendezvous() -> tuple[str, int]:
    """Address of the first worker's node and a port that is free there."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return ray.util.get_node_ip_address(), listener.getsockname()[1]
