"""One run as its user wants it: the PTSTRun and its recipe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

from ptst_operator.elastic import recipe_with, worker_counts
from ptst_operator.spec import Spec
from visionr1.recipe import Phase, Recipe, phases
from visionr1.recipe.reads import evaluation_settings
from visionr1.rundir.recipe import decided_recipe


@dataclass(frozen=True)
class ResolvedRun:
    """A PTSTRun and its whole recipe. Its children are made from this."""

    name: str
    namespace: str
    uid: str
    spec: Spec
    recipe: Recipe

    def with_workers(self, workers: int | None) -> ResolvedRun:
        """The run as an attempt with this number of workers has it.

        None, and a number that a change of the recipe has ruled out since, leave it as it is.
        """
        if workers is None or workers not in worker_counts(self.spec, self.recipe):
            return self
        return replace(self, recipe=recipe_with(self.recipe, workers))


@dataclass(frozen=True)
class WantedRun:
    """The run, and what a person wants of it now.

    Attributes:
        generation: of the spec.
        approved: value of the annotation by which a person lets the run continue.
        recipe_version: resourceVersion of the recipe's ConfigMap, if it has one.
        recipe_fault: what is wrong with its new recipe. The run then has its earlier recipe, and is being suspended.
    """

    run: ResolvedRun
    generation: int = 1
    approved: str = ""
    recipe_version: str = ""
    recipe_fault: str = ""

    @cached_property
    def chain(self) -> tuple[Phase, ...]:
        """The phases of its recipe, in order."""
        return phases(self.run.recipe)

    def has(self, name: str) -> bool:
        """Whether its recipe has a phase of this name."""
        return any(phase.name == name for phase in self.chain)


def evaluation_hash(recipe: Recipe) -> str:
    """SHA-256 of the values that scores depend on, to notice that evaluation is to be done again."""
    return hashlib.sha256(evaluation_settings(recipe).encode()).hexdigest()


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 of the whole recipe: pods get it in their command, and act on no other recipe."""
    return decided_recipe(recipe)[0]


def phase_command(run: ResolvedRun, command: str, *options: str) -> list[str]:
    """What the pod of a phase executes."""
    return ["visionr1", command, "--run", run.spec.storage.url, "--recipe-sha256", recipe_hash(run.recipe), *options]
