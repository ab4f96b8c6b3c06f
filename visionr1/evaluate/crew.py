"""Several engines that share out an evaluation's prompts: Ray actors, each with its own GPUs.

Ray is imported in functions alone: it reads its environment when it is imported, and `ray_cluster` sets that first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visionr1.capacity.choose import evaluation_share
from visionr1.errors import BadInput
from visionr1.evaluate.problems import EvaluationEngine
from visionr1.model.prompt import Prompt
from visionr1.progress import progress
from visionr1.recipe import Recipe
from visionr1.rollout.cluster import ray_cluster, require_shared_memory
from visionr1.rollout.types import Group, Sampling

if TYPE_CHECKING:
    from visionr1.model.chat import PromptBuilder

_ROUNDS: Final = 2
"""Parts that each engine gets of one call: more even out their pace, fewer keep each of them fuller."""


@contextmanager
def evaluation_cluster(recipe: Recipe) -> Iterator[None]:
    """A Ray cluster if the evaluation has several workers; nothing for one. Raises BadInput as `ray_cluster`."""
    if recipe.evaluation.workers == 1:
        yield
        return
    require_shared_memory()
    with ray_cluster(recipe.evaluation.workers):
        yield


def build_evaluation_engine(folder: Path, recipe: Recipe, builder: PromptBuilder, max_model_len: int) -> EvaluationEngine:
    """The engine of an evaluation, in this process or, for several workers, in theirs. Raises BadInput as `build_engine`."""
    if recipe.evaluation.workers > 1:
        return CrewEngine(folder, recipe, max_model_len)
    return _one_engine(folder, recipe, builder, max_model_len)


def _one_engine(folder: Path, recipe: Recipe, builder: PromptBuilder, max_model_len: int) -> EvaluationEngine:
    from visionr1.rollout.build import build_engine

    return build_engine(
        folder,
        recipe,
        builder,
        max_model_len=max_model_len,
        gpu_share=evaluation_share(recipe),
        tensor_parallel=_tensor_parallel(recipe),
    )


def _tensor_parallel(recipe: Recipe) -> int:
    return recipe.stages[-1].tensor_parallel if recipe.stages else 1


class Member:
    """One engine in an actor. Its constructor cannot fail, so every error reaches the caller as it is."""

    def begin(self, folder: Path, recipe: Recipe, max_model_len: int) -> None:
        """Makes the engine, which takes minutes for a large model. Raises BadInput as `build_engine`."""
        from visionr1.model.chat import PromptBuilder

        if not folder.is_dir():
            raise BadInput(f"{folder} is not on every machine of the cluster: put it where all of them see it")
        self._engine = _one_engine(folder, recipe, PromptBuilder(folder, recipe.model), max_model_len)

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        """As `EvaluationEngine`."""
        return self._engine.generate(prompts, sampling, seeds)

    def load(self, folder: Path) -> None:
        """As `EvaluationEngine`."""
        self._engine.load(folder)


class CrewEngine:
    """All engines as one. A prompt samples from its own seed, so it makes no difference which of them gets it."""

    def __init__(self, folder: Path, recipe: Recipe, max_model_len: int) -> None:
        """Raises Unreachable if the cluster has no room for all, BadInput as `build_engine`."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup

        from visionr1.rollout.room import reserve

        count = recipe.evaluation.workers
        on_gpu = recipe.rollout.on_gpu("GPU" in ray.cluster_resources())  # type: ignore[no-untyped-call]  # Ray's own
        gpus = _tensor_parallel(recipe) if on_gpu else 0
        group = reserve([{"CPU": 1.0} | ({"GPU": float(gpus)} if gpus else {})] * count, "evaluation.workers")
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0}
        self._members: list[Any] = [
            ray.remote(Member).options(**options, scheduling_strategy=InGroup(group, placement_group_bundle_index=place)).remote()
            for place in range(count)
        ]
        with progress("starting engines", len(self._members)) as advance:
            waiting = [member.begin.remote(folder, recipe, max_model_len) for member in self._members]
            while waiting:
                (done, *_), waiting = ray.wait(waiting)
                _result(done)
                advance(1)

    def _each(self, method: str, *arguments: object) -> None:
        _result([getattr(member, method).remote(*arguments) for member in self._members])

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        """As `EvaluationEngine`. Whoever has finished its part gets the next one."""
        import ray

        size = max(1, -(-len(prompts) // (_ROUNDS * len(self._members))))
        parts = [(start, prompts[start : start + size], seeds[start : start + size]) for start in range(0, len(prompts), size)]
        found: dict[int, list[Group]] = {}
        working: dict[Any, tuple[int, Any]] = {}
        free = list(self._members)
        while parts or working:
            while parts and free:
                start, some, own_seeds = parts.pop(0)
                member = free.pop()
                working[member.generate.remote(some, sampling, own_seeds)] = (start, member)
            (done, *_), _ = ray.wait(list(working))
            start, member = working.pop(done)
            found[start] = _result(done)
            free.append(member)
        return [group for start in sorted(found) for group in found[start]]

    def load(self, model_dir: Path) -> None:
        """As `EvaluationEngine`, in all of them."""
        self._each("load", model_dir)


def _result(calls: Any) -> Any:
    """Of a call to a member, or of several; what a member has raised, as it is."""
    import ray

    try:
        return ray.get(calls)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
