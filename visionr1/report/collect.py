"""Everything that the report shows, read from a run directory. What does not exist yet is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from visionr1.data.reflection import count_reflection
from visionr1.recipe import Phase, Recipe, StagePhase, phases
from visionr1.recipe.phases import BASE_MODEL, COLDSTART_PHASE, EVALUATE_PHASE, SFT_PHASE
from visionr1.recipe.reads import evaluation_settings
from visionr1.recipe.schema import Stage
from visionr1.rundir.attempts import AttemptRecord, State, attempts, phase_state
from visionr1.rundir.benchmark_scores import BenchmarkScore, read_benchmarks
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.coldstart import ColdStartReport, read_report
from visionr1.rundir.committed import committed
from visionr1.rundir.layout import (
    COLDSTART_DATA,
    RECIPE,
    STEPS,
    attempts_prefix,
    checkpoint_prefix,
    eval_samples_key,
    rollouts_prefix,
)
from visionr1.rundir.recipe import read_recipe
from visionr1.rundir.scores import PhaseScore, Sample, Scores
from visionr1.rundir.steplog import read_steps
from visionr1.storage import Store

_TITLES: Final = {
    COLDSTART_PHASE: "cold-start data",
    SFT_PHASE: "SFT",
    BASE_MODEL: "base model",
    EVALUATE_PHASE: "evaluation",
}


@dataclass(frozen=True)
class Samples:
    """The scored responses of one phase, reduced to what is shown.

    `outcomes` has (completion tokens, accuracy 0 or 1) of every response. `shown` has the responses that were
    kept with their pictures, by problem id.
    """

    outcomes: list[tuple[int, float]] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)
    shown: dict[str, Sample] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseRecord:
    """One phase and its results.

    `stage` has a GRPO stage's values, None for other phases.
    If there is no score, all figures of `score` are None.
    """

    name: str
    title: str
    kind: str
    stage: Stage | None
    state: State
    attempts: Mapping[int, AttemptRecord]
    steps: list[dict[str, Any]]
    score: PhaseScore
    samples: Samples

    @property
    def short_title(self) -> str:
        """The title where there is little room: a stage's number, or the first word."""
        return self.title.removeprefix("stage ").split()[0]

    @property
    def seconds(self) -> float | None:
        """Time in all finished attempts."""
        spans = [one.ended - one.started for one in self.attempts.values() if one.ended is not None]
        return sum(spans) if spans else None

    @property
    def peak_bytes(self) -> int | None:
        """The most memory of any attempt, in bytes; None if none was measured."""
        return max((one.peak_bytes for one in self.attempts.values() if one.peak_bytes is not None), default=None)

    @property
    def pauses(self) -> list[float]:
        """Seconds without training that each loss and each stop has cost, as far as the step log has them."""
        return [seconds for step in self.steps if (seconds := step.get("pause_seconds")) is not None]

    @property
    def steps_done(self) -> int | None:
        """Optimiser steps in the step log. None for phases without steps."""
        return len(self.steps) if self.kind in ("sft", "grpo") else None


@dataclass(frozen=True)
class Run:
    """A run as it is now. If the recipe starts from the base model, `phases` has that first.

    `benchmarks` are the scores on published sets, in the order of the phases.
    """

    url: str
    recipe: Recipe
    phases: list[PhaseRecord]
    coldstart: ColdStartReport | None
    files: list[tuple[str, str]]
    benchmarks: list[BenchmarkScore] = field(default_factory=list)

    @property
    def scored(self) -> list[PhaseRecord]:
        """Phases with an accuracy, in order."""
        return [phase for phase in self.phases if phase.score.accuracy is not None]

    @property
    def stages(self) -> list[PhaseRecord]:
        """The stages of GRPO, in order."""
        return [phase for phase in self.phases if phase.stage]


def read_run(store: Store) -> Run:
    """Reads a run directory. Of its scores, those that were made with the recipe's present values.

    Raises:
        BadInput: it has no recipe, or a file in it is damaged.
    """
    recipe = read_recipe(store)
    steps = read_steps(store)
    chain = list(phases(recipe))
    if recipe.sft is None and recipe.data.held_out is not None:
        chain.insert(0, Phase(BASE_MODEL, "evaluate"))
    scores = Scores(store, evaluation_settings(recipe))
    records = [_record(store, scores, phase, steps) for phase in chain]
    records = _of_the_same_problems(records)
    order = [phase.name for phase in chain]
    benchmarks = sorted(
        (score for score in read_benchmarks(store) if score.scored in order),
        key=lambda score: (score.benchmark, order.index(score.scored)),
    )
    return Run(store.url, recipe, records, read_report(store), _files(store, scores, chain), benchmarks)


def _of_the_same_problems(records: list[PhaseRecord]) -> list[PhaseRecord]:
    """The phases, without the scores that are of other problems than the newest one: they share no row and no curve."""
    newest = next((one.score.fingerprint for one in reversed(records) if one.score.fingerprint), None)
    return [
        one
        if one.score.fingerprint in (None, newest) or newest is None
        else replace(one, score=PhaseScore(step=0), samples=Samples())
        for one in records
    ]


def _record(store: Store, scores: Scores, phase: Phase, steps: list[dict[str, Any]]) -> PhaseRecord:
    own = {step["step"]: step for step in steps if step["phase"] == phase.name}
    tried = attempts(store, phase.name)
    return PhaseRecord(
        name=phase.name,
        title=_title(phase),
        kind=phase.kind,
        stage=phase.stage if isinstance(phase, StagePhase) else None,
        state=phase_state(committed(store, phase).complete, tried, bool(own)),
        attempts=tried,
        steps=[own[step] for step in sorted(own)],
        score=scores.score(phase.name) or PhaseScore(step=0),
        samples=_samples(scores.samples(phase.name)),
    )


def _title(phase: Phase) -> str:
    return _TITLES.get(phase.name, phase.title)


def _samples(responses: Iterable[Sample]) -> Samples:
    samples = Samples()
    for one in responses:
        samples.outcomes.append((one.tokens, one.accuracy))
        samples.words.update(count_reflection(one.response))
        if one.images:
            samples.shown.setdefault(one.id, one)
    return samples


def _files(store: Store, scores: Scores, chain: list[Phase]) -> list[tuple[str, str]]:
    """(key, what it is) of the files and folders that exist."""
    known = {
        RECIPE: "the resolved recipe",
        STEPS: "one line of numbers for every step",
        COLDSTART_DATA: "the cold start's chains of thought",
    }
    present = [(key, what) for key, what in known.items() if store.exists(key)]
    for phase in chain:
        newest = Checkpoints(store, phase.name).latest()
        if newest is not None:
            weights = f"{checkpoint_prefix(phase.name, newest)}/"
            present.append((weights, f"weights after {_title(phase)}: a Hugging Face directory"))
        if store.list(rollouts_prefix(phase.name)):
            present.append((f"{rollouts_prefix(phase.name)}/", f"every completion of {_title(phase)}, with its reward"))
        if store.exists(eval_samples_key(phase.name, scores.folder)):
            present.append((eval_samples_key(phase.name, scores.folder), f"every scored response after {_title(phase)}"))
        if store.list(attempts_prefix(phase.name)):
            present.append((f"{attempts_prefix(phase.name)}/", f"log of {_title(phase)}"))
    present += [(f"{folder}/", "scores that were made with other values of the recipe") for folder in scores.others()]
    return present
