"""What the ranks of the engine's tests do: optimiser steps on known experience, in every way to divide it."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import deepspeed
import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from visionr1.capacity import memory, shards
from visionr1.capacity.choose import choose_stage
from visionr1.capacity.model import read_model_sizes
from visionr1.data.rows import Row
from visionr1.engine import zero
from visionr1.engine.state import load_trainer, pieces, save_trainer
from visionr1.engine.weights import read_companions, save_weights
from visionr1.engine.zero import join_process_group
from visionr1.grpo.trainer import Experience, Trainer
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import load_model
from visionr1.model.pack import TrainSequence, prompt_tensors
from visionr1.preflight.base import base_dir
from visionr1.recipe import Recipe, load_recipe

CPU = torch.device("cpu")
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """One way to run the same optimiser steps.

    Attributes:
        shares: for each rank, the indices of its completions; None deals them out evenly, in order.
        settings: changes of the recipe, as `--set` takes them.
        start: folder to start from, weights and trainer's state; None starts again from the policy's weights.
        steps: numbers of the steps to take; each has its own advantages.
        shared: whether the completions of a prompt share its pictures' features, as they do in training.
        save_after: step after which `folder` is written.
        silent: completions whose advantage is 0.
        offloads: whether the states leave after each step and come back before the next, as they do on a GPU.
    """

    name: str
    shares: list[list[int]] | None = None
    settings: tuple[str, ...] = ()
    start: str | None = None
    steps: tuple[int, ...] = (1,)
    shared: bool = True
    save_after: int | None = None
    folder: str | None = None
    silent: tuple[int, ...] = ()
    offloads: bool = False


@dataclass
class Outcome:
    """Of a case: the statistics of its steps, and whole weights and first moments after the last."""

    stats: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    moments: dict[str, np.ndarray] = field(default_factory=dict)


def png(width: int, height: int, shade: int) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).point(lambda v: (v + shade) % 256).convert("RGB").save(data, "PNG")
    return data.getvalue()


ROWS = [
    Row("two", "<image>What is the sum of the digits?", (png(112, 56, 0),), "8"),
    Row("pair", "Compare <image> with <image> now.", (png(56, 56, 30), png(84, 140, 60)), "1"),
    Row("text", "What is the sum of 3 and 4?", (), "7"),
]
"""Four completions each, so 0 to 7 have pictures and 8 to 11 have none."""
COMPLETIONS = 12


def policy_weights(folder: Path) -> str:
    """Writes a policy that differs from its reference, the demo's base, so that the KL term has a gradient.

    It has half of the base's weights: the larger they are, the surer is the policy of its tokens, and the more it magnifies
    the rounding of float32, which differs between machines and numbers of ranks.
    """
    recipe = recipe_of(())
    model = load_model(base_dir(recipe.model), recipe.model, CPU)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5).add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    model.save_pretrained(folder)
    PromptBuilder(base_dir(recipe.model), recipe.model).processor.save_pretrained(folder)
    return str(folder)


def recipe_of(settings: tuple[str, ...]) -> Recipe:
    return load_recipe("demo", ["algorithm.kl_beta=0.1", f"optimiser.learning_rate={LEARNING_RATE}", *settings])


def run_cases(cases: list[Case], policy: str) -> dict[str, Outcome]:
    """Runs the cases one after the other; only rank 0 has outcomes."""
    join_process_group(CPU)
    partition_small_parameters()
    shards.SMALLEST_SHARD = 100_000  # or the tiny model's weights would be one file
    outcomes = {case.name: run_case(case, policy) for case in cases}
    return outcomes if dist.get_rank() == 0 else {}


def partition_small_parameters() -> None:
    """ZeRO-3 keeps parameters under 100,000 numbers whole, which are all of the tiny model's; here it may not."""
    original = deepspeed.initialize

    def initialize(**arguments: Any) -> Any:
        arguments["config"]["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return original(**arguments)

    deepspeed.initialize = initialize


def run_case(case: Case, policy: str) -> Outcome:
    recipe = recipe_of(case.settings)
    trainer, builder = build(recipe, Path(case.start or policy))
    if case.start:
        load_trainer(trainer.engine, Path(case.start))
    prompts = prompts_of(builder, trainer)
    outcome = Outcome()
    for step in case.steps:
        every = experience(step, builder)
        every = [replace(one, advantage=0.0) if index in case.silent else one for index, one in enumerate(every)]
        mine = [every[index] for index in share(case)]
        batch = (prompts, mine) if case.shared else unshared(prompts, mine)
        outcome.stats.append(vars(trainer.update(*batch, recipe.optimiser.learning_rate)))
        if case.offloads:
            zero.move_moments(trainer.engine, CPU)
            zero.offload_weights(trainer.engine)
        if step == case.save_after and case.folder:
            save_weights(trainer.policy, read_companions(Path(case.start or policy)), Path(case.folder))
            save_trainer(trainer.engine, Path(case.folder))
            dist.barrier()
        if case.offloads:
            trainer.engine.reload_states(non_blocking=False)
    outcome.weights = {name: tensor.float().numpy().copy() for name, tensor in trainer.weights()}
    outcome.moments = whole_moments(trainer)
    return outcome


def whole_moments(trainer: Trainer) -> dict[str, np.ndarray]:
    """First moments, put together from all ranks' pieces."""
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, [(piece.name, piece.start, piece.values["exp_avg"]) for piece in pieces(trainer.engine)])
    parts: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for name, start, moment in (piece for rank in every for piece in rank):
        parts.setdefault(name, []).append((start, moment))
    return {name: torch.cat([part for _, part in sorted(found, key=lambda one: one[0])]).numpy() for name, found in parts.items()}


def unshared(prompts: list[Any], batch: list[Experience]) -> tuple[list[Any], list[Experience]]:
    """A prompt of its own for each completion: every one's pictures go through the vision tower."""
    own = [prompts[experience.sequence.prompt] for experience in batch]
    sequences = [TrainSequence(place, experience.sequence.completion_ids) for place, experience in enumerate(batch)]
    return own, [replace(experience, sequence=sequence) for experience, sequence in zip(batch, sequences, strict=True)]


def build(recipe: Recipe, folder: Path) -> tuple[Trainer, PromptBuilder]:
    builder = PromptBuilder(base_dir(recipe.model), recipe.model)
    choice = choose_stage(recipe, recipe.stages[0], read_model_sizes(folder), None)
    return Trainer(folder, base_dir(recipe.model), recipe, choice, builder.banned_token_ids, CPU), builder


def share(case: Case) -> list[int]:
    rank, world = dist.get_rank(), dist.get_world_size()
    if case.shares is not None:
        return case.shares[rank]
    size = COMPLETIONS // world
    return list(range(rank * size, (rank + 1) * size))


def prompts_of(builder: PromptBuilder, trainer: Trainer) -> list[Any]:
    made = []
    for row in ROWS:
        prompt = builder.build(row)
        images = builder.image_inputs(prompt.images) if prompt.images else None
        made.append(prompt_tensors(trainer.rope_model, builder.expand(prompt), images, builder.image_token_id))
    return made


def experience(step: int, builder: PromptBuilder) -> list[Experience]:
    """The global batch of a step: completions of 1 to 24 tokens, some long and some short."""
    generator = torch.Generator().manual_seed(step)
    every = []
    for index in range(COMPLETIONS):
        length = 24 if index % 4 == 0 else int(torch.randint(1, 12, (1,), generator=generator))
        ids = torch.randint(20, 300, (length,), generator=generator).tolist()
        ids = [token for token in ids if token not in builder.banned_token_ids] or [40]
        advantage = 2.0 + 0.5 * float(torch.randn(1, generator=generator))  # no cancellation, which would magnify rounding
        every.append(Experience(TrainSequence(index // 4, ids), advantage, [-3.0] * len(ids)))
    return every


def relative(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """How far all numbers of `one` are from `other`'s, as vectors: the norm of the difference over the norm."""
    assert one.keys() == other.keys()
    difference = sum(float(np.square(one[name] - other[name], dtype=np.float64).sum()) for name in one)
    return float((difference / sum(float(np.square(other[name], dtype=np.float64).sum()) for name in other)) ** 0.5)


def weights_under_zero3(policy: str) -> dict[str, np.ndarray]:
    """What `full_weights` hands on, in several groups."""
    join_process_group(CPU)
    partition_small_parameters()
    memory.GATHER_BYTES = 300_000
    trainer, _ = build(recipe_of(("optimiser.zero_stage=3",)), Path(policy))
    return {name: tensor.numpy().copy() for name, tensor in trainer.weights()}


def away_under_zero3(policy: str) -> tuple[set[torch.dtype], set[torch.dtype]]:
    """What becomes of master weights and moments that are moved, and of whole weights handed on meanwhile.

    float64 takes the place of another device, because a CPU has none.
    """
    join_process_group(CPU)
    partition_small_parameters()
    trainer, builder = build(recipe_of(("optimiser.zero_stage=3",)), Path(policy))
    trainer.update(prompts_of(builder, trainer), experience(1, builder), LEARNING_RATE)
    zero.move_zero_3(trainer.engine, cast(torch.device, torch.float64))
    zero.move_moments(trainer.engine, cast(torch.device, torch.float64))
    optimizer = trainer.engine.optimizer
    moments = [state[name] for state in optimizer.optimizer.state.values() for name in zero.MOMENTS]
    assert moments
    away = {tensor.dtype for tensor in [*optimizer.fp32_partitioned_groups_flat, *moments]}
    return away, {tensor.dtype for _, tensor in trainer.weights()}
