"""Elastic start: the numbers of workers that a stage may train with, if not all that the recipe asks for are there. Pure."""

from __future__ import annotations

from functools import lru_cache

from ptst_operator.spec import Spec
from visionr1.recipe import Recipe


def worker_counts(spec: Spec, recipe: Recipe) -> tuple[int, ...]:
    """The numbers of workers that the run's stages may train with, largest first: the recipe's, and fewer with minWorkers."""
    return _worker_counts(recipe, spec.grpo.workers_per_pod, spec.grpo.min_workers)


def fewest(spec: Spec, recipe: Recipe) -> Recipe:
    """The recipe with the fewest workers that a stage may begin with."""
    return recipe_with(recipe, worker_counts(spec, recipe)[-1])


def recipe_with(recipe: Recipe, workers: int) -> Recipe:
    """The recipe with another number of workers, which it allows."""
    if workers == recipe.rollout.workers:
        return recipe
    return recipe.model_copy(update={"rollout": recipe.rollout.model_copy(update={"workers": workers})})


@lru_cache(maxsize=512)  # the operator looks at a run many times before its spec changes
def _worker_counts(recipe: Recipe, per_pod: int, least: int | None) -> tuple[int, ...]:
    most = recipe.rollout.workers
    if least is None or not recipe.stages:
        return (most,)
    return (most, *(count for count in recipe.fewer_workers(per_pod) if count >= least))
