"""Faults that others met, planted: each must show in the difference of log-probs, far above LIMIT.

The loop stops a run when the mean difference is over `rollout.mismatch_limit`; these are the silent faults
that it is there for.
"""

import torch
from rollout_pair import LIMIT, Pair, engine_logps

from visionr1.model.pack import PromptTensors

FAR = 100 * LIMIT


def runner(pair: Pair):
    return pair.engine._llm.llm_engine.model_executor.driver_worker.worker.model_runner


def test_a_sync_that_was_left_out_is_seen(pair) -> None:
    pair.shake(4)
    assert pair.distance(pair.sample()) > FAR


def test_a_stale_head_is_seen(pair) -> None:
    """What a tied head would be on a CPU, where vLLM packs it away and never takes it over again."""
    pair.shake(5)
    named = pair.policy.inner.named_parameters()
    pair.engine.load_weights((name, parameter.detach()) for name, parameter in named if name != "lm_head.weight")
    assert pair.distance(pair.sample()) > FAR


def test_a_wrong_temperature_is_seen(pair) -> None:
    assert pair.distance(pair.sample(temperature=0.9)) > FAR


def test_positions_without_token_types_are_seen(pair) -> None:
    """Without `mm_token_type_ids` transformers falls back to text positions, and says nothing."""
    groups = pair.sample()
    prompts = []
    for prompt, group in zip(pair.prompts(), groups, strict=True):
        tensors = pair.tensors(prompt, group.prompt_token_ids)
        text = torch.arange(len(tensors.token_ids)).expand(3, -1)
        prompts.append(PromptTensors(tensors.token_ids, text, tensors.images))
    assert pair.distance(groups, prompts) > FAR


def test_a_swapped_picture_is_seen(pair) -> None:
    groups = pair.sample()
    prompts = pair.prompts()
    prompts[0].images[:], prompts[1].images[:] = list(prompts[1].images), list(prompts[0].images)
    tensors = [pair.tensors(prompt, group.prompt_token_ids) for prompt, group in zip(prompts, groups, strict=True)]
    assert pair.distance(groups, tensors) > FAR


def test_the_step_logs_own_measure_sees_a_planted_fault(pair) -> None:
    """The loop's mean over all tokens, `logprob_mismatch`: small when all is well, far larger when not."""
    groups = pair.sample()
    well = float((pair.trainer_logps(groups) - engine_logps(groups)).abs().mean())
    pair.shake(6)
    groups = pair.sample()
    ill = float((pair.trainer_logps(groups) - engine_logps(groups)).abs().mean())
    assert well < 1e-5 < 1e-3 < ill
