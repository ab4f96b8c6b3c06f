"""The `evaluate` phase of a run, and the evaluation of any model without one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visionr1.data.kept import Kept
from visionr1.errors import BadInput
from visionr1.evaluate.crew import build_evaluation_engine, evaluation_cluster
from visionr1.evaluate.engine import EngineModel
from visionr1.evaluate.lengths import evaluation_faults, fitted
from visionr1.evaluate.problems import EvaluatedModel, EvaluationEngine, HeldOut, evaluate_problems, load_held_out
from visionr1.evaluate.published import Published, engine_tokens, published, training_data
from visionr1.preflight.base import read_config
from visionr1.preflight.lengths import context_tokens
from visionr1.recipe import Recipe
from visionr1.recipe.phases import BASE_MODEL, EVALUATE_PHASE, SFT_PHASE, stage_phases
from visionr1.recipe.reads import evaluation_settings
from visionr1.recipe.source import Source
from visionr1.report import write_report
from visionr1.reward import Grader
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import CHECKED_HELD_OUT
from visionr1.rundir.recipe import read_recipe, refuse_planted_reward
from visionr1.rundir.scores import Scores, sample_lines, score_text
from visionr1.rundir.takeover import taking_over
from visionr1.signals import StopFlag
from visionr1.storage import Store, open_store

if TYPE_CHECKING:
    from visionr1.model.chat import PromptBuilder

_SAID: Final = 10
"""Problems that are left out by name in the log."""


@dataclass(frozen=True)
class Target:
    """Weights to score: the checkpoint of `phase` at global `step`; of phase BASE_MODEL, `model.base`."""

    phase: str
    step: int


def targets(recipe: Recipe, latest: Callable[[str], int | None], scored: Callable[[str], int | None]) -> list[Target]:
    """What is left to score: the model before GRPO and the last checkpoint of each stage.

    Args:
        latest: last committed step of a phase, or None; such a phase is left out.
        scored: step that a phase's score is of, or None.
    """
    stages = [phase.name for phase in stage_phases(recipe)]
    found = [] if recipe.sft else [Target(BASE_MODEL, 0)]
    for phase in ([SFT_PHASE] if recipe.sft else []) + stages:
        step = latest(phase)
        if step is not None:
            found.append(Target(phase, step))
    return [target for target in found if scored(target.phase) != target.step]


def run(run_url: str, recipe_sha256: str | None = None) -> None:
    """Scores every model of a run that has no score with the recipe's present values yet, then writes the report.

    After an interruption the same call continues with the next model. `recipe_sha256` is as in `read_recipe`.

    Raises:
        BadInput: no run, no held-out problems, or no checkpoint at `run_url`.
        Fenced: another attempt has taken the run over.
        Stopped: SIGTERM or Ctrl-C came.
    """
    store = open_store(run_url)
    recipe = read_recipe(store, recipe_sha256)
    refuse_planted_reward(store, recipe)
    held_out = recipe.data.held_out
    if held_out is None:
        raise BadInput("data.held_out is null, so there are no problems to evaluate on: set it to a source of problems")

    def latest(phase: str) -> int | None:
        return Checkpoints(store, phase).latest()

    if not targets(recipe, latest, lambda _: None):
        raise BadInput(f"{store.url}: no phase has committed a checkpoint yet, so there is no model to evaluate")
    seen = Scores(store, evaluation_settings(recipe))
    left = targets(recipe, latest, lambda phase: _scored_step(seen, phase))
    if not left:
        write_report(store)
        return
    with (
        taking_over(store, EVALUATE_PHASE) as fenced,
        Grader(recipe.reward) as grader,
        evaluation_cluster(recipe),
        StopFlag() as should_stop,  # after Ray, which takes SIGTERM for itself when it starts
    ):
        _score_all(fenced, Scores(fenced, evaluation_settings(recipe)), recipe, held_out, left, grader, should_stop)
        write_report(fenced)


def _scored_step(scores: Scores, phase: str) -> int | None:
    score = scores.score(phase)
    return None if score is None else score.step


def _score_all(
    store: Store,
    scores: Scores,
    recipe: Recipe,
    held_out: Source,
    left: list[Target],
    grader: Grader,
    should_stop: Callable[[], bool],
) -> None:
    # The copy that the engine was built from stays to the end: vLLM reads its tokenizer again for every other model.
    with _weights(store, recipe, left[0]) as folder:
        loaded = _load(folder, recipe, held_out, store)
        left = left + _of_other_problems(scores, recipe, left, loaded.held_out, store)
        with _benchmarks(recipe, store, grader, should_stop, folder, loaded.builder) as sets:
            _score(scores, recipe, left[0], folder, loaded, sets, grader, should_stop)
            for target in left[1:]:
                with _weights(store, recipe, target) as other:
                    loaded.engine.load(other)
                    _score(scores, recipe, target, other, loaded, sets, grader, should_stop)


def _of_other_problems(scores: Scores, recipe: Recipe, left: list[Target], held_out: HeldOut, store: Store) -> list[Target]:
    """Models whose score is of other problems than the held-out source has now: they are scored again."""

    def scored(phase: str) -> int | None:
        score = scores.score(phase)
        return None if score is None or score.fingerprint not in (None, held_out.fingerprint) else score.step

    every = targets(recipe, lambda phase: Checkpoints(store, phase).latest(), scored)
    return [target for target in every if target not in left]


def _benchmarks(
    recipe: Recipe, store: Store, grader: Grader, should_stop: Callable[[], bool], folder: Path, builder: PromptBuilder
) -> AbstractContextManager[Published | None]:
    if not recipe.evaluation.benchmarks:
        return nullcontext()
    return published(recipe, store, grader, should_stop, training_data(recipe), (folder, builder))


def _score(
    scores: Scores,
    recipe: Recipe,
    target: Target,
    folder: Path,
    loaded: _Loaded,
    sets: Published | None,
    grader: Grader,
    should_stop: Callable[[], bool],
) -> None:
    # The held-out score comes last: when it is there, the phase is done with this model.
    if sets is not None:
        sets.score(EngineModel(loaded.engine, loaded.builder, recipe, folder), target.phase, target.step)
    title = f"{target.phase}, step {target.step}"
    evaluation = evaluate_problems(loaded.engine, loaded.builder, grader, loaded.held_out.rows, recipe, title, should_stop)
    scores.write(target.phase, target.step, as_json(evaluation, loaded.held_out), evaluation.samples)


@contextmanager
def _weights(store: Store, recipe: Recipe, target: Target) -> Iterator[Path]:
    """A local folder with the weights; a copy of a remote checkpoint is removed afterwards."""
    from visionr1.preflight.base import base_dir

    if target.phase == BASE_MODEL:
        yield base_dir(recipe.model)
        return
    checkpoints = Checkpoints(store, target.phase)
    yield checkpoints.fetch(target.step, trainer=False)
    checkpoints.forget(target.step)


@dataclass(frozen=True)
class _Loaded:
    engine: EvaluationEngine
    builder: PromptBuilder
    held_out: HeldOut


def _load(folder: Path, recipe: Recipe, held_out: Source, store: Store | None = None) -> _Loaded:
    from visionr1.model.chat import PromptBuilder

    builder = PromptBuilder(folder, recipe.model)
    faults = evaluation_faults(recipe, folder)
    if faults:
        raise BadInput("\n".join(faults))
    kept = None if store is None else Kept(store, CHECKED_HELD_OUT, builder.identity)
    # Bad data is found before the engine takes a GPU.
    problems = load_held_out(held_out, recipe, builder, kept)
    for note in problems.skipped[:_SAID]:
        print(f"left out {note.id}: {note.detail}; {note.remedy}", file=sys.stderr)
    if len(problems.skipped) > _SAID:
        print(f"left out {len(problems.skipped) - _SAID} more problems; the file with the score lists them all", file=sys.stderr)
    engine = build_evaluation_engine(folder, recipe, builder, engine_tokens(recipe, folder))
    return _Loaded(engine, builder, problems)


def run_model(model: str, source: Source, recipe: Recipe, out: Path | None) -> EvaluatedModel:
    """Scores any model on any problems, without a run; `out` is a folder for score.json and samples.jsonl.

    Args:
        model: local directory or Hugging Face name.
        recipe: its evaluation, rollout and reward sections are used, and all of its model section but base and revision. Its
            lengths are cut to what the model takes, and a line reports it.

    Raises:
        BadInput: the model or the problems cannot be read.
    """
    from visionr1.preflight.base import base_dir

    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": model, "revision": None})})
    folder = base_dir(recipe.model)
    recipe = fitted(recipe, context_tokens(read_config(folder)))
    with evaluation_cluster(recipe), Grader(recipe.reward) as grader:
        loaded = _load(folder, recipe, source)
        evaluation = evaluate_problems(loaded.engine, loaded.builder, grader, loaded.held_out.rows, recipe, model)
    if out is not None:
        store = open_store(str(out))
        store.write_bytes("samples.jsonl", sample_lines(evaluation.samples))
        about = {"model": model, "data": source.path} | as_json(evaluation, loaded.held_out)
        store.write_bytes("score.json", score_text(about))
    return evaluation


def as_json(evaluation: EvaluatedModel, held_out: HeldOut) -> dict[str, Any]:
    """What a score's file says about one model."""
    return {
        **asdict(evaluation.score),
        "seconds": round(evaluation.seconds, 2),
        "fingerprint": held_out.fingerprint,
        "skipped": [{"id": note.id, "kind": note.kind, "detail": note.detail} for note in held_out.skipped],
    }
