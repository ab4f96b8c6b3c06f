"""DeepSpeed as SFT and GRPO need it: one process group, one engine, one optimiser step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from visionr1.capacity import memory
from visionr1.capacity.choose import Gpus
from visionr1.capacity.memory import GIB, REDUCE_BUCKET
from visionr1.model.policy import Policy

MicroBatch = TypeVar("MicroBatch")

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's, under its own names."""


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """AdamW and ZeRO for one engine."""

    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    max_grad_norm: float
    zero_stage: int


def join_process_group(device: torch.device) -> None:
    """Joins the group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    if device.type == "cpu":
        # Otherwise DeepSpeed compiles a shared-memory helper, which needs a C++ compiler and serves one host only.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo", verbose=False)


def gpus_of_group(device: torch.device) -> Gpus | None:
    """The GPUs of the process group, the smallest for all; None on a CPU; collective."""
    if device.type == "cpu":
        return None
    smallest = torch.tensor([torch.cuda.mem_get_info(device)[1]], device=device)
    dist.all_reduce(smallest, op=dist.ReduceOp.MIN)
    return Gpus(int(smallest) / GIB, dist.get_world_size())


def build_zero_engine(policy: Policy, settings: OptimiserSettings, dtype: str) -> Any:
    """A DeepSpeed engine around `policy`, with torch's AdamW over its trainable parameters.

    Gradient accumulation is the caller's: any number of `backward` calls, then one `step`.
    """
    import deepspeed

    trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        step_groups(trainable), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay, foreach=False
    )
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16"},
        # DeepSpeed's default is the model's type: in bfloat16 a sum over hundreds of rows loses what small rows add.
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": settings.zero_stage,
            "contiguous_gradients": True,
            "overlap_comm": False,
            "reduce_bucket_size": REDUCE_BUCKET,
            "sub_group_size": memory.STEP_PARAMETERS,
        },
        "steps_per_print": 1_000_000_000,
    }
    engine, *_ = deepspeed.initialize(model=policy, optimizer=optimizer, config=config, dist_init_required=False)
    return engine


def step_groups(parameters: Sequence[torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters in groups of which each rank has about STEP_PARAMETERS at most.

    ZeRO-1 and 2 step group by group, each with a copy of its gradients and AdamW's temporary tensors: with one group for all,
    these would be as large as the master weights three times. ZeRO-3 has `sub_group_size` for it, and counts no parameters here.
    """
    most = memory.STEP_PARAMETERS * dist.get_world_size()
    groups: list[list[torch.nn.Parameter]] = [[]]
    size = 0
    for parameter in parameters:
        if size + parameter.numel() > most and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += parameter.numel()
    return [{"params": group} for group in groups]


def same_count(count: int, device: torch.device) -> int:
    """The largest count of all ranks: every rank must run as many passes, or ZeRO-2 (backward) and 3 (both) hang."""
    highest = torch.tensor([count], device=device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return int(highest)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; collective."""
    return bool(same_count(int(flag), device))


def even_passes(rows: Sequence[MicroBatch], device: torch.device) -> list[tuple[MicroBatch, bool]]:
    """This rank's micro-batches, then its first repeated until every rank has as many passes; collective.

    Args:
        rows: at least one.

    Returns:
        Each micro-batch to pass, and whether it is such a repetition, whose loss must not count.
    """
    idle = same_count(len(rows), device) - len(rows)
    return [(row, False) for row in rows] + [(rows[0], True)] * idle


def optimiser_step(engine: Any, learning_rate: float) -> float:
    """Applies the accumulated gradients; returns their global norm before clipping."""
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate
    engine.step()
    return float(engine.get_global_grad_norm())


def full_weights(policy: Policy, zero_stage: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and whole tensors of the inner model, as Hugging Face names them.

    Under ZeRO-3 this is collective: every rank must consume all of it, in order.
    """
    named = list(policy.inner.named_parameters())
    if zero_stage < 3:
        for name, parameter in named:
            yield name, parameter.detach()
        return
    import deepspeed

    for group in _groups(named):
        with deepspeed.zero.GatheredParameters([parameter for _, parameter in group]):
            for name, parameter in group:
                yield name, parameter.detach().clone()


def _groups(named: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    group: list[tuple[str, Any]] = []
    size = 0
    for name, parameter in named:
        group.append((name, parameter))
        size += parameter.ds_numel * parameter.element_size()
        if size >= memory.GATHER_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def is_divided(parameter: Any) -> bool:
    """Whether ZeRO-3 holds this parameter in parts; it is an empty stub between its uses."""
    return "ds_shape" in vars(parameter)


def whole_shape(parameter: Any) -> torch.Size:
    """The parameter's shape, also where each rank holds a part."""
    return torch.Size(parameter.ds_shape if is_divided(parameter) else parameter.shape)


def gathered_on(rank: int, parameter: Any) -> torch.Tensor | None:
    """The whole tensor on one rank, None on the others; collective where ZeRO-3 holds it in parts."""
    here = dist.get_rank() == rank
    if not is_divided(parameter):
        return parameter.detach() if here else None
    part = parameter.ds_tensor.detach()
    whole = part.new_empty(part.numel() * dist.get_world_size()) if here else None
    dist.gather(part, None if whole is None else list(whole.split(part.numel())), dst=rank)
    return None if whole is None else whole[: parameter.ds_numel].view(parameter.ds_shape)


def states_to_cpu(engine: Any, device: torch.device) -> None:
    """Optimiser states leave the GPU while vLLM needs the room; on a CPU nothing moves.

    ZeRO-1 and 2 take the weights away, too. Under ZeRO-3 they stay: they are a share only, and `full_weights` gathers them.
    """
    if device.type == "cuda":
        move_moments(engine, torch.device("cpu"))
        if engine.zero_optimization_stage() == 3:
            move_zero_3(engine, torch.device("cpu"))
        else:
            offload_weights(engine)
        torch.cuda.empty_cache()


def states_to_device(engine: Any, device: torch.device) -> None:
    """Undoes `states_to_cpu`, but for the moments, which only a step needs (`moments_present`)."""
    if device.type == "cuda":
        if engine.zero_optimization_stage() == 3:
            move_zero_3(engine, device)
        else:
            engine.reload_states(non_blocking=False)


@contextmanager
def moments_present(engine: Any, device: torch.device) -> Iterator[None]:
    """AdamW's moments come to the GPU and leave it again: as large as two float32 models, they are in the way of the passes."""
    if device.type == "cuda":
        move_moments(engine, device)
    yield
    if device.type == "cuda":
        move_moments(engine, torch.device("cpu"))
        torch.cuda.empty_cache()


def offload_weights(engine: Any) -> None:
    """Weights and master weights of ZeRO-1 and 2 go to the host; `engine.reload_states` brings them back."""
    from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum

    everything = set(OffloadStateTypeEnum)
    engine.offload_states(include=everything - {OffloadStateTypeEnum.optim_states}, non_blocking=False)


def move_zero_3(engine: Any, device: torch.device) -> None:
    """Moves this rank's float32 weights; DeepSpeed's own `offload_states` takes no AdamW but its own under ZeRO-3."""
    for flat in engine.optimizer.fp32_partitioned_groups_flat:
        flat.data = _moved(flat.data, device)


def move_moments(engine: Any, device: torch.device) -> None:
    """Moves AdamW's moments, where it has made them already."""
    for state in engine.optimizer.optimizer.state.values():
        for moment in MOMENTS:
            if moment in state:
                state[moment] = _moved(state[moment], device)


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if tensor.is_cuda and device.type == "cpu":
        # Pinned memory is several times as fast.
        return torch.empty_like(tensor, device=device, pin_memory=True).copy_(tensor)
    return tensor.to(device)
