"""The workers as the loop sees them: one call to all of them, results in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, TypeVar, cast

import numpy as np
import ray
from ray.actor import ActorHandle, ActorProxy
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from visionr1.data.check import CheckReport
from visionr1.engine.saving import Parts, Saving
from visionr1.grpo.balance import balanced
from visionr1.grpo.batches import Batch
from visionr1.grpo.host import Host
from visionr1.grpo.lengths import spread
from visionr1.grpo.parity import Probe
from visionr1.grpo.plan import WorkerPlan
from visionr1.grpo.start import StageStart
from visionr1.grpo.upload import upload
from visionr1.metrics.listening import free_port
from visionr1.recipe.phases import StagePhase
from visionr1.recipe.schema import Recipe
from visionr1.rollout.room import reserve
from visionr1.rollout.types import Reply, Sampling
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.retention import kept

Result = TypeVar("Result")


class Crew:
    """Starts one worker a GPU (or CPU slot) and speaks to all of them at once.

    A lost worker ends the call with Ray's error and so the phase: collectives do not survive a lost
    member, and the next attempt goes on from the last committed checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: FencedStore,
        phase: StagePhase,
        start: StageStart,
        on_commit: Callable[[int, float], None],
        should_stop: Callable[[], bool],
    ):
        """Waits until there is room for all workers.

        Args:
            on_commit: called with each committed step and the seconds that its upload and commit took, in any thread.
            should_stop: whether the wait is to end.

        Raises:
            Unreachable: there was no room in time.
            Stopped: asked to stop before there was room.
        """
        self._recipe, self._phase = recipe, phase
        self._tensor_parallel = phase.stage.tensor_parallel
        self._store = store
        self._parts: list[np.ndarray] = []
        self._checkpoints = Checkpoints(store, phase.name)
        self._saving = Saving(self._checkpoints, self._upload, self._kept, on_commit)
        bundle = {"CPU": 1.0, "GPU": 1.0} if _on_gpu(recipe) else {"CPU": 1.0}
        self._group = reserve([bundle] * recipe.rollout.workers, "rollout.workers", should_stop)
        # Tensor-parallel peers are consecutive ranks, so ranks are counted node by node.
        nodes = ray.util.placement_group_table(self._group)["bundles_to_node_id"]
        bundles = sorted(range(recipe.rollout.workers), key=lambda bundle: (nodes[bundle], bundle))
        self._beside = [_slot(self._group, bundle, recipe, workers=0) for bundle in bundles]
        address, port = ray.get(_rendezvous.options(**self._beside[0]).remote())
        places = places_on_nodes([nodes[bundle] for bundle in bundles])
        plans = [
            WorkerPlan(
                recipe=recipe,
                run_url=store.url,
                epoch=store.epoch,
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

    def rollout(self, batch: Batch, sampling: Sampling, seeds: list[int]) -> Iterator[dict[int, list[Reply]]]:
        """Groups of completions by the index of their row, as soon as a worker has all of its own; `seeds` has one per row."""
        self._parts = self._spread(batch)
        calls = {
            worker.rollout.remote([batch.rows[index] for index in part], sampling, [seeds[index] for index in part]): rank
            for rank, (worker, part) in enumerate(zip(self._workers, self._parts, strict=True))
        }
        own = self._own_rows()
        for call, groups in _as_they_end(list(calls)):
            yield {int(index): group for index, group in zip(own[calls[call]], groups, strict=True)}

    def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
        """One rollout batch's update. The statistics are of the global batch, `rollout_tail_seconds` is the longest engine's.

        Groups move between the workers first, so that all take equally long.

        Args:
            upcoming: the next batch, whose prompts are made meanwhile; None if there is none.
        """
        following = [[upcoming.rows[index] for index in part] for part in self._spread(upcoming)] if upcoming else None
        calls = [
            worker.update.remote(advantages_PG[own].tolist(), learning_rate, following[rank] if following else [])
            for rank, (worker, own) in enumerate(zip(self._workers, self._balance(advantages_PG), strict=True))
        ]
        results = _results(calls)
        tails = [result["rollout_tail_seconds"] for result in results if "rollout_tail_seconds" in result]
        return results[0] | ({"rollout_tail_seconds": max(tails)} if tails else {})

    def _balance(self, advantages_PG: np.ndarray) -> list[np.ndarray]:
        """Moves groups of the last rollout between the workers; for each worker, the indices of the rows that it has now."""
        own = self._own_rows()
        flops = _results([worker.update_flops.remote() for worker in self._workers])
        learning_P = np.any(advantages_PG, axis=1) | np.full(len(advantages_PG), self._recipe.algorithm.kl_beta > 0)
        parts = balanced([np.array(needed) * learning_P[rows] for needed, rows in zip(flops, own, strict=True)])
        handed = [
            [
                self._workers[rank].hand_over.remote([place for _, place in places])
                for rank, places in groupby(part, key=lambda at: at[0])
                if rank != receiver
            ]
            for receiver, part in enumerate(parts)
        ]
        calls = [
            worker.keep.remote([place for rank, place in part if rank == receiver], *groups)
            for receiver, (worker, part, groups) in enumerate(zip(self._workers, parts, handed, strict=True))
        ]
        _results(calls)
        return [np.array([own[rank][place] for rank, place in part]) for part in parts]

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
        self._checkpoints.clear(step)
        where = self._store.url, self._store.epoch, self._phase.name, step
        _results([upload.options(**beside).remote(*where, part) for beside, part in zip(self._beside, parts, strict=True)])

    def _kept(self, steps: list[int]) -> set[int]:
        rules = self._recipe.checkpoint
        return kept(steps, rules.keep_last, self._phase.last_step, rules.keep_stage_end)

    def _spread(self, batch: Batch) -> list[np.ndarray]:
        """For each worker, the indices of the rows that its engine samples (the same for tensor-parallel peers)."""
        parts = spread(len(batch.rows), batch.expected, len(self._workers) // self._tensor_parallel)
        return [parts[rank // self._tensor_parallel] for rank in range(len(self._workers))]

    def _own_rows(self) -> list[np.ndarray]:
        """For each worker, the indices of its rows in the last rollout; it keeps their groups."""
        return [part[rank % self._tensor_parallel :: self._tensor_parallel] for rank, part in enumerate(self._parts)]

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
    results = dict(_as_they_end(calls))
    return [results[call] for call in calls]


def _as_they_end(calls: list[ray.ObjectRef[Result]]) -> Iterator[tuple[ray.ObjectRef[Result], Result]]:
    """Each call with its result, which is read once, in the order in which they end."""
    pending = calls
    try:
        while pending:
            done, pending = ray.wait(pending)
            for call in done:
                yield call, ray.get(call)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _on_gpu(recipe: Recipe) -> bool:
    return recipe.rollout.on_gpu("GPU" in ray.cluster_resources())


def _slot(group: PlacementGroup, bundle: int, recipe: Recipe, workers: int) -> dict[str, Any]:
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    return {"scheduling_strategy": strategy, "num_cpus": workers, "num_gpus": workers if _on_gpu(recipe) else 0}


@ray.remote
def _rendezvous() -> tuple[str, int]:
    """Address of the first worker's node and a port that is free there."""
    address = ray.util.get_node_ip_address()
    return address, free_port(address)
