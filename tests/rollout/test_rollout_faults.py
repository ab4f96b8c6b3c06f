"""Faults that others met, planted: each must show in the difference of log-probs, far above LIMIT.

The loop stops a run when the mean difference is over `rollout.mismatch_limit`; these are the silent faults
that it is there for.
"""

import pytest
import torch
from rollout_pair import LIMIT, Pair, engine_logps

from visionr1.model.pack import PromptTensors
from visionr1.rollout.types import Prompt
from visionr1.rollout.vllm import VllmEngine

FAR = 100 * LIMIT


def runner(pair: Pair):
    return pair.engine._llm.llm_engine.model_executor.driver_worker.worker.model_runner


def test_a_stale_image_embedding_is_seen(vllm_pair, monkeypatch) -> None:
    """vllm#44910: embeddings of the old vision tower are served after an update, for they are kept by the picture alone."""
    pictures = [prompt for prompt in vllm_pair.prompts() if prompt.images]
    vllm_pair.sample(n=1, max_tokens=2)
    with monkeypatch.context() as plant:
        plant.setattr(type(runner(vllm_pair)), "reset_encoder_cache", lambda self: None)
        plant.setattr(VllmEngine, "_forget", lambda self: self._llm.reset_prefix_cache())
        vllm_pair.shake(2, 0.02)
        vllm_pair.sync()
        groups = vllm_pair.sample()
    assert len(pictures) == len(groups) - 1
    assert vllm_pair.distance(groups) > FAR
    vllm_pair.sync()
    assert vllm_pair.distance(vllm_pair.sample()) <= LIMIT, "the caches are emptied again"


def test_a_stale_prefix_is_seen(vllm_pair, monkeypatch) -> None:
    vllm_pair.sample(n=1, max_tokens=2)

    def keep_prefixes(engine: VllmEngine) -> None:
        engine._llm.reset_mm_cache()
        engine._llm.llm_engine.reset_encoder_cache()

    with monkeypatch.context() as plant:
        plant.setattr(VllmEngine, "_forget", keep_prefixes)
        vllm_pair.shake(3, 0.02)
        vllm_pair.sync()
        long = vllm_pair.prompts()[-1]
        groups = vllm_pair.sample(n=16, prompts=[long])
    prompts = [vllm_pair.tensors(long, groups[0].prompt_token_ids)]
    assert vllm_pair.distance(groups, prompts) > FAR


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


def test_a_prompt_that_is_expanded_twice_is_seen(vllm_pair) -> None:
    """vLLM takes the processor's expanded ids and expands them again, without a word."""
    prompts = [prompt for prompt in vllm_pair.prompts() if prompt.images]
    right = [vllm_pair.builder.expand(prompt) for prompt in prompts]
    twice = [Prompt(ids, prompt.images) for ids, prompt in zip(right, prompts, strict=True)]
    groups = vllm_pair.sample(prompts=twice)
    assert all(len(group.prompt_token_ids) > len(ids) for group, ids in zip(groups, right, strict=True))
    tensors = [vllm_pair.tensors(prompt, ids) for prompt, ids in zip(prompts, right, strict=True)]
    assert vllm_pair.distance(groups, tensors) > FAR
    with pytest.raises(ValueError, match="do not match"):
        vllm_pair.trainer_logps(groups, [vllm_pair.tensors(p, g.prompt_token_ids) for p, g in zip(prompts, groups, strict=True)])


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
