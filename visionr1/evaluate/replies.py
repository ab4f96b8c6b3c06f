"""Replies to a benchmark's problems: which are wanted, and those that are there already, kept by all that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from visionr1.data.coldstart.reply import Reply
from visionr1.data.rows import Row
from visionr1.evaluate.problems import problem_seed
from visionr1.recipe import Recipe


@dataclass(frozen=True)
class Wanted:
    """One reply: to which problem (its place), which of its samples, the seed for it, and `key`, all that it depends on.

    The row is read when it is asked about: the pictures of a whole set may not fit into memory.
    """

    place: int
    sample: int
    seed: int
    key: str
    rows: Sequence[Row]

    @property
    def row(self) -> Row:
        """The problem, with its pictures."""
        return self.rows[self.place]


Keep = Callable[[Wanted, Reply | None], None]
"""Takes a reply as soon as it is there; None if there will be none."""


class Answerer(Protocol):
    """A model that answers, in this process, in workers or behind an endpoint."""

    @property
    def depends_on(self) -> Mapping[str, Any]:
        """What replies depend on beside problem, sampling and seed: the weights, or the model's name."""

    @property
    def made_with(self) -> Mapping[str, Any]:
        """Versions or address, for people."""

    def answer(self, wanted: Sequence[Wanted], keep: Keep, should_stop: Callable[[], bool]) -> None:
        """Answers all of them, in any order. Raises Stopped when asked to stop."""


def wanted_replies(rows: Sequence[Row], recipe: Recipe, depends_on: Mapping[str, Any]) -> list[Wanted]:
    """Every reply that the recipe's evaluation asks for. Sample k of all problems has seeds of its own."""
    shared = json.dumps([dict(depends_on), sampling_of(recipe)], sort_keys=True)
    wanted = []
    for place, row in enumerate(rows):
        problem = [shared, row.problem, *(hashlib.sha256(image).hexdigest() for image in row.images)]
        for sample in range(recipe.evaluation.samples):
            seed = problem_seed(recipe.seed, f"{row.id} {sample}" if sample else row.id)
            key = hashlib.sha256(json.dumps([*problem, sample, seed]).encode()).hexdigest()
            wanted.append(Wanted(place, sample, seed, key, rows))
    return wanted


def sampling_of(recipe: Recipe) -> dict[str, Any]:
    """The values that shape a reply, whoever gives it."""
    wanted, model = recipe.evaluation, recipe.model
    return {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "max_completion_tokens": wanted.max_completion_tokens,
        "min_pixels": model.min_pixels,
        "max_pixels": model.max_pixels,
        "system_prompt": model.system_prompt,
    }
