"""What a run directory would show, from the commits of a fake cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fake_cluster import FakeCluster
from ptst_operator import act, intake
from ptst_operator.look import run_directory
from ptst_operator.run import recipe_hash

from visionr1.errors import BadInput
from visionr1.recipe import Phase, Recipe, phases_from
from visionr1.rundir.committed import Committed
from visionr1.rundir.rollback import Rollback


@contextmanager
def run_directory_of(cluster: FakeCluster) -> Iterator[None]:
    """Reads commits from the fake cluster in place of a run directory."""

    def committed(store: object, phase: Phase) -> Committed:
        return cluster.listed(phase.name)

    def records(store: object) -> list[dict[str, Any]]:
        steps = [(name, step) for name, one in cluster.committed.items() for step in range(1, (one.step or 0) + 1)]
        return [
            {"phase": name, "step": step, "reward_mean": float((name, step) not in cluster.bad_steps)} for name, step in steps
        ]

    def refusal(store: object, recipe: object, to: Rollback, stage: str) -> str | None:
        return None if to.phase == stage or cluster.committed["stage-1"].complete else "there is no such checkpoint"

    def is_rolled_back(store: object, recipe: object, to: Rollback) -> bool:
        cluster.committed_before.update(cluster.committed)  # all of it is listed; what is committed is read again after that
        return not any(one.step is not None and one.step > to.step for name, one in cluster.committed.items() if name != "sft")

    def roll_back(store: object, recipe: Recipe, to: Rollback, archive: str) -> None:
        at_work = cluster.seen() or any(kind == "RayCluster" for kind, _ in cluster.objects)
        assert not at_work, "something of the run is at work while checkpoints are deleted"
        for phase in phases_from(recipe, to.phase):
            step = to.step if phase.name == to.phase and to.step > phase.first_step else None
            cluster.take_commits_back(phase.name, Committed(step, step == phase.first_step + 4))
        cluster.rollbacks += 1
        cluster.epoch += 1

    def adopt_recipe(store: object, recipe: Recipe, begun: object) -> None:
        if cluster.recipe_refused:
            raise BadInput("seed: 1 in the run, 2 in this recipe")

    with (
        patch.object(run_directory, "committed", committed),
        patch.object(run_directory, "read_steps", records),
        patch.object(run_directory, "refusal", refusal),
        patch.object(run_directory, "is_rolled_back", is_rolled_back),
        patch.object(act, "roll_back", roll_back),
        patch.object(run_directory, "newest_progress", lambda *_: None),
        patch.object(intake, "adopt_recipe", adopt_recipe),
        patch.object(intake, "keep_decided", lambda store, recipe: cluster.decided.update({recipe_hash(recipe): recipe})),
        patch.object(intake, "read_recipe", lambda store, sha256: cluster.decided[sha256]),
    ):
        yield
