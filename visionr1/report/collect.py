"""Everything that the report shows, read from a run directory; whatever is not there yet is left out."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from visionr1.data.reflection import count_reflection
from visionr1.errors import EXIT_DONE, EXIT_STOPPED, BadInput
from visionr1.metrics.steplog import read_steps
from visionr1.recipe import Phase, Recipe, phases
from visionr1.recipe.schema import Stage
from visionr1.storage import NotFound, Store
from visionr1.storage.layout import (
    COLDSTART_DATA,
    COLDSTART_MANIFEST,
    COLDSTART_REPORT,
    MANIFEST,
    RECIPE,
    STEPS,
    checkpoints_prefix,
    eval_key,
    eval_samples_key,
)
from visionr1.storage.run_recipe import read_recipe

_TITLES: Final = {"coldstart": "cold-start data", "sft": "cold start", "base": "base model", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Attempt:
    """One process of a phase; times in unix seconds, memory in bytes, None while it runs or where it is unknown."""

    started: float | None
    ended: float | None
    exit_code: int | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Samples:
    """The scored responses of one phase, reduced to what is shown.

    `outcomes` has (completion tokens, accuracy 0 or 1) of every response; `shown` holds, by problem
    id, the rows that were kept with their pictures.
    """

    outcomes: list[tuple[int, float]] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseRecord:
    """One phase and what it has left behind.

    `stage` is a GRPO stage's values, `score` is the phase's eval/<phase>.json; `finished` says that its result is there.
    """

    name: str
    title: str
    kind: str
    stage: Stage | None
    attempts: list[Attempt]
    steps: list[dict[str, Any]]
    finished: bool
    score: dict[str, Any] | None
    samples: Samples

    @property
    def short_title(self) -> str:
        """The title where there is no room for it: a stage's number, or the first word."""
        return self.title.removeprefix("stage ").split()[0]

    @property
    def seconds(self) -> float | None:
        """Time in all finished attempts."""
        spans = [a.ended - a.started for a in self.attempts if a.started is not None and a.ended is not None]
        return sum(spans) if spans else None

    @property
    def peak_bytes(self) -> int | None:
        """The most memory of any attempt, in bytes; None if none was measured."""
        return max((a.peak_bytes for a in self.attempts if a.peak_bytes is not None), default=None)

    @property
    def steps_done(self) -> int | None:
        """Optimiser steps on record; None for phases that have none."""
        return len(self.steps) if self.kind in ("sft", "grpo") else None

    @property
    def state(self) -> str:
        """done, running, stopped, failed, begun (nobody recorded an attempt) or waiting.

        Done is what has left its result: a run goes on from results, never from exit codes.
        """
        if self.finished:
            return "done"
        if not self.attempts:
            return "begun" if self.steps else "waiting"
        last = self.attempts[-1]
        if last.ended is None:
            return "running"
        return "done" if last.exit_code == EXIT_DONE else "stopped" if last.exit_code == EXIT_STOPPED else "failed"

    def number(self, key: str) -> float | None:
        """A finite number of the score."""
        return finite(self.score.get(key)) if self.score else None


@dataclass(frozen=True)
class Run:
    """A run as far as it has come. `phases` has the base model first where the recipe starts from it."""

    url: str
    recipe: Recipe
    phases: list[PhaseRecord]
    coldstart: dict[str, Any] | None
    files: list[tuple[str, str]]

    @property
    def scored(self) -> list[PhaseRecord]:
        """Phases with an accuracy, in order."""
        return [phase for phase in self.phases if phase.number("accuracy") is not None]

    @property
    def stages(self) -> list[PhaseRecord]:
        """The stages of GRPO, in order."""
        return [phase for phase in self.phases if phase.stage]


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is missing, no number, infinite or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_run(store: Store) -> Run:
    """Reads a run directory.

    Raises:
        BadInput: it has no recipe, or holds a file that is not what its name says.
    """
    recipe = read_recipe(store)
    steps = read_steps(store)
    attempts = _attempts(store)
    chain = list(phases(recipe))
    if recipe.sft is None and recipe.data.held_out is not None:
        chain.insert(0, Phase("base", "evaluate"))
    records = [_record(store, recipe, phase, steps, attempts.get(phase.name, [])) for phase in chain]
    return Run(store.url, recipe, records, _json(store, COLDSTART_REPORT), _files(store, chain))


def _record(store: Store, recipe: Recipe, phase: Phase, steps: list[dict[str, Any]], attempts: list[Attempt]) -> PhaseRecord:
    own = {step["step"]: step for step in steps if step.get("phase") == phase.name}
    stage = recipe.stages[phase.stage_index] if phase.stage_index is not None else None
    return PhaseRecord(
        name=phase.name,
        title=_title(phase),
        kind=phase.kind,
        stage=stage,
        attempts=attempts,
        steps=[own[step] for step in sorted(own)],
        finished=_finished(store, phase, stage, own),
        score=_json(store, eval_key(phase.name)),
        samples=_samples(store, phase.name),
    )


def _finished(store: Store, phase: Phase, stage: Stage | None, steps: Collection[int]) -> bool:
    if phase.name == "coldstart":
        return store.exists(COLDSTART_MANIFEST)
    if phase.name == "evaluate":
        return store.exists(eval_key(phase.input_phase or "base"))
    if stage:
        return phase.first_step + stage.steps in steps
    return store.exists(eval_key(phase.name))


def _title(phase: Phase) -> str:
    return _TITLES.get(phase.name, phase.title)


def _json(store: Store, key: str) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(store.read_bytes(key))
    except NotFound:
        return None
    except ValueError as error:
        raise BadInput(f"{store.url}/{key}: not JSON ({error}); delete it to have it made again") from error
    return value


def _lines(store: Store, key: str) -> Iterator[dict[str, Any]]:
    try:
        data = store.read_bytes(key)
    except NotFound:
        return
    for line in data.splitlines():
        yield json.loads(line)


def _samples(store: Store, phase: str) -> Samples:
    samples = Samples()
    for row in _lines(store, eval_samples_key(phase)):
        samples.outcomes.append((row["tokens"], row["accuracy"]))
        samples.words.update(count_reflection(row["response"]))
        if row.get("images"):
            samples.shown.setdefault(row["id"], row)
    return samples


def _attempts(store: Store) -> dict[str, list[Attempt]]:
    """Attempts of each phase in order, from the keys phases/<phase>/attempt-<n>/attempt.json."""
    found: dict[str, list[tuple[int, Attempt]]] = {}
    for key in store.list("phases"):
        match = re.fullmatch(r"phases/([^/]+)/attempt-(\d+)/attempt\.json", key)
        if match and (raw := _json(store, key)) is not None:
            attempt = Attempt(finite(raw.get("started")), finite(raw.get("ended")), raw.get("exit_code"), raw.get("peak_bytes"))
            found.setdefault(match[1], []).append((int(match[2]), attempt))
    return {phase: [attempt for _, attempt in sorted(list_, key=lambda pair: pair[0])] for phase, list_ in found.items()}


def _files(store: Store, chain: list[Phase]) -> list[tuple[str, str]]:
    """(key, what it is) of the files and folders that exist."""
    known = {
        RECIPE: "the resolved recipe",
        STEPS: "one line of numbers for every step",
        COLDSTART_DATA: "the cold start's chains of thought",
    }
    present = [(key, what) for key, what in known.items() if store.exists(key)]
    for phase in chain:
        manifests = [key for key in store.list(checkpoints_prefix(phase.name)) if key.endswith(f"/{MANIFEST}")]
        if manifests:
            newest = max(manifests, key=lambda key: int(key.split("/")[-2].removeprefix("step-")))
            present.append((newest.removesuffix(MANIFEST), f"weights after {_title(phase)}: a Hugging Face directory"))
        if store.list(f"rollouts/{phase.name}"):
            present.append((f"rollouts/{phase.name}/", f"every completion of {_title(phase)}, with its reward"))
        if store.exists(eval_samples_key(phase.name)):
            present.append((eval_samples_key(phase.name), f"every scored response after {_title(phase)}"))
        if store.list(f"phases/{phase.name}"):
            present.append((f"phases/{phase.name}/", f"log of {_title(phase)}"))
    return present
