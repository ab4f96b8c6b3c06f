"""Gradients of many rows are summed in float32 although the model computes in bfloat16."""

from pathlib import Path

import numpy as np
import pytest
import torch
from deepspeed.utils import safe_get_full_grad
from engine_ranks import CPU, build, policy_weights, prompts_of, recipe_of
from ranks import run_ranks

from visionr1.engine.zero import join_process_group
from visionr1.model.pack import TrainSequence, pack

ROWS = 64
"""Rows of the same kind, so that their gradients have the same sign: the worst case for a sum in bfloat16."""


def sums(policy: str, zero_stage: int) -> tuple[np.ndarray, np.ndarray]:
    """The engine's sum over ROWS rows of some gradients, and the sum of the rows' own gradients in float64."""
    join_process_group(CPU)
    trainer, builder = build(recipe_of(("model.dtype=bfloat16", f"optimiser.zero_stage={zero_stage}")), Path(policy))
    row = pack(prompts_of(builder, trainer)[-1:], [TrainSequence(0, [40, 41, 42, 43])], shared=True)
    loss = trainer.engine(row, lambda logps_C, _: -logps_C).loss
    trainer.engine.backward(loss, scale_wrt_gas=False)
    watched = [p for name, p in trainer.policy.inner.named_parameters() if "layers.0" in name and "visual" not in name]
    one = torch.cat([safe_get_full_grad(parameter).double().flatten() for parameter in watched])
    for _ in range(ROWS - 1):
        trainer.engine.backward(trainer.engine(row, lambda logps_C, _: -logps_C).loss, scale_wrt_gas=False)
    total = torch.cat([safe_get_full_grad(parameter).double().flatten() for parameter in watched])
    return total.numpy(), (one * ROWS).numpy()


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_many_rows_are_summed_in_float32(tmp_path: Path, zero_stage: int) -> None:
    [(total, expected)] = run_ranks(sums, 1, policy_weights(tmp_path), zero_stage)
    assert np.linalg.norm(expected) > 0
    assert np.linalg.norm(total - expected) / np.linalg.norm(expected) < 1e-5
