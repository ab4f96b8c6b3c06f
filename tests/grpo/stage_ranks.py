"""A GRPO stage by ranks without Ray: the real workers, samples, updates and checkpoints, from wherever the run directory is."""

import os
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from visionr1.data.readers import load_problems
from visionr1.data.sampler import PromptSampler
from visionr1.grpo.advantage import advantages
from visionr1.grpo.plan import WorkerPlan
from visionr1.grpo.schedule import request_seed
from visionr1.grpo.start import stage_start
from visionr1.grpo.worker import Worker
from visionr1.recipe import Recipe, stage_phase
from visionr1.rollout.types import Reply, Sampling
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.manifest import FileEntry
from visionr1.storage import open_store


def stage(recipe_json: str, run: str, steps: int) -> list[dict[str, Any]]:
    """Trains so many steps from the last checkpoint and commits the last one; what each step sampled, and its statistics."""
    torch.manual_seed(int(os.environ["RANK"]))  # nothing may depend on it
    recipe = Recipe.model_validate_json(recipe_json)
    phase = stage_phase(recipe, 1)
    checkpoints = Checkpoints(open_store(run), phase.name)
    start = stage_start(
        recipe, phase, lambda name: Checkpoints(open_store(run), name).latest(), lambda _, s: checkpoints.training_state(s)
    )
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    plan = WorkerPlan(
        recipe=recipe,
        run_url=run,
        epoch=0,
        phase=phase,
        rank=rank,
        world_size=world,
        master_address=address,
        master_port=port,
        start=start,
        place_on_node=rank,
    )
    worker = Worker(plan)
    problems = load_problems(recipe.data.train)
    sampler = PromptSampler(len(problems), recipe.seed, f"rows={len(problems)}", start.sampler)
    size = recipe.algorithm.prompts_per_step // world
    sampling = Sampling(recipe.stages[0].group_size, recipe.stages[0].max_completion_tokens, recipe.rollout.temperature)
    done = []
    for step in range(start.step + 1, start.step + steps + 1):
        rows = [problems[index] for index in sampler.next(recipe.algorithm.prompts_per_step)][size * rank : size * (rank + 1)]
        places = range(size * rank, size * (rank + 1))
        groups = worker.rollout(rows, sampling, [request_seed(recipe.seed, step, place) for place in places])
        rewards_PG = np.array([[reward(completion) for completion in group] for group in groups])
        stats = worker.update(advantages(rewards_PG, True).tolist(), recipe.optimiser.learning_rate, [])
        worker.sync()
        ids = {row.id: [reply.token_ids.tolist() for reply in group] for row, group in zip(rows, groups, strict=True)}
        sampled = _together(ids, world)
        done.append({"sampled": {key: value for part in sampled for key, value in part.items()}, **stats})
    _commit(checkpoints, worker, start.step + steps, sampler.state, world)
    return done


def reward(completion: Reply) -> float:
    """Pays for even tokens, so that completions of one group differ."""
    return float(sum(completion.token_ids % 2 == 0)) / len(completion.token_ids)


def _commit(checkpoints: Checkpoints, worker: Worker, step: int, state: dict[str, Any], world: int) -> None:
    if dist.get_rank() == 0:
        checkpoints.staging(step)
    dist.barrier()
    parts = _together([entry.model_dump() for entry in worker.save(step)], world)
    if dist.get_rank() == 0:
        checkpoints.commit(step, [FileEntry(**entry) for part in parts for entry in part], {"sampler": state})
    dist.barrier()


def _together(mine: Any, world: int) -> list[Any]:
    parts = [None] * world
    dist.all_gather_object(parts, mine)
    return parts
