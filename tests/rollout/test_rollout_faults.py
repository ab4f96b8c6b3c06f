"""A stale prefix and a swapped picture: each must show far above LIMIT.

`test_rollout_planted.py` plants the faults that others met in a whole worker.
"""

from rollout_pair import LIMIT

from visionr1.rollout.vllm import VllmEngine

FAR = 100 * LIMIT


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


def test_a_swapped_picture_is_seen(pair) -> None:
    groups = pair.sample()
    prompts = pair.prompts()
    prompts[0].images[:], prompts[1].images[:] = list(prompts[1].images), list(prompts[0].images)
    tensors = [pair.tensors(prompt, group.prompt_token_ids) for prompt, group in zip(prompts, groups, strict=True)]
    assert pair.distance(groups, tensors) > FAR
