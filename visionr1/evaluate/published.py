"""Published sets for every model of a run, for any model, and for any endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from visionr1.capacity.lengths import PIXELS_OF_TOKEN
from visionr1.data.coldstart.evaluation_sets import EvaluationSets
from visionr1.data.coldstart.work import WorkLog
from visionr1.data.readers import load_problems, load_samples
from visionr1.errors import BadInput
from visionr1.evaluate.benchmarks import Scorer, Set, load_set
from visionr1.evaluate.crew import build_evaluation_engine, evaluation_cluster
from visionr1.evaluate.endpoint import EndpointModel
from visionr1.evaluate.engine import EngineModel
from visionr1.evaluate.judge import JudgeModel
from visionr1.evaluate.lengths import evaluation_faults, fitted
from visionr1.evaluate.replies import Answerer
from visionr1.preflight.base import read_config
from visionr1.preflight.lengths import context_tokens
from visionr1.recipe import Recipe
from visionr1.recipe.source import Source
from visionr1.reward import Grader
from visionr1.rundir.benchmark_scores import BenchmarkScore
from visionr1.rundir.layout import EVAL_WORK
from visionr1.signals import StopFlag
from visionr1.storage import Store, open_store

if TYPE_CHECKING:
    from visionr1.model.chat import PromptBuilder

_TEXT_TOKENS: Final = 2048
"""Of a benchmark's prompt beside its picture; its problems are not cut as training's are."""
_NO_LIMIT: Final = 1 << 40


@dataclass(frozen=True)
class Published:
    """The sets of an evaluation, read and checked, and what scores them."""

    sets: list[Set]
    scorer: Scorer

    def score(self, model: Answerer, scored: str, step: int = 0) -> list[BenchmarkScore]:
        """The scores of one model. Raises as `Scorer.score`."""
        return [self.scorer.score(one, model, scored, step) for one in self.sets]


@contextmanager
def published(
    recipe: Recipe,
    store: Store,
    grader: Grader,
    should_stop: Callable[[], bool],
    training: EvaluationSets | None,
    folder_and_builder: tuple[Path, PromptBuilder] | None,
) -> Iterator[Published]:
    """Reads the recipe's sets and opens the replies that are there.

    Args:
        folder_and_builder: of the model that will answer; None for an endpoint, which counts prompts itself.

    Raises:
        BadInput: a set cannot be read, or no judge's key is set.
    """
    limit = _NO_LIMIT if folder_and_builder is None else prompt_tokens(recipe, folder_and_builder[0])
    count = None if folder_and_builder is None else folder_and_builder[1].count_tokens
    sets = [load_set(source, recipe, training, limit, count) for source in recipe.evaluation.benchmarks]
    with closing(WorkLog(store, EVAL_WORK, recipe.evaluation.requests.patience_seconds)) as log:
        judge = None if recipe.evaluation.judge is None else JudgeModel(recipe.evaluation.judge, recipe, log)
        yield Published(sets, Scorer(recipe, store, log, grader, judge, should_stop))


def prompt_tokens(recipe: Recipe, folder: Path) -> int:
    """Longest prompt of a benchmark's problem in tokens: the largest picture and a long text, as far as the model takes it."""
    wanted = max(recipe.data.max_prompt_tokens, recipe.model.max_pixels // PIXELS_OF_TOKEN + _TEXT_TOKENS)
    context = context_tokens(read_config(folder))
    return wanted if context is None else max(16, min(wanted, context - recipe.evaluation.max_completion_tokens))


def engine_tokens(recipe: Recipe, folder: Path) -> int:
    """Longest prompt and completion together, in tokens, that an evaluation's engine must take."""
    prompt = recipe.data.max_prompt_tokens
    if recipe.evaluation.benchmarks:
        prompt = max(prompt, prompt_tokens(recipe, folder))
    return prompt + recipe.evaluation.max_completion_tokens


def training_data(recipe: Recipe) -> EvaluationSets:
    """What the models of a run learn from. Raises BadInput or StorageError as the readers do."""
    found = EvaluationSets(())
    if recipe.stages:
        found.add(recipe.data.train.path, load_problems(recipe.data.train))
    if recipe.coldstart is not None:
        found.add(recipe.coldstart.problems.path, load_problems(recipe.coldstart.problems))
    if recipe.sft is not None and recipe.sft.data is not None:
        found.add(recipe.sft.data.path, load_samples(recipe.sft.data))
    return found


@dataclass(frozen=True)
class Served:
    """Where a model is served, and the name of the environment variable with its API key."""

    url: str
    api_key_env: str | None = None


def run_benchmarks(
    model: str, recipe: Recipe, out: Path, served: Served | None, trained_on: Sequence[Source]
) -> list[BenchmarkScore]:
    """Scores a model on the recipe's benchmarks, without a run. Started again with the same folder, it goes on.

    Args:
        model: local directory or Hugging Face name; its name at the endpoint if it is served.
        out: folder for the scores and for all replies.
        trained_on: problems that the model has learned from.

    Raises:
        BadInput: model, sets or endpoint cannot be used.
        EndpointLost: the endpoint or the judge answers no longer.
        Stopped: SIGTERM or Ctrl-C came.
    """
    store = open_store(str(out))
    training = _read_all(trained_on) if trained_on else None
    # StopFlag after Ray, which takes SIGTERM for itself when it starts.
    with Grader(recipe.reward) as grader, _workers(recipe, served), StopFlag() as should_stop:
        if served is not None:
            answerer = EndpointModel("--endpoint", model, served.url, served.api_key_env, recipe)
            with published(recipe, store, grader, should_stop, training, None) as sets:
                return sets.score(answerer, model)
        return _run_here(model, recipe, store, grader, should_stop, training)


def _workers(recipe: Recipe, served: Served | None) -> AbstractContextManager[None]:
    return nullcontext() if served else evaluation_cluster(recipe)


def _read_all(sources: Sequence[Source]) -> EvaluationSets:
    found = EvaluationSets(())
    for source in sources:
        found.add(source.path, load_problems(source))
    return found


def _run_here(
    model: str,
    recipe: Recipe,
    store: Store,
    grader: Grader,
    should_stop: Callable[[], bool],
    training: EvaluationSets | None,
) -> list[BenchmarkScore]:
    from visionr1.model.chat import PromptBuilder
    from visionr1.preflight.base import base_dir

    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": model, "revision": None})})
    folder = base_dir(recipe.model)
    recipe = fitted(recipe, context_tokens(read_config(folder)))
    longest = recipe.data.model_copy(update={"max_prompt_tokens": prompt_tokens(recipe, folder)})
    faults = evaluation_faults(recipe.model_copy(update={"data": longest}), folder)
    if faults:
        raise BadInput("\n".join(faults))
    builder = PromptBuilder(folder, recipe.model)
    with published(recipe, store, grader, should_stop, training, (folder, builder)) as sets:
        engine = build_evaluation_engine(folder, recipe, builder, engine_tokens(recipe, folder))
        return sets.score(EngineModel(engine, builder, recipe, folder), model)
