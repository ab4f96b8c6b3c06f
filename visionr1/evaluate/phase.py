"""The `evaluate` phase of a run, and the evaluation of any model without one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visionr1.capacity.choose import evaluation_share
from visionr1.capacity.model import model_sizes
from visionr1.data.kept import Kept
from visionr1.errors import BadInput
from visionr1.evaluate.problems import EvaluatedModel, HeldOut, evaluate_problems, load_held_out
from visionr1.preflight.base import read_config
from visionr1.preflight.lengths import cache_faults, context_tokens, length_faults
from visionr1.preflight.machine import has_gpu
from visionr1.recipe import Phase, Recipe
from visionr1.recipe.phases import BASE_MODEL, EVALUATE_PHASE, SFT_PHASE, stage_phases
from visionr1.recipe.reads import evaluation_settings
from visionr1.recipe.source import Source
from visionr1.report import write_report
from visionr1.reward import Grader
from visionr1.rollout.types import RolloutEngine
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
    with taking_over(store, EVALUATE_PHASE) as fenced, Grader(recipe.reward) as grader, StopFlag() as should_stop:
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
        _score(scores, recipe, left[0], loaded, grader, should_stop)
        for target in left[1:]:
            with _weights(store, recipe, target) as other:
                loaded.engine.load(other)
                _score(scores, recipe, target, loaded, grader, should_stop)


def _score(
    scores: Scores, recipe: Recipe, target: Target, loaded: _Loaded, grader: Grader, should_stop: Callable[[], bool]
) -> None:
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
    engine: RolloutEngine
    builder: PromptBuilder
    held_out: HeldOut


def _load(folder: Path, recipe: Recipe, held_out: Source, store: Store | None = None) -> _Loaded:
    from visionr1.model.chat import PromptBuilder
    from visionr1.rollout.build import build_engine

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
    engine = build_engine(
        folder,
        recipe,
        builder,
        max_model_len=recipe.data.max_prompt_tokens + recipe.evaluation.max_completion_tokens,
        gpu_share=evaluation_share(recipe),
        tensor_parallel=recipe.stages[-1].tensor_parallel if recipe.stages else 1,
    )
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
    loaded = _load(folder, recipe, source)
    with Grader(recipe.reward) as grader:
        evaluation = evaluate_problems(loaded.engine, loaded.builder, grader, loaded.held_out.rows, recipe, model)
    if out is not None:
        store = open_store(str(out))
        store.write_bytes("samples.jsonl", sample_lines(evaluation.samples))
        about = {"model": model, "data": source.path} | as_json(evaluation, loaded.held_out)
        store.write_bytes("score.json", score_text(about))
    return evaluation


def fitted(recipe: Recipe, context: int | None) -> Recipe:
    """The recipe with the evaluation's lengths cut to a model's context, in tokens; prompts may need half of it."""
    prompt, completion = recipe.data.max_prompt_tokens, recipe.evaluation.max_completion_tokens
    if context is None or prompt + completion <= context:
        return recipe
    completion = min(completion, max(context // 2, context - prompt))
    prompt = min(prompt, context - completion)
    print(
        f"note: the model takes {context} tokens, so prompts have at most {prompt} and completions {completion}, not "
        f"{recipe.data.max_prompt_tokens} and {recipe.evaluation.max_completion_tokens}",
        file=sys.stderr,
    )
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"max_prompt_tokens": prompt}),
            "evaluation": recipe.evaluation.model_copy(update={"max_completion_tokens": completion}),
        }
    )


def evaluation_faults(recipe: Recipe, folder: Path) -> list[str]:
    """Lengths that the model in `folder`, or the KV cache on a CPU, does not take."""
    config = read_config(folder)
    chain = [Phase(EVALUATE_PHASE, "evaluate")]
    lines = length_faults(recipe, chain, context_tokens(config))
    return lines if recipe.rollout.on_gpu(has_gpu()) else lines + cache_faults(recipe, chain, model_sizes(config))


def as_json(evaluation: EvaluatedModel, held_out: HeldOut) -> dict[str, Any]:
    """What a score's file says about one model."""
    return {
        **asdict(evaluation.score),
        "seconds": round(evaluation.seconds, 2),
        "skipped": [{"id": note.id, "kind": note.kind, "detail": note.detail} for note in held_out.skipped],
    }
