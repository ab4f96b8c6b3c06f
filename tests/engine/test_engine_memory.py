"""What the plan of memory counts for the policy is what a real engine has, in bytes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from engine_ranks import (
    CPU,
    LEARNING_RATE,
    Case,
    build,
    experience,
    partition_small_parameters,
    policy_weights,
    prompts_of,
    recipe_of,
    share,
)
from ranks import run_ranks

from visionr1.capacity import memory
from visionr1.capacity.memory import GIB, Setup, sft_moments
from visionr1.capacity.model import read_model_sizes
from visionr1.engine.state import flat_states
from visionr1.engine.zero import MOMENTS, join_process_group, step_groups
from visionr1.grpo.trainer import Trainer

TOLERANCE = 0.03
CASES = [("float32", 1), ("float32", 2), ("float32", 3), ("bfloat16", 2), ("bfloat16", 3)]


def held(trainer: Trainer) -> dict[str, int]:
    """Bytes of weights and states on this rank."""
    states = flat_states(trainer.engine)
    weights = [vars(parameter).get("ds_tensor", parameter) for parameter in trainer.policy.parameters()]
    return {
        "weights": sum(tensor.nbytes for tensor in weights),
        "master weights": sum(master.nbytes for master, _ in states),
        "moments": sum(state[moment].nbytes for _, state in states for moment in MOMENTS),
    }


def gradients(engine: Any) -> int:
    """Bytes of the summed gradients before a step."""
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        return int(optimizer.grad_partitions_flat_buffer.nbytes)
    if engine.zero_optimization_stage() == 1:
        return sum(p.grad.nbytes for group in optimizer.bit16_groups for p in group if p.grad is not None)
    summed = [*optimizer.all_grad_tensors.values(), *optimizer.averaged_gradients.values()]
    tensors = [tensor for group in summed for tensor in group or ()]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def measured(cases: list[tuple[str, int]], policy: str, groups_of: int) -> list[dict[str, int]]:
    memory.STEP_PARAMETERS = groups_of
    join_process_group(CPU)
    partition_small_parameters()
    found = []
    for dtype, stage in cases:
        settings = (f"model.dtype={dtype}", f"optimiser.zero_stage={stage}", "algorithm.kl_beta=0")
        trainer, builder = build(recipe_of(settings), Path(policy))
        before: dict[str, int] = {}
        step = trainer.engine.step

        def counted(trainer: Trainer = trainer, before: dict[str, int] = before, step: Any = step) -> None:
            before["gradients"] = gradients(trainer.engine)
            step()

        trainer.engine.step = counted
        every = experience(1, builder)
        trainer.update(prompts_of(builder, trainer), [every[index] for index in share(Case("all"))], LEARNING_RATE)
        found.append(held(trainer) | before)
    return found


@pytest.mark.parametrize("world", [1, 2])
def test_the_plan_counts_what_an_engine_holds(tmp_path: Path, world: int) -> None:
    policy = policy_weights(tmp_path)
    sizes = read_model_sizes(Path(policy))
    for rank in run_ranks(measured, world, CASES, policy, sizes.parameters // 5, seconds=240):
        for (dtype, stage), bytes_held in zip(CASES, rank, strict=True):
            setup = Setup(
                model=sizes,
                gpu_gib=1.0,
                gpus=world,
                zero_stage=stage,
                row_tokens=64,
                longest=64,
                element=2 if dtype == "bfloat16" else 4,
            )
            [step] = [moment for moment in sft_moments(setup) if moment.name == "step"]
            most = (step.gpu["gradients"] + step.gpu["gradients at the edges"]) * GIB
            if stage == 2 and world == 2:
                assert (1 - TOLERANCE) * step.gpu["gradients"] * GIB <= bytes_held.pop("gradients") <= most
            for item, count in bytes_held.items():
                assert step.gpu[item] * GIB == pytest.approx(count, rel=TOLERANCE), (dtype, stage, item)


def grouped(sizes: list[int], most: int) -> list[list[int]]:
    memory.STEP_PARAMETERS = most
    join_process_group(CPU)
    dist.barrier()
    groups = step_groups([torch.nn.Parameter(torch.zeros(size)) for size in sizes])
    return [[parameter.numel() for parameter in group["params"]] for group in groups]


def test_a_step_takes_a_bounded_group_and_a_large_tensor_alone() -> None:
    sizes = [3, 4, 5, 20, 1, 10, 1]
    assert run_ranks(grouped, 1, sizes, 10) == [[[3, 4], [5], [20], [1], [10], [1]]]
    assert run_ranks(grouped, 2, sizes, 10)[0] == [[3, 4, 5], [20], [1, 10, 1]]
